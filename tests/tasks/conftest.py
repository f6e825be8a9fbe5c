"""Real articles and a real vocabulary, where this checkout has them beside it."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data():
    """`shared_data("xsum/test.parquet")`: a path in the nearest folder `shared/data` above; skips without it."""

    def find(name: str) -> Path:
        for parent in Path(__file__).parents:
            if (path := parent / "shared" / "data" / name).exists():
                return path
        pytest.skip(f"needs shared/data/{name}")

    return find
