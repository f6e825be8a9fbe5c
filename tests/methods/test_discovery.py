"""Methods are discovered, not listed. Errors name the missing part; a broken user package gives one line."""

import itertools
import logging
import os
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from adalora.errors import UserError
from adalora.methods import discovery
from tests.methods.matrix import ROWS

NUMBERS = itertools.count()  # a name a package: modules stay in memory
OPTIONS = """
from dataclasses import dataclass
from adalora.methods.options import MethodConfig

@dataclass
class OwnConfig(MethodConfig):
    name: str = "own"

OPTIONS = OwnConfig
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """`package(options, layer)`: the name of a fresh package with these files, None for one that is missing."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(options, layer):
        folder = tmp_path / f"own{next(NUMBERS)}"
        folder.mkdir()
        for name, text in {"__init__": "", "options": options, "layer": layer}.items():
            if text is not None:
                (folder / f"{name}.py").write_text(text)
        return folder.name

    return make


def test_every_method_has_a_row_in_the_test_matrix():
    rows = {name.partition(" ")[0] for name in ROWS}
    for name in discovery.METHODS:
        assert name in rows, f"method {name} has no row in ROWS of tests/methods/matrix.py"


@pytest.mark.parametrize(
    "options, layer, line",
    [
        (None, "", "module {}.options is missing: it should define the method's options"),
        ("", "", "{}.options has no OPTIONS, the method's dataclass, a subclass of MethodConfig"),
        ("OPTIONS = dict", "", "{}.options has no OPTIONS, the method's dataclass, a subclass of MethodConfig"),
        (
            OPTIONS.replace('"own"', '"other"'),
            "",
            '{}.options: OwnConfig.name is "other", but the method is called own',
        ),
        (OPTIONS, None, "module {}.layer is missing: it should define the method"),
    ],
)
def test_a_step_that_is_missing_is_named(package, options, layer, line):
    name = package(options, layer)
    with pytest.raises(UserError) as error:
        discovery.options_of("own", name)
    assert str(error.value) == line.format(name)


def test_a_layer_that_can_t_be_imported_is_one_line(package):
    name = package(OPTIONS, "import torchh")
    config = discovery.options_of("own", name)()
    with pytest.raises(
        UserError, match=rf"{name}.layer can't be imported \(ModuleNotFoundError: .*torchh.*\): correct"
    ):
        discovery.create(config)


def test_a_layer_without_a_method_is_named(package):
    name = package(OPTIONS, "")
    with pytest.raises(UserError) as error:
        discovery.create(discovery.options_of("own", name)())
    assert str(error.value) == f"{name}.layer has no METHOD, the class of the method own"


@pytest.mark.parametrize(
    "name, options, reason",
    [
        ("own", "import nowhere_to_be_found", "No module named 'nowhere_to_be_found'"),
        ("own", "raise SystemError", "SystemError"),
        ("lora", OPTIONS, "its name is taken by a method of the suite"),
    ],
)
def test_a_broken_package_of_the_user_s_costs_one_line(package, monkeypatch, caplog, name, options, reason):
    entry = EntryPoint(name, package(options, ""), discovery.GROUP)
    monkeypatch.setattr(discovery, "entry_points", lambda group: [entry])
    with caplog.at_level(logging.WARNING):
        assert discovery.find_methods() == discovery.METHODS
    assert [record.getMessage() for record in caplog.records] == [f"skipped method {name}: {reason}"]


def test_the_library_is_found_beside_a_file_called_tasks(tmp_path):
    """No part of the library imports the top-level package `tasks`."""
    (tmp_path / "tasks.py").write_text("raise SystemExit('the wrong tasks')\n")
    code = "from adalora.methods.adalora.layer import AdaLoRA; from adalora.methods.discovery import METHODS; print(1)"
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr
