"""This project's own comparisons as cells."""

import pytest

from adalora.errors import UserError
from adalora.places import POCKET
from adalora.reporting.pocket.numbers import TASKS, pocket, tuning
from adalora.reporting.results import read_results
from adalora.sweep.cells import cells_of
from adalora.sweep.studies import FILE, read_studies, read_study
from adalora.sweep.sweep import name_of

GRIDS = """
small:
  records: runs
  seeds: [7, 8]
  grids:
    - - [experiment=pocket task=r8]
      - [method=adalora, method=lora training.lr=3e-3]
    - - [experiment=pocket]
      - [task=r8, task=mrpc]
      - [method=bitfit]
"""


def study(folder, text):
    (folder / FILE).write_text(text)
    return read_studies(folder)


def test_a_grid_has_every_combination_of_its_choices(tmp_path):
    found = study(tmp_path, GRIDS)["small"]
    assert found.seeds == [7, 8]
    assert [" ".join(setting.overrides) for setting in found.settings("small")] == [
        "experiment=pocket task=r8 method=adalora",
        "experiment=pocket task=r8 method=lora training.lr=3e-3",
        "experiment=pocket task=r8 method=bitfit",
        "experiment=pocket task=mrpc method=bitfit",
    ]


def test_a_study_that_is_not_in_the_file_is_one_line(tmp_path):
    study(tmp_path, GRIDS)
    assert read_study("small", tmp_path).records == "runs"
    with pytest.raises(UserError, match="study.yaml has no study pocket"):
        read_study("pocket", tmp_path)


def test_runs_that_differ_in_their_rate_have_names_of_their_own(tmp_path):
    cells, _ = cells_of(study(tmp_path, GRIDS)["small"].settings("small"), [7], [])
    assert [name_of(cell) for cell in cells][:2] == ["r8 adalora custom seed=7", "r8 lora custom lr=3e-3 seed=7"]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("small: {records: runs, seeds: [1]}", "small.grids: field required"),
        ("small: {records: runs, seeds: [], grids: [[[task=r8]]]}", "small.seeds: list should have at least 1 item"),
        (
            "small: {records: runs, seeds: [-1], grids: [[[task=r8]]]}",
            "small.seeds.0: input should be greater than or equal to 0",
        ),
        ("small: {records: runs, seeds: [1], grids: [[task=r8]]}", "small.grids.0.0: input should be a valid list"),
        ("small: {records: runs, seeds: [1], grids: [[[task=r8]]], sede: 1}", "small.sede: extra inputs"),
        ("small: {records: ../runs, seeds: [1], grids: [[[task=r8]]]}", "small.records: string should match pattern"),
        ("[1, 2]", "input should be a valid dictionary"),
        ("{", "can't be read as studies"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, text, reason):
    with pytest.raises(UserError, match=reason) as error:
        study(tmp_path, text)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"study.yaml can't be read \(No such file"):
        read_studies(tmp_path)


def test_the_pocket_cells_all_compose_and_have_equal_numbers_of_rates():
    by_method, settings = {}, {}
    for setting in read_studies()["pocket-tuning"].settings("pocket-tuning"):
        options = dict(text.split("=") for text in setting.overrides)
        run = (options["task"], " ".join(text for text in setting.overrides if text.startswith("method")))
        by_method.setdefault(run, []).append(float(options["training.lr"]))
        settings[run] = setting
    assert len(by_method) == 4 * 3
    cells, refused = cells_of(list(settings.values()), [100], [])  # one rate each: the others only differ in it
    assert (len(cells), refused) == (12, [])
    for task in ("r8", "mrpc", "stsb", "cola"):
        tried = {tuple(sorted(rates)) for (each, _), rates in by_method.items() if each == task}
        assert len(tried) == 1, "every method has the same learning rates"
        assert {3e-4, 1e-3, 3e-3, 1e-2} <= set(*tried)


def task_and_method(cell):
    method = vars(cell.config.method)
    fixed = method.get("init_rank") is not None
    return cell.config.task.name, "SVD-LoRA" if fixed else {"adalora": "AdaLoRA", "lora": "LoRA"}[method["name"]]


def test_the_counted_runs_have_the_tuned_rates_and_every_prefix_compares():
    study, (records, _) = read_studies()["pocket"], read_results(POCKET / "tuning")
    cells, refused = cells_of(study.settings("pocket"), study.seeds, [])
    assert not refused
    tuned = tuning(records)
    names = []
    for cell in cells:
        task, name = task_and_method(cell)
        names.append((cell.config.seed, task, name))
        found = tuned[name, task]
        assert cell.config.training.lr == found.best
        assert min(found.scores) < found.best < max(found.scores), "a best rate at an end extends the grid"
    whole = [(seed, task, name) for seed in range(1, 6) for task in TASKS for name in ("AdaLoRA", "LoRA", "SVD-LoRA")]
    assert names == whole


def test_tasks_with_a_collapsed_run_are_run_again_at_the_next_lower_rate():
    studies = read_studies()
    (records, _), (counted, _) = read_results(POCKET / "tuning"), read_results(POCKET / "runs")
    tuned, seeds = tuning(records), studies["pocket"].seeds
    cells, refused = cells_of(studies["pocket-lower-rates"].settings("pocket-lower-rates"), [seeds[0]], [])
    assert not refused
    assert studies["pocket-lower-rates"].seeds == seeds
    collapsed = {task for _, task in pocket(counted, seeds, []).collapsed()}
    assert [task_and_method(cell) for cell in cells] == [
        (task, name) for task in TASKS if task in collapsed for name in ("AdaLoRA", "LoRA", "SVD-LoRA")
    ]
    for cell in cells:
        task, name = task_and_method(cell)
        found = tuned[name, task]
        assert cell.config.training.lr == max(rate for rate in found.scores if rate < found.best)
