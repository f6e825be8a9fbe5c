"""docs/extending.md, executed exactly as written in a copy of the checkout with its own environment."""

import os
import re
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/extending.md").read_text()
STEPS = re.findall(r"(?:^`([\w./-]+)`\n\n)?```(\w+)\n(.*?)```\n", PAGE, flags=re.M | re.S)
pytestmark = pytest.mark.slow  # make test-docs


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the checkout, and a shell's environment in it: a venv over this one, which keeps what pip installs."""
    folder = tmp_path_factory.mktemp("extending") / "checkout"
    folder.mkdir()
    for name in ("adalora", "tasks", "conf", "scripts", "train.py"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)
    (folder / "results").mkdir()
    for name in ("results/bench", "results/paper"):
        (folder / name).symlink_to(ROOT / name)
    venv.create(folder / ".venv", symlinks=True)
    place = sysconfig.get_path("purelib", vars={"base": str(folder / ".venv"), "platbase": str(folder / ".venv")})
    Path(place, "these.pth").write_text(f"{folder}\n{sysconfig.get_path('purelib')}\n")
    pip = folder / ".venv/bin/pip"
    pip.write_text(f'#!/bin/sh\nexec {folder}/.venv/bin/python -m pip "$@" --no-index -q\n')
    pip.chmod(0o755)
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return folder, env | {"PATH": f"{folder}/.venv/bin:{env['PATH']}", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.fixture(scope="module")
def output(checkout):
    """What each command of the page printed, after all files were written where they stand."""
    folder, env = checkout
    said = {}
    for place, language, text in STEPS:
        if place:
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_text(text)
            continue
        assert language == "bash"
        for command in text.splitlines():
            done = subprocess.run(command, shell=True, cwd=folder, env=env, capture_output=True, text=True)
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            said[command] = done.stdout + done.stderr
    return said


def of(output, start):
    (text,) = [text for command, text in output.items() if command.startswith(start)]
    return text


def test_the_page_has_a_name_for_every_file():
    assert [place for place, language, _ in STEPS if language != "bash"] == [
        "my-methods/pyproject.toml",
        *(f"my-methods/gated_lora/{name}.py" for name in ("__init__", "options", "layer")),
        *(f"reviews/{split}.csv" for split in ("train", "validation")),
        "conf/task/reviews.yaml",
        *("minutes/train.jsonl", "conf/task/minutes.yaml", "manuals/train.jsonl", "conf/task/manuals.yaml"),
    ]


def test_the_method_s_options_are_shown(output):
    text = of(output, "python train.py method=gated_lora --help")
    assert "method=gated_lora: W x + g B A x, with one gate g a module." in text
    assert re.search(r"method\.init_gate=1 +g at the start", text)


def test_the_budget_is_solved_for_the_method(output):
    """At 0.3M on DeBERTaV3-base: rank 2 at 72 modules, and a gate each."""
    text = of(output, "python train.py method=gated_lora task=rte")
    assert "gated_lora: rank 2, gated" in text
    assert "331,848 at the end, the closest size" in text
    assert "lr 0.002" in text


def test_tasks_on_own_files_have_plans(output):
    for name, title, rows in (("minutes", "Minutes", 2), ("manuals", "Manuals", 1)):
        assert f"{title}, {rows:,} training rows" in of(output, f"python train.py task={name}")


def test_both_methods_have_a_row_of_the_task(output, checkout):
    heading, median, *_ = of(output, "grep").splitlines()
    assert re.match(r"\| \*\*gated_lora \[.*\]\*\* ", heading) and median.startswith("| median (n) ")
    printed = of(output, "python -m scripts.tables")
    assert "reviews accuracy" in printed and "gated_lora [" in printed
    page = (checkout[0] / "results/tables/packaged.md").read_text()
    assert "## reviews, MiniLM-L6" in page
    assert "| **LoRA [" in page
    assert "no official row counts" in page and "Budget: custom 41,500." in page
