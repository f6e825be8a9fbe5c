"""What happens to a step whose loss or gradient isn't finite.

fp16: the loss is scaled, and a gradient that overflows is the scaler's way to find its scale. Such a step is
skipped: it isn't an optimizer step t, its batch is passed over, and every method's state stays as it was. To
know that, the host waits for the device once a step (docs/deviations.md: D-fp16).

fp32 and bf16: training has diverged. From that step on a flag on the device blocks the optimizer, and the next
logging step, evaluation or checkpoint, which waits for the device anyway, ends the run.
"""

import math

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Optimizer

from adalora.distributed import several
from adalora.errors import UserError

MOST_SKIPPED = 30  # in a row: from 65536, torch's first scale, down to 6e-5 (fairseq ends a run below 1e-4)


class Guard:
    """Watches the steps of one training.

    Args:
        accelerator: whose scaler, in fp16, decides what is skipped.
        optimizer: a fused one, which honours `found_inf`.
    """

    def __init__(self, accelerator: Accelerator, optimizer: Optimizer) -> None:
        self.scaler = accelerator.scaler
        self.in_a_row = 0
        self.first = torch.full((), math.inf, device=accelerator.device)  # t of the first bad step
        self.blocked = torch.zeros((), device=accelerator.device)  # 1 from then on
        if self.scaler is None:  # which passes its own `found_inf`
            optimizer.found_inf = self.blocked  # type: ignore[attr-defined]

    def skips(self, norm: Tensor, t: int) -> bool:
        """Whether the scaler will skip this step. Only fp16 waits for the device.

        Args:
            norm: of all gradients, unscaled.
            t: the optimizer steps made so far.

        Raises:
            UserError: too many skipped in a row.
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
        """Block the optimizer from step t on if one of its values (loss, regulariser, norm) isn't finite."""
        bad = ~values.isfinite().all()
        self.first = torch.where(bad, self.first.clamp(max=t), self.first)
        self.blocked.copy_(self.first.isfinite())

    def check(self) -> None:
        """Refuse to go on after a step that wasn't finite. Waits for the device.

        Raises:
            UserError: with that step, and what to change.
        """
        if several():  # each sees its own rows' loss
            dist.all_reduce(self.first, dist.ReduceOp.MIN)
        if math.isfinite(first := self.first.item()):
            raise UserError(
                f"the loss or its gradient became NaN or infinite at step {int(first) + 1}: "
                "lower training.lr, raise training.warmup_steps, or use precision=fp32"
            )
