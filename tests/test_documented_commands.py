"""The commands of README.md and docs/ that need no hub, GPU, cluster or account, run as shown."""

import json
import os
import re
import shutil
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.programs import ROOT
from tests.test_readme import COMMANDS, OFFLINE, SHELL, TEXTS

pytestmark = pytest.mark.slow  # make test-docs
PARTS = (
    "adalora", "tasks", "conf", "scripts", "results/bench", "results/paper", "results/pocket", "train.py", "Makefile",
    "pyproject.toml", "constraints.txt", "assets.txt",
)  # fmt: skip
FIRST = next(command for command in OFFLINE if "ONLY=" in command)  # makes the runs that the others read
DEMO = sorted(command for command in OFFLINE if command == "make demo" or "task=r8" in command)  # tests/test_demo.py
EXPECTED = {  # what a command prints; others only have to end well
    "make help": "make reproduce-glue",
    "make list WHAT=glue": " cells (",
    "make watch": "4 done of 4",
    "make compare A=adalora B=lora": "adalora",
}


def copy_to(here):
    """Copy what a user runs, with this environment."""
    for name in PARTS:  # times are copied too, so that make doesn't install again
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, here / name, ignore=shutil.ignore_patterns("__pycache__", "local"))
        else:
            shutil.copy2(ROOT / name, here / name)
    (here / ".venv").symlink_to(ROOT / ".venv")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the checkout with tiny data in FOLDER and 4 finished runs."""
    here = tmp_path_factory.mktemp("checkout")
    copy_to(here)
    labels = [0, 1] * 16
    first = [("good" if label else "bad") + f" film {i}" for i, label in enumerate(labels)]
    table = pa.table({"sentence1": first, "sentence2": ["it was good"] * 32, "label": labels, "idx": range(32)})
    (here / "FOLDER/rte").mkdir(parents=True)
    for split in ("train", "validation"):
        pq.write_table(table, here / f"FOLDER/rte/{split}.parquet")
    done = shell(FIRST.replace("rte,mrpc", "rte").replace("max_steps=100", "max_steps=20"), here)  # minutes less
    assert done.returncode == 0, done.stderr
    return here


def shell(command, folder):
    """Run a command line in `folder`, in the environment and without a hub."""
    path = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"
    cold = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, shell=True, cwd=folder, env=os.environ | cold | {"PATH": path}, capture_output=True, text=True
    )


@pytest.mark.parametrize("command", [c for c in COMMANDS if c in OFFLINE and c not in (FIRST, *DEMO)])
def test_it_runs_as_shown(checkout, command):
    run = next((checkout / "results/runs").rglob("result.json")).parent
    out = re.sub(r"\W+", "-", command)
    done = shell(command.replace("RUN ", f"{run} ").replace("--out FOLDER", f"--out exports/{out}"), checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert EXPECTED.get(command, "") in done.stdout
    if "scripts.export" in command:
        assert any((checkout / "exports" / out).iterdir())


def test_the_first_command_left_the_tables(checkout):
    assert "AdaLoRA" in (checkout / "results/tables/packaged.md").read_text()


def test_the_page_about_own_data_ends_with_a_table_and_an_adapter(checkout, tiny_llama):
    """Its commands in order, on a tiny Llama instead of SmolLM2, with rows like the one that it shows."""
    page = TEXTS["docs/own_data.md"]
    (example,) = re.findall(r"^```json\n(.*?)^```", page, flags=re.S | re.M)
    row = json.loads(example)
    rows = [row | {"question": f"{row['question']} {i}", "answer": row["choices"][i % 3]} for i in range(160)]
    (checkout / "mine").mkdir()
    (checkout / "mine/train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = f"model=decoder model.path={tiny_llama} task.max_length=64"
    said = {}
    for command in "".join(SHELL.findall(page)).splitlines():
        if command == "make setup smollm2":
            continue
        run = next((path.parent for path in (checkout / "results/runs").rglob("choices/**/result.json")), None)
        command = command.replace("model=smollm2", model).replace("RUN ", f"{run} ").replace("FOLDER", "exported")
        done = shell(f"{command} {model} budget=custom budget.rank=2" if "train.py" in command else command, checkout)
        assert done.returncode == 0, done.stdout + done.stderr
        said[command.partition(" task")[0]] = done.stdout
    assert "accuracy" in next(text for command, text in said.items() if "scripts.evaluate" in command)
    assert "choices, " in said["make tables"]
    assert "hoices" in said["make compare A=adalora B=lora"], said
    assert (checkout / "exported/adapter_config.json").is_file()
