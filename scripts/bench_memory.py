"""Benchmark the time and memory of activation checkpointing, with one process per contender:

python scripts/bench_memory.py
python scripts/bench_memory.py --batch 32 --length 256 --methods lora

DeBERTaV3-base's shape with random weights, dropout on. Memory is the peak of a step beyond the built model: of the
process on a CPU, of the allocator on a GPU. The plan's estimate is printed next to it.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

MIB = 2**20


def measure(method: str, again: bool, batch: int, length: int, steps: int, precision: str) -> dict[str, Any]:
    """Measure the median seconds and the memory of a step, in this process."""
    import torch
    from transformers import DebertaV2ForSequenceClassification

    from adalora.backbones.load import architecture
    from adalora.build import adapt
    from adalora.memory import training_memory, weights_memory
    from adalora.plan import make_plan
    from adalora.sweep.cells import compose
    from tasks.classification.task_type import task_loss

    options = compose([
        "task=rte", f"method={method}", f"task.max_length={length}", f"training.batch_size={batch}",
        f"training.activation_checkpointing={again}", f"precision={precision}",
    ])  # fmt: skip
    assert not isinstance(options, str), options
    plan = make_plan(options, options.task.rows)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    model_class: Any = DebertaV2ForSequenceClassification
    model = model_class(architecture(plan.config.model, 2))
    kind = adapt(model, plan.config)
    model.to(device).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)
    ids = torch.randint(5, 1000, (batch, length), device=device)
    labels = torch.arange(batch, device=device) % 2

    def held() -> int:
        """The peak so far."""
        if device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    before = held()
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        (task_loss(logits.float(), labels) + kind.regulariser()).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    estimate = training_memory(plan.config, model, plan.setting.counts.total, batch) - weights_memory(model)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {
        "seconds": statistics.median(times[1:]),
        "memory": held() - before,
        "estimate": estimate,
        "device": name,
        "torch": torch.__version__,
    }


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description="Time and memory of a step, with and without activation checkpointing."
    )
    parser.add_argument("--methods", default="lora,adalora,increlora,lorta", help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="timed steps each (%(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="rows (%(default)s)")
    parser.add_argument("--length", type=int, default=128, help="tokens (%(default)s)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="(%(default)s)")
    args = parser.parse_args()
    table = Table(box=None)
    for column in ("method", "s/step", "again", "ratio", "MiB a step", "again", "ratio", "estimate", "again"):
        table.add_column(column, justify="left" if column == "method" else "right")
    found: dict[str, Any] = {}
    for method in args.methods.split(","):
        sides = []
        for again in (False, True):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found = pool.apply(measure, (method, again, args.batch, args.length, args.steps, args.precision))
                sides.append(found)
        once, twice = sides
        table.add_row(
            method, f"{once['seconds']:.2f}", f"{twice['seconds']:.2f}", f"{twice['seconds'] / once['seconds']:.2f}",
            f"{once['memory'] / MIB:,.0f}", f"{twice['memory'] / MIB:,.0f}", f"{twice['memory'] / once['memory']:.2f}",
            f"{once['estimate'] / MIB:,.0f}", f"{twice['estimate'] / MIB:,.0f}",
        )  # fmt: skip
    console = Console(highlight=False)
    console.print(
        f"DeBERTaV3-base's shape, random weights, {args.batch} x {args.length} tokens, {args.precision}, {args.steps} "
        f"steps each, {found['device']}, torch {found['torch']}"
    )
    console.print(table)


if __name__ == "__main__":
    main()
