"""Check trained parameters against the declared count: a wrong count ends the run."""

from torch import nn
from torch.optim import Optimizer

from adalora.errors import UserError
from adalora.planning.budget import Counts


def check_counts(when: str, model: nn.Module, optimizer: Optimizer, declared: Counts, adapter: int | None) -> None:
    """Check that model and optimizer hold the parameters of adapter, head and fully trained modules.

    Args:
        when: for the message.
        model: with the method attached.
        optimizer: over all trained parameters.
        declared: the plan's counts.
        adapter: what the method has trained so far; None: the plan's peak.

    Raises:
        UserError: naming both numbers.
    """
    adapter = declared.peak if adapter is None else adapter
    others = declared.head + declared.modules
    expected = adapter + others
    held = {id(p): p.numel() for group in optimizer.param_groups for p in group["params"]}
    trained = {id(p): p.numel() for p in model.parameters() if p.requires_grad}
    for what, found in {"the optimizer holds": held, "the model trains": trained}.items():
        if (total := sum(found.values())) != expected:
            raise UserError(
                f"{what} {total:,} parameters {when}, which is {total - expected:+,} beside the plan's {adapter:,} for "
                f"the adapter and {others:,} for the head and other modules: the method's count() is wrong, or it "
                "trains parameters that it shouldn't (if the method isn't your own, please report it)"
            )
    if held.keys() != trained.keys():
        raise UserError(
            f"the optimizer and the model disagree {when} on which parameters are trained: please report it"
        )
