"""The page of results/allocation: from forged records with known answers, and the committed tuning."""

import itertools
import json
import re
from copy import deepcopy

import numpy as np
import pytest
from scipy import stats

from adalora.files.reading import sealed
from adalora.paths import RESULTS
from adalora.records.evaluation import Evaluation
from adalora.records.studies import read_study
from adalora.reporting.claims import read_claims
from adalora.reporting.study import records, render
from adalora.reporting.tables import signed, span
from tests.reporting.forged import resolve_plan

FOLDER = RESULTS / "allocation"
METHODS = ("LoRA", "AdaLoRA", "SVD-LoRA", "SVD-LoRA, rank 12", "LoRA, rank 9")
CELLS = (
    ["method=lora"],
    ["method=adalora", "method.alpha=24"],
    ["method=adalora", "method.init_rank=8", "method.target_rank=8"],
    ["method=adalora", "method.init_rank=12", "method.target_rank=12", "method.alpha=24", "budget=rank12"],
    ["method=lora", "method.alpha=18", "budget=custom", "budget.rank=9"],
)
BYTES = [100, 300, 200]
PLANNED = {}  # by options: a plan takes a tenth of a second
NOISE = np.random.default_rng(0).normal(0, 0.003, (5, 9))  # by method and seed


def record(compose, method, seed, score, english=1.2, lr=1e-2, split="test"):
    """A run of the study with these bits per byte."""
    cell = CELLS[METHODS.index(method)]
    options = ("experiment=allocation", f"training.lr={lr}", *cell, f"task.eval_split={split}")
    if options not in PLANNED:
        PLANNED[options] = resolve_plan(compose, *options)
    run = deepcopy(PLANNED[options])
    custom = "budget=custom" in cell
    run["budget"] = {"name": "custom" if custom else "rank12" if "budget=rank12" in cell else "rank8",
                     "params": 2_747_520 if custom else None, "deviation": 0.0}  # fmt: skip
    run["model"] |= {"name": "smollm2", "title": "SmolLM2", "comparable": False}
    headline = "bits_per_byte" if split == "validation" else f"bits_per_byte_{split}"
    run["task"] |= {"headline": headline, "direction": "min", "rows": {"train": 9, split: 3, "english": 3}}
    run["method"] |= {key: option["value"] for name, option in run["options"].items()
                      if (key := name.removeprefix("method.")) != name}  # fmt: skip
    scores = {headline: score, "bits_per_byte_english": english, "loss": 1.0}
    shift = np.array([1, -1, 1]) * (20 if method == "AdaLoRA" else 0)
    rows = {split: {"bits": (score * np.array(BYTES) + shift).tolist(), "bytes": BYTES}}
    modules = [f"model.layers.{i}.mlp.{name}_proj" for i in range(2) for name in ("up", "down")]
    run["model"]["targets"] = {name: f"model.layers.{{layer}}.mlp.{name}_proj" for name in ("up", "down")}
    key = f"{METHODS.index(method)}{seed:03}{int(lr * 1e5):06}"
    return run | {"seed": seed, "key": key, "last": scores, "best": scores, "rows": rows,
                  "ranks": dict(zip(modules, [9, 7, 8 + seed % 2, 6], strict=True))}  # fmt: skip


def write(folder, run):
    folder.mkdir(exist_ok=True)
    name = f"{run['task']['name']}-{run['method']['name']}-seed{run['seed']}-{run['key']}.json"
    (folder / name).write_text(json.dumps(sealed(run)))


def score_of(means, method, seed):
    return means[METHODS.index(method)] + NOISE[METHODS.index(method), seed] + seed / 100


def evaluations(found):
    """Of the untuned model, and ARC-Easy of the first three seeds."""
    task = {"version": 1, "origin": "x", "subset": False, "digest": "d", "train_split": "train", "headline": "a"}
    task |= {"notes": []}
    questions = task | {"name": "arc_easy", "rows": {"train": 1, "test": 300}, "headline": "accuracy_test"}
    common = {"adapter": None, "commit": None}
    runs = [run for run in found.runs["result"] if run.seed <= 3]
    arc = [{"run": run.key, "task": questions, "scores": {"accuracy_test": 0.4 + run.seed / 100}} for run in runs]
    base = [
        {"run": None, "task": task | {"name": "igbo", "rows": {"train": 1, split: 9}, "headline": "bits_per_byte_x"},
         "scores": {"bits_per_byte_x": score, "bits_per_byte_english": 1.1}}
        for split, score in (("test", 2.9), ("validation", 2.8))
    ]  # fmt: skip
    none = [{"run": None, "task": questions, "scores": {"accuracy_test": 0.5}}]
    return [Evaluation(**common, **each) for each in (*arc, *base, *none)]


