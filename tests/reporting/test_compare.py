"""Comparing two methods or two commits over their common cells."""

import pytest
from scipy import stats

from adalora.errors import UserError
from adalora.records.variant import variant
from adalora.reporting.compare import compare, comparison_text, selection
from adalora.reporting.frame import read
from scripts.compare import main
from tests.programs import error_of
from tests.reporting.forged import MINILM, frame, make, put

SMALL = {f"model__{key}": value for key, value in MINILM.items()}


def runs(method, scores, task="rte", **changes):
    changes = {"recipe__values": {}} | changes
    if method == "adalora":
        changes = {"method__alpha": 16.0, "method__orthogonality": 0.1} | changes
    return [
        make(task, method, seed=seed, last=score / 100, key=f"{seed:010x}", **changes)
        for seed, score in enumerate(scores, start=1)
    ]


def test_two_methods_are_paired_by_seed_in_every_cell_that_both_have():
    ours, theirs = [87.0, 88.0, 88.5, 90.0], [86.0, 86.5, 87.0]
    found = [*runs("adalora", ours), *runs("lora", theirs), *runs("adalora", [90.0], "mrpc")]
    found += [*runs("adalora", [60.0, 61.0], **SMALL), *runs("lora", [60.0, 60.5], **SMALL)]
    rows, alone = compare(frame(*found), "adalora", "lora")
    rows = list(rows.itertuples())
    assert [(row.model, row.cell, row.found.n) for row in rows] == [
        ("DeBERTaV3-base", "rte, 0.3M, fp32", 3), ("MiniLM_L6 & co", "rte, 0.3M, fp32", 2),
    ]  # fmt: skip
    theirs = stats.ttest_rel(ours[:3], theirs).confidence_interval(0.95)
    assert rows[0].found.interval == pytest.approx((theirs.low, theirs.high))
    assert (rows[0].p, rows[0].found.p) == (0.5, 0.25)  # Holm's two
    assert alone == ["mrpc, 0.3M, fp32: only adalora"]


def only_row(compared):
    (row,) = compared[0].itertuples()
    return row


def test_variants_and_commits():
    found = [*runs("adalora", [87.0, 88.0]), *runs("adalora", [86.0, 86.5], method__importance="magnitude")]
    row = only_row(compare(frame(*found), "adalora", "adalora importance=magnitude"))
    assert row.found.mean == pytest.approx(1.25)
    found = [*runs("lora", [87.0, 88.0], commit="a" * 40), *runs("lora", [86.0, 86.5], commit="b" * 40)]
    row = only_row(compare(frame(*found), "a" * 7, "b" * 40))
    assert (row.found.mean, row.cell) == (pytest.approx(1.25), "rte, LoRA, 0.3M, fp32")


def test_a_side_can_be_given_by_its_learning_rate_or_by_a_default():
    found = [*runs("adalora", [87.0, 88.0]), *runs("lora", [86.0, 86.5, 87.0], training__lr=1e-3)]
    found += [*runs("lora", [85.0, 85.0], training__lr=1e-2, commit="d" * 40)]
    row = only_row(compare(frame(*found), "adalora", "lora training.lr=1e-2"))
    assert (row.found.n, row.found.mean, row.notes) == (2, pytest.approx(2.5), [])
    row = only_row(compare(frame(*found), "adalora beta1=0.85", "lora training.lr=0.001"))
    assert row.found.mean == pytest.approx(1.25)
    for text in ("adalora beta1=0.9", "adalora training.lr=2e-3"):
        with pytest.raises(UserError, match="0 and 3 runs"):
            compare(frame(*found), text, "lora training.lr=1e-3")


def test_cells_that_differ_in_their_data_only_are_told_apart():
    other = {"task__digest": "f" * 12, "task__rows": {"train": 2490, "test": 300}}
    found = [*runs("adalora", [87.0]), *runs("lora", [86.0])]
    found += [run | {"key": "f" * 10} for run in (*runs("adalora", [80.0], **other), *runs("lora", [79.0], **other))]
    rows, _ = compare(frame(*found), "adalora", "lora")
    assert list(rows["cell"])[:2] == [
        "rte, 0.3M, fp32, train 2,490, validation 277 (data 29c3aa3b45)",
        "rte, 0.3M, fp32, train 2,490, test 300 (data ffffffffff)",
    ]


