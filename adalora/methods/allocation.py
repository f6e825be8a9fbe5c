"""AdaLoRA's budget allocation (arXiv 2303.10512, Algorithm 1 and equations 8 to 14).

Independent of model code: it takes stacks of factors and returns a mask. Operations run on whole stacks, one per group
of equal shapes, and never synchronise with the device.

Notation: n modules with r rank slots each; triplet (k, i) of module k is lambda_i, column i of
P (d_out, r) and row i of Q (r, d_in).

Where the paper and its released code differ we follow the code (docs/deviations.md: D-order).
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """The budget b(t): b_0 rank slots at the start, b_T at the end, a cubic in between.

    Args:
        b_0: slots at the start, n times the initial rank.
        b_T: triplets kept at the end.
        t_i: steps before the first pruning.
        t_f: steps with the final mask.
        T: total optimizer steps; t_i + t_f < T.
        mask_interval: Delta_T, steps between prunings.
    """

    b_0: int
    b_T: int
    t_i: int
    t_f: int
    T: int
    mask_interval: int

    def budget(self, t: int) -> int:
        """b(t) = b_T + (b_0 - b_T) (1 - (t - t_i) / (T - t_f - t_i))^3 between t_i and T - t_f.

        The numerator is the released code's; equation 14 prints t - t_i - t_f, which would exceed
        b_0 at t_i and not reach b_T (D-sched).
        """
        if self.is_final(t):
            return self.b_T
        if t <= self.t_i:
            return self.b_0
        progress = (t - self.t_i) / (self.T - self.t_f - self.t_i)
        return int(self.b_T + (self.b_0 - self.b_T) * (1 - progress) ** 3)

    def is_final(self, t: int) -> bool:
        """Whether the mask is final: t > T - t_f, and always after the last step (D-final)."""
        return t > self.T - self.t_f or t == self.T - 1

    def scores_at(self, t: int) -> bool:
        """Whether the importance averages are still updated: t < T - t_f."""
        return t < self.T - self.t_f

    def prunes_at(self, t: int) -> bool:
        """Whether the singular values are masked after step t."""
        return self.is_final(t) or (t > self.t_i and t % self.mask_interval == 0)


@dataclass
class Importance:
    """Smoothed sensitivity and uncertainty of one stack of weights (equations 8 to 11).

    Both averages start at 0 without bias correction, and the uncertainty sees the already updated
    sensitivity, as in the released code (D-ema).
    """

    sensitivity: Tensor
    uncertainty: Tensor

    @classmethod
    def like(cls, weights: Tensor) -> "Importance":
        """Start at zero importance, with the shape of `weights`."""
        return cls(torch.zeros_like(weights), torch.zeros_like(weights))

    def update(self, weights: Tensor, gradients: Tensor, beta1: float, beta2: float) -> None:
        """I = |w g|, averaged."""
        self.average((weights * gradients).abs_(), beta1, beta2)

    def average(self, current: Tensor, beta1: float, beta2: float) -> None:
        """I_bar <- b1 I_bar + (1 - b1) I;  U_bar <- b2 U_bar + (1 - b2) |I - I_bar|."""
        self.sensitivity.lerp_(current, 1 - beta1)
        self.uncertainty.lerp_((current - self.sensitivity).abs_(), 1 - beta2)

    def score(self, kind: str = "smoothed") -> Tensor:
        """s = I_bar U_bar of every weight; with `kind` "sensitivity" I_bar alone (D-sensitivity)."""
        return self.sensitivity if kind == "sensitivity" else self.sensitivity * self.uncertainty


def prune(scores: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """Which triplets survive: exactly the `budget` highest scores of all modules together.

    Ties are pruned in order of module, then slot. The released code prunes every score equal to the threshold, so fewer
    than b may survive, and fails when nothing is pruned (D-ties, D-full-budget).

    Args:
        scores: S (n, r).
        budget: b, from 0 to n r.

    Returns:
        The mask (n, r) of survivors, and the threshold: the highest pruned score, NaN if none is.
    """
    order = torch.argsort(scores.flatten(), stable=True)
    pruned = order[: scores.numel() - budget]
    mask = torch.ones_like(scores, dtype=torch.bool)
    mask.view(-1).index_fill_(0, pruned, False)
    if len(pruned) == 0:
        return mask, scores.new_full((), float("nan"))
    threshold = (
        scores.flatten().index_select(0, pruned[-1:]).squeeze(0)
    )  # plain indexing would synchronise with the device
    return mask, threshold
