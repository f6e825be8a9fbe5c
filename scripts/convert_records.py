"""Convert results of schema 4, in run folders and records, to schema 5: every option with its origin, and a cell whose
size has no name.

    python scripts/convert_records.py results/runs

Defaults are those of each result's own commit, read from a temporary checkout of it. What can't be converted is named
and left as it is.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adalora.cell import cell_id
from adalora.config.recipes import aliases
from adalora.config.schema import TRAINING_LENGTHS
from adalora.errors import UserError
from adalora.files import READ_ONLY, sha256, write_json
from adalora.methods.discovery import METHODS
from adalora.origins import SECTIONS, Known, decided, flat
from adalora.places import ROOT
from adalora.reading import SEAL, seal, sealed
from adalora.resultfile import ADAPTER, LOGS, NAME, RECORDS, UNCOUNTED, ModelPart, TaskPart
from adalora.runfolder import read_state
from adalora.sweep.cells import compose

COMPOSE = """
import json, sys
import hydra
from omegaconf import OmegaConf
from adalora.config import register
from adalora.places import CONF

register()
found = []
with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
    for overrides in json.load(sys.stdin):
        tree = hydra.compose("config", overrides=overrides, return_hydra_config=True)
        groups = ("model", "task", "method", "budget", "recipe")
        plain = hydra.compose("config", overrides=[f"{g}={tree.hydra.runtime.choices[g]}" for g in groups])
        found.append([OmegaConf.to_container(each, resolve=False) for each in (tree, plain)])
        del found[-1][0]["hydra"]
json.dump(found, sys.stdout)
"""
"""Run by a commit's own code: the configuration of each command, and that without the user's values."""


def main() -> None:
    """Convert every result below the given folders."""
    parser = argparse.ArgumentParser(description="Convert results of schema 4 to schema 5.")
    parser.add_argument("folders", metavar="FOLDER", nargs="+", type=Path, help="a run root, or a folder of records")
    places = [path for root in parser.parse_args().folders for path in (*root.rglob(NAME), *root.rglob(RECORDS))]
    groups: dict[str, list[tuple[Path, dict[str, Any]]]] = defaultdict(list)
    for path in sorted(places):
        result = json.loads(path.read_text("utf-8"))
        if result.get("schema") == 4 and result[SEAL] == seal(result):
            groups[str(result["commit"])].append((path, result))
    count = 0
    for commit, results in groups.items():
        try:
            trees = at_commit(commit, [result["command"][1:] for _, result in results])
        except subprocess.CalledProcessError as error:
            said = (error.stderr or str(error)).strip().splitlines()[-1]
            print(f"{commit}: its options can't be read ({said}): {len(results)} results left", file=sys.stderr)
            continue
        for (path, result), (before, plain) in zip(results, trees, strict=True):
            try:
                new = converted(result, path, before, plain)
                write_json(path, sealed(new), READ_ONLY)
                if path.name == NAME:
                    rename(path.parent, result, new)
                count += 1
            except UserError as error:
                print(f"{path}: {error}", file=sys.stderr)
    print(f"{count} results converted")


def at_commit(commit: str, commands: Sequence[Sequence[str]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The configurations of commands at a commit, with and without the user's values."""
    with tempfile.TemporaryDirectory() as place:
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", place, commit], check=True)
        try:
            command = [sys.executable, "-c", COMPOSE]
            done = subprocess.run(
                command, cwd=place, input=json.dumps(commands), capture_output=True, text=True, check=True
            )
        finally:
            subprocess.run([*git, "remove", "--force", place], check=True)
    return [tuple(pair) for pair in json.loads(done.stdout)]


def converted(
    old: Mapping[str, Any], path: Path, before: Mapping[str, Any], plain: Mapping[str, Any]
) -> dict[str, Any]:
    """A result of schema 5. Raises `UserError` if its command is no longer valid."""
    recipe, rows = old["recipe"], old["task"]["rows"]
    stated = recipe["values"].get("protocol", {}) | recipe["values"].get("source", {})
    published = {
        key: not (recipe[part] or "ours").startswith("ours")
        for part in ("protocol", "source")
        for key in recipe["values"].get(part, {})
    }
    method = METHODS[old["method"]["name"]]
    lengths = {f"training.{name}" for name in TRAINING_LENGTHS} | {f"method.{name}" for name in method.lengths}
    known = Known(by_key(before), by_key(plain), stated, published, lengths)
    told = {*TaskPart.model_fields, "direction"} - {"version", "headline"}
    sections = {
        "model": {key: value for key, value in old["model"].items() if key not in ModelPart.model_fields},
        "task": {key: value for key, value in old["task"].items() if key not in told},
        "method": old["method"],
        "training": {key: value for key, value in old["training"].items() if key not in UNCOUNTED},
        "precision": old["precision"],
    }
    values = dict(flat(sections))
    config = compose([*old["command"][1:], f"precision={old['precision']}"])
    if isinstance(config, str):
        raise UserError(config)
    options = decided(values, known, sum(rows.values()) - rows[old["task"]["train_split"]])
    files = {name: sha256(path.parent / name) for name in (*ADAPTER, *LOGS) if (path.parent / name).is_file()}
    return {key: value for key, value in old.items() if key not in ("adapter", SEAL)} | {
        "schema": 5,
        "cell": cell_id(config),
        "budget": old["budget"] | {"name": aliases().get(old["budget"]["name"], old["budget"]["name"])},
        "recipe": {key: recipe[key] for key in ("name", "protocol", "source")},
        "options": {key: option.as_dict() for key, option in options.items()},
        "files": {ADAPTER[0]: old["adapter"]} | files,
    }


def rename(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Let a run's status name the new cell, and move a run below an alias of its budget to where it is looked for."""
    state = read_state(folder)
    cells = [new["cell"] if cell == old["cell"] else cell for cell in state.cells]
    write_json(folder / "status", state.model_dump(exclude_defaults=True) | {"cells": cells})
    place = folder.parent.with_name(new["budget"]["name"]) / folder.name
    if folder.parent.name in aliases() and not place.exists():
        place.parent.mkdir(exist_ok=True)
        folder.rename(place)


def by_key(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a configuration by dotted key."""
    found = {f"{section}.{name}": value for section in SECTIONS for name, value in tree[section].items()}
    return found | ({"precision": tree["precision"]} if "precision" in tree else {})


if __name__ == "__main__":
    main()
