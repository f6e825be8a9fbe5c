"""`make demo`, in a file of its own so that `make test-docs` runs it beside the other commands."""

import pytest

from tests.test_documented_commands import DEMO, copy_to, shell


@pytest.mark.slow  # make test-docs
def test_it_runs_as_shown_and_the_same_command_finds_the_run(tmp_path):
    copy_to(tmp_path)
    for command in DEMO:  # 20 steps instead of 172
        short = "ARGS=training.max_steps=20" if command == "make demo" else "training.max_steps=20"
        done = shell(f"{command} {short}", tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "accuracy" in done.stdout
