"""The paper's ablations as whole runs: each is an option that changes the run."""

import json

import pytest

ABLATIONS = {
    "svd_lora": ["method=adalora", "method.init_rank=2", "method.target_rank=2"],
    "no_orthogonality": ["method=adalora", "method.orthogonality=0"],
    "doublets": ["method=adalora", "method.form=doublets"],
    "sensitivity": ["method=adalora", "method.importance=sensitivity"],
    "magnitude": ["method=adalora", "method.importance=magnitude"],
    "adalora_qv": ["method=adalora", "method.modules=[query,value]"],
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_runs(start, tiny_run, name):
    folder = start([*tiny_run, "training.max_steps=4", *ABLATIONS[name]])
    result = json.loads((folder / "result.json").read_text())
    assert abs(result["parameters"]["kept"] - 1740) <= 0.3 * 1740  # realised: shapes differ
    ranks = result["ranks"]
    if name == "svd_lora":
        assert set(ranks.values()) == {2}
    if name.endswith("_qv"):
        assert len(ranks) == 4
        assert all(path.endswith(("query_proj", "value_proj")) for path in ranks)
        assert (folder / "ranks.png").exists()


def test_each_ablation_has_a_key_of_its_own(prepared, tiny_run):
    keys = {prepared([*tiny_run, "training.max_steps=4", *options]).folder.key for options in ABLATIONS.values()}
    assert len(keys) == len(ABLATIONS)
