"""One experiment from configuration to result."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import datasets
import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from omegaconf import OmegaConf
from torch import nn
from transformers import PreTrainedTokenizerBase

from adalora import processes
from adalora.adapter import save_adapter
from adalora.backbones.load import Weights, architecture, check_length, load_tokenizer, locate
from adalora.build import build_accelerator, build_batches, build_model
from adalora.cell import cell_id
from adalora.config.schema import Config, Resolved
from adalora.counts import check_end, check_start
from adalora.distributed import noticing_loss
from adalora.errors import Interrupted, LostProcess, UserError
from adalora.files import write_text
from adalora.plan import Plan, make_plan
from adalora.progress.heatmap import save_heatmap
from adalora.progress.terminal import console, show_plan, show_result
from adalora.progress.watch import Watch
from adalora.result import record
from adalora.resultfile import SCHEMA, Result, write_result
from adalora.runfolder import RunFolder, explained, noting_failure, run_key
from adalora.sources.hub import all_of
from adalora.tracking import Wandb, about_run
from adalora.training.loop import Setup, train
from adalora.training.optimizer import build_optimizer
from tasks.cache import tokenised
from tasks.data import Data, load_data
from tasks.discovery import create as create_task

SAMPLES = 48  # rows of the first evaluation split whose predictions are shown


def run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Run, resume or recall one experiment; returns its result.

    Args:
        config: the configuration as composed.
        overrides: what the user set on the command line, for the record.

    Raises:
        UserError: anything the user can put right.
        Interrupted: stopped by Ctrl-C, SIGTERM or a scheduler's signal, with a checkpoint to go on from.
    """
    main = processes.rank() == 0
    console.quiet = not main
    cell = cell_id(config)
    command = ["train.py", *overrides]  # of this run alone; a sweep's process has another
    with noting_failure(config, cell) if main else nullcontext(), noticing_loss():
        accelerator = build_accelerator(config)
        prepared = prepare(config, cell, accelerator)
    folder, plan = prepared.folder, prepared.plan
    with session(folder, plan.config) if main else nullcontext() as found, noticing_loss():
        (result,) = broadcast_object_list([found])
        if result is None:
            show_plan(plan)
            result = execute(**vars(prepared), command=command)
        else:
            warn(f"{folder.path} is done: its result again (remove the folder to repeat the run)")
        accelerator.end_training()
    show_result(result, plan, folder.path)
    return result


@dataclass(frozen=True)
class Prepared:
    """A run before its first step."""

    plan: Plan
    weights: Weights
    data: Data
    features: Mapping[str, datasets.Dataset]
    tokenizer: PreTrainedTokenizerBase
    folder: RunFolder
    accelerator: Accelerator


def prepare(config: Config, cell: str, accelerator: Accelerator) -> Prepared:
    """Find weights and data, tokenise, plan. Raises `UserError`."""
    with accelerator.main_process_first():  # which downloads and fills the cache for the others
        weights, data, features, tokenizer = read(config)
    plan = make_plan(config, {split: len(rows) for split, rows in features.items()}, weights.folder)
    plan.notes.extend(data.notes)
    key = run_key(plan.config, data.digest, weights.digest)
    folder = RunFolder(plan.config, plan.setting.budget, key, cell)
    return Prepared(plan, weights, data, features, tokenizer, folder, accelerator)


