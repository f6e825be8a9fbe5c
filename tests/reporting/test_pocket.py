"""The pocket reproduction's pages: from forged records with known answers, and the committed one."""

import itertools
import json
import re
import statistics

import pytest

from adalora.errors import UserError
from adalora.places import POCKET
from adalora.reading import sealed
from adalora.reporting.claimpage import span
from adalora.reporting.pocket.numbers import METHODS, TASKS, tuning
from adalora.reporting.pocket.page import page, write_pages
from adalora.reporting.tables import signed
from adalora.sweep.studies import read_studies
from tests.reporting.forged import make as forged
from tests.reporting.forged import with_options

TARGETS = {"query": "encoder.layer.{layer}.query", "intermediate": "encoder.layer.{layer}.intermediate"}
MAPS = [pattern.format(layer=layer) for layer in range(6) for pattern in TARGETS.values()]
OPTIONS = {
    "AdaLoRA": {"method__init_rank": 3, "method__target_rank": 2.0},
    "SVD-LoRA": {"method__init_rank": 2, "method__target_rank": 2.0},
    "LoRA": {"method__rank": 2},
}
ABOVE = {"AdaLoRA": 2.0, "SVD-LoRA": 2.0, "LoRA": 0.0}  # points
PLANNED = range(1, 7)


def record(method, task, seed, lr=1e-3):
    """A run at 80 % plus the method's advantage, with noise shared by all methods of a seed."""
    shift = {"AdaLoRA": 0.1, "SVD-LoRA": -0.1, "LoRA": 0.0}[method] * (-1) ** seed  # AdaLoRA and SVD-LoRA are alike
    value = (80 + ABOVE[method] + shift + seed / 10) / 100
    run = forged(
        task=task, method="lora" if method == "LoRA" else "adalora", budget="custom", seed=seed, last=value, best=value,
        model__name="deberta_minilm", model__title="MiniLM", model__comparable=False, model__targets=TARGETS,
        budget__params=82_944, precision="bf16", training__lr=lr,
        recipe__values={}, recipe__total_steps=3900, recipe__source="ours", recipe__protocol="ours",
        key=f"{METHODS.index(method):05}{list(TASKS).index(task):02}{seed:03}",
        seconds=780.0 if method == "AdaLoRA" else 390.0,
        **OPTIONS[method],
    )  # fmt: skip
    run["method"] |= {"alpha": 16.0, "orthogonality": 0.1, "initial_steps": None} if method != "LoRA" else {}
    ranks = [(i * 7) % 4 for i in range(len(MAPS))]
    if method == "AdaLoRA" and seed % 2:
        ranks[0], ranks[1] = ranks[1], ranks[0]
    run["ranks"] = dict(zip(MAPS, ranks if method == "AdaLoRA" else [2] * len(MAPS), strict=True))
    run["parameters"] |= {"kept": 80_000 + seed if method == "AdaLoRA" else 82_944}
    run["hardware"] = {"name": "a processor", "device": "cpu"}
    metric = run["task"]["headline"]
    run["evaluations"] = [{"step": 1950, f"eval/{metric}": 0.5}, {"step": 3900, f"eval/{metric}": value}]
    return run


@pytest.fixture
def study(tmp_path):
    """`study(seeds, without)`: a folder like results/pocket with records of these seeds."""
    return lambda seeds=PLANNED, without=(): make_study(tmp_path, seeds, without)


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """The numbers, text and warnings of a page with all planned seeds."""
    return page(PLANNED, make_study(tmp_path_factory.mktemp("complete"), PLANNED))


@pytest.fixture(scope="module")
def committed():
    """The numbers, text and warnings of the committed records' page."""
    return page(read_studies()["pocket"].seeds)


def make_study(folder, seeds, without=()):
    for name in ("study.yaml", "claims.yaml"):
        (folder / name).write_text((POCKET / name).read_text())
    for method, task, seed in itertools.product(METHODS, TASKS, seeds):
        if (method, task, seed) not in without:
            write(folder / "runs", record(method, task, seed))
    return folder


def write(folder, run):
    folder.mkdir(exist_ok=True)
    name = f"{run['task']['name']}-{run['method']['name']}-seed{run['seed']}-{run['key']}.json"
    (folder / name).write_text(json.dumps(sealed(with_options(run))))