@pytest.fixture
def page(compose, tmp_path):
    """`page(means, seeds)`: README.md and the counted runs, with these mean scores of the methods."""

    def go(means, seeds=range(1, 9), resolution=0.001):
        tuning, _, counted = (FOLDER / "study.yaml").read_text().partition("\n  allocation:")
        counted, rates = re.subn(r"training.lr=[^ \"]+", "training.lr=1e-2", counted)
        assert rates == len(METHODS)
        (tmp_path / "study.yaml").write_text(f"{tuning}\n  {tmp_path.name}:{counted}")
        page = (FOLDER / "page.md.j2").read_text().replace('grids["allocation"]', f'grids["{tmp_path.name}"]')
        (tmp_path / "page.md.j2").write_text(page)
        text, count = re.subn(
            r"(?m)^  resolution: .+", f"  resolution: {resolution}", (FOLDER / "claims.yaml").read_text()
        )
        assert count == 2
        (tmp_path / "claims.yaml").write_text(text)
        for method, seed in itertools.product(METHODS, seeds):
            english = 1.2 + NOISE[METHODS.index(method), seed]
            write(tmp_path / "runs", record(compose, method, seed, score_of(means, method, seed), english))
        for method, lr, seed in itertools.product(METHODS[:3], (3e-3, 1e-2, 3e-2), (101, 102)):
            score = 2.0 + abs(np.log10(lr) + 2) + seed / 1000 + (3 if (method, lr) == ("LoRA", 3e-2) else 0)
            write(tmp_path / "tuning", record(compose, method, seed, score, lr=lr, split="validation"))
        study, claims = read_study(tmp_path), read_claims(tmp_path)
        found = {name: records(study, name, claims) for name in study.grids}
        assert [lines for _, lines in found.values()] == [[], []]
        grids = {name: each for name, (each, _) in found.items()}
        text, figures = render(study, grids, claims, evaluations(grids[tmp_path.name]))
        return text, found[tmp_path.name][0], figures

    return go


def exact(one, other):
    """Mean, Student's interval and the exact two-sided p of paired differences, written out."""
    d = np.array(one) - np.array(other)
    half = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
    flips = [abs(np.mean(d * signs)) for signs in itertools.product((1, -1), repeat=len(d))]
    return d.mean(), (d.mean() - half, d.mean() + half), np.mean(np.array(flips) >= abs(d.mean()) - 1e-15)


def test_the_answer_is_the_protocols(page):
    means = [1.85, 1.80, 1.81, 1.79, 1.84]  # AdaLoRA is 0.05 better than LoRA, and 0.01 better than SVD-LoRA
    text, found, figures = page(means)
    (lora,), (svd,) = (found.verdicts[f"allocation-{name}"].comparisons for name in ("lora", "svd"))
    scores = {method: [score_of(means, method, seed) for seed in range(1, 9)] for method in METHODS}
    for part, other in ((lora, "LoRA"), (svd, "SVD-LoRA")):
        mean, interval, p = exact(scores["AdaLoRA"], scores[other])
        assert part.found.mean == pytest.approx(mean)
        assert part.found.interval == pytest.approx(interval)
        assert part.found.p == pytest.approx(p)
        assert part.p == pytest.approx(2 * p)  # both are the smallest
    assert (lora.decision, svd.decision) == ("holds", "no difference")
    head = text.partition("## ")[0]
    assert f"**AdaLoRA is better than LoRA on Igbo**: {lora.found.mean:+.4f} bits per byte" in head
    assert "don't differ on Igbo** by more than 0.02" in head
    assert "p = 0.016." in head
    assert head.splitlines()[3].startswith("This is one dequantised 135M model")
    gain = 2.9 - np.mean(scores["LoRA"])
    share = 100 * abs(lora.found.mean) / gain
    assert (
        "At this scale AdaLoRA pays on Igbo, but not by its allocation: "
        f"LoRA takes Igbo from 2.9000 bits per byte to {2.9 - gain:.4f}" in head
    )
    assert f"(a difference of {share:.1f} % of what LoRA gains)" in head
    lora, ada = (1.2 + NOISE[METHODS.index(method), 1:9] for method in ("LoRA", "AdaLoRA"))
    assert f"goes from 1.1000 to {lora.mean():.4f} with LoRA and to {ada.mean():.4f} with AdaLoRA: as much is" in head
    assert f" forgotten, {(ada - lora).mean():+.4f} bits per byte" in head
    assert len(head.splitlines()) <= 10
    assert {"differences.svg", "ranks.svg", "tuning.svg"} == figures.keys()
    assert "the untuned model has 2.9000 on Igbo and 1.1000 on English." in text
    assert "| AdaLoRA | 41.0 | 42.0 | 43.0 | 42.0 |\n" in text and "| untuned | | | | 50.0 |\n" in text


