"""The counts in docs/placement.md are those of the code, on models built without weights."""

import re
from pathlib import Path

import pytest

from adalora.backbones.outline import outline_of
from adalora.methods.discovery import METHODS
from adalora.planning.budget import solve

TABLE = (Path(__file__).parents[2] / "docs/placement.md").read_text()
ROWS = re.findall(r"^\| (\w+) \| (\S+) \| ([\d,]+) \| ([\d,]+) \|$", TABLE, flags=re.M)
MODELS = ["deberta_v3_base", "bart_large"]
CASES = [
    (row[0], row[1], model, row[2 + i]) for row in ROWS for i, model in enumerate(["deberta_v3_base", "bart_large"])
]


def test_every_method_of_the_first_table_has_counts():
    placed = {method for method in METHODS if f"| {method} | both |" in TABLE or f"| {method} | BART |" in TABLE}
    assert placed == {row[0] for row in ROWS} == set(METHODS)


@pytest.mark.parametrize("method, setting, model, printed", CASES)
def test_a_count_is_the_code_s(compose, method, setting, model, printed):
    options = [f"method.{option}" for option in setting.split(";") if "=" in option]
    options += {"adalora": ["method.init_rank=12"], "sora": ["method.max_rank=12"]}.get(method, [])
    config = compose(f"model={model}", f"method={method}", *options)
    outline = outline_of(config.backbone, 2)
    shapes = outline.targets(config.backbone)
    counted = (
        config.method.with_backbone(outline).count(shapes)
        if config.method.has_budget
        else solve(config.backbone, config.method, config.budget, outline, shapes).counts
    ).kept
    assert f"{counted:,}" == printed


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", ["houlsby", "pfeiffer"])
def test_the_modules_of_the_first_table_are_the_adapters_own(compose, method, model):
    config = compose(f"model={model}", f"method={method}")
    kind = {"deberta-v2": "DeBERTa", "bart": "BART"}[config.backbone.model_type]
    (modules,) = re.findall(rf"^\| {method} \| {kind} \| ([^|]+) \|", TABLE, flags=re.M)
    assert set(modules.split(", ")) == set(config.backbone.targets)
