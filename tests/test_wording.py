"""Numbers as people read them."""

import pytest

from adalora.wording import amount, counted, duration, memory, operations


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.781, "0.78"), (3.14, "3.1"), (9.96, "10"), (110.4, "110"), (1999, "2,000"), (0.000123, "0.00012")],
)
def test_amounts_have_two_digits_and_no_exponent(value, text):
    assert amount(value) == text


def test_one_has_no_plural():
    assert [counted(n, "step") for n in (0, 1, 6000)] == ["0 steps", "1 step", "6,000 steps"]


def test_units_fit():
    assert [operations(x) for x in (5e6, 7.8e11, 3.1e15, 2e18)] == ["0.005 GFLOP", "780 GFLOP", "3.1 PFLOP", "2 EFLOP"]
    assert [memory(x * 2**20) for x in (0.5, 650, 20_480, 2**21)] == ["0.5 MiB", "650 MiB", "20 GiB", "2 TiB"]


def test_durations_have_the_unit_that_matters():
    found = [duration(seconds) for seconds in (0, 99, 720, 5999, 12000, 86400 * 12)]
    assert found == ["0 s", "99 s", "12 min", "100 min", "3.3 hours", "12 days"]
