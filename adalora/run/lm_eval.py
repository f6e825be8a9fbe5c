"""Evaluate with lm_eval, the field's harness: its tasks, prompts and metrics on our model object.

Needs `make lm-eval`. Where `data_root` or `task.data_dir` is given, lm_eval's own task reads that data as JSON.
"""

import json
import time
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from adalora.backbones.load import load_tokenizer, locate
from adalora.config.schema import Config
from adalora.errors import UserError
from adalora.files.writing import write_json, write_text
from adalora.methods.linear import unmergeable
from adalora.run.evaluate import describe, load_subject
from adalora.training.build import build_accelerator
from tasks.answers.options import AnswersTask
from tasks.data import located, split_source
from tasks.discovery import create as create_task
from tasks.formats import read_table

SPLIT = "test"  # what lm_eval's tasks score
BATCH = 16  # rows (ours); scores don't depend on it


def check_installed() -> None:
    """Raises `UserError` if lm_eval isn't in this environment."""
    if find_spec("lm_eval") is None:
        raise UserError(
            "tasks=... needs lm_eval, which has an environment of its own: make lm-eval, then "
            ".venv-lm-eval/bin/python -m scripts.evaluate ..."
        )


def evaluate_with_lm_eval(
    configs: dict[str, Config], run: Path | None, limit: int | None, command: list[str]
) -> list[tuple[dict[str, Any], Path]]:
    """Evaluate on lm_eval's tasks; return the record of each, and the folder it is written to, with the predictions.

    Args:
        configs: by lm_eval's name of the task, the composed configuration: the model, and where the data are.
        run: the folder of a finished run; None: the base model, or `method.init_from` on it.
        limit: score the first so many rows; None: all.
        command: for the records.

    Raises:
        UserError: lm_eval isn't installed, or doesn't know a task.
    """
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager, by = TaskManager(), f"lm_eval {version('lm_eval')}"
    for name in configs:
        if name not in manager.all_subtasks:
            raise UserError(f"tasks={name}: {by} has no such task (its groups can't be given, their tasks can)")
    first = next(iter(configs.values()))
    accelerator = build_accelerator(first)
    weights = locate(first.model, first.cache_dir)
    subject = load_subject(first, run, weights, accelerator)
    if subject.method is not None and unmergeable(subject.model) is None:
        subject.method.merge(subject.model)
    model: Any = subject.model
    harness = HFLM(pretrained=model, tokenizer=load_tokenizer(first.model, weights), batch_size=BATCH)
    found = []
    with TemporaryDirectory() as folder:
        for name, config in configs.items():
            task, origin = local_task(config, name, manager.task_index[name].yaml_path, Path(folder))
            begin = time.perf_counter()
            with accelerator.autocast():
                results = lm_eval.simple_evaluate(
                    harness, tasks=[task], limit=limit, bootstrap_iters=0, task_manager=manager
                )
            rows = [prediction_of(sample) for sample in results["samples"][name]]
            scores = {  # by metric, and filter of the answers if there is one
                key.removesuffix(",none"): value for key, value in results["results"][name].items() if "," in key
            }
            count = len({row["row"] for row in rows})  # each filter has its own lines
            about = {
                "by": by,
                "task": {
                    "name": name,
                    "version": results["versions"][name],
                    "origin": origin,
                    "rows": {SPLIT: count},
                    "train_split": None,
                },
                "scores": {key: value for key, value in scores.items() if isinstance(value, float)},
                "seconds": round(time.perf_counter() - begin, 2),
            }
            record, out = describe(subject, about, config, command, accelerator)
            write_text(out / "predictions.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
            write_json(out / "evaluation.json", record)
            found.append((record, out))
    return found


def prediction_of(sample: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a row, without its texts: place, metrics, and the negative log-likelihoods of its choices."""
    found: dict[str, Any] = {"row": sample["doc_id"]} | {name: sample[name] for name in sample["metrics"]}
    found |= {"filter": sample["filter"]} if sample["filter"] != "none" else {}
    answers = sample["filtered_resps"]
    return found | {"nats": [-answer[0] for answer in answers]} if isinstance(answers[0], tuple) else found


def local_task(config: Config, name: str, own: Path, folder: Path) -> tuple[str, str]:
    """lm_eval's own task over local data, as a file, or its name where there are none; and the data's origin."""
    task = located(config.task, config.data_root)
    if task.data_dir is None or not isinstance(task, AnswersTask) or not task.choices:
        return name, "lm_eval's"
    bare = replace(task, prompt=f"{{{task.columns[0]}}}")
    files, origin, where = split_source(bare, SPLIT, None)
    raw = read_table(files, bare.encoding, bare.plain_text)
    table, _ = create_task(bare).check_rows(raw, where, False)
    lines = []
    for row in table.to_pylist():
        labels = [chr(ord("A") + i) for i in range(len(row["choices"]))]
        choices = {"text": row["choices"], "label": labels}
        lines.append({task.columns[0]: row["prompt"], task.choices[0]: choices, task.answer: labels[row["gold"]]})
    rows, spec = folder / f"{name}.jsonl", folder / f"{name}.yaml"
    write_text(rows, "".join(json.dumps(line) + "\n" for line in lines))
    gone = dict.fromkeys(("dataset_name", "training_split", "validation_split", "fewshot_split"))
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {SPLIT: str(rows)}}}
    write_json(spec, {"include": str(own), "task": name, "test_split": SPLIT, **data, **gone})
    return str(spec), f"{origin}, as JSON"
