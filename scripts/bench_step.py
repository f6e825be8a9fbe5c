"""Step time and dispatched operations of LoRA and AdaLoRA, ours and PEFT's, in one process, interleaved:

python scripts/bench_step.py
python scripts/bench_step.py --steps 30 --batch 8 --length 64

DeBERTaV3-base's shape with random weights, fp32. Every contender trains pooler and classifier too, with the same AdamW;
the allocators run in their pruning phase. Our side has the suite's default attention; `--attention eager` gives it the
library's, as PEFT has, so that only the methods differ.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DebertaV2ForSequenceClassification

from adalora.backbones.attention import use_exact_attention
from adalora.backbones.load import architecture
from adalora.backbones.options import Model
from adalora.backbones.targets import target_modules
from adalora.config import register, validated
from adalora.methods.adalora.options import AdaLoRAConfig
from adalora.methods.discovery import create
from adalora.methods.lora.options import LoRAConfig
from adalora.methods.options import MethodConfig
from tasks.classification.task_type import task_loss

TOTAL = 1000  # planned steps: the measured ones lie between t_i and T - t_f
FIRST = 200
Step = Callable[[int], None]


class Operations(TorchDispatchMode):
    """Counts what reaches the dispatcher below autograd."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


def fresh(model: Model) -> nn.Module:
    """A classifier of the backbone's shape with random weights, frozen but for its head."""
    torch.manual_seed(0)
    built = DebertaV2ForSequenceClassification(architecture(model, 2)).requires_grad_(False).train()
    for name in model.head:
        built.get_submodule(name).requires_grad_(True)
    return built


def stepper(built: nn.Module, batch: dict[str, torch.Tensor], regulariser: Callable, after: Callable) -> Step:
    """One training step of a model: forward, backward, clip, AdamW, allocation, zero_grad."""
    trained = [p for p in built.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)
    inputs, labels = {key: batch[key] for key in ("input_ids", "attention_mask")}, batch["labels"]

    def step(t: int) -> None:
        (task_loss(built(**inputs).logits, labels) + regulariser()).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        after(t)
        optimizer.zero_grad()

    return step


def ours(model: Model, config: MethodConfig, batch: dict[str, torch.Tensor], exact: bool) -> Step:
    """One of this suite's methods."""
    built = fresh(model)
    method = create(config)
    method.attach(built, target_modules(built, model), TOTAL)
    if exact:
        use_exact_attention(built)
    return stepper(built, batch, method.regulariser, method.after_step)


def frozen(model: Model, batch: dict[str, torch.Tensor], exact: bool) -> Step:
    """The floor: only the head is trained, gradients still flow through the whole encoder."""
    built = fresh(model)
    if exact:
        use_exact_attention(built)
    built.deberta.embeddings.register_forward_hook(lambda module, inputs, out: out.requires_grad_(True))  # type: ignore[operator,union-attr]
    return stepper(built, batch, lambda: 0.0, lambda t: None)


def peft(model: Model, adaptive: bool, batch: dict[str, torch.Tensor]) -> Step:
    """PEFT's LoRA or AdaLoRA with the same ranks, maps and head, its allocator called as its docs say."""
    from peft import AdaLoraConfig, LoraConfig, get_peft_model

    shared: dict[str, Any] = {
        "target_modules": [path.rpartition("{layer}.")[2] for path in model.targets.values()],
        "exclude_modules": ["pooler.dense"],
        "modules_to_save": model.head,
        "lora_alpha": 32,
    }
    config = (
        AdaLoraConfig(init_r=4, target_r=2, tinit=150, tfinal=450, deltaT=1, total_step=TOTAL, **shared)
        if adaptive
        else LoraConfig(r=2, **shared)
    )
    built: Any = get_peft_model(fresh(model), config)
    after = built.base_model.update_and_allocate if adaptive else lambda t: None
    weight = config.orth_reg_weight if adaptive else 0.0

    def regulariser() -> Any:
        """PEFT adds it to a loss that the model computes; here the loss is ours, so it is asked for."""
        if not adaptive:
            return 0.0
        norms = []
        for name, p in built.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                gram = p @ p.T if "lora_A" in name else p.T @ p
                norms.append(torch.norm(gram - torch.eye(*gram.size(), out=torch.empty_like(gram)), p="fro"))
        return weight * sum(norms) / len(norms)

    return stepper(built, batch, regulariser, after)


