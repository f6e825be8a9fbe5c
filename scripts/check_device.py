"""Check in a minute or two that this machine trains correctly: `make check-device`

Runs a few steps of AdaLoRA on packaged weights and text: in every precision of the device, with activation
checkpointing, and stopped and resumed to the same bits. Then estimates the time of a real cell from the speed of matrix
products.
"""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from adalora.errors import UserError
from adalora.planning.memory import GIB, machine
from adalora.planning.plan import make_plan
from adalora.planning.speed import SHARE, rate
from adalora.records.result import read_result
from adalora.sweep.cells import compose
from adalora.wording import duration
from scripts.options import Parser, exit_code

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
STEPS = 12
SHORT = (
    "experiment=tiny", "model=deberta_minilm", "task=r8", "method=adalora", f"training.max_steps={STEPS}",
    f"training.eval_steps={STEPS}", "debug=false",
)  # fmt: skip


def command(root: Path, options: Sequence[str]) -> list[str]:
    """A short run below `root`."""
    return [sys.executable, str(TRAIN), *SHORT, *options, f"run_root={root}"]


def train(root: Path, *options: str) -> Path:
    """Run it to its end and return its folder. Raises `UserError` with its message if it fails."""
    done = subprocess.run(command(root, options), capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise UserError(f"{' '.join(options)}: {said.removeprefix('error: ')}")
    (result,) = root.rglob("result.json")
    return result.parent


def stopped(root: Path, *options: str) -> None:
    """Start a run and stop it early. Raises `UserError` if it doesn't stop properly."""
    process = subprocess.Popen(command(root, options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.split()[1:2] == [f"1/{STEPS}"]:
            process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    if process.returncode != 128 + signal.SIGTERM:
        raise UserError(f"a run told to stop ended with {process.returncode}: {said.strip()}")


def same(one: Path, other: Path) -> bool:
    """Whether two runs have the same numbers to the bit."""
    names = ("metrics.jsonl", "adapter/adapter.safetensors")
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def facts(console: Console) -> None:
    """Describe the machine."""
    here = machine("auto")
    cuda = torch.cuda.is_available()
    name = f"{here.name}, CUDA {torch.version.cuda}" if cuda else f"CPU, {torch.get_num_threads()} threads"
    console.print(f"{name}, {here.memory / GIB:.3g} GiB, torch {torch.__version__}")


def outlook(console: Console, precisions: Sequence[str]) -> None:
    """Estimate the time of a cell of Table 1 on this machine."""
    options = compose(["task=rte", "method=adalora"])
    assert not isinstance(options, str), options
    plan = make_plan(options, options.task.rows)
    flops = plan.cost.flops * plan.total_steps
    for precision in precisions:
        speed = rate(precision, "auto")
        console.print(
            f"{precision}: {speed / 1e9:,.0f} GFLOP/s in matrix products; AdaLoRA on RTE about "
            f"{duration(flops / (SHARE * speed))} at {SHARE:.0%} of that, evaluations not included"
        )


def main() -> int:
    """Run the checks and print the results."""
    Parser(description="Check this machine in a minute or two.", allow_abbrev=False).parse_args()
    console = Console(highlight=False, soft_wrap=True)
    facts(console)
    cuda = torch.cuda.is_available()
    precisions = ["fp32", *(["tf32"] if cuda else []), "bf16", *(["fp16"] if cuda else [])]
    runs: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for precision in precisions:
            runs[precision] = train(root / precision, f"precision={precision}")
        again = "training.activation_checkpointing=true"
        runs["fp32, activation checkpointing"] = train(root / "again", "precision=fp32", again)
        stopped(root / "resumed", "precision=fp32")
        runs["fp32, stopped and resumed"] = train(root / "resumed", "precision=fp32")
        table = Table(box=None)
        for column in ("", "seconds", "peak memory MiB", "loss", "same bits as fp32"):
            table.add_column(column, justify="right" if column else "left")
        wrong = []
        for name, folder in runs.items():
            result = read_result(folder)
            equal = same(folder, runs["fp32"])
            judged = name.startswith("fp32, ")
            if judged and not equal:
                wrong.append(name)
            table.add_row(
                name, f"{result.seconds:.1f}", f"{result.peak_memory_mb:,}", f"{result.last['loss']:.4f}",
                ("yes" if equal else "NO") if judged else "",
            )  # fmt: skip
    console.print(table)
    console.print(
        f"{STEPS} steps of 8 rows and an evaluation of 64, AdaLoRA on R8, MiniLM-L6 in the DeBERTa-v2 classes"
    )
    outlook(console, precisions)
    for name in wrong:
        print(f"error: {name} differs from plain fp32: don't trust resumed runs on this machine", file=sys.stderr)
    if not wrong:
        console.print("all checks passed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
