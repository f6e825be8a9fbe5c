"""Reading results: which are valid, and which may be summarised together."""

import json
import re

import pytest

from adalora.paths import ROOT
from adalora.records.result import SCHEMA, fractions
from adalora.reporting.frame import heads, read
from adalora.reporting.pages import gather
from adalora.reporting.tables import write_tables
from tests.reporting.forged import lines_of, make, put


@pytest.mark.parametrize(
    ("change", "plural", "label"),
    [
        ({"task__digest": "ffffaaaa00001"}, "data digests", "data=ffffaaaa00"),
        ({"task__version": 2}, "task versions", "task version=2"),
        ({"model__digest": "ffffaaaa00001"}, "weight digests", "weights=ffffaaaa00"),
    ],
)
def test_mixed_content_is_named_and_not_averaged(tabulate, change, plural, label):
    texts, lines = tabulate(make(seed=1, last=0.8), make(seed=2, last=0.9, **change))
    (line,) = lines
    assert line.startswith(f"rte: mixed {plural}") and "seed2-0000000001" in line
    assert f"5. {line}" in texts["glue.md"]
    cells = lines_of(texts["glue.csv"], task="rte", method="adalora", budget="0.3M")
    assert sorted((cell["n"], cell["median_last"]) for cell in cells) == [("1", "80.0000"), ("1", "90.0000")]
    assert label in {cell["variant"] for cell in cells}


@pytest.mark.parametrize(
    ("change", "labels"),
    [
        ({"training__lr": 1e-4}, {"", "lr=0.0001"}),
        ({"precision": "bf16"}, {"precision=fp32", "precision=bf16"}),
        ({"training__log_steps": 1}, {""}),  # changes no number
        ({"method__beta1": 0.5}, {"", "beta1=0.5"}),
        ({"method__orthogonality": 0.0}, {"", "orthogonality=0"}),
        ({"model__attention": "sdpa"}, {"attention=absent", "attention=sdpa"}),
        (
            {"training__epochs": 1.0, "training__total_steps": 78, "training__warmup_steps": 4,
             "training__eval_steps": 9, "method__initial_steps": 12},
            {"", "epochs=1"},
        ),
    ],
)  # fmt: skip
def test_other_options_are_other_rows(tmp_path, change, labels):
    frame, _ = read(put(tmp_path, make(seed=1), make(seed=2, **change)))
    assert set(frame["name"]) == labels


def test_lengths_are_named_where_nothing_else_tells_apart(tmp_path):
    short = {"training__max_steps": 78, "training__total_steps": 78}
    frame, _ = read(
        put(tmp_path, make(**short), make(method__initial_steps=9, **short), make(training__warmup_steps=0))
    )
    names = set(frame["name"])
    assert len(names) == 3
    assert any("max_steps=78" in name and "initial_steps=9" in name for name in names)


def test_what_recipes_never_set_is_named_without_a_rival(tmp_path):
    lengths = {"training__warmup_steps": 4, "training__eval_steps": 9, "method__initial_steps": 12}  # at this T
    short = {"training__epochs": 1.0, "training__total_steps": 78} | lengths
    for number, (run, name) in enumerate((
        (make(method__beta1=0.5, method__orthogonality=0), "beta1=0.5, orthogonality=0"),
        (make(**short), "epochs=1"),
        (make(**short | {"method__initial_steps": 9}), "epochs=1, initial_steps=9"),
    )):  # fmt: skip
        frame, _ = read(put(tmp_path / str(number), run))
        assert set(frame["name"]) == {name}


def test_a_cell_of_several_package_versions_is_named(tabulate):
    runs = [make(seed=seed, last=0.8) | {"versions": {"torch": version, "numpy": "2.4"}}
            for seed, version in ((1, "2.13.0"), (2, "2.14.1"))]  # fmt: skip
    texts, lines = tabulate(*runs)
    assert lines == ["rte, adalora 0.3M: averaged over torch 2.13.0 and 2.14.1"]
    assert lines[0] in texts["glue.md"]


def test_runs_that_differ_in_something_unrecorded_are_not_merged(tabulate):
    texts, lines = tabulate(make(last=0.8), make(last=0.9))
    (line,) = lines
    assert "seed1-0000000000 and seed1-0000000001 differ in something" in line
    cells = lines_of(texts["glue.csv"], task="rte", method="adalora", budget="0.3M")
    assert [cell["variant"] for cell in cells] == ["run seed1-0000000000", "run seed1-0000000001"]


def test_the_example_of_the_docs_runs(monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/results.md").read_text(), flags=re.S)
    monkeypatch.chdir(ROOT)
    exec(code, {})  # noqa: S102
    printed = capsys.readouterr().out
    assert re.search(r"AdaLoRA +23.96 +77.50 +97.11 +85.63", printed)  # results/pocket/README.md
    assert re.search(r"mrpc +-0.49 +8.95 +5", printed)


def test_broken_results_are_named_skipped_and_counted(tmp_path):
    runs = tmp_path / "runs"
    put(
        runs, make(), make(seed=2, schema=SCHEMA - 1), make(seed=3, last=86.3), make(seed=4, last=float("nan")),
        make(seed=5, task__digest=7), make(seed=6, commit=1),
        make(seed=7, training__epochs=0.0), make(seed=8) | {"last": make()["last"] | {"loss": None}},
        make(seed=10) | {"last": make()["last"] | {"loss": float("nan")}},
    )  # fmt: skip
    (whole,) = runs.rglob("seed1-*/result.json")
    bad = {
        "half/result.json": whole.read_text()[:300],
        "list/result.json": "[]",
        "other/result.json": '{"schema": "x"}',
        "missing/result.json": json.dumps(
            {k: v for k, v in json.loads(whole.read_text()).items() if k not in ("best", "sha256")}
        ),
        "altered/result.json": whole.read_text().replace("0.8628", "0.8828"),
        "seed9-abc/result.json": whole.read_text(),
        f"copy/{whole.parent.name}/result.json": whole.read_text(),
    }
    for name, text in bad.items():
        (runs / name).parent.mkdir(parents=True)
        (runs / name).write_text(text)
    (runs / "binary").mkdir()
    (runs / "binary" / "result.json").write_bytes(b"\xff\xfe\x00")
    frame, skipped = read(runs)
    assert len(heads(frame)) == 1 and len(skipped) == 16
    assert all("\n" not in line and "result.json: " in line for line in skipped)
    told = "\n".join(skipped)
    for reason in ("invalid JSON", "not UTF-8", "isn't a result of this suite", f"result schema {SCHEMA - 1}",
                   "best: field required", "last: accuracy is 86.3, not a fraction", "last.accuracy: input should be",
                   "task: digest: input should be a valid string", "commit: input should be a valid string",
                   "epochs: input should be greater than 0", "last.loss: input should be a valid number",
                   "last.loss: input should be a finite number", "but lies in seed9-abc", "the same run as",
                   "altered/result.json: its checksum differs"):  # fmt: skip
        assert reason in told
    findings = gather(runs)
    write_tables(findings, tmp_path / "tables")
    assert [line for line in findings.warnings if line.startswith("skipped ")] == [
        f"skipped {line}" for line in skipped
    ]
    assert "Left out: 16 result.json" in (tmp_path / "tables/glue.md").read_text()


def test_the_thresholds_of_two_splits_are_no_fractions():
    assert fractions({"best_f1_threshold_test": -5.3}) == {"best_f1_threshold_test": -5.3}
