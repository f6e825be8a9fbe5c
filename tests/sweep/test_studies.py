"""This project's own comparisons as cells."""

import pytest

from adalora.errors import UserError
from adalora.paths import RESULTS
from adalora.records.studies import FILE, read_studies, read_study
from adalora.reporting.study import records
from adalora.sweep.cells import cells_of
from adalora.sweep.settings import Setting
from adalora.sweep.sweep import name_of

POCKET = read_study(RESULTS / "pocket")
GRIDS = """
tasks: {r8: {title: R8}}
grids:
  small:
    records: runs
    seeds: [7, 8]
    parts:
      - - [experiment=pocket task=r8]
        - [method=adalora, method=lora training.lr=3e-3]
      - - [experiment=pocket]
        - [task=r8, task=mrpc]
        - [method=bitfit]
"""


def study(folder, text, name="small"):
    (folder / name).mkdir()
    (folder / name / FILE).write_text(text)
    return read_studies(folder)


def settings(grid):
    return [Setting("study", tuple(cell)) for cell in grid.cells()]


def test_a_grid_has_every_combination_of_its_choices(tmp_path):
    found = study(tmp_path, GRIDS)["small"]
    assert found.records("small") == tmp_path / "small" / "runs"
    assert found.grids["small"].seeds == [7, 8]
    assert [" ".join(cell) for cell in found.grids["small"].cells()] == [
        "experiment=pocket task=r8 method=adalora",
        "experiment=pocket task=r8 method=lora training.lr=3e-3",
        "experiment=pocket task=r8 method=bitfit",
        "experiment=pocket task=mrpc method=bitfit",
    ]


def test_two_studies_have_grids_of_other_names_and_one_of_their_own(tmp_path):
    study(tmp_path, GRIDS)
    assert list(study(tmp_path, GRIDS.replace("small:", "large:"), "large")) == ["large", "small"]
    (tmp_path / "large" / FILE).write_text(GRIDS)
    with pytest.raises(UserError, match="needs a grid large"):
        read_studies(tmp_path)
    (tmp_path / "large" / FILE).write_text(GRIDS + GRIDS.partition("grids:")[2].replace("small:", "large:"))
    with pytest.raises(UserError, match="small.*large"):
        read_studies(tmp_path)


def test_runs_that_differ_in_their_rate_have_names_of_their_own(tmp_path):
    cells, _ = cells_of(settings(study(tmp_path, GRIDS)["small"].grids["small"]), [7], [])
    assert [name_of(cell) for cell in cells][:2] == ["r8 adalora custom seed=7", "r8 lora custom lr=3e-3 seed=7"]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("small: {records: runs, seeds: [1]}", "grids.small.parts: field required"),
        ("small: {records: runs, seeds: [], parts: [[[task=r8]]]}", "small.seeds: list should have at least 1 item"),
        (
            "small: {records: runs, seeds: [-1], parts: [[[task=r8]]]}",
            "small.seeds.0: input should be greater than or equal to 0",
        ),
        ("small: {records: runs, seeds: [1], parts: [[task=r8]]}", "small.parts.0.0: input should be a valid list"),
        ("small: {records: runs, seeds: [1], parts: [[[task=r8]]], sede: 1}", "small.sede: extra inputs"),
        ("small: {records: ../runs, seeds: [1], parts: [[[task=r8]]]}", "small.records: string should match pattern"),
        ("[1, 2]", "input should be a valid dictionary"),
        ("{", "study.yaml is damaged"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, text, reason):
    with pytest.raises(UserError, match=reason) as error:
        study(tmp_path, f"tasks: {{}}\ngrids: {{{text}}}" if text.startswith("small") else text)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"study.yaml is missing: restore it"):
        read_study(tmp_path)


@pytest.mark.slow
def test_the_pocket_cells_all_compose_and_have_equal_numbers_of_rates():
    by_method, first = {}, {}
    for setting in settings(POCKET.grids["pocket-tuning"]):
        options = dict(text.split("=") for text in setting.overrides)
        run = (options["task"], " ".join(text for text in setting.overrides if text.startswith("method")))
        by_method.setdefault(run, []).append(float(options["training.lr"]))
        first[run] = setting
    assert len(by_method) == 4 * 3
    cells, refused = cells_of(list(first.values()), [100], [])  # one rate each: the others only differ in it
    assert (len(cells), refused) == (12, [])
    for task in POCKET.tasks:
        tried = {tuple(sorted(rates)) for (each, _), rates in by_method.items() if each == task}
        assert len(tried) == 1, "every method has the same learning rates"
        assert {3e-4, 1e-3, 3e-3, 1e-2} <= set(*tried)


def task_and_method(cell):
    method = vars(cell.config.method)
    fixed = method.get("init_rank") is not None
    return cell.config.task.name, "SVD-LoRA" if fixed else {"adalora": "AdaLoRA", "lora": "LoRA"}[method["name"]]


@pytest.mark.slow
def test_the_counted_runs_have_the_tuned_rates_and_every_prefix_compares():
    grid, (tuned, _) = POCKET.grids["pocket"], records(POCKET, "pocket-tuning", [])
    cells, refused = cells_of(settings(grid), grid.seeds, [])
    assert not refused
    names = []
    for cell in cells:
        task, name = task_and_method(cell)
        names.append((cell.config.seed, task, name))
        scores = tuned.tuned(name, task)
        best = max(scores, key=scores.get)
        assert cell.config.training.lr == best
        assert min(scores) < best < max(scores), "a best rate at an end extends the grid"
    methods = ("AdaLoRA", "LoRA", "SVD-LoRA")
    assert names == [(seed, task, name) for seed in range(1, 6) for task in POCKET.tasks for name in methods]


def test_tasks_with_a_collapsed_run_are_run_again_at_the_next_lower_rate():
    (tuned, _), (counted, _) = (records(POCKET, name, []) for name in ("pocket-tuning", "pocket"))
    lower = POCKET.grids["pocket-lower-rates"]
    cells, refused = cells_of(settings(lower), lower.seeds[:1], [])
    assert not refused
    assert lower.seeds == POCKET.grids["pocket"].seeds
    collapsed = counted.collapsed()
    tasks = {task for task, _ in collapsed.columns[collapsed.any()]}
    assert [task_and_method(cell) for cell in cells] == [
        (task, name) for task in POCKET.tasks if task in tasks for name in ("AdaLoRA", "LoRA", "SVD-LoRA")
    ]
    for cell in cells:
        task, name = task_and_method(cell)
        scores = tuned.tuned(name, task)
        best = max(scores, key=scores.get)
        assert cell.config.training.lr == max(rate for rate in scores if rate < best)
