"""Run one experiment, from configuration to result."""

import time
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
from adalora.backbones.files import Weights
from adalora.backbones.load import load_tokenizer, locate, tokenizer_digest
from adalora.config.schema import Config, Resolved
from adalora.errors import Interrupted, LostProcess, UserError
from adalora.files.lock import locked
from adalora.files.writing import write_text, writing
from adalora.methods.adapter import save_adapter
from adalora.planning.identity import cell_id, rows_of_evaluation
from adalora.planning.origins import origins
from adalora.planning.plan import Plan, check_possible, make_plan
from adalora.planning.speed import speed_here
from adalora.processes import raising_lost_process
from adalora.progress.heatmap import rank_figure
from adalora.progress.terminal import console, say, show_plan, show_result
from adalora.progress.tracking import Wandb, about_run, samples_of
from adalora.progress.watch import Watch
from adalora.records.result import SCHEMA, Option, Result, write_result
from adalora.run.collect import record
from adalora.run.folder import DONE, RunFolder, describe_error, noting_failure, run_key
from adalora.run.recall import remember
from adalora.sources.hub import all_of
from adalora.training.build import build_accelerator, build_batches, build_model
from adalora.training.counts import check_counts
from adalora.training.loop import Setup, train
from adalora.training.optimizer import build_optimizer
from tasks.cache import tokenise
from tasks.data import Data, load_data
from tasks.digest import digest
from tasks.discovery import create as create_task


def run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Run one experiment, resume it, or return the result of a finished one.

    Args:
        config: the composed configuration.
        overrides: the command-line overrides, stored in the result.

    Raises:
        UserError: a problem that the user can fix.
        Interrupted: stopped by Ctrl-C, SIGTERM or a scheduler's signal, after saving a checkpoint.
    """
    main, begun = processes.rank() == 0, time.time_ns()
    console.quiet = not main
    cell = cell_id(config)
    command = ["train.py", *overrides]  # the run's own pid; a sweep has another
    with noting_failure(config, cell) if main else nullcontext(), raising_lost_process():
        accelerator = build_accelerator(config)
        prepared = prepare(config, cell, accelerator, overrides)
    folder, plan = prepared.folder, prepared.plan
    with session(folder, plan.config) if main else nullcontext() as found, raising_lost_process():
        (result,) = broadcast_object_list([found])
        if result is None:
            weights = f"{prepared.weights.origin}, digest {prepared.weights.digest[:10]}"
            show_plan(plan, weights, {"here": speed_here(plan)})
            result = execute(prepared, command)
        else:
            say(DONE.format(folder.path))
        accelerator.end_training()
    if main:
        with suppress(UserError):  # a cache that can't be written: the next time takes a closer look
            remember(config, folder.path, prepared.files, begun)
    show_result(result, plan.config, folder.path)
    return result


@dataclass(frozen=True)
class Prepared:
    """A run prepared for its first step."""

    plan: Plan
    weights: Weights
    data: Data
    features: Mapping[str, datasets.Dataset]
    tokenizer: PreTrainedTokenizerBase
    folder: RunFolder
    accelerator: Accelerator
    options: dict[str, Option]  # with their origins

    @property
    def files(self) -> list[Path]:
        """The files that it was read from."""
        adapter = self.plan.config.method.initial_adapter()
        return [*self.weights.every, *self.data.files, *(adapter.files if adapter else ())]


def prepare(config: Config, cell: str, accelerator: Accelerator, overrides: Sequence[str]) -> Prepared:
    """Find weights and data, tokenise, plan. Raises `UserError`."""
    check_possible(config)
    with accelerator.main_process_first():  # rank 0 first: it downloads and fills the cache
        weights, data, features, tokenizer = read(config)
    rows = data.rows | {data.train_split: len(features[data.train_split])}  # training may have windows or blocks
    plan = make_plan(config, rows, weights.folder)
    plan.notes.extend(data.notes)
    tokens = [digest(each.data.table) for each in features.values()]
    key = run_key(plan.config, data.digest, tokens, weights.digest)
    folder = RunFolder(plan.config, plan.solution.budget, key, cell)
    options = origins(config, plan.config, overrides, rows_of_evaluation(config.task, rows))
    return Prepared(plan, weights, data, features, tokenizer, folder, accelerator, options)


def read(config: Config) -> tuple[Weights, Data, dict[str, datasets.Dataset], PreTrainedTokenizerBase]:
    """Find weights and data, and tokenise. Raises `UserError`."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    task_type = create_task(config.task)
    found = all_of([lambda: locate(config.model, config.cache_dir), lambda: load_data(config.task, config.data_root)])
    weights, data = cast(tuple[Weights, Data], tuple(found))
    tokenizer = load_tokenizer(config.model, weights)
    kind = tokenizer_digest(tokenizer)
    cache = Path(config.cache_dir).expanduser()
    features = {
        split: tokenise(table, data.digests[split], config.task, tokenizer, kind, split == data.train_split, cache, say)
        for split, table in data.tables.items()
    }
    for split, table in data.tables.items():
        data.notes.extend(f"{split}: {line}" for line in task_type.notes(table, features[split]))
    return weights, data, features, tokenizer


