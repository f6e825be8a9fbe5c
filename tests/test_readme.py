"""What README.md promises."""

import re
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_own_loop_section_runs_and_prunes():
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert len([line for line in code.splitlines() if line]) <= 10
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8))
    x = torch.randn(40, 16, 8)
    names = {
        "torch": torch,
        "model": model,
        "targets": ["0", "2"],
        "batches": [(batch, batch.flip(-1)) for batch in x],
        "task_loss": lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1]),
    }
    exec(code, names)  # noqa: S102
    assert sum(names["method"].ranks().values()) == 4


def test_the_options_it_lists_are_those_of_conf():
    for group in ("method", "budget", "task", "model", "recipe"):
        (row,) = re.findall(rf"^\| `{group}` \| (.*) \|$", README, flags=re.M)
        listed = set(re.findall(r"`([\w.%]+)`", row))
        committed = {path.stem for path in (ROOT / "conf" / group).glob("[!_]*.yaml")}
        assert committed <= listed, group


def test_every_path_it_names_exists():
    for path in re.findall(r"`((?:adalora|conf|docs|tests|results/paper)/[\w/.]*)`", README):
        assert (ROOT / path).exists(), path