def test_a_dirty_commit_is_another_one():
    found = [*runs("lora", [87.0, 88.0], commit="a" * 40), *runs("lora", [86.0, 86.5], commit=f"{'a' * 40}-dirty")]
    assert only_row(compare(frame(*found), "a" * 7, f"{'a' * 9}-dirty")).found.mean == pytest.approx(1.25)


def test_a_mean_is_over_scores_of_one_kind():
    bits = {"task__headline": "bits_per_byte", "task__direction": "min"}
    found = [
        *runs("adalora", [87.0]),
        *runs("lora", [86.0]),
        *runs("adalora", [87.0], "mrpc"),
        *runs("lora", [84.0], "mrpc"),
    ]
    for task, difference in (("igbo", 0.004), ("text", 0.002)):
        for method, score in (("adalora", 1.8), ("lora", 1.8 + difference)):
            (run,) = runs(method, [1.0], task, **bits)
            found.append(run | {"last": {"bits_per_byte": score}, "best": {"bits_per_byte": score}})
    rows, _ = compare(frame(*found), "adalora", "lora")
    means = [row for row in rows.itertuples() if row.cell.startswith("mean")]
    assert sorted(row.found.mean for row in means) == [pytest.approx(-0.003), pytest.approx(2.0)]
    assert "-0.0030" in comparison_text(rows, "adalora", "lora")


def test_a_mean_is_over_cells_of_one_length_precision_and_kind_of_rows():
    found = []
    for task in ("rte", "mrpc"):
        found += [*runs("adalora", [87.0], task), *runs("lora", [86.0], task)]
        found += [run | {"key": "b" * 10} for method, score in (("adalora", 60.0), ("lora", 70.0))
                  for run in runs(method, [score], task, precision="bf16")]  # fmt: skip
    rows, alone = compare(frame(*found), "adalora", "lora")
    means = {row.cell: row.found.mean for row in rows.itertuples() if row.cell.startswith("mean")}
    assert means == {"mean of 2 cells, fp32": pytest.approx(1), "mean of 2 cells, bf16": pytest.approx(-10)}
    assert alone == []


def test_a_task_on_two_data_sets_is_in_no_mean():
    found = [*runs("adalora", [87.0]), *runs("lora", [86.0])]
    found += [run | {"key": "f" * 10} for method, score in (("adalora", 80.0), ("lora", 79.0))
              for run in runs(method, [score], task__digest="f" * 12)]  # fmt: skip
    assert len(compare(frame(*found), "adalora", "lora")[0]) == 2
    found += [*runs("adalora", [87.0], "mrpc"), *runs("lora", [86.0], "mrpc")]
    rows, alone = compare(frame(*found), "adalora", "lora")
    assert len(rows) == 3
    assert alone == ["the mean, fp32: of rte there are several data sets: give their runs alone"]


def test_of_several_learning_rates_with_as_many_seeds_none_is_taken():
    found = [*runs("adalora", [87.0, 88.0])]
    for n, rate in enumerate((1e-3, 1e-2)):
        found += [run | {"key": f"{n}{run['key'][1:]}"} for run in runs("lora", [86.0, 70.0], training__lr=rate)]
    with pytest.raises(UserError, match=r"rte: lora has as many pairs with each of lr=0.001; lr=0.01: choose one"):
        compare(frame(*found), "adalora", "lora")
    assert only_row(compare(frame(*found), "adalora", "lora training.lr=1e-2")).found.n == 2
    found += runs("lora", [86.0, 70.0, 71.0], training__lr=1e-3)[2:]  # more seeds, but none that adalora has
    with pytest.raises(UserError, match="choose one"):
        compare(frame(*found), "adalora", "lora")
    found += runs("adalora", [87.0, 88.0, 89.0])[2:]
    row = only_row(compare(frame(*found), "adalora", "lora"))
    assert (row.found.n, row.notes) == (
        3,
        ["rte: of lora only the runs with lr=0.001 are used, not those with lr=0.01"],
    )


