"""A run killed before any of its file changes ends in the same bits when repeated, without leftovers."""

import pytest

from tests.deaths import trials

METHODS = ["adalora", "lora", "increlora", "sora", "full"]
SHORT = [
    "training.max_steps=7", "training.checkpoint_steps=3", "training.log_steps=3", "training.eval_steps=4",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_killed_before_every_change(tiny_run, tmp_path, method):
    run = [o for o in tiny_run if not o.startswith("run_root=")]
    wrong, count = trials([*run, f"method={method}", *SHORT], tmp_path)
    print(f"{method}: killed before each of {count} changes")
    assert count > 60
    assert wrong == []
