"""One side of a benchmark: a model with random weights, by default of DeBERTaV3-base's shape, and its step.

All sides train the same head with the same AdamW, clipping and autocast.
"""

import ctypes
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from adalora.backbones.load import architecture, model_class
from adalora.config.schema import Resolved
from adalora.planning.plan import make_plan
from adalora.records.provenance import peak_memory_mb
from adalora.sweep.cells import compose
from adalora.training.build import adapt
from tasks.classification.task_type import task_loss

TOTAL = 1000  # planned steps, so that the measured ones prune: t_i < t < T - t_f
FIRST = 400
Loss = Callable[[dict[str, Tensor]], Tensor]


class Operations(TorchDispatchMode):
    """Count the operations that reach the dispatcher below autograd, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(function)] += 1
        return function(*args, **(kwargs or {}))


class Side:
    """A model with its optimizer and training step."""

    task = "rte"

    def __init__(self, spec: dict[str, Any]) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.width: int | None = spec.get("width")
        self.low = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(spec.get("precision", "bf16"))
        self.config = config = resolved(spec, self.task)
        torch.manual_seed(0)
        model: nn.Module = fresh(config)
        self.model = model.to(self.device)
        self.vocabulary = config.model.config["vocab_size"]
        self.before: Callable[[int], None] = lambda t: None
        self.after: Callable[[int], None] = lambda t: None
        self.loss: Loss = self.suite_loss
        self.regulariser: Callable[[], Any] = lambda: 0.0
        {"ours": self.ours, "floor": self.floor, "peft": self.peft, "library": self.library}[spec["side"]](config)
        self.model.train()
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.t = 0
        self.built = self.peak(reset=True)

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW, created at the first step."""
        return torch.optim.AdamW(self.trained, lr=1e-4, fused=True)

    def ours(self, config: Resolved) -> None:
        """One of this suite's methods, built as a run builds it."""
        self.method: Any = (method := adapt(self.model, config))
        self.regulariser, self.after = method.regulariser, method.after_step
        self.before = lambda t: method.before_step(t, self.optimizer)

    def library(self, config: Resolved) -> None:
        """The backbone as built by transformers, with nothing trained."""
        self.model.requires_grad_(False)

    def floor(self, config: Resolved) -> None:
        """No adapter: only the head is trained, but gradients still flow through the whole encoder."""
        adapt(self.model, config)
        embeddings = self.model.get_submodule("deberta.embeddings")
        embeddings.register_forward_hook(lambda module, inputs, out: out.requires_grad_(True))

    def peft(self, config: Resolved) -> None:
        """PEFT's method with the same name, ranks and modules, used as documented."""
        from peft import AdaLoraConfig, LoraConfig, get_peft_model

        self.model.requires_grad_(False)
        own: Any = config.method
        shared: dict[str, Any] = {
            "target_modules": [path.rpartition("{layer}.")[2] for path in config.model.targets.values()],
            "exclude_modules": ["pooler.dense"],
            "modules_to_save": config.model.head,
            "lora_alpha": own.alpha,
            "lora_dropout": own.dropout,
            "task_type": config.task.peft_type,  # otherwise its regulariser isn't added to the loss
        }
        if own.name == "adalora":
            peft_config: Any = AdaLoraConfig(
                init_r=own.init_rank, target_r=int(own.target_rank), tinit=own.initial_steps, tfinal=own.final_steps,
                deltaT=own.mask_interval, total_step=TOTAL, orth_reg_weight=own.orthogonality, **shared,
            )  # fmt: skip
        else:
            peft_config = LoraConfig(r=own.rank, **shared)
        self.model = get_peft_model(self.model, peft_config)
        if own.name == "adalora":
            base: Any = self.model.base_model
            self.after = base.update_and_allocate
        self.loss = lambda batch: self.model(**batch).loss

    def suite_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The suite's loss: of the logits in fp32."""
        labels = batch.pop("labels")
        return task_loss(self.model(**batch).logits.float(), labels)

    def step(self, batch: dict[str, Tensor]) -> None:
        """One step in the loop's order: forward, backward, clip, AdamW, allocation, zero_grad."""
        with torch.autocast(self.device.type, self.low, enabled=self.low is not None):
            loss = self.loss(batch)
        (loss + self.regulariser()).backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.before(self.t)
        self.optimizer.step()
        self.after(self.t)
        self.optimizer.zero_grad()
        self.t = max(self.t + 1, FIRST)  # after the first step, in which IncreLoRA starts

    def batch(self, lengths: Sequence[int]) -> dict[str, Tensor]:
        """Rows of random tokens, and labels."""
        labels = torch.arange(len(lengths), device=self.device) % 2
        return self.tokens(lengths) | {"labels": labels}

    def tokens(self, lengths: Sequence[int]) -> dict[str, Tensor]:
        """Random tokens, padded to the longest row or to the side's fixed width."""
        width = self.width or max(lengths)
        generator = torch.Generator().manual_seed(sum(lengths))
        ids = torch.randint(5, self.vocabulary, (len(lengths), width), generator=generator)
        mask = torch.arange(width) < torch.tensor(lengths)[:, None]
        found = {"input_ids": ids * mask, "attention_mask": mask.long()}
        return {name: tensor.to(self.device) for name, tensor in found.items()}

    def work(self, asked: dict[str, Any]) -> Callable[[], Any]:
        """The function that a request asks to time."""
        return partial(self.step, self.batch(asked["lengths"]))

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Answer a request."""
        if asked["do"] == "rate":
            return {"flops_per_s": self.rate()}
        work = self.work(asked)
        if asked["do"] == "operations":
            with Operations() as operations:
                work()
            return {"operations": sum(operations.counts.values()), "by_name": dict(operations.counts.most_common(12))}
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        seconds = time.perf_counter() - start
        trim()  # other sides compute in the meantime
        return {"seconds": seconds, "memory_mib": self.peak() - self.built}

    def rate(self) -> float:
        """Median FLOP/s of ten products (2304, 768) x (768, 3072)."""
        of: dict[str, Any] = {"dtype": self.low or torch.float32, "device": self.device}
        x, W = torch.randn(2304, 768, **of), torch.randn(3072, 768, **of)
        times = []
        for _ in range(11):
            start = time.perf_counter()
            nn.functional.linear(x, W)
            self.wait()
            times.append(time.perf_counter() - start)
        return 2 * 2304 * 768 * 3072 / statistics.median(times[1:])

    def peak(self, reset: bool = False) -> int:
        """Peak memory since the last reset, in MiB. On Linux this is of the process alone, whereas getrusage starts at
        the parent's."""
        status = Path("/proc/self/status")
        if self.device.type == "cuda" and reset:
            torch.cuda.reset_peak_memory_stats()
        if self.device.type == "cuda" or not status.is_file():
            return peak_memory_mb(self.device)
        if reset:
            trim()
            Path("/proc/self/clear_refs").write_text("5")
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) // 1024

    def wait(self) -> None:
        """Synchronise with the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def trim() -> None:
    """Return freed memory to the system."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def resolved(spec: dict[str, Any], task: str = "rte") -> Resolved:
    """The suite's configuration for a side, sized by its budget as in a run."""
    method = spec.get("method", "bitfit")
    options = compose([f"task={task}", f"method={method}", *spec.get("options", ())])
    if isinstance(options, str):
        raise SystemExit(options)
    plan = make_plan(options, options.task.rows)
    if method == "adalora":
        adalora: Any = plan.config.method
        adalora.initial_steps, adalora.final_steps = 150, 450
    plan.config.training.total_steps = TOTAL
    return plan.config


def fresh(config: Resolved) -> PreTrainedModel:
    """The backbone with the task's head and random weights."""
    return model_class(config.model)(architecture(config.model, 2))
