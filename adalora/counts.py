"""What is trained, held against what was declared: a printed count that is wrong ends the run."""

from torch import nn
from torch.optim import Optimizer

from adalora.budget import Counts
from adalora.errors import UserError
from adalora.methods.options import Shapes
from adalora.methods.protocol import Method


def check_start(model: nn.Module, optimizer: Optimizer, method: Method, declared: Counts, shapes: Shapes) -> None:
    """Before the first step: what the optimizer holds is what the method declares, the peak unless it grows.

    Args:
        model: with the method attached.
        optimizer: over all that is trained, head included.
        method: whose declaration is checked.
        declared: the plan's counts.
        shapes: of the adapted maps.

    Raises:
        UserError: naming both numbers.
    """
    first = method.config.initial(shapes)
    compare("at the start", model, optimizer, declared, declared.peak if first is None else first)


def check_end(model: nn.Module, optimizer: Optimizer, method: Method, declared: Counts) -> None:
    """After the last step: the same with the declared peak, and the allocation ends at the declared size.

    Raises:
        UserError: naming both numbers.
    """
    peak = method.peak()
    compare("at the end", model, optimizer, declared, declared.peak if peak is None else peak)
    method.check_end()


def compare(when: str, model: nn.Module, optimizer: Optimizer, declared: Counts, adapter: int) -> None:
    """Hold model and optimizer against `adapter` + head parameters."""
    expected = adapter + declared.head
    held = {id(p): p.numel() for group in optimizer.param_groups for p in group["params"]}
    trained = {id(p): p.numel() for p in model.parameters() if p.requires_grad}
    for what, found in {"the optimizer holds": held, "the model trains": trained}.items():
        if (total := sum(found.values())) != expected:
            raise UserError(
                f"{what} {total:,} parameters {when}, but {adapter:,} of the adapter and {declared.head:,} of the "
                "head are declared: the method's count() is wrong, or it trains what it shouldn't; please report it"
            )
    if held.keys() != trained.keys():
        raise UserError(f"the optimizer holds other parameters {when} than the model trains: please report it")