def test_the_answer_is_what_was_put_in(complete):
    found, text, lines = complete
    assert lines == []
    assert found.complete
    above_lora, above_itself = found.verdicts["pocket-primary"].parts
    assert above_lora.found.mean == pytest.approx(2.0)
    assert (above_lora.state, above_lora.found.n) == ("holds", 24)
    assert above_itself.found.mean == pytest.approx(0.0, abs=1e-9)
    assert above_itself.state == "open"
    assert "AdaLoRA scores above LoRA: +2.00 points" in text
    assert "No difference from SVD-LoRA is shown: +0.00 points" in text


def test_scores_are_means_over_the_seeds(complete):
    found, text, _ = complete
    expected = statistics.mean(80 + seed / 10 for seed in PLANNED)
    assert statistics.mean(found.scores("LoRA", "cola")) == pytest.approx(expected)
    assert f"| LoRA | {expected:.2f} ± 0.19 |" in text


def test_every_run_is_listed_with_the_median(study):
    _, text, _ = page(PLANNED, study(seeds=(1, 2, 3)))
    assert "| R8 | AdaLoRA | 0.001 | 82.00 | 82.30 | 82.20 | 82.20 |" in text  # 80 + 2 -+ 0.1 + seed / 10
    assert "|  | LoRA | 0.001 | 80.10 | 80.20 | 80.30 | 80.20 |" in text


def test_collapsed_runs_are_named_and_their_pairs_can_be_left_out(study):
    folder = study(seeds=(1, 2))
    _, text, _ = page(PLANNED, folder)
    assert "collapsed" not in text.partition("## Scores")[0]
    for seed, value in ((1, 0.10), (2, 0.43)):  # of 0 and a median near 82: 43 is closer to 82
        run = record("LoRA", "stsb", seed)
        metric = run["task"]["headline"]
        write(folder / "runs", run | {"last": run["last"] | {metric: value}})
    found, text, _ = page(PLANNED, folder)
    assert found.collapsed() == {("LoRA", "stsb"): [1]}
    assert "**1 of 24 runs collapsed**" in text
    assert "LoRA on STS-B with seed 1." in text
    usual = [1.9, 2.1]  # 2 -+ 0.1 above LoRA
    left_out = statistics.mean([statistics.mean(usual)] * 3 + [82.3 - 43.0])
    assert found.without_collapsed("AdaLoRA", "LoRA") == (pytest.approx(left_out), 4, 7)


def test_lower_rates_are_shown_for_tasks_with_a_collapsed_run(study):
    folder = study(seeds=(1, 2))
    assert "With lower learning rates" not in page(PLANNED, folder)[1]
    run = record("LoRA", "stsb", 1)
    write(folder / "runs", run | {"last": run["last"] | {run["task"]["headline"]: 0.1}})
    for method, task, seed in itertools.product(METHODS, ("stsb", "cola"), (1, 2)):
        write(folder / "lower-rates", record(method, task, seed, lr=3e-4))
    text = page(PLANNED, folder)[1]
    section = text.partition("With lower learning rates")[2].partition("\n## ")[0]
    assert "(6 of 18 runs are recorded)" in section  # CoLA has no collapsed run
    assert "| STS-B | AdaLoRA | 0.0003 | 82.00 | 82.30 | 82.15 |" in section
    assert "| AdaLoRA - LoRA, STS-B | +2.00 |" in section
    assert "| AdaLoRA - LoRA, mean of R8, MRPC, STS-B, CoLA (the other tasks as counted) | +2.00 |" in section
    assert "as a mean over the four tasks: AdaLoRA - LoRA +2.00 points" in text
    assert "None of these runs collapsed." in section


def test_parameters_are_a_range_where_the_runs_differ(complete):
    _, text, _ = complete
    rows = {cells[1].strip(): cells[3].strip() for line in text.splitlines() if len(cells := line.split("|")) == 5}
    assert (rows["AdaLoRA"], rows["LoRA"]) == ("80,001 to 80,006", "82,944")


def test_only_seeds_that_have_every_cell_count(study):
    found, text, _ = page(PLANNED, study(seeds=(1, 2, 3), without=[("LoRA", "cola", 3)]))
    assert list(found.seeds) == [1, 2]
    assert found.recorded == 3 * 12 - 1
    assert "Interim: 2 of 6 seeds are complete, so the protocol's tests are not made yet" in text
    assert " p |" not in text


