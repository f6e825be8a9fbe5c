"""The pages of studies: from forged records with known answers, a second study by data alone, and the committed one."""

import itertools
import json
import re
import shutil
import statistics

import pytest
import yaml

from adalora.errors import UserError
from adalora.files.reading import sealed
from adalora.paths import RESULTS
from adalora.records.studies import read_study
from adalora.reporting.claims import read_claims
from adalora.reporting.frame import collapsed, heads
from adalora.reporting.study import of_cell, records, render, write_pages
from adalora.reporting.tables import signed, span
from tests.reporting.forged import MINILM, frame, with_options
from tests.reporting.forged import make as forged

POCKET = RESULTS / "pocket"
METHODS, TASKS = ("AdaLoRA", "SVD-LoRA", "LoRA"), ("r8", "mrpc", "stsb", "cola")
TARGETS = {"query": "encoder.layer.{layer}.query", "intermediate": "encoder.layer.{layer}.intermediate"}
MODULES = [pattern.format(layer=layer) for layer in range(6) for pattern in TARGETS.values()]
OPTIONS = {
    "AdaLoRA": {"method__init_rank": 3, "method__target_rank": 2.0},
    "SVD-LoRA": {"method__init_rank": 2, "method__target_rank": 2.0},
    "LoRA": {"method__rank": 2},
}
RATES = {"SVD-LoRA": {"r8": 1e-2, "mrpc": 3e-3, "stsb": 1e-2, "cola": 3e-3}}  # where study.yaml gives one
LOWER = {"AdaLoRA": {"mrpc": 3e-3, "stsb": 1e-3}, "SVD-LoRA": {"mrpc": 1e-3, "stsb": 3e-3},
         "LoRA": {"mrpc": 3e-4, "stsb": 3e-4}}  # fmt: skip
ABOVE = {"AdaLoRA": 2.0, "SVD-LoRA": 2.0, "LoRA": 0.0}  # points
PLANNED = range(1, 7)


def record(method, task, seed, lr=None):
    """A run at 80 % plus the method's advantage, with noise shared by all methods of a seed."""
    shift = {"AdaLoRA": 0.1, "SVD-LoRA": -0.1, "LoRA": 0.0}[method] * (-1) ** seed  # AdaLoRA and SVD-LoRA are alike
    value = (80 + ABOVE[method] + shift + seed / 10) / 100
    run = forged(
        task=task, method="lora" if method == "LoRA" else "adalora", budget="custom", seed=seed, last=value, best=value,
        model__name="deberta_minilm", model__title="MiniLM", model__comparable=False, model__targets=TARGETS,
        budget__params=82_944, precision="bf16", training__lr=lr or RATES.get(method, {}).get(task, 1e-3),
        recipe__values={}, recipe__total_steps=3900, recipe__source="ours", recipe__protocol="ours",
        key=f"{METHODS.index(method):05}{TASKS.index(task):02}{seed:03}",
        seconds=780.0 if method == "AdaLoRA" else 390.0,
        **OPTIONS[method],
    )  # fmt: skip
    run["method"] |= {"alpha": 16.0, "orthogonality": 0.1, "initial_steps": None} if method != "LoRA" else {}
    ranks = [(i * 7) % 4 for i in range(len(MODULES))]
    if method == "AdaLoRA" and seed % 2:
        ranks[0], ranks[1] = ranks[1], ranks[0]
    run["ranks"] = dict(zip(MODULES, ranks if method == "AdaLoRA" else [2] * len(MODULES), strict=True))
    run["parameters"] |= {"kept": 80_000 + seed if method == "AdaLoRA" else 82_944}
    run["hardware"] = {"name": "a processor", "device": "cpu"}
    metric = run["task"]["headline"]
    run["evaluations"] = [{"step": 1950, f"eval/{metric}": 0.5}, {"step": 3900, f"eval/{metric}": value}]
    return run


def write(folder, run):
    folder.mkdir(exist_ok=True)
    name = f"{run['task']['name']}-{run['method']['name']}-seed{run['seed']}-{run['key']}.json"
    (folder / name).write_text(json.dumps(sealed(with_options(run))))