def measure(contenders: dict[str, Step], steps: int) -> dict[str, tuple[list[float], int]]:
    """Seconds of every step, the contenders taking turns, and operations of one step."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    operations = {}
    for t in range(FIRST, FIRST + steps + 2):
        for name, step in contenders.items():
            if t == FIRST + 1:  # the first step warms up, the second is counted
                with Operations() as counter:
                    step(t)
                operations[name] = counter.count
                continue
            start = time.perf_counter()
            step(t)
            if t > FIRST + 1:
                times[name].append(time.perf_counter() - start)
    return {name: (times[name], operations[name]) for name in contenders}


def main() -> None:
    """Measure and print the table, ratios first."""
    parser = argparse.ArgumentParser(description="Step time and operations of LoRA and AdaLoRA, ours and PEFT's.")
    parser.add_argument("--steps", type=int, default=15, help="timed steps each (%(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="rows (%(default)s)")
    parser.add_argument("--length", type=int, default=64, help="tokens (%(default)s)")
    parser.add_argument("--attention", choices=("eager", "exact"), default="exact", help="of our side (%(default)s)")
    args = parser.parse_args()
    register()
    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "conf"), version_base="1.3"):
        model = validated(compose("config")).backbone
    exact = args.attention == "exact"
    ids = torch.randint(5, 1000, (args.batch, args.length), generator=torch.Generator().manual_seed(0))
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.arange(args.batch) % 2,
    }
    adalora = AdaLoRAConfig(init_rank=4, target_rank=2, alpha=32, initial_steps=150, final_steps=450).planned(TOTAL)
    contenders = {
        "frozen backbone": frozen(model, batch, exact),
        "ours LoRA": ours(model, LoRAConfig(rank=2, alpha=32), batch, exact),
        "ours AdaLoRA": ours(model, adalora, batch, exact),
        "PEFT LoRA": peft(model, False, batch),
        "PEFT AdaLoRA": peft(model, True, batch),
    }
    show(measure(contenders, args.steps), args)


def show(measured: dict[str, tuple[list[float], int]], args: argparse.Namespace) -> None:
    """The ratios, then what they are made of."""
    median = {name: statistics.median(times) for name, (times, _) in measured.items()}
    console = Console(highlight=False)
    console.print(
        f"DeBERTaV3-base's shape, random weights, {args.batch} x {args.length} tokens, fp32, {args.steps} steps each, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}; attention: ours {args.attention}, PEFT eager"
    )
    ratios = Table(box=None)
    for column in ("ratio", "time", "operations"):
        ratios.add_column(column, justify="left" if column == "ratio" else "right")
    for one, other in (
        ("ours AdaLoRA", "ours LoRA"),
        ("PEFT AdaLoRA", "PEFT LoRA"),
        ("ours AdaLoRA", "PEFT AdaLoRA"),
        ("ours AdaLoRA", "frozen backbone"),
    ):
        ratios.add_row(
            f"{one} / {other}", f"{median[one] / median[other]:.2f}", f"{measured[one][1] / measured[other][1]:.2f}"
        )
    console.print(ratios)
    table = Table(box=None)
    for column in ("", "median s", "range s", "operations"):
        table.add_column(column, justify="right" if column else "left")
    for name, (times, operations) in measured.items():
        table.add_row(name, f"{median[name]:.3f}", f"{min(times):.3f} to {max(times):.3f}", f"{operations:,}")
    console.print(table)


if __name__ == "__main__":
    main()
