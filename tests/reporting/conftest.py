"""Shared fixtures for tests of tables."""

import pytest

from adalora.reporting.findings import gather
from adalora.reporting.tables import write_tables
from tests.reporting.forged import put


@pytest.fixture
def tabulate(tmp_path):
    """`tabulate(result, ...)` writes the tables of these results: the texts by file name, and the warnings."""

    def go(*results):
        files, lines = write_tables(gather(put(tmp_path / "runs", *results)), tmp_path / "tables")
        return {path.name: path.read_text() for path in files}, lines

    return go
