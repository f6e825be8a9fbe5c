"""Check trained parameters against the declared count: a wrong count ends the run."""

from torch import nn
from torch.optim import Optimizer

from adalora.errors import UserError
from adalora.methods.options import Shapes
from adalora.methods.protocol import Method
from adalora.planning.budget import Counts


def check_start(model: nn.Module, optimizer: Optimizer, method: Method, declared: Counts, shapes: Shapes) -> None:
    """Check, before the first step, that the optimizer holds as many parameters as the method declares.

    That is the peak count, unless the method grows.

    Args:
        model: with the method attached.
        optimizer: over all trained parameters, head included.
        method: whose declaration is checked.
        declared: the plan's counts.
        shapes: of the adapted modules.

    Raises:
        UserError: naming both numbers.
    """
    first = method.config.initial(shapes)
    compare("at the start", model, optimizer, declared, declared.peak if first is None else first)


def check_end(model: nn.Module, optimizer: Optimizer, method: Method, declared: Counts) -> None:
    """Check, after the last step, the peak count and the size of the final allocation.

    Raises:
        UserError: naming both numbers.
    """
    peak = method.peak()
    compare("at the end", model, optimizer, declared, declared.peak if peak is None else peak)
    method.check_end()


def compare(when: str, model: nn.Module, optimizer: Optimizer, declared: Counts, adapter: int) -> None:
    """Check that model and optimizer hold the parameters of adapter, head and fully trained modules."""
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