def make_study(folder, seeds=PLANNED, without=(), planned=PLANNED):
    """A folder like results/pocket with forged records."""
    folder = folder / "pocket"
    folder.mkdir()
    for name in ("claims.yaml", "page.md.j2"):
        shutil.copy(POCKET / name, folder)
    study = yaml.safe_load((POCKET / "study.yaml").read_text())
    study["grids"]["pocket"]["seeds"] = study["grids"]["pocket-lower-rates"]["seeds"] = list(planned)
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    for method, task, seed in itertools.product(METHODS, TASKS, seeds):
        if (method, task, seed) not in without:
            write(folder / "runs", record(method, task, seed))
    return folder


def page(folder):
    """The counted runs, the text of README.md, and the warnings."""
    study, claims = read_study(folder), read_claims(folder)
    read = {name: records(study, name, claims) for name in study.grids}
    text, _ = render(study, {name: found for name, (found, _) in read.items()}, claims)
    return read["pocket"][0], text, [line for _, lines in read.values() for line in lines]


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """The page with all planned seeds."""
    return page(make_study(tmp_path_factory.mktemp("complete")))


@pytest.fixture(scope="module")
def committed():
    """The page of the committed records."""
    return page(POCKET)


def test_the_answer_is_what_was_put_in(complete):
    found, text, lines = complete
    assert lines == []
    assert found.complete
    above_lora, above_itself = found.verdicts["pocket-primary"].comparisons
    assert above_lora.found.mean == pytest.approx(2.0)
    assert (above_lora.decision, above_lora.found.n) == ("holds", 24)
    assert above_itself.found.mean == pytest.approx(0.0, abs=1e-9)
    assert above_itself.decision == "open"
    assert "AdaLoRA scores above LoRA: +2.00 points" in text
    assert "No difference from SVD-LoRA is shown: +0.00 points" in text


def test_scores_are_means_over_the_seeds(complete):
    found, text, _ = complete
    expected = statistics.mean(80 + seed / 10 for seed in PLANNED)
    assert found.scores["cola", "LoRA"].mean() == pytest.approx(expected)
    assert f"| LoRA | {expected:.2f} ± 0.19 |" in text


def test_every_run_is_listed_with_the_median(tmp_path):
    _, text, _ = page(make_study(tmp_path, seeds=(1, 2, 3)))
    assert "| R8 | AdaLoRA | 0.001 | 82.00 | 82.30 | 82.20 | 82.20 |" in text  # 80 + 2 -+ 0.1 + seed / 10
    assert "|  | LoRA | 0.001 | 80.10 | 80.20 | 80.30 | 80.20 |" in text


def test_collapsed_runs_are_named_and_their_pairs_can_be_left_out(tmp_path):
    folder = make_study(tmp_path, seeds=(1, 2))
    _, text, _ = page(folder)
    assert "collapsed" not in text.partition("## Scores")[0]
    for seed, value in ((1, 0.10), (2, 0.43)):  # of 0 and a median near 82: 43 is closer to 82
        run = record("LoRA", "stsb", seed)
        metric = run["task"]["headline"]
        write(folder / "runs", run | {"last": run["last"] | {metric: value}})
    found, text, _ = page(folder)
    out = found.collapsed()
    assert out.sum().sum() == 1 and out["stsb", "LoRA"][1]
    assert "**1 of 24 runs collapsed**" in text
    assert "LoRA on STS-B with seed 1." in text
    usual = [1.9, 2.1]  # 2 -+ 0.1 above LoRA
    left_out = statistics.mean([statistics.mean(usual)] * 3 + [82.3 - 43.0])
    assert found.without_collapsed("AdaLoRA", "LoRA") == (pytest.approx(left_out), 4, 7)
    _, lines = write_pages(folder)
    assert any(line.startswith("collapsed, ") and line.endswith(": LoRA on STS-B with seed 1") for line in lines)


def test_a_run_collapses_by_the_median_of_its_own_model():
    weaker = {f"model__{key}": value for key, value in MINILM.items()}
    runs = [forged(seed=seed, last=0.90) for seed in (1, 2, 3)]
    runs += [forged(seed=seed, last=last, **weaker) for seed, last in ((1, 0.60), (2, 0.60), (3, 0.53))]
    assert collapsed(heads(frame(*runs)), {"rte": 52.7}).tolist() == [False] * 5 + [True]


