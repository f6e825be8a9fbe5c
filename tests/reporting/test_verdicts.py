"""The verdicts on forged results whose outcome is known."""

from dataclasses import replace

import pytest

from adalora.paths import PAPER as FOLDER
from adalora.records.published import read_paper
from adalora.reporting.claims import Claim, Side, read_claims
from adalora.reporting.verdicts import judge
from tests.reporting.forged import frame, make

PAPER = read_paper()
CLAIMS = {claim.id: claim for claim in read_claims(FOLDER)}
RTE = replace(CLAIMS["low-budget-rte"], others=[Side("lora")])  # printed: 87.36 - 85.56 = 1.80


def runs(method, scores, task="rte", budget="0.3M", first=1, **changes):
    changes = {"recipe__values": {}, "method__alpha": 16.0, "method__orthogonality": 0.1} | changes
    if method != "adalora":
        changes = {key: value for key, value in changes.items() if not key.startswith("method__")}
    return [
        make(task, method, budget, seed=seed, last=score / 100, best=score / 100, key=f"{seed:010x}", **changes)
        for seed, score in enumerate(scores, start=first)
    ]


def part(claim, *groups, paper=PAPER):
    """The verdict of a claim with a single part, and the part."""
    (verdict,) = judge([claim], frame(*(run for group in groups for run in group)), paper)
    (found,) = verdict.comparisons
    return verdict.verdict, found


LORA = [85.0, 85.5, 86.0, 85.2, 85.8, 85.4]


def test_six_seeds_in_the_claimed_direction_reproduce():
    verdict, found = part(RTE, runs("adalora", [s + 1.5 + i / 10 for i, s in enumerate(LORA)]), runs("lora", LORA))
    assert verdict == "reproduced"
    assert (found.found.n, found.p, found.found.smallest_p) == (6, 0.03125, 0.03125)
    assert found.found.mean == pytest.approx(1.75)
    assert found.published == pytest.approx(1.80)
    assert list(found.seeds) == [1, 2, 3, 4, 5, 6]


def test_three_seeds_leave_it_undecided_and_say_how_many_it_takes():
    verdict, found = part(RTE, runs("adalora", [87.0, 87.2, 87.9]), runs("lora", LORA[:3]))
    assert verdict == "undecided"
    assert (found.p, found.found.smallest_p) == (0.25, 0.25)
    assert found.needed == 6


def test_six_seeds_the_other_way_round_do_not_reproduce():
    verdict, found = part(RTE, runs("adalora", [s - 2 - i / 10 for i, s in enumerate(LORA)]), runs("lora", LORA))
    assert (verdict, found.decision) == ("not reproduced", "fails")


def test_a_difference_far_below_the_published_one_does_not_reproduce():
    close = [s + d for s, d in zip(LORA, [0.1, -0.1, 0.2, -0.2, 0.1, -0.1], strict=True)]
    verdict, found = part(RTE, runs("adalora", close), runs("lora", LORA))
    assert verdict == "not reproduced" and found.p > 0.05
    assert list(found.notes) == ["the interval lies below half of the published difference"]


def test_a_published_minus_is_a_claim_of_a_minus():
    claim = replace(CLAIMS["glue-lora"], budgets=["0.3M"], tasks=["stsb"])  # printed: -0.05
    below = runs("adalora", [s - 0.05 - i / 100 for i, s in enumerate(LORA)], "stsb")
    assert part(claim, below, runs("lora", LORA, "stsb"))[0] == "reproduced"


def test_one_seed_has_no_p_and_says_so():
    verdict, found = part(RTE, runs("adalora", [88.0]), runs("lora", [85.0]))
    assert (verdict, found.p, found.found.interval) == ("undecided", None, None)
    assert list(found.notes) == ["one seed: no interval, no p"]


def test_equal_seeds_say_so():
    verdict, found = part(RTE, runs("adalora", [87.0] * 3), runs("lora", [85.0] * 3))
    assert verdict == "undecided" and list(found.notes) == ["all seeds are equal"]


def test_seeds_are_paired_and_what_lacks_a_partner_has_no_part():
    _, found = part(RTE, runs("adalora", [87.0, 88.0, 89.0]), runs("lora", [85.0, 85.0], first=3))
    assert (list(found.seeds), found.found.mean) == ([3], pytest.approx(4.0))
    assert part(RTE, runs("adalora", [87.0]))[0] == "not run"


def test_other_settings_are_never_paired():
    fp32, bf16 = runs("lora", LORA[:3]), runs("lora", LORA, precision="bf16")
    _, found = part(RTE, runs("adalora", [87.0, 87.2, 87.9]), fp32, bf16)
    assert found.found.n == 3
    assert "rte: 2 settings of data, weights, length or precision; one is used" in found.notes
    assert part(RTE, runs("adalora", [87.0]), runs("lora", [85.0], task__digest="other" * 3))[0] == "not run"
    _, found = part(RTE, runs("adalora", [87.0] * 4, precision="bf16"), fp32, bf16)
    assert "rte: in bf16" in found.notes