def test_an_option_that_isn_t_the_method_s_is_the_same_on_both_sides():
    long = {"training__weight_decay": 0.5}
    found = [*runs("adalora", [87.0], **long), *runs("lora", [86.0], **long), *runs("adalora", [90.0])]
    rows, alone = compare(frame(*found), "adalora", "lora")
    assert [(row.cell, row.found.mean) for row in rows.itertuples()] == [
        ("rte, 0.3M, fp32, weight_decay=0.5", pytest.approx(1)),
    ]  # fmt: skip
    assert alone == ["rte, 0.3M, fp32: only adalora"]


@pytest.mark.parametrize(
    "a, b, message",
    [
        ("", "lora", "give both sides, as A=METHOD B=METHOD"),
        ("adalroa", "lora", "'adalroa': give a method (adalora)"),
        ("adalora", "abcdef0", "give two methods or two commits"),
        (
            "adalora",
            "sora",
            "'sora': give a method (adalora), with options of its variant",
        ),
    ],
)
def test_a_mistake_is_one_line(a, b, message):
    with pytest.raises(UserError) as error:
        compare(frame(*runs("adalora", [87.0])), a, b)
    assert message in str(error.value)


def test_the_command_line(called, tmp_path):
    folder = put(tmp_path, *runs("adalora", [87.0, 88.0]), *runs("lora", [86.0, 86.5]),
                 *runs("adalora", [87.0, 88.0], "mrpc"), *runs("lora", [86.0, 86.5], "mrpc"))  # fmt: skip
    done = called(main, "adalora", "lora", "--runs", folder)
    assert (done.code, done.stderr) == (0, "")
    for part in ("rte, 0.3M, fp32", "+1.25", "least p", "mean of 2 cells", "DeBERTaV3-base"):
        assert part in done.stdout
    assert "nowhere: no such folder" in error_of(called(main, "lora", "full", "--runs", "nowhere"))


def test_variants_and_few_seeds_are_shown():
    modules = {"method__modules": ["query", "value"], "recipe__values": {}}
    runs = [
        make("rte", "lora", seed=1, last=0.8, key=f"{n:010x}", commit=c * 40, **modules) for n, c in enumerate("ab")
    ]
    rows, _ = compare(frame(*runs), "a" * 7, "b" * 7)
    text = comparison_text(rows, "lora modules=[query,value]", "b")
    assert text.count("modules=[query,value]") == 3  # title, column, cell
    (line,) = [line for line in text.splitlines() if line.startswith("rte, LoRA")]
    assert line.split()[-2:] == ["too", "few"] and "too few: whatever they are" in text


def test_other_rows_are_marked_and_never_paired():
    found = [*runs("adalora", [87.0, 88.0], task__subset=True), *runs("lora", [86.0, 86.5], task__subset=True)]
    found += [*runs("adalora", [60.0]), *runs("lora", [60.0])]
    rows, _ = compare(frame(*found), "adalora", "lora")
    assert list(rows["cell"]) == ["rte, 0.3M, fp32", "rte, 0.3M, fp32, not the official rows"]


def test_what_differs_is_named_where_nothing_is_common():
    ours, theirs = runs("adalora", [87.0, 88.0]), runs("lora", [86.0], "mrpc", precision="bf16")
    with pytest.raises(UserError, match="task rte and mrpc; precision fp32 and bf16"):
        compare(frame(*ours, *theirs), "adalora", "lora")
    late = [run | {"seed": run["seed"] + 4} for run in runs("lora", [86.0, 87.0])]
    with pytest.raises(UserError, match="no seed in common, 1, 2 and 5, 6"):
        compare(frame(*ours, *late), "adalora", "lora")


@pytest.mark.parametrize("text", ["adalora x=[1", "adalora importance='", "adalora foo: ["])
def test_options_that_cannot_be_read_are_one_line(text):
    with pytest.raises(UserError, match="give options as 'adalora importance=magnitude"):
        selection(text, {"adalora"})


def test_the_same_folder_twice_counts_once(tmp_path):
    folder = put(tmp_path, *runs("adalora", [87.0, 88.0]), *runs("lora", [86.0, 86.5]))
    once, (twice, skipped) = read(folder)[0], read(folder, folder)
    assert len(once) == len(twice) and len(skipped) == 4 and "the same run as" in skipped[0]


def test_sides():
    side = selection("lora init=kaiming, modules=[query,value]", {"lora"})
    assert (side.method, side.variant) == ("lora", variant({"init": "kaiming", "modules": ["query", "value"]}))
    assert selection("830f1b7", set()).commit == "830f1b7"