def test_lower_rates_are_shown_with_the_other_tasks_as_counted(tmp_path):
    folder = make_study(tmp_path, seeds=(1, 2))
    assert "With lower learning rates" not in page(folder)[1]
    for method, task, seed in itertools.product(METHODS, ("mrpc", "stsb"), (1, 2)):
        write(folder / "lower-rates", record(method, task, seed, LOWER[method][task]))
    text = page(folder)[1]
    section = text.partition("With lower learning rates")[2].partition("\n## ")[0]
    assert "(12 of 36 runs are recorded)" in section
    assert "| STS-B | AdaLoRA | 0.001 | 82.00 | 82.30 | 82.15 |" in section
    assert "| AdaLoRA - LoRA, STS-B | +2.00 |" in section
    assert "| AdaLoRA - LoRA, mean of R8, MRPC, STS-B, CoLA (the other tasks as counted) | +2.00 |" in section
    assert "as a mean over the four tasks: AdaLoRA - LoRA +2.00 points" in text
    assert "None of these runs collapsed." in section


def test_parameters_are_a_range_where_the_runs_differ(complete):
    _, text, _ = complete
    rows = {cells[1].strip(): cells[3].strip() for line in text.splitlines() if len(cells := line.split("|")) == 5}
    assert (rows["AdaLoRA"], rows["LoRA"]) == ("80,001 to 80,006", "82,944")


def test_only_seeds_that_have_every_cell_count(tmp_path):
    found, text, _ = page(make_study(tmp_path, seeds=(1, 2, 3), without=[("LoRA", "cola", 3)]))
    assert found.seeds == [1, 2]
    assert len(found.all) == 3 * 12 - 1
    assert "Interim: 2 of 6 seeds are complete, so the protocol's tests are not made yet" in text
    assert " p |" not in text


def test_ranks_agree_as_far_as_they_were_made_to(complete):
    found, text, _ = complete
    agreement = found.agreement("AdaLoRA", "r8")
    assert 0 < agreement.value < 1
    assert found.across("AdaLoRA", "r8", "cola") == pytest.approx(1.0)
    assert f"| R8 | {agreement.value:.2f} (" in text
    assert f"a Spearman correlation of {agreement.value:.2f} on R8, " in text


def test_time_is_a_step_s_and_its_ratio(complete):
    found, _, _ = complete
    assert found.step_seconds("LoRA", "mrpc") == pytest.approx(0.1)
    assert found.step_ratio("AdaLoRA", "LoRA", "mrpc") == pytest.approx(2.0)


def test_the_best_rate_is_chosen_and_the_lower_of_equal_ones(tmp_path):
    folder = make_study(tmp_path, seeds=())
    for number, (lr, value) in enumerate({1e-2: 0.7, 3e-3: 0.9, 1e-3: 0.9, 3e-4: 0.5}.items()):
        run = record("LoRA", "r8", 100, lr) | {"last": {"accuracy": value, "macro_f1": value}, "key": f"{number:010x}"}
        write(folder / "tuning", run)
    study = read_study(folder)
    found, _ = records(study, "pocket-tuning", [])
    tuned = found.tuned("LoRA", "r8")
    assert tuned == {3e-4: 50.0, 1e-3: 90.0, 3e-3: 90.0, 1e-2: 70.0} and list(tuned) == sorted(tuned)
    assert "| LoRA | 50.00 | **90.00** | 90.00 | 70.00 |" in page(folder)[1]


def test_all_pages_are_written(tmp_path):
    folder = make_study(tmp_path, seeds=(1, 2), planned=(1, 2))
    files, _ = write_pages(folder)
    names = {path.name for path in files}
    assert names >= {"README.md", "differences.svg", "time.svg", "packaged.md", "claims.md", "report.html"}
    text = (folder / "README.md").read_text()
    assert "SVD-LoRA - LoRA" in text
    assert names >= set(re.findall(r"\]\((?!PROTOCOL)([^)]+)\)", text))
    assert "glue.md" not in {path.name for path in folder.iterdir()}


