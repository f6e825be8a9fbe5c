"""Evaluation on rows of RTE's lengths, against transformers' Trainer with PEFT's AdaLoRA."""

import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import datasets
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Trainer, TrainingArguments

from adalora.training.batches import ByLength, evaluation_size, loader
from adalora.training.build import adapt, build_accelerator
from scripts.bench import lengths as bench_lengths
from scripts.bench.side import Side, fresh, resolved
from tasks.batches import predict
from tasks.classification.task_type import forward
from tasks.task_type import Split


def measure(rows: int, repeats: int) -> dict[str, Any]:
    """Time whole evaluations, with alternating sides.

    Args:
        rows: rows of the split, evenly over RTE's lengths (its dev set has 277).
        repeats: evaluations per side.
    """
    every = sorted(bench_lengths.rows())
    lengths = bench_lengths.spread(every, rows)
    lengths = [lengths[i] for i in torch.randperm(len(lengths), generator=torch.Generator().manual_seed(0))]
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(5, 1000, (length,), generator=generator) for length in lengths]
    sides: dict[str, Callable[[], Any]] = {
        "fp32": ours(ids, "fp32"),
        "bf16": ours(ids, "bf16"),
    }
    with tempfile.TemporaryDirectory() as place:
        sides["Trainer, fp32, batches of 8"] = trainer(ids, 8, False, place)
        sides["Trainer, bf16, batches of 32"] = trainer(ids, 32, True, place)
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(repeats):
            for name, evaluate in sides.items():
                start = time.perf_counter()
                evaluate()
                times[name].append(time.perf_counter() - start)
    return {"rows": len(lengths), "tokens": sum(lengths), "seconds": times}


def ours(ids: list[Tensor], precision: str) -> Callable[[], Tensor]:
    """The logits of every row, computed as in a run's evaluation."""
    spec = {"side": "ours", "method": "adalora", "options": [f"precision={precision}"]}
    config = resolved(spec)
    torch.manual_seed(0)
    model = fresh(config)
    adapt(model, config)
    accelerator = build_accelerator(config)
    model = accelerator.prepare_model(model.eval(), evaluation_mode=True)
    lengths = [len(row) for row in ids]
    size = evaluation_size(len(ids), config.training.eval_batch_size, accelerator.device.type)
    order = ByLength(lengths, size)
    features: Any = ids
    batches = accelerator.prepare(loader(features, order, padded))
    split = Split("bench", pa.table({}), datasets.Dataset.from_dict({}), batches, order.order)
    return lambda: predict(accelerator, model, split, forward)


def trainer(ids: list[Tensor], size: int, bf16: bool, place: str) -> Callable[[], Any]:
    """Trainer's evaluation of PEFT's AdaLoRA, with the library's attention and rows in order."""
    peft = Side({"side": "peft", "method": "adalora", "precision": "bf16" if bf16 else "fp32"})
    arguments = TrainingArguments(
        output_dir=place, per_device_eval_batch_size=size, bf16=bf16, report_to=[], disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    found = Trainer(model=peft.model.eval(), args=arguments, data_collator=padded)
    data: Any = [{"input_ids": row} for row in ids]
    return lambda: found.predict(data)


def padded(batch: list[Any]) -> dict[str, Tensor]:
    """Rows padded to the longest, with labels."""
    chosen = [row["input_ids"] if isinstance(row, dict) else row for row in batch]
    mask = pad_sequence([torch.ones_like(row) for row in chosen], batch_first=True)
    inputs = pad_sequence(chosen, batch_first=True)
    return {"input_ids": inputs, "attention_mask": mask, "labels": torch.zeros(len(chosen), dtype=torch.long)}


def ratio(figures: dict[str, Any], one: str, other: str) -> float:
    """Time of an evaluation of `one`, divided by that of `other`."""
    return median(figures["seconds"][one]) / median(figures["seconds"][other])