@contextmanager
def session(folder: RunFolder, config: Resolved) -> Iterator[dict[str, Any] | None]:
    """Lock the run folder, and keep its status correct however the block ends.

    Yields the result if the run is done by then: the previous holder may just have finished it.
    """
    with locked(folder.path):
        if (result := folder.finished(say)) is not None:
            folder.drop_checkpoints()
            yield result.as_dict()
            return
        folder.set_status("running")
        try:
            write_text(folder.path / "config.yaml", OmegaConf.to_yaml(asdict(config)))
            yield None
        except LostProcess:
            raise  # stays `running`: the same command resumes
        except (Interrupted, KeyboardInterrupt, SystemExit):
            with suppress(UserError):  # disk full: the same command resumes anyway
                folder.set_status("interrupted")
            raise
        except BaseException as error:
            with suppress(UserError):  # report the original error instead
                folder.set_status("failed", describe_error(error))
            raise
        folder.set_status("done")
        folder.drop_checkpoints()


def repeatable() -> None:
    """Make torch's results repeat to the bit.

    On a GPU, flash attention's backward pass is deterministic then; the fused kernels that aren't are turned off, which
    leaves the plain products.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)


def execute(run: Prepared, command: list[str]) -> dict[str, Any]:
    """Build the parts, train, and write the result."""
    plan, folder, accelerator, tokenizer = run.plan, run.folder, run.accelerator, run.tokenizer
    config = plan.config
    repeatable()
    if accelerator.device.type == "cuda":  # a multirun's jobs share a process
        torch.cuda.reset_peak_memory_stats(accelerator.device)
    torch.manual_seed(config.seed)

    task_type = create_task(config.task)
    model, method = build_model(config, run.weights, config.task.outputs, accelerator.device)
    batches, order, splits = build_batches(config, run.data, run.features, task_type, tokenizer, accelerator)
    optimizer = build_optimizer(model, method, config.training)
    check_counts("at the start", model, optimizer, plan.solution.counts, method.config.initial(plan.shapes))
    main = accelerator.is_main_process
    wandb = None
    if main and config.tracking == "wandb":
        wandb = Wandb(folder.path, about_run(config, plan.solution.budget, folder.key), say, folder.key)
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
        check_counts("at the end", model, optimizer, plan.solution.counts, method.peak())
        method.check_end()
        result = record(run, method, progress, command)
        method.finish()
        if main:
            for split, found in zip(splits, predictions, strict=True):
                task_type.save(split, found, folder.path)
            result = keep(folder.path, result, model, plan)
        if wandb is not None:
            count = samples_of(config, run.data.own)
            watch.finished(result, task_type.samples(splits[0], predictions[0], count) if count else None)
    return result.as_dict()


def keep(folder: Path, result: Result, model: nn.Module, plan: Plan) -> Result:
    """Write `adapter/`, `ranks.png` and, last, `result.json`; return the result."""
    config = plan.config
    meaning = {"schema": SCHEMA, "model": result.model, "method": result.method, "ranks": result.ranks}
    save_adapter(folder / "adapter", model, meaning)
    if result.ranks:
        title = f"{config.method.name}, {config.task.title}, {config.model.title}, budget {result.budget['name']}"
        figure = rank_figure(config.model, result.ranks, title)
        with writing(path := folder / "ranks.png"):
            figure.savefig(path, dpi=120, bbox_inches="tight")
    return write_result(folder, result)