def test_no_verdict_is_written_before_all_seeds_are_in(tmp_path):
    names = {path.name for path in write_pages(make_study(tmp_path, seeds=(1, 2)))[0]}
    assert {"README.md", "packaged.md"} <= names
    assert not {"claims.md", "report.html"} & names


@pytest.mark.slow
def test_the_pages_are_the_same_each_time(tmp_path):
    folder = make_study(tmp_path, seeds=(1, 2), planned=(1, 2))
    before = {path: path.read_bytes() for path in write_pages(folder)[0]}
    assert {path: path.read_bytes() for path in write_pages(folder)[0]} == before


@pytest.mark.parametrize("part, change", [("precision", "fp32"), ("training", {"batch_size": 8})])
def test_a_run_unlike_the_others_of_its_cell_does_not_count(tmp_path, part, change):
    folder = make_study(tmp_path, seeds=(1, 2, 3), planned=(1, 2, 3))
    run = record("LoRA", "r8", 2)
    write(folder / "runs", run | {part: run[part] | change if isinstance(change, dict) else change})
    found, _, (line,) = page(folder)
    assert found.seeds == [1, 3]
    assert line.endswith(": its options, data, precision or length aren't those of the other runs of its cell")


def test_without_a_record_the_page_says_so(tmp_path):
    files, _ = write_pages(make_study(tmp_path, seeds=()))
    assert [path.name for path in files] == ["README.md"]
    assert "None yet: 0 of 72 runs are recorded" in files[0].read_text()


def test_a_damaged_record_is_named(tmp_path):
    folder = make_study(tmp_path, seeds=(1,))
    damaged = next((folder / "runs").iterdir())
    damaged.write_text("{")
    _, _, (line,) = page(folder)
    assert damaged.name in line


def test_mistakes_in_a_study_are_one_line(tmp_path):
    folder = make_study(tmp_path, seeds=(1,))
    (folder / "page.md.j2").write_text("{{ found.nothing }}\n")
    with pytest.raises(UserError, match="line 1: .*'found'"):
        write_pages(folder)
    for text in ("{{ 1 / 0 }}", '{{ "%.2f" | format("x") }}', '{{ draw("x.txt", 3) }}', '{{ grids["x"].scores }}'):
        (folder / "page.md.j2").write_text(f"\n{text}\n")
        with pytest.raises(UserError, match="page.md.j2, line 2: "):
            write_pages(folder)
    assert not (folder / "README.md").exists()
    (folder / "page.md.j2").write_text("\n{% if %}\n")
    with pytest.raises(UserError, match=r"page.md.j2, line 2: Expected an expression"):
        write_pages(folder)
    (folder / "page.md.j2").unlink()
    with pytest.raises(UserError, match=r"page.md.j2.*: restore it"):
        write_pages(folder)
    text = (folder / "claims.yaml").read_text()
    (folder / "claims.yaml").write_text(text.replace("mrpc", "mrcp", 1))
    with pytest.raises(UserError, match="mrcp"):
        write_pages(folder)
    (folder / "claims.yaml").unlink()
    with pytest.raises(UserError, match=r"claims.yaml is missing"):
        write_pages(folder)


def test_records_that_are_not_of_the_grid_or_twice_do_not_count(tmp_path):
    folder = make_study(tmp_path, seeds=(1, 2), planned=(1, 2), without=[("LoRA", "mrpc", 1)])
    write(folder / "runs", record("LoRA", "mrpc", 3))  # another seed
    write(
        folder / "runs", record("LoRA", "mrpc", 1, lr=5e-3) | {"key": "00000000aa"}
    )  # no rate of its own: of the grid
    write(folder / "runs", record("LoRA", "mrpc", 2) | {"key": "00000000bb"})  # its cell has a record
    write(
        folder / "runs", record("SVD-LoRA", "mrpc", 1, lr=5e-3) | {"key": "00000000cc"}
    )  # another rate than the grid's
    (folder / "runs/mrpc-lora-seed1-00000000aa.json").unlink()
    found, text, lines = page(folder)
    assert found.seeds == [2] and "Interim: 1 of 2 seeds" in text
    told = "\n".join(lines)
    assert "mrpc-lora-seed3" in told and "it isn't a run of pocket" in told
    assert "mrpc-adalora-seed1-00000000cc.json: it isn't a run of pocket" in told
    assert "its cell has another record" in told and len(lines) == 3
    (folder / "claims.md").write_text("of before")
    write_pages(folder)
    assert not (folder / "claims.md").exists()


