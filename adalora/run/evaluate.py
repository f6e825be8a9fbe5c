"""Evaluate without training: the base model, an imported adapter, or a finished run."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from adalora.backbones.files import Weights
from adalora.backbones.load import load_model
from adalora.backbones.outline import outline_of
from adalora.config.mistakes import escape
from adalora.config.schema import Config
from adalora.errors import UserError
from adalora.files.reading import sealed
from adalora.files.writing import READ_ONLY, check_writable, write_json
from adalora.methods.protocol import Method
from adalora.options import key_of
from adalora.planning.identity import digest
from adalora.planning.memory import evaluation_memory, largest, machine
from adalora.planning.plan import Plan, make_plan
from adalora.records.evaluation import FOLDER as EVALUATIONS
from adalora.records.provenance import commit, hardware, versions
from adalora.records.result import NAME as RESULT
from adalora.records.result import portable, read_finished
from adalora.run.collect import model_of, task_of
from adalora.run.run import read, repeatable
from adalora.run.trained import load_config, load_run
from adalora.training.build import build_accelerator, build_model, build_splits, padding
from adalora.training.evaluate import evaluate
from tasks.data import Data
from tasks.discovery import create as create_task

SCHEMA = 1  # of evaluation.json
TRAINING = ("task", "experiment", "method", "budget", "recipe", "training", "seed")  # options of a run's training
OWN = ("task", "data_root", "run_root", "cache_dir", "precision", "device", "debug", "tracking", "hydra")
"""Options that can be given beside a run, with `OTHERS`; all else is as in its training."""
OTHERS = ("model", "model.path", "training.eval_batch_size")
STEPS = 1000  # of the schedule that an imported adapter's method gets, and that isn't run


@dataclass(frozen=True)
class Subject:
    """What is evaluated."""

    model: nn.Module  # in evaluation mode, on the device
    method: Method | None
    about: dict[str, Any]  # `run` and `adapter`, None without one, and `model`
    folder: Path  # where its evaluations are


def options_of_run(folder: Path, given: Sequence[str]) -> list[str]:
    """The overrides of a finished run, without those that `given` replaces, and `given`; with a task only those of the
    model and the machine. Raises `UserError` if the run isn't finished, or an option would change its model."""
    if not (folder / RESULT).is_file():
        what = "no such folder"
        if folder.exists():
            what = f"has no {RESULT}: give the folder that a run prints at its end (a record has no weights)"
        raise UserError(f"{folder}: {what}")
    keys = {key_of(override) for override in given}
    for key in sorted(keys):
        if key not in OTHERS and key.partition(".")[0] not in OWN:
            raise UserError(f"{key}: a run has its own; beside it give options of {', '.join((*OWN, *OTHERS))}")
    left_out = TRAINING if "task" in keys else ()
    command, kept = read_finished(folder).as_dict()["command"][1:], []
    if "run_root" not in keys:  # evaluations are in the run's folder
        kept.append(f'run_root="{escape(str(folder))}"')
    for override in command:
        key = key_of(override)
        if key == "--config-dir":
            kept.append(f"hydra.searchpath=[file://{override.partition('=')[2]}]")
        elif key not in (*keys, "run_root") and key.partition(".")[0] not in left_out:
            kept.append(override)
    if left_out and "experiment" in map(key_of, command):  # it may have chosen them
        trained = load_config(folder)
        kept = [f"model={trained.model.name}", f"precision={trained.precision}", *kept]
    return [*kept, *given]


def check_subject(config: Config, run: Path | None) -> None:
    """Raises `UserError` if the task isn't for the run's model, has a head that only a run on it has trained, or scores
    rows of the run's training."""
    task, backbone = config.task.name, config.backbone
    if run is None:
        if backbone.head:
            raise UserError(f"task={task} has a head that only a run has trained: give a run's folder")
        return
    trained = load_config(run)
    if trained.model.architecture != backbone.architecture:
        raise UserError(f"{run} has a {trained.model.architecture}, which task={task} isn't for")
    if backbone.head and trained.task.name != task:
        raise UserError(f"{run} has the head of {trained.task.name}: it can't be evaluated on another task")
    if trained.task.name == task and trained.task.held_out != config.task.held_out:
        own = "null" if trained.task.held_out is None else trained.task.held_out
        raise UserError(
            f"task.held_out={config.task.held_out}: {run} has another one, {own}, and was trained on the rest"
        )


def check_held_out(config: Config, run: Path, data: Data) -> None:
    """Raises `UserError` if the rows held out aren't those that the run held out, as the file has changed since."""
    trained, held = read_finished(run).task, config.task.eval_splits[:1]
    if trained["name"] != config.task.name or not config.task.held_out or not held or held[0] not in data.rows:
        return
    rows, split = trained["rows"], data.train_split
    if data.rows[split] != rows[split] or (data.rows == rows and data.digest != trained["digest"]):
        raise UserError(
            f"{split} has changed since {run} was trained, so task.held_out={config.task.held_out} would hold out rows "
            "of its training: give the file as it was, or another split with task.eval_split=NAME"
        )


