"""Handle steps whose loss or gradient isn't finite.

fp16: the loss is scaled, and overflows are how the scaler finds its scale. Such a step is skipped: it doesn't count as
an optimizer step t, its batch is dropped, and the method's state doesn't change. To detect this, the host synchronises
with the device once per step (docs/deviations.md: D-fp16).

fp32 and bf16: training has diverged. From that step on, a flag on the device blocks the optimizer, and the next logging
step, evaluation or checkpoint, which synchronises anyway, ends the run.
"""

import math

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Optimizer

from adalora.errors import UserError
from adalora.processes import several

MOST_SKIPPED = (
    30  # overflows in a row: they take the scale from torch's initial 65536 to 6e-5 (fairseq stops below 1e-4)
)


class Guard:
    """Monitors the steps of a training.

    Args:
        accelerator: its scaler decides in fp16 which steps are skipped.
        optimizer: a fused optimizer.
    """

    def __init__(self, accelerator: Accelerator, optimizer: Optimizer) -> None:
        self.scaler = accelerator.scaler
        self.in_a_row = 0
        self.first = torch.full((), math.inf, device=accelerator.device)  # t of the first bad step
        self.blocked = torch.zeros((), device=accelerator.device)  # 1 from that step on
        if self.scaler is None:  # a scaler sets it, too: a fused optimizer skips its step while it is 1
            optimizer.found_inf = self.blocked  # type: ignore[attr-defined]

    def skips(self, norm: Tensor, t: int) -> bool:
        """Whether the scaler will skip this step. Only fp16 synchronises with the device.

        Args:
            norm: norm of all gradients, unscaled.
            t: optimizer steps so far.

        Raises:
            UserError: too many steps in a row were skipped.
        """
        if self.scaler is None:
            return False
        self.in_a_row = 0 if torch.isfinite(norm) else self.in_a_row + 1
        if self.in_a_row == MOST_SKIPPED:
            raise UserError(
                f"fp16 overflowed {MOST_SKIPPED} times in a row after step {t}, whatever the loss scale: "
                "use precision=bf16 or fp32, lower training.lr, or raise training.warmup_steps"
            )
        return self.in_a_row > 0

    def see(self, t: int, values: Tensor) -> None:
        """Block the optimizer from step t on if a value (loss, regulariser, norm) isn't finite."""
        bad = ~values.isfinite().all()
        self.first = torch.where(bad, self.first.clamp(max=t), self.first)
        self.blocked.copy_(self.first.isfinite())

    def check(self) -> None:
        """Stop after a step that wasn't finite. Synchronises with the device.

        Raises:
            UserError: the message names the step and what to change.
        """
        if several():  # each process sees its own rows' loss
            dist.all_reduce(self.first, dist.ReduceOp.MIN)
        if math.isfinite(first := self.first.item()):
            raise UserError(
                f"the loss or its gradient became NaN or infinite at step {int(first) + 1}: "
                "lower training.lr, raise training.warmup_steps, or use precision=fp32"
            )
