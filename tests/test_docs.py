"""docs/deviations.md and the code that decides each row point at each other."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = re.findall(r"^\| (D-[\w.-]+) \|.*\| ([^|]*) \|$", (ROOT / "docs/deviations.md").read_text(), flags=re.M)
CODE = "".join(path.read_text() for folder in ("adalora", "tasks") for path in (ROOT / folder).rglob("*.py"))


def test_ids_are_unique():
    ids = [row for row, _ in ROWS]
    assert len(ids) == len(set(ids)) > 40


def test_every_row_names_a_place_that_exists():
    for row, places in ROWS:
        found = re.findall(r"`([^`]+)`", places)
        assert found, row
        assert all((ROOT / place).exists() for place in found), row


def test_rows_that_code_decides_are_named_in_it():
    for row, places in ROWS:
        for place in re.findall(r"`([^`]+\.py)`", places):
            assert re.search(rf"{re.escape(row)}\b", (ROOT / place).read_text()), f"{row} in {place}"


def test_the_code_names_no_row_that_is_not_there():
    named = set(re.findall(r"\bD-[a-z0-9][\w.-]*\w", CODE))
    assert named <= {row for row, _ in ROWS}
