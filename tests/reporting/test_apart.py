"""Tables and reports come from records and published numbers alone, whatever the options and methods are today."""

import shutil
import subprocess
import sys

import pytest

from adalora.paths import PAPER, RESULTS, ROOT
from tests.reporting.forged import make, put

WRITE = """
import sys
from pathlib import Path

import pytest
from adalora.reporting.compare import compare
from adalora.reporting.pages import gather
from adalora.reporting.study import write_pages
from adalora.reporting.tables import write_tables

runs, out = map(Path, sys.argv[1:])
found = gather(runs)
write_tables(found, out)
pages, _ = write_pages(Path("results/pocket"))  # with tables, claims and report
rows, _ = compare(gather(Path("results/pocket/runs")).frame, "adalora init_rank=2, target_rank=2", "lora")
(out / "compared").write_text("\\n".join(f"{row.cell} {row.found.mean}" for row in rows.itertuples()))
"""
GONE = ("methods", "config", "sweep", "backbones", "training", "planning", "run")


def written(place, runs):
    """The files that the code in `place` writes, with their content."""
    out = place / "out"
    subprocess.run([sys.executable, "-c", WRITE, str(runs), str(out)], cwd=place, check=True, capture_output=True)
    files = [path for path in (*out.rglob("*"), *(place / "results/pocket").glob("*.*")) if path.is_file()]
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
def test_without_options_and_methods_the_same_files_are_written(tmp_path):
    runs = [
        *(make(task, method, budget, seed, 0.8 + seed / 100, method__alpha=alpha)
          for task in ("rte", "stsb") for method in ("adalora", "lora", "sora") for budget in ("0.3M", "1.2M")
          for seed in (1, 2, 3) for alpha in (16.0, 32.0) if method == "adalora" or alpha == 32.0),
        make("squad_v2", "lora", "0.08%"), make("r8", "adalora", model__comparable=False),
    ]  # fmt: skip
    put(tmp_path / "runs", *runs)
    found = []
    for name, gone in (("whole", ()), ("apart", GONE)):
        place = tmp_path / name
        shutil.copytree(ROOT / "adalora", place / "adalora", ignore=shutil.ignore_patterns(*gone, "__pycache__"))
        for folder in (PAPER, RESULTS / "pocket"):
            shutil.copytree(folder, place / "results" / folder.name)
        if not gone:
            shutil.copytree(ROOT / "conf", place / "conf")
        found.append(written(place, tmp_path / "runs"))
    whole, apart = found
    assert whole.keys() == apart.keys()
    assert [name for name in whole if whole[name] != apart[name]] == []
    assert len(whole) > 25  # the tables of the forged runs, and all that results/pocket has