@pytest.mark.parametrize(
    "cell, same",
    [
        ("task=rte method=adalora budget=0.3M", True),
        ("task=rte method=adalora budget=0.16%", True),  # another name of that size
        ("task=rte method=adalora budget=1.2M", False),
        ("task=rte method=lora budget=0.3M", False),
        ("task=rte method=adalora training.lr=1.2e-3 method.alpha=32 precision=fp32", True),
        ("task=rte method=adalora training.lr=1e-3", False),
        ("task=rte method=adalora model=deberta_minilm", False),
        ("task=rte method=adalora method.beta1=0.5", False),
    ],
)
def test_a_record_belongs_to_the_cell_with_its_options(cell, same):
    (run,) = heads(frame(forged())).itertuples()
    assert of_cell(run, cell.split()) is same


def test_a_method_option_that_the_cell_does_not_give_makes_another_cell():
    (run,) = heads(frame(forged(method__init_rank=2, method__target_rank=2.0))).itertuples()
    assert not of_cell(run, ["task=rte", "method=adalora"])
    assert of_cell(run, ["task=rte", "method=adalora", "method.init_rank=2", "method.target_rank=2"])


TOY = {
    "study.yaml": """
        tasks: {rte: {title: RTE, constant: 52.7}}
        grids:
          toy: {records: runs, seeds: [1, 2], parts: [[[task=rte budget=0.3M], [method=bitfit, method=sora]]]}
        """,
    "claims.yaml": """
        - {id: toy-one, statement: SoRA scores above BitFit, place: here, one: {method: sora},
           others: [{method: bitfit}], budgets: [0.3M], tasks: [rte]}
        """,
    "page.md.j2": """
        {% set found = grids["toy"] %}
        {% set part = found.verdicts["toy-one"].comparisons[0] %}
        {{ named(part) }}: {{ part.found.mean | signed }} ({{ part.found.interval | span }}), {{ part.decision }};
        {{ found.scores["rte", "SoRA"] | mean }}, collapsed {{ found.collapsed().sum().sum() }}
        ![ranks]({{ draw("ranks.svg", found.heat_map("SoRA", "rte")) }})
        """,
}


def test_a_second_study_is_a_folder_without_python(tmp_path):
    folder = tmp_path / "toy"
    (folder / "runs").mkdir(parents=True)
    for name, text in TOY.items():
        (folder / name).write_text("\n".join(line.removeprefix(" " * 8) for line in text.strip("\n").splitlines()))
    for (method, budget), seed in itertools.product((("sora", "0.3M"), ("bitfit", "any")), (1, 2)):
        last = 0.86 + seed / 100 if method == "sora" else 0.85
        run = forged(
            method=method, budget=budget, seed=seed, last=last, key=f"{method:0>9}{seed}", model__targets=TARGETS
        )
        write(folder / "runs", run | {"ranks": dict.fromkeys(MODULES, 1 + seed)})
    files, lines = write_pages(folder)
    assert lines == []
    text = (folder / "README.md").read_text()
    assert "SoRA - BitFit, RTE: +2.50 (-3.85 to +8.85), open;\n87.5, collapsed 0" in text  # 2.5 -+ 12.706 * 0.5
    assert {path.name for path in files} >= {"README.md", "ranks.svg", "glue.md", "claims.md", "report.html"}
    assert "**toy-one: open**" in (folder / "claims.md").read_text()
    claims = (folder / "claims.yaml").read_text()
    (folder / "claims.yaml").write_text(claims + claims.replace("toy-one", "toy-two").replace("0.3M", "0.4M"))
    assert "toy-two has no run: check its methods, options, budgets and metrics" in write_pages(folder)[1]


def test_the_readme_gives_the_answer_of_the_records(committed):
    found, *_ = committed
    text = " ".join((RESULTS.parent / "README.md").read_text().split())
    part = found.verdicts["pocket-primary"].comparisons[0]
    assert part.decision == "open"
    assert f"AdaLoRA - LoRA is {signed(part.found.mean)} points (95 % interval {span(part.found.interval)})" in text
