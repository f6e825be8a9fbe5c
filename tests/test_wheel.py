"""An installed wheel works without the checkout: it ships the options, the published numbers and its types."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """`installed(code, ...)`: what Python prints in an empty folder, the wheel's files before everything else."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    (folder / "elsewhere").mkdir()

    def run(code, *arguments):
        env = os.environ | {"PYTHONPATH": str(folder / "site")}
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=folder / "elsewhere", env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout, folder / "site"

    return run


COMMAND = "from importlib.metadata import distribution as d; [e for e in d('adalora-suite').entry_points][0].load()()"


def test_its_command_composes_its_own_options(installed):
    text, site = installed(COMMAND, "task=xsum", "method=increlora", "--cfg", "job")
    assert "name: bart_large" in text
    assert "init_rank: 1" in text
    where, _ = installed("from adalora.places import CONF; print(CONF)")
    assert Path(where.strip()) == site / "adalora/conf"


def test_it_ships_the_published_numbers_and_types(installed):
    code = "from adalora.published import read_paper; print(sum(map(len, read_paper().values())))"
    text, site = installed(code)
    from adalora.published import read_paper

    assert int(text) == sum(map(len, read_paper().values())) > 100
    assert (site / "adalora/py.typed").exists()
    assert (site / "tasks/py.typed").exists()