def read(config: Config) -> tuple[Weights, Data, dict[str, datasets.Dataset], PreTrainedTokenizerBase]:
    """Find weights and data, and tokenise. Raises `UserError`."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    task_type = create_task(config.task)
    weights, data = gather(config)
    # before the minutes that tokenising may take
    check_length(config.model, architecture(config.model, task_type.outputs, weights.folder), config.task.max_length)
    tokenizer = load_tokenizer(config.model, weights)
    cache = Path(config.cache_dir).expanduser()
    features = {
        split: tokenised(table, data.digests[split], config.task, tokenizer, weights.digest, cache, warn)
        for split, table in data.tables.items()
    }
    for split, table in data.tables.items():
        data.notes.extend(f"{split}: {line}" for line in task_type.notes(table, features[split]))
    return weights, data, features, tokenizer


def gather(config: Config) -> tuple[Weights, Data]:
    """Find weights and data; what is missing of both is named at once."""
    weights, data = all_of([lambda: locate(config.model), lambda: load_data(config.task, config.data_root)])
    return cast(Weights, weights), cast(Data, data)


@contextmanager
def session(folder: RunFolder, config: Resolved) -> Iterator[dict[str, Any] | None]:
    """Hold the run's folder, and leave its status true in every way out.

    Gives the result where the run is done: whoever held the folder before may just have finished it.
    """
    with folder.lock():
        if (result := folder.finished(warn)) is not None:
            folder.drop_checkpoints()
            yield result.as_dict()
            return
        folder.set_status("running")
        write_text(folder.path / "config.yaml", OmegaConf.to_yaml(asdict(config)))
        try:
            yield None
        except LostProcess:
            raise  # still `running`: the same command goes on
        except (Interrupted, KeyboardInterrupt, SystemExit):
            with suppress(UserError):  # a full disk: the same command goes on all the same
                folder.set_status("interrupted")
            raise
        except BaseException as error:
            with suppress(UserError):  # the error itself counts
                folder.set_status("failed", explained(error))
            raise
        folder.set_status("done")
        folder.drop_checkpoints()


def repeatable() -> None:
    """Have torch compute the same bits each time.

    Of the fused attentions on a GPU, flash's backward pass then does; those that don't make way for the plain products,
    in the type of their inputs.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)


def execute(
    plan: Plan,
    weights: Weights,
    data: Data,
    features: Mapping[str, datasets.Dataset],
    tokenizer: PreTrainedTokenizerBase,
    folder: RunFolder,
    accelerator: Accelerator,
    command: list[str],
) -> dict[str, Any]:
    """Build the parts, train, and write the result."""
    config = plan.config
    repeatable()
    torch.manual_seed(config.seed)

    task_type = create_task(config.task)
    model, method = build_model(config, weights, task_type.outputs, accelerator.device)
    batches, order, splits = build_batches(config, data, features, task_type, tokenizer, accelerator)
    optimizer = build_optimizer(model, method, config.training)
    check_start(model, optimizer, method, plan.setting.counts, plan.shapes)
    main = accelerator.is_main_process
    wandb = None
    if main and config.tracking == "wandb":
        wandb = Wandb(folder.path, about_run(config, plan.setting.budget, folder.key), warn, folder.key)
    with Watch(plan, folder.path, wandb, main, order.tokens, accelerator.device) as watch:
        progress, predictions = train(
            Setup(
                config=config,
                accelerator=accelerator,
                model=model,
                method=method,
                optimizer=optimizer,
                order=order,
                batches=batches,
                evals=splits,
                task_type=task_type,
                tokenizer=tokenizer,
                checkpoints=folder.checkpoints,
                watcher=watch,
            )
        )
        check_end(model, optimizer, method, plan.setting.counts)
        result = record(plan, weights, data, folder, method, progress, accelerator, command)
        method.finish()
        if main:
            for split, found in zip(splits, predictions, strict=True):
                task_type.save(split, found, folder.path)
            result = keep(folder.path, result, model, plan)
        if wandb is not None:
            watch.finished(result, task_type.samples(splits[0], predictions[0], SAMPLES))
    return result.as_dict()


def keep(folder: Path, result: Result, model: nn.Module, plan: Plan) -> Result:
    """`adapter/`, `ranks.png` and, last, `result.json`; returns what it says."""
    config = plan.config
    meaning = {"schema": SCHEMA, "model": result.model, "method": result.method, "ranks": result.ranks}
    save_adapter(folder / "adapter", model, meaning)
    if result.ranks:
        title = f"{config.method.name}, {config.task.title}, {config.model.title}, budget {result.budget['name']}"
        save_heatmap(folder / "ranks.png", config.model, result.ranks, title)
    return write_result(folder, result)


def warn(line: str) -> None:
    """A line for the user, as it is."""
    console.print(line, soft_wrap=True)
