"""Everything that the help texts list composes."""

import re
from dataclasses import dataclass

import pytest

from adalora.config import usage
from adalora.errors import UserError
from adalora.methods.discovery import METHODS
from adalora.methods.options import MethodConfig
from adalora.options import option


@pytest.mark.parametrize("method", ["adalora", "bitfit", "peft", "prilora"])
def test_the_values_that_a_method_s_help_shows_are_its_defaults(compose, method):
    values = re.findall(r"^  (method\.\w+=\S*)", usage.usage([f"method={method}"]), flags=re.M)
    assert len(values) == len(vars(METHODS[method]())) - 1  # but the name
    assert compose(f"method={method}", *values).method == METHODS[method]()


def test_values_of_every_type_and_no_help_are_shown(monkeypatch):
    @dataclass
    class Own(MethodConfig):
        """Of one's own."""

        name: str = "own"
        modules: list[str] = option(["a", "b"])
        on: bool = option(False, help="why")
        rate: float = 1e-6

    monkeypatch.setitem(METHODS, "own", Own)
    lines = usage.usage(["method=own"]).splitlines()
    assert lines[:5] == [
        "method=own: Of one's own.", "", "  method.modules=[a,b]", "  method.on=false       why", "  method.rate=1e-06",
    ]  # fmt: skip


def test_a_method_that_is_not_there_is_named():
    with pytest.raises(UserError, match="adalora"):
        usage.usage(["method=adalor"])
