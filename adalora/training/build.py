"""Build the parts of a run from its configuration."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

import datasets
import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration, GradientAccumulationPlugin, InitProcessGroupKwargs
from torch import nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adalora import processes
from adalora.backbones.files import Weights
from adalora.backbones.load import load_model, target_modules
from adalora.backbones.position_query import bypass_position_query
from adalora.config.schema import Config, Resolved, Training
from adalora.errors import UserError
from adalora.fast import speed_up
from adalora.methods.discovery import create
from adalora.methods.init_from import load_initial
from adalora.methods.protocol import Method
from adalora.methods.tensors import trained_dtype
from adalora.training.batches import ByLength, LengthGroups, evaluation_size, loader
from adalora.training.recompute import recompute_activations
from tasks.data import Data
from tasks.task_type import Batch, Split, TaskType


def build_accelerator(config: Config | Resolved) -> Accelerator:
    """Set up device, precision and data parallelism.

    Raises:
        UserError: the options need a GPU and there is none, or there are more processes than GPUs.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but torch sees no GPU: use device=auto, or install torch's CUDA build")
    if config.precision in ("fp16", "tf32") and (config.device == "cpu" or not torch.cuda.is_available()):
        raise UserError(f"precision={config.precision} needs a GPU: use precision=bf16 or fp32")
    torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")  # D-tf32
    several, here = processes.count() > 1, processes.local_count()
    gpus = 0 if config.device == "cpu" else torch.cuda.device_count()
    if 0 < gpus < here:
        raise UserError(f"{here} processes on a machine with {gpus} GPUs: start at most {gpus}, or use device=cpu")
    # rank-1 factors: a side of one entry may have any stride
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    AcceleratorState._reset_state(reset_partial_state=True)  # an earlier job of a multirun may have set another
    return Accelerator(
        cpu=config.device == "cpu" or (several and not gpus),
        mixed_precision=config.precision if config.precision in ("bf16", "fp16") else "no",
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        # the loop weights micro-batches itself, whatever accelerate's configuration says
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        # beside NCCL: the CPUs exchange flags without waiting for their GPUs (processes.py)
        kwargs_handlers=[InitProcessGroupKwargs(backend="cpu:gloo,cuda:nccl")] if several and gpus else None,
    )


def build_model(config: Resolved, weights: Weights, outputs: int, device: torch.device) -> tuple[nn.Module, Method]:
    """Build the backbone with its head, attach the method, and freeze the rest."""
    model = load_model(config.model, weights, outputs).to(device)
    return model, adapt(model, config)


def adapt(model: nn.Module, config: Resolved) -> Method:
    """Freeze a backbone except its head and `task.train_modules`, and attach the run's method."""
    model.requires_grad_(False)
    method = create(config.method)
    method.attach(model, target_modules(model, config.model), config.training.total_steps)
    for name in (*config.model.head, *config.model.train_modules):
        model.get_submodule(name).requires_grad_(True)
    for parameter in model.parameters():
        if parameter.requires_grad:  # also where the frozen weights are in bf16
            parameter.data = parameter.data.to(trained_dtype(parameter))
    load_initial(config.method, model)
    if config.fast:
        speed_up(model, method, exact_attention=config.model.attention == "exact")
    if config.model.pos_query_base_only:
        bypass_position_query(model)
    if config.training.activation_checkpointing:
        recompute_activations(cast(PreTrainedModel, model))
    return method


def build_batches(
    config: Resolved,
    data: Data,
    features: Mapping[str, datasets.Dataset],
    task_type: TaskType,
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
) -> tuple[DataLoader, LengthGroups, list[Split]]:
    """Build the training batches, their order, and the evaluation splits."""
    training = config.training
    collate = task_type.collate(tokenizer, padding(accelerator))
    rows = features[data.train_split]
    count = accelerator.num_processes
    order = LengthGroups(
        rows["length"][:],
        training.batch_size,
        training.micro_batches,
        config.seed,
        task_type.weights(rows),
        count,
        accelerator.process_index,
    )
    # `order` selects this process's rows
    batches = prepare_data_loader(
        loader(rows, order, collate), accelerator.device, num_processes=1, process_index=0, put_on_device=True
    )
    return batches, order, build_splits(training, data, features, collate, accelerator)


def padding(accelerator: Accelerator) -> int:
    """Batches are padded to a multiple of so many tokens: tensor cores need 8."""
    return 8 if accelerator.device.type == "cuda" else 1


def build_splits(
    training: Training,
    data: Data,
    features: Mapping[str, datasets.Dataset],
    collate: Callable[[list[dict[str, Any]]], Batch],
    accelerator: Accelerator,
) -> list[Split]:
    """Build the evaluation splits."""
    splits, count = [], accelerator.num_processes
    for name in data.eval_splits:
        size = evaluation_size(len(features[name]), training.eval_batch_size, accelerator.device.type)
        even = -(-size // count) * count  # accelerate splits batches evenly
        by_length = ByLength(features[name]["length"][:], even)
        batches = accelerator.prepare(loader(features[name], by_length, collate))
        splits.append(Split(name, data.tables[name], features[name], batches, by_length.order))
    return splits