def test_ranks_agree_as_far_as_they_were_made_to(complete):
    found, text, _ = complete
    agreement = found.agreement("r8")
    assert 0 < agreement.value < 1
    assert found.across("r8", "cola") == pytest.approx(1.0)
    assert f"| R8 | {agreement.value:.2f} (" in text
    assert f"a Spearman correlation of {agreement.value:.2f} on R8, " in text


def test_time_is_a_step_s_and_its_ratio(complete):
    found, _, _ = complete
    assert found.step_seconds("LoRA", "mrpc") == pytest.approx(0.1)
    assert found.step_ratio("AdaLoRA", "LoRA", "mrpc") == pytest.approx(2.0)


def test_the_best_rate_is_chosen_and_the_lower_of_equal_ones():
    runs = [record("LoRA", "r8", 100, lr) | {"last": {"accuracy": value}}
            for lr, value in {1e-2: 0.7, 3e-3: 0.9, 1e-3: 0.9, 3e-4: 0.5}.items()]  # fmt: skip
    (tuned,) = tuning(runs).values()
    assert tuned.best == 1e-3
    assert min(tuned.scores) < tuned.best < max(tuned.scores)


def test_all_pages_are_written(study):
    folder = study(seeds=(1, 2))
    files, _ = write_pages([1, 2], folder)
    names = {path.name for path in files}
    assert names >= {"README.md", "differences.svg", "time.svg", "packaged.md", "claims.md", "report.html"}
    text = (folder / "README.md").read_text()
    assert "SVD-LoRA - LoRA" in text
    assert names >= set(re.findall(r"\]\((?!PROTOCOL)([^)]+)\)", text))
    assert "glue.md" not in {path.name for path in folder.iterdir()}


def test_no_verdict_is_written_before_all_seeds_are_in(study):
    files, _ = write_pages(PLANNED, study(seeds=(1, 2)))
    names = {path.name for path in files}
    assert {"README.md", "packaged.md"} <= names
    assert not {"claims.md", "report.html"} & names


@pytest.mark.slow
def test_the_pages_are_the_same_each_time(study):
    folder = study(seeds=(1, 2))
    before = {path: path.read_bytes() for path in write_pages([1, 2], folder)[0]}
    assert {path: path.read_bytes() for path in write_pages([1, 2], folder)[0]} == before


def test_without_a_record_the_page_says_so(tmp_path):
    (tmp_path / "claims.yaml").write_text((POCKET / "claims.yaml").read_text())
    files, _ = write_pages(PLANNED, tmp_path)
    assert [path.name for path in files] == ["README.md"]
    assert "None yet: 0 of 72 runs are recorded" in files[0].read_text()


def test_a_damaged_record_is_named(study):
    folder = study(seeds=(1,))
    damaged = next((folder / "runs").iterdir())
    damaged.write_text("{")
    _, _, (line,) = page(PLANNED, folder)
    assert damaged.name in line


def test_the_committed_page_says_what_its_records_say(committed):
    assert (POCKET / "README.md").read_text() == committed[1]


def test_the_readme_gives_the_answer_of_the_records(committed):
    found, page_text, _ = committed
    text = " ".join((POCKET.parents[1] / "README.md").read_text().split())
    for part, other in zip(found.verdicts["pocket-primary"].parts, ("LoRA", "SVD-LoRA"), strict=True):
        assert part.state == "open"
        assert f"{signed(part.found.mean)} points (" in text
        assert f"{span(part.found.interval)})" in text
        assert signed(found.without_collapsed("AdaLoRA", other)[0]) in text
    assert {method for method, _ in found.collapsed()} == set(METHODS)
    assert sum(map(len, found.collapsed().values())) == 5
    lower = next(line for line in page_text.splitlines() if line.startswith("With the next lower learning rates"))
    assert "None of these runs collapsed." in lower
    numbers = re.findall(r"([+-]\S+) points \(95 % interval (\S+ to \S+)\)", lower)
    assert len(numbers) == 2
    for mean, interval in numbers:
        assert f"{mean} ({interval})" in text


def test_claims_are_needed(tmp_path):
    with pytest.raises(UserError, match=r"claims.yaml can't be read"):
        page(PLANNED, tmp_path)
