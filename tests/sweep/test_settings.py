"""The cells of the published tables, counted by hand from the papers."""

import pytest

from adalora.config.schema import Config
from adalora.errors import UserError
from adalora.sweep.cells import cells_of, command, compose_all, extend, select
from adalora.sweep.settings import TABLES, Setting, published
from adalora.sweep.slurm import launcher_options

SIZES = {
    "glue": 12 * 8,  # Table 1: 12 rows, 8 tasks
    "squad": 17 * 2,  # Table 2: full, and 4 methods at 4 budgets
    "summarization": 9 * 2,  # Table 3: full, and 2 methods at 4 budgets
    # Table 4: 4 rows at 3 budgets, 3 tasks; Table 5: LoRA and LoRA-regu at 3 budgets, two ablations and AdaLoRA at 4
    # budgets on 2 tasks, AdaLoRA's three of SST-2 already there; Table 14: 2 rows, 8 tasks, LoRA's of Table 5's two
    # tasks already there
    "ablations": 4 * 3 * 3 + (2 * 3 * 2 + 3 * 8 - 3) + (2 * 8 - 2),
    # Table 1: IncreLoRA at two budgets; its text also gives AdaLoRA and full fine-tuning on RTE. Table 2's differences:
    # three more variants on RTE, one on STS-B
    "increlora": 2 * 8 + 2 + 3 + 1,
    "decoders": 2,  # of PEFT's comparison: LoRA and AdaLoRA at rank 32
}


@pytest.mark.parametrize("what", TABLES)
def test_every_printed_cell_is_there_once(what):
    settings, _ = published(what)
    assert len(settings) == len({setting.overrides for setting in settings}) == SIZES[what]


def test_all_has_what_two_tables_print_once():
    settings, left = published("all")
    # Table 1's at mean ranks 2 and 8 (0.16% and 0.65%): Table 4's AdaLoRA on 3 tasks, Table 5's LoRA and AdaLoRA on
    # MNLI and LoRA on SST-2, Table 14's LoRA on 6 more; IncreLoRA's table repeats two
    again = 2 * (3 + 2 + 1) + 6 + 2
    assert len(settings) == sum(SIZES.values()) - again == 235
    assert not left


def test_rows_come_as_the_options_that_express_them():
    found = {setting.overrides: setting.table for setting in published("all")[0]}
    for table, line in {
        "AdaLoRA-T1": "task=mnli method=full",
        "AdaLoRA-T2": "task=squad_v1 method=houlsby budget=0.08%",
        "AdaLoRA-T3": "task=cnn_dailymail method=adalora budget=2.20%",
        "AdaLoRA-T4": "task=cola method=adalora budget=0.3M method.form=doublets",
        "AdaLoRA-T5": "task=mnli method=adalora budget=0.6M method.init_rank=4 method.target_rank=4",
        "AdaLoRA-T5 ": "task=sst2 method=lora budget=1.2M method.orthogonality=0.1",
        "AdaLoRA-T14": "task=stsb method=lora budget=0.3M method.modules=[query,value]",
        "IncreLoRA-T1": "task=qnli method=increlora budget=1.2M",
        "PEFT-MetaMathQA": "task=metamath method=adalora budget=9.2M recipe=peft_comparison model=llama32_3b "
        "precision=bf16 model.dtype=bf16",
        "IncreLoRA-T2": "task=rte method=increlora budget=0.3M method.advance_learning=false method.orthogonality=0",
    }.items():
        assert found[tuple(line.split())] == table.strip()


@pytest.mark.slow
def test_the_row_of_every_table_composes():
    """Each row with its first task, and each task with its first row; `make list WHAT=all` composes them all."""
    settings = published("all")[0]
    rows = {setting.overrides[1:]: setting.overrides for setting in reversed(settings)}
    tasks = {setting.overrides[0]: setting.overrides for setting in reversed(settings)}
    wanted = [*rows.values(), *tasks.values()]
    for overrides, config in zip(wanted, compose_all(wanted, lambda: None), strict=True):
        assert isinstance(config, Config), (overrides, config)
        assert config.recipe.protocol, overrides