def test_allocation_pays_if_it_beats_lora_and_its_own_form(page):
    text, *_ = page([1.85, 1.80, 1.85, 1.79, 1.84])
    assert "At this scale adaptive allocation pays on Igbo: LoRA takes" in text
    text, *_ = page([1.85, 1.80, 1.81, 1.79, 1.84], resolution=0.03)
    assert (
        "don't differ on Igbo** by more than 0.02" in text and "AdaLoRA pays on Igbo, but not by its allocation" in text
    )
    text, *_ = page([1.85, 1.80, 1.825, 1.79, 1.84], resolution=0.03)
    assert "AdaLoRA pays on Igbo, and whether by its allocation isn't decided" in text


def test_a_worse_score_is_said_and_a_small_one_is_left_open(page):
    means = [1.80, 1.85, 1.80, 1.79, 1.84]
    text, *_ = page(means)
    assert (
        "**AdaLoRA is worse than LoRA on Igbo**: +0.0" in text and "a tuned LoRA learns the language better: " in text
    )
    assert "| AdaLoRA - LoRA | Igbo | primary | +0.0" in text and "| worse |" in text
    text, found, _ = page(means, resolution=0.06)
    assert "**Not decided between AdaLoRA and LoRA on Igbo**" in text
    assert "a method loses up to 0.0600 at a neighbouring learning rate" in text
    assert "learning rates" in found.verdicts["allocation-lora"].comparisons[0].notes[-1]


def test_the_three_differences_on_english_are_one_family(page, compose, tmp_path):
    page([1.85, 1.80, 1.81, 1.79, 1.84])
    for method, seed in itertools.product(METHODS, range(1, 9)):
        english = 1.2 + 0.05 * METHODS.index(method) + NOISE[METHODS.index(method), seed]
        write(tmp_path / "runs", record(compose, method, seed, 1.8, english))
    study, claims = read_study(tmp_path), read_claims(tmp_path)
    found, _ = records(study, tmp_path.name, claims)
    parts = [p for v in ("allocation-forgetting", "allocation-form-forgetting") for p in found.verdicts[v].comparisons]
    assert [part.p for part in parts] == pytest.approx([3 * 2 / 2**8] * 3)
    assert [part.decision for part in parts] == ["fails", "holds", "fails"]


def test_no_test_is_made_before_all_seeds_are_in(page):
    text, found, figures = page([1.85, 1.80, 1.81, 1.79, 1.84], seeds=(1, 2))
    assert "No answer yet: 2 of 8 seeds are complete" in text
    assert " p |" not in text and "differences.svg" not in figures
    assert "| LoRA, rank 9 | 0.01 | 1." in text


def test_articles_are_resampled(page):
    text, found, _ = page([1.85, 1.80, 1.81, 1.79, 1.84])
    low, high = found.over_rows("AdaLoRA [alpha=24]", "LoRA", "igbo", "test")
    mean = np.mean(
        [score_of([0, 0.0, 0, 0, 0], "AdaLoRA", s) - score_of([0.05] + [0] * 4, "LoRA", s) for s in range(1, 9)]
    )
    draws = np.array(list(itertools.product(range(3), repeat=3)))  # all samples of three articles
    bits = mean * np.array(BYTES) + 20 * np.array([1, -1, 1])
    every = bits[draws].sum(1) / np.array(BYTES)[draws].sum(1)
    assert (low, high) == pytest.approx(tuple(np.percentile(every, [2.5, 97.5])), abs=0.06)
    assert low < mean < high


def test_a_difference_is_shown_without_one_seed_at_a_time(page):
    means = [1.80, 1.85, 1.80, 1.79, 1.84]
    text, *_ = page(means)
    gaps = {s: score_of(means, "AdaLoRA", s) - score_of(means, "LoRA", s) for s in range(1, 9)}
    left = {seed: np.mean([gaps[other] for other in gaps if other != seed]) for seed in gaps}
    low, high = min(left, key=left.get), max(left, key=left.get)
    assert (
        f"AdaLoRA - LoRA {left[low]:+.4f} (without seed {low}) to {left[high]:+.4f} (without seed {high}), AdaLoRA"
        in text
    )


