"""Shared fixtures for tests of tables."""

import pytest

from adalora.reporting.pages import gather
from adalora.reporting.tables import write_tables
from tests.reporting.forged import put


@pytest.fixture
def tabulate(tmp_path):
    """`tabulate(result, ...)` writes the tables of these results: the texts by file name, and the warnings."""

    def go(*results):
        findings = gather(put(tmp_path / "runs", *results))
        return {path.name: path.read_text() for path in write_tables(findings, tmp_path / "tables")}, findings.warnings

    return go