def test_a_missing_file_or_column_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"adalora_tables.csv can't be read"):
        published("glue", tmp_path)
    (tmp_path / "adalora_tables.csv").write_text("table,value\nx,1\n")
    with pytest.raises(UserError, match="has no column budget_label"):
        published("glue", tmp_path)


def test_only_chooses_by_options():
    settings = published("glue")[0]
    assert len(select(settings, "")) == 96
    assert len(select(settings, "task=rte,mrpc method=adalora")) == 4
    assert select(settings, "budget=0.16%,0.65%") == select(settings, "budget=0.3M,1.2M")
    with pytest.raises(UserError, match="cells have the options budget, method, task"):
        select(settings, "tsk=rte")
    with pytest.raises(UserError, match="ONLY=rte"):
        select(settings, "rte")


def test_further_options_win_over_a_setting_s_own():
    setting = Setting("T", ("task=rte", "method=lora", "budget=0.3M"))
    assert extend(setting, ["budget=7K", "debug=true"]) == ("task=rte", "method=lora", "budget=7K", "debug=true")


def test_seeds_are_the_outer_order_and_only_they_differ():
    settings = [Setting("T", ("task=rte", f"method={method}")) for method in ("lora", "full")]
    cells, refused = cells_of(settings, [1, 2], ["training.max_steps=10"])
    assert refused == []
    assert [cell.command for cell in cells] == [
        f"python train.py task=rte method={method} training.max_steps=10 seed={seed}"
        for seed in (1, 2)
        for method in ("lora", "full")
    ]
    assert len({cell.id for cell in cells}) == 4
    assert command(["method.modules=[query,value]"]) == "python train.py 'method.modules=[query,value]'"


def test_cells_that_differ_in_their_data_only_are_one_and_the_other_is_named():
    """Also in how they are read."""
    common = ("task=choices", "method=lora", "task.data_dir=a")
    mine = [
        common,
        common,
        (*common[:2], "task.data_dir=b"),
        (*common, "task.encoding=cp1252"),
    ]
    cells, refused = cells_of([Setting("T", each) for each in mine], [1, 2], ["training.max_steps=10"])
    assert [cell.config.task.data_dir for cell in cells] == ["a", "a"]
    assert len(refused) == 2
    assert all("read differs from python train.py task=choices method=lora task.data_dir=a" in line for line in refused)


def test_what_the_configuration_refuses_is_told_and_the_rest_goes_on():
    settings = [Setting("T", (f"task={task}", "method=lora")) for task in ("rte", "xsum")]
    cells, refused = cells_of(settings, [1], ["model=deberta_minilm"])
    assert [cell.config.task.name for cell in cells] == ["rte"]
    assert len(refused) == 1
    assert "task=xsum is summarization" in refused[0]
    with pytest.raises(UserError, match=r"task=xsum is .*; task=cnn_dailymail is "):  # several reasons, nothing left
        cells_of([Setting("T", (f"task={task}", "method=lora")) for task in ("xsum", "cnn_dailymail")], [1],
                 ["model=deberta_minilm"])  # fmt: skip
    both = [Setting("T", ("task=rte", f"method={method}")) for method in ("adalora", "lora")]
    cells, refused = cells_of(both, [1], ["training.max_steps=10", "recipe.total_steps=null"])
    assert [cell.config.method.name for cell in cells] == ["lora"]  # AdaLoRA's phases need more than 10 steps
    assert len(refused) == 1
    with pytest.raises(UserError, match="there is no option training.lrr"):
        cells_of(settings, [1], ["training.lrr=1"])
    with pytest.raises(UserError, match="SEEDS=1,2,3"):
        cells_of(settings, [1], ["seed=4"])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("time=4:00:00", "SLURM=time=4:00:00: submitit calls it timeout_min"),
        ("nodelist=a", r"additional_parameters=\{NAME: VALUE\}"),
    ],
)
def test_an_option_of_sbatch_says_what_it_is_here(option, message):
    with pytest.raises(UserError, match=message):
        launcher_options([option])