def test_runs_with_other_options_are_never_averaged():
    fast = runs("lora", LORA[:3]), runs("lora", [80.0] * 2, first=4, training__lr=0.5)
    _, found = part(RTE, runs("adalora", [87.0, 87.2, 87.9, 88.0, 88.0]), *fast)
    assert list(found.seeds) == [1, 2, 3]
    assert any("of lora only the runs with lr=" in note and "not those with lr=0.5" in note for note in found.notes)


def test_a_seed_with_two_runs_and_mixed_versions_are_named():
    twice = runs("lora", [85.0])[0] | {"key": "ffffffffff"}
    lora = [*runs("lora", LORA[:3]), twice]
    lora[2]["versions"] = {"torch": "2.14"}
    lora[1]["versions"] = {"torch": "2.13"}
    _, found = part(RTE, runs("adalora", [87.0, 87.2, 87.9]), lora)
    assert list(found.seeds) == [2, 3]
    told = " ".join(found.notes)
    assert "seed 1 left out, it has several runs (seed1-0000000001, seed1-ffffffffff)" in told
    assert "several versions of torch: 2.13, 2.14" in told


GLUE = CLAIMS["glue-average"].tasks


def test_a_table_decides_with_five_seeds_and_needs_all_its_tasks():
    claim = replace(CLAIMS["glue-average"], others=[Side("lora")], budgets=["0.3M"])
    ours = [runs("adalora", [s + 0.3 + i / 10 for i, s in enumerate(LORA[:5])], task) for task in GLUE]
    theirs = [runs("lora", LORA[:5], task) for task in GLUE]
    verdict, found = part(claim, *ours, *theirs)
    assert verdict == "reproduced"
    assert (found.found.n, found.published) == (40, pytest.approx(0.71, abs=0.01))
    assert found.found.mean == pytest.approx(0.5)
    verdict, found = part(claim, *ours[1:], *theirs)
    assert verdict == "not run" and list(found.notes) == ["not run: mnli"]
    verdict, found = part(claim, *ours[1:], *theirs, paper=None)  # on another backbone: those that are there
    assert verdict == "holds" and found.name.endswith("mean of sst2, cola, qqp, qnli, rte, mrpc, stsb")


def test_a_claim_that_holds_in_some_parts_is_partly_reproduced():
    claim = replace(CLAIMS["low-budget-rte"], others=[Side("lora"), Side("pfeiffer")])
    wide = [*LORA, 85.1, 85.9]
    ours = runs("adalora", [s + 2 + i / 10 for i, s in enumerate(wide)])
    (verdict,) = judge([claim], frame(*ours, *runs("lora", wide)), PAPER)
    assert [each.decision for each in verdict.comparisons] == ["holds", "not run"]
    assert verdict.verdict == "partly"
    (verdict,) = judge([claim], frame(*ours, *runs("lora", wide), *runs("pfeiffer", wide)), PAPER)
    assert verdict.verdict == "reproduced"
    assert [each.p for each in verdict.comparisons] == [4 / 256, 4 / 256]  # 2 / 2^8, times Holm's 2


def test_another_length_is_no_variant_but_another_setting():
    short = {"training__max_steps": 100, "training__total_steps": 100}
    ours, lora = runs("adalora", [87.0, 87.2], **short), runs("lora", LORA[:2], **short)
    assert part(RTE, ours, lora, paper=None)[1].found.n == 2
    assert part(RTE, ours, lora)[0] == "not run"  # the paper's claim is about the paper's training
    assert part(RTE, ours, runs("lora", LORA[:2]), paper=None)[0] == "not run"


MODULES = {
    name: f"deberta.encoder.layer.{{layer}}.{name}" for name in ("query", "key", "value", "attention.output",
                                                                 "intermediate", "output")
}  # fmt: skip


def ranked(seed, rank):
    ranks = {MODULES[name].format(layer=layer): rank(name, layer) for name in MODULES for layer in range(4)}
    (run,) = runs("adalora", [90.0], "mnli", "1.2M", first=seed, model__targets=MODULES)
    return run | {"ranks": ranks}


def test_figure_3_is_a_statement_about_realised_ranks():
    ffn, upper = CLAIMS["allocation-ffn"], CLAIMS["allocation-upper"]
    found = [ranked(seed, lambda name, layer, s=seed: 12 if name in ("intermediate", "output") else s)
             for seed in range(1, 7)]  # fmt: skip
    verdict, share = part(ffn, found)
    assert verdict == "reproduced" and share.found.mean == pytest.approx(12 - 3.5)
    verdict, share = part(upper, found)
    assert verdict == "undecided" and share.found.mean == 0
    found = [ranked(seed, lambda name, layer, s=seed: 2 + s if layer >= 2 else 1) for seed in range(1, 7)]
    assert part(upper, found)[0] == "reproduced"
    assert part(ffn, found)[1].found.mean == 0


def test_ranks_without_modules_are_no_statement():
    (run,) = runs("adalora", [90.0], "mnli", "1.2M")
    assert part(CLAIMS["allocation-upper"], [run])[0] == "not run"