def load_subject(config: Config, run: Path | None, weights: Weights, accelerator: Accelerator) -> Subject:
    """Load the model of a run; without one the base model, or with `method.init_from` the adapter on it."""
    backbone, method = config.backbone, None
    about: dict[str, Any] = {"run": None, "adapter": None, "model": model_of(backbone, weights)}
    if run is not None:
        trained = load_run(run, config.model.path)
        if trained.weights.digest != weights.digest:
            raise UserError(f"{run} was trained on {trained.config.model.title}: leave out model={config.model.name}")
        model, method = trained.model, trained.method
        used = model_of(trained.config.model, weights)
        about = {"run": trained.result["key"], "adapter": trained.config.method.name, "model": used}
    elif (imported := config.method.initial_adapter()) is None:
        model = load_model(backbone, weights, config.task.outputs)
    else:
        plan = plan_of(config, weights)
        model, method = build_model(plan.config, weights, config.task.outputs, accelerator.device)
        about |= {"adapter": plan.notes[0], "adapter_digest": imported.digest}
    return Subject(model.to(accelerator.device).eval(), method, about, place(config, run))


def place(config: Config, run: Path | None) -> Path:
    """The folder of a run's or a model's evaluations. Raises `UserError` if it can't be written."""
    folder = Path(config.run_root).expanduser() / "evaluations" / ("" if run else config.model.name)
    check_writable(folder)
    return folder


def plan_of(config: Config, weights: Weights) -> Plan:
    """A plan for what an evaluation needs of one, whatever the training would be."""
    default: Any = type(config.method)()
    lengths = {name: getattr(default, name) for name in config.method.lengths}
    training = replace(config.training, max_steps=STEPS, micro_batches=1)
    untrained = replace(config, training=training, method=replace(config.method, **lengths))
    return make_plan(untrained, {config.task.train_split: STEPS}, weights.folder)


def evaluate_only(config: Config, run: Path | None, command: list[str]) -> tuple[dict[str, Any], Path]:
    """Evaluate on every evaluation split of the task; return the record and the folder it is written to, with the
    predictions.

    Args:
        config: the composed configuration: task and data, and the model.
        run: the folder of a finished run; None: the base model, or `method.init_from` on it.
        command: for the record.

    Raises:
        UserError: a problem that the user can fix.
    """
    check_subject(config, run)
    accelerator = build_accelerator(config)
    repeatable()
    with accelerator.main_process_first():
        weights, data, features, tokenizer = read(config)
    if run is not None:
        check_held_out(config, run, data)
    subject = load_subject(config, run, weights, accelerator)
    task_type = create_task(config.task)
    collate = task_type.collate(tokenizer, padding(accelerator))
    training = config.training
    if training.eval_batch_size == "auto":
        outline = outline_of(config.backbone, config.task.outputs, weights.folder)
        rows = largest(machine(config.device), lambda rows: evaluation_memory(config, outline, rows))
        training = replace(training, eval_batch_size=rows)
    splits = build_splits(training, data, features, collate, accelerator)
    begin = time.perf_counter()
    scores, predictions = evaluate(accelerator, subject.model, task_type, splits, tokenizer, show_progress)
    seconds = time.perf_counter() - begin
    found = {"by": "adalora", "task": task_of(config.task, data), "scores": scores, "seconds": round(seconds, 2)}
    record, folder = describe(subject, found, config, command, accelerator)
    if accelerator.is_main_process:
        for split, rows in zip(splits, predictions, strict=True):
            task_type.save(split, rows, folder)
        write_json(folder / "evaluation.json", record)
    return record, folder


def describe(
    subject: Subject, found: dict[str, Any], config: Config, command: list[str], accelerator: Accelerator
) -> tuple[dict[str, Any], Path]:
    """The record of an evaluation, and its folder, named after what determines the scores."""
    record = {
        "schema": SCHEMA,
        **subject.about,
        **found,
        "precision": config.precision,
        "command": command,
        "versions": versions(),
        "commit": commit(),
        "hardware": hardware(accelerator.device),
    }
    determining = ("by", "run", "adapter", "adapter_digest", "model", "task", "precision")
    key = digest({name: record[name] for name in determining if name in record})
    return record, subject.folder / f"{found['task']['name']}-{key}"


def keep_evaluation(record: dict[str, Any], folder: Path, name: str) -> Path:
    """Write an evaluation into a study's folder, without paths of the machine. Raises `UserError` if it can't.

    Args:
        record: from `evaluate_only`.
        folder: the study's.
        name: of the evaluation's own folder, which tells it from others.
    """
    command = [name_only(text) for text in portable(record["command"])]
    what = record["adapter"] if record["run"] else "imported" if record["adapter"] else "untrained"
    path = folder / EVALUATIONS / f"{what}-{record['run'] or 'model'}-{name}.json"
    write_json(path, sealed(record | {"command": command}), READ_ONLY)
    return path


def name_only(argument: str) -> str:
    """An argument without the folders of a path: of a run, or of an adapter to start from."""
    key, equals, value = argument.partition("=")
    if not equals:
        return Path(argument).name
    return f"{key}={Path(value).name}" if key.endswith("init_from") else argument


def show_progress(split: str, done: int, rows: int) -> None:
    """Show how far a split's evaluation is, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{split}: {done:,} of {rows:,}", end="\n" if done == rows else "", file=sys.stderr, flush=True)
