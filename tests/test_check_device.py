"""`make check-device`."""

import sys

import pytest

from adalora.errors import UserError
from scripts.check_device import same, stopped, train
from tests.programs import run


def test_a_run_that_fails_is_said_with_its_own_line(tmp_path, monkeypatch):
    fails = [sys.executable, "-c", "import sys; sys.exit('error: what is wrong')"]
    monkeypatch.setattr("scripts.check_device.command", lambda root, options: fails)
    with pytest.raises(UserError, match="precision=fp15: what is wrong"):
        train(tmp_path, "precision=fp15")
    with pytest.raises(UserError, match="ended with 1: error: what is wrong"):
        stopped(tmp_path)


def test_bits_are_compared(tmp_path):
    for name, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name / "adapter").mkdir(parents=True)
        (tmp_path / name / "metrics.jsonl").write_text(text)
        (tmp_path / name / "adapter/adapter.safetensors").write_text("t")
    assert same(tmp_path / "a", tmp_path / "b")
    assert not same(tmp_path / "a", tmp_path / "c")


@pytest.mark.slow
def test_this_machine_is_as_it_should_be():
    done = run("scripts.check_device")
    assert done.code == 0, done.stderr
    assert "all checks passed" in done.stdout