def test_the_tuning_shows_every_rate_and_the_best_in_bold(page):
    text, *_ = page([1.85, 1.80, 1.81, 1.79, 1.84], seeds=(1,))
    lines = text.partition("## Tuning")[2].splitlines()
    assert "| 0.01 | **2.1015** (2.1010, 2.1020) | **2.1015** (2.1010, 2.1020) | **2.1015** (2.1010, 2.1020) |" in lines
    assert any(line.startswith("| 0.03 | 5.57") for line in lines)


def test_the_resolution_is_the_loss_at_the_better_neighbour_that_is_not_out(page):
    text, found, _ = page([1.85, 1.80, 1.81, 1.79, 1.84], seeds=(1,))
    lower, upper = abs(np.log10(3e-3) + 2), abs(np.log10(3e-2) + 2)
    assert f"loses {lower:.4f} (LoRA), {upper:.4f} (AdaLoRA), {upper:.4f} (SVD-LoRA)." in text
    assert "| 0.03 | 5.5786 (5.5781, 5.5791) out |" in text


def test_rates_and_resolutions_follow_from_the_tuning():
    """Worked out with json and numpy alone."""
    study, claims = read_study(FOLDER), {claim.id: claim for claim in read_claims(FOLDER)}
    scores, english = {}, {}
    for path in (FOLDER / "tuning").glob("*.json"):
        run = json.loads(path.read_text())
        method = {None: "LoRA", 12: "AdaLoRA", 8: "SVD-LoRA"}[run["method"].get("init_rank")]
        rate = run["options"]["training.lr"]["value"]
        scores.setdefault(method, {}).setdefault(rate, []).append(run["last"]["bits_per_byte"])
        english.setdefault((method, rate), []).append(run["last"]["bits_per_byte_english"])
    best, loss, curve, used = {}, {}, {}, {}
    for method, rates in scores.items():
        means = {rate: np.mean(x) for rate, x in sorted(rates.items()) if max(x) <= 2.9798 and len(x) == 2}
        order = used[method] = list(means)
        curve[method] = [np.mean(english[method, rate]) for rate in order], list(means.values())
        place = order.index(min(means, key=means.get))
        best[method] = order[place]
        loss[method] = min(means[order[i]] for i in (place - 1, place + 1) if 0 <= i < len(order)) - means[order[place]]
    assert claims["allocation-lora"].resolution == pytest.approx(max(loss["AdaLoRA"], loss["LoRA"]), rel=1e-12)
    assert claims["allocation-svd"].resolution == pytest.approx(max(loss["AdaLoRA"], loss["SVD-LoRA"]), rel=1e-12)
    cells = study.grids["allocation"].cells()
    chosen = [float(next(o for o in cell if o.startswith("training.lr=")).partition("=")[2]) for cell in cells]
    assert chosen == [best[m] for m in ("LoRA", "AdaLoRA", "SVD-LoRA", "SVD-LoRA", "LoRA")]
    text = (FOLDER / "README.md").read_text()
    lines = iter(text.partition("## Tuning")[2].splitlines())
    assert "| method | learning rate | English | Igbo | LoRA's Igbo | difference |" in lines and next(lines)
    for method in ("AdaLoRA", "SVD-LoRA"):
        for rate, kept, score in zip(used[method], *curve[method], strict=True):
            if (lora := np.interp(kept, *curve["LoRA"], left=np.nan, right=np.nan)) > 0:
                row = f"| {method} | {rate} | {kept:.4f} | {score:.4f} | {lora:.4f} | {score - lora:+.4f} |"
                assert next(lines) == row
    assert not next(lines)


def test_the_readme_gives_the_answer_of_the_records():
    study, claims = read_study(FOLDER), read_claims(FOLDER)
    found, lines = records(study, "allocation", claims)
    assert found.complete and not lines
    text = " ".join((RESULTS.parent / "README.md").read_text().split())
    svd, lora, english = (found.verdicts[f"allocation-{name}"].comparisons[0] for name in ("svd", "lora", "forgetting"))
    assert [part.decision for part in (svd, lora, english)] == ["no difference", "open", "holds"]
    assert found.verdicts["allocation-form-forgetting"].comparisons[0].decision == "holds"
    assert f"{signed(svd.found.mean, 4)} bits per byte (95 % interval {span(svd.found.interval, 4)}) on unseen" in text
    for part in (lora, english):
        assert f"{signed(part.found.mean, 4)} ({span(part.found.interval, 4)})" in text