def timed(method, minutes, machine="gpu"):
    """Six runs of 50 epochs, AdaLoRA's a little different from seed to seed."""
    found = runs(method, [90.0] * 6, "sst2", "0.08%")
    for run in found:
        noise = run["seed"] / 1000 if method == "adalora" else 0.0
        run |= {"seconds": 60.0 * 50 * (minutes + noise), "hardware": {"name": machine}}
    return found


@pytest.mark.parametrize("minutes, verdict", [(11.0, "reproduced"), (13.0, "not reproduced")])
def test_costs_are_held_against_the_largest_printed_ratio(minutes, verdict):
    claim = replace(CLAIMS["cost-time"], budgets=["0.08%", "0.65%"], tasks=["sst2"])
    (found,) = judge([claim], frame(*timed("adalora", minutes), *timed("lora", 10.0)), PAPER)
    first, second = found.comparisons
    assert "ratio at most 1.1833" in first.notes
    assert first.found.mean == pytest.approx(minutes / 10 - 71 / 60, abs=0.001)
    assert first.decision == ("holds" if verdict == "reproduced" else "fails")
    assert second.decision == "not run"
    (elsewhere,) = judge([claim], frame(*timed("adalora", minutes), *timed("lora", 10.0, machine="cpu")), PAPER)
    assert elsewhere.verdict == "not run"


def test_a_cost_of_three_seeds_is_open():
    claim = replace(CLAIMS["cost-time"], budgets=["0.08%"], tasks=["sst2"])
    three = [run for run in [*timed("adalora", 11.0), *timed("lora", 10.0)] if run["seed"] <= 3]
    (found,) = judge([claim], frame(*three), PAPER)
    assert (found.verdict, found.comparisons[0].p) == ("undecided", 0.25)


def test_increlora_is_judged_at_the_best_step():
    claim = Claim("x", "s", "p", Side("increlora"), ["rte"], [Side("adalora")], ["0.3M"], "IncreLoRA-T1", step="best")
    ours, theirs = runs("increlora", [80.0] * 3), runs("adalora", [85.0] * 3)
    for run, best in zip(ours, (0.9, 0.91, 0.92), strict=True):
        run["best"]["accuracy"] = best
    assert part(claim, ours, theirs)[1].found.mean == pytest.approx(6.0)


def test_a_cost_claim_has_a_limit_of_its_own_where_no_table_prints_one():
    claim = Claim("x", "s", "p", Side("adalora"), ["sst2"], [Side("lora")], ["0.08%"], kind="cost",
                  metrics=["minutes_per_epoch"], limit=1.2)  # fmt: skip
    for minutes, state in ((11.0, "holds"), (30.0, "fails")):
        (found,) = judge([claim], frame(*timed("adalora", minutes), *timed("lora", 10.0)), None)
        assert found.comparisons[0].decision == state
    with pytest.raises(ValueError, match="needs a table or a limit"):
        replace(claim, limit=None)


BELOW = [s - 1.5 - i / 10 for i, s in enumerate(LORA)]
STUDY = Claim("study", "AdaLoRA scores better", "here", Side("adalora"), ["rte", "mrpc"], [Side("lora")], ["0.3M"])


@pytest.mark.parametrize("over, names", [("each", ["rte"]), ("average", ["rte", "mrpc"])])
@pytest.mark.parametrize("direction, decision", [("min", "holds"), ("max", "fails")])
def test_lower_is_better_where_the_task_says_so(over, names, direction, decision):
    tasks = [
        run for task in names for method, scores in (("adalora", BELOW), ("lora", LORA))
        for run in runs(method, scores, task, task__direction=direction)
    ]  # fmt: skip
    (verdict,) = judge([replace(STUDY, over=over, tasks=names)], frame(*tasks), None)
    assert {each.decision for each in verdict.comparisons} == {decision}


def test_within_the_margin_there_is_no_difference_and_below_the_resolution_nothing_is_decided():
    groups = runs("adalora", [s + 0.5 + i / 100 for i, s in enumerate(LORA)]), runs("lora", LORA)
    one = replace(STUDY, tasks=["rte"])
    assert part(one, *groups, paper=None)[1].decision == "holds"
    assert part(replace(one, margin=0.5), *groups, paper=None)[1].decision == "holds"
    assert part(replace(one, margin=0.6), *groups, paper=None)[0] == "no difference"
    verdict, found = part(replace(one, resolution=0.6), *groups, paper=None)
    assert (verdict, found.decision) == ("open", "open")
    assert "learning rates" in found.notes[-1]
    assert part(replace(one, resolution=0.5), *groups, paper=None)[1].decision == "holds"


def test_claims_of_a_family_are_corrected_together():
    groups = [*runs("adalora", [s + 1 + i / 10 for i, s in enumerate(LORA)]), *runs("lora", LORA)]
    alone, also = replace(STUDY, tasks=["rte"]), replace(STUDY, id="other", tasks=["rte"])
    for family, p in ((None, 0.03125), ("both", 0.0625)):
        verdicts = judge([replace(claim, family=family) for claim in (alone, also)], frame(*groups), None)
        assert [verdict.comparisons[0].p for verdict in verdicts] == [p, p]
        assert [verdict.claim.id for verdict in verdicts] == ["study", "other"]
