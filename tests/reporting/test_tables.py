"""Tables: cells over seeds, the paper's numbers, and results that are never combined."""

import io
import re

import pytest
from rich.console import Console

from adalora.errors import UserError
from adalora.paths import PAPER
from adalora.records.published import read_paper, scores
from adalora.records.variant import variant
from adalora.reporting.cells import average
from adalora.reporting.columns import GLUE
from adalora.reporting.frame import heads, read
from adalora.reporting.pages import gather
from adalora.reporting.tables import mean_of, write_tables
from adalora.sweep.multirun import run_table
from scripts.tables import main
from tests.programs import error_of
from tests.reporting.forged import BART, METRICS, MINILM, lines_of, make, put

PUBLISHED = scores(read_paper())


def block(text, heading):
    """The cells of the lines below a heading of a Markdown table, by line name and column."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    at = next(i for i, line in enumerate(lines) if line[0] == f"**{heading}**")
    header = next(line for line in reversed(lines[:at]) if line[1] == "# Params")
    found = {}
    for line in lines[at + 1 :]:
        if len(line) != len(header) or line[0].startswith("**"):
            break
        found[line[0]] = dict(zip(header, line, strict=True))
    return found


def test_the_average_recomputes_those_that_the_paper_prints():
    rows = {key[2:] for key, cell in PUBLISHED.items() if cell.table == "AdaLoRA-T1"}
    assert len(rows) == 12
    for row in rows:
        cells = {column[:2]: PUBLISHED[(*column[:2], *row)].value for column in GLUE}
        exact, printed = average(cells), PUBLISHED["average", "average", *row].value
        assert exact is not None
        assert f"{exact + 1e-9:.2f}" == f"{printed:.2f}" or int(exact * 100 + 1e-6) / 100 == printed, row
        assert average(dict(list(cells.items())[1:])) is None


def test_the_published_cells_are_found_under_our_names():
    assert PUBLISHED["rte", "accuracy", "adalora", "0.3M", variant({})].value == 87.36
    assert (
        read_paper()["AdaLoRA-T4"]["rte", "accuracy", "adalora", "0.3M", variant({})].value == 87.73
    )  # printed as 0.16%
    assert PUBLISHED["sst2", "accuracy", "adalora", "0.08%", variant({})].value == 95.52  # Table 4, not 5
    assert PUBLISHED["sst2", "accuracy", "lora", "0.08%", variant({})].table == "AdaLoRA-T5"
    assert PUBLISHED["mnli", "accuracy_mismatched", "full", "any", variant({})].params == "184M"
    assert PUBLISHED["cola", "matthews", "bitfit", "any", variant({})].value == 66.96


def test_a_damaged_table_of_the_paper_is_one_line(tmp_path):
    path = tmp_path / "adalora_tables.csv"
    (tmp_path / "increlora_tables.csv").write_bytes((PAPER / "increlora_tables.csv").read_bytes())
    whole = (PAPER / path.name).read_bytes()
    for damaged in (b"table,model\nAdaLoRA-T1,DeBERTaV3-base\n", whole.replace(b",89.90,", b",x,"), b"\xff\xfe", None):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{tmp_path}.*(restore it|belongs to the repository)"):
            read_paper(tmp_path)


def test_a_cell_summarises_seeds_beside_the_paper(tabulate):
    runs = [make(seed=seed, last=last) for seed, last in ((1, 0.85), (2, 0.88), (3, 0.86))]
    texts, lines = tabulate(*runs)
    assert lines == []
    ours = block(texts["glue.md"], "AdaLoRA, 0.3M")
    assert [ours[name]["RTE"] for name in ("median (n)", "std", "best", "paper", "median - paper")] == [
        "86.00 (3)", "1.53", "87.00", "87.36", "-1.36",
    ]  # fmt: skip
    assert ours["median (n)"]["# Params"] == "0.33M" and ours["paper"]["# Params"] == "0.32M"
    (line,) = lines_of(texts["glue.csv"], task="rte", method="adalora", budget="0.3M")
    assert (line["n"], line["seeds"], line["median_last"]) == ("3", "1 2 3", "86.0000")
    assert (line["min"], line["max"], line["median_best"]) == ("85.0000", "88.0000", "87.0000")
    assert (line["paper"], line["difference"], line["comparable"], line["subset"]) == (
        "87.36", "-1.3600", "True", "False",
    )  # fmt: skip
    for told in ("hub x@1", "hub nyu-mll/glue@abc", "validation 277", "Seeds: 1, 2, 3", "abc123", "k/277", "truncated"):
        assert told in texts["glue.md"]


def test_cells_that_were_not_run_are_empty(tabulate):
    texts, _ = tabulate(make(last=0.0, best=0.0))
    ours = block(texts["glue.md"], "AdaLoRA, 0.3M")
    assert ours["median (n)"]["RTE"] == "0.00 (1)"  # that is a result
    assert [ours["median (n)"][column.title] for column in GLUE if column.task != "rte"] == [""] * 9
    assert ours["median (n)"]["Ave."] == ours["median - paper"]["Ave."] == ours["median - paper"]["CoLA"] == ""
    assert block(texts["glue.md"], "BitFit").keys() == {"paper"}
    for line in lines_of(texts["glue.csv"], method="adalora", budget="0.3M"):
        assert line["task"] == "rte" or (line["n"], line["median_last"], line["difference"]) == ("", "", "")


def test_the_average_appears_with_the_eighth_task(tabulate):
    runs = [
        make(task=task, last=0.5 if task in ("mnli", "qqp") else 0.8)
        for task in METRICS
        if task in {column.task for column in GLUE}
    ]
    texts, _ = tabulate(*runs)
    ours = block(texts["glue.md"], "AdaLoRA, 0.3M")
    assert (ours["median (n)"]["Ave."], ours["paper"]["Ave."]) == ("72.50 (1)", "88.86")  # (2 x 50 + 6 x 80) / 8
    assert ours["median - paper"]["Ave."] == "-16.36"
    assert "std" not in ours


def test_rows_are_in_the_papers_order_and_other_methods_follow(tabulate):
    texts, _ = tabulate(
        make(method="sora"), make(method="full", budget="any"), make(budget="0.08%"), make(budget="custom")
    )
    names = re.findall(r"^\| \*\*(.*?)\*\* ", texts["glue.md"], flags=re.M)
    assert names[:3] == ["Full FT", "BitFit", "HAdapter (Houlsby), 1.2M"]
    assert names[-4:] == ["AdaLoRA, 0.3M", "AdaLoRA, 0.08%", "AdaLoRA, custom 331,776", "SoRA, 0.3M"]
    assert len(names) == 15
    assert "paper" not in block(texts["glue.md"], "SoRA, 0.3M")


def test_other_weights_subsets_and_r8_are_apart(tabulate):
    small = {f"model__{key}": value for key, value in MINILM.items()}
    texts, lines = tabulate(
        make(last=0.6, **small), make(task="r8", last=0.95, **small), make(task="r8"), make(task__subset=True)
    )
    assert lines == []
    page = texts["packaged.md"]
    assert "The papers' numbers don't apply here" in page and "- paper" not in page
    assert re.findall("^## (.*)", page, flags=re.M) == [
        "GLUE, DeBERTaV3-base, NOT the official row counts", "r8, DeBERTaV3-base", "GLUE, MiniLM_L6 & co",
        "r8, MiniLM_L6 & co",
    ]  # fmt: skip
    assert not {"paper", "difference"} & set(texts["packaged.csv"].splitlines()[0].split(","))
    assert texts.keys() == {"packaged.md", "packaged.csv", "packaged.tex"}  # only files that show a run
    (line,) = lines_of(texts["packaged.csv"], subset="True", task="rte")
    assert line["median_last"] == "86.2800"


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes(tmp_path):
    runs = [make(seed=seed, task=task, method=m) for m in ("adalora", "lora") for task in METRICS for seed in (1, 2)]
    first = put(tmp_path / "a", *runs)
    second = put(tmp_path / "b", *reversed(runs))
    out = [write_tables(gather(root), tmp_path / f"{root.name}-out") for root in (first, second)]
    assert [path.read_bytes() for path in out[0]] == [path.read_bytes() for path in out[1]]
    before = [(path, path.read_bytes()) for path in out[0]]
    write_tables(gather(first), tmp_path / "a-out")
    assert all(path.read_bytes() == content for path, content in before)


def test_the_tex_is_whole(tabulate):
    small = {f"model__{key}": value for key, value in MINILM.items()}
    odd = {"method__name": "a_b", "task__origin": r"folder 50%_#{x}~^\&$"}
    texts, _ = tabulate(make(**small, **odd), make(task="r8", **small), make(budget="0.08%"))
    assert r"\tiny" not in texts["glue.tex"] and "% Model: DeBERTaV3-base" in texts["glue.tex"]
    for name, tables in {"glue.tex": 1, "packaged.tex": 2}.items():
        text = texts[name]
        for environment in ("table", "tabular"):
            assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") == tables
        plain = re.sub(r"\\[\\{}%_&#$]", "", text)
        assert plain.count("{") == plain.count("}")
        for tabular in re.findall(r"\\begin{tabular}{(l+r+)}(.*?)\\end{tabular}", text, flags=re.S):
            columns, body = tabular
            rows = [line for line in body.splitlines() if line.endswith(r"\\")]
            assert rows
            for row in rows:
                cells = len(re.findall(r"(?<!\\)&", row)) + 1
                assert cells == len(columns), row
        assert not re.search(r"(?<!\\)[#_^~]", re.sub(r"^%.*$", "", text, flags=re.M)), name
        assert not re.search(r"(?<!\\)%", re.sub(r"^%.*$", "", text, flags=re.M)), name


def test_a_multiruns_table_has_a_row_per_job(tmp_path):
    table = run_table([make(seed=2), make(task="mnli", method="full", budget="any")])
    assert table.row_count == 2
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table)
    first, second = console.export_text().splitlines()[1:3]
    assert first.split() == ["rte", "adalora", "0.3M", "2", "331,776", "accuracy", "86.28", "87.00", "1:02:05",
                             "seed2-0123456789"]  # fmt: skip
    assert "accuracy_matched" in second


def test_the_command_line(called, tmp_path):
    runs, out = put(tmp_path / "runs", make(), make(seed=2)), tmp_path / "out"
    (runs / "seed3-x").mkdir()
    (runs / "seed3-x" / "result.json").write_text("{")
    done = called(main, "--runs", runs, "--out", out)
    assert done.code == 0
    assert (
        done.stderr.startswith("warning: skipped seed3-x/result.json: invalid JSON") and "1 result.json" in done.stdout
    )
    assert {path.name for path in out.iterdir()} == {
        f"{t}.{e}" for t in ("glue", "ablations") for e in ("md", "csv", "tex")
    }
    assert "AdaLoRA" in done.stdout and "86.28 (2)" in done.stdout and "BitFit" not in done.stdout  # only what was run
    assert called(main, "--runs", runs).code == 0
    assert (tmp_path / "tables/glue.md").read_text() == (out / "glue.md").read_text()  # beside the runs

    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for arguments, told in {
        ("--runs", tmp_path / "nowhere"): "no such folder",
        ("--runs", tmp_path / "empty"): "holds no finished run",
        ("--runs", runs, "--out", tmp_path / "file"): "can't be written",
        ("--what",): "unrecognized arguments: --what",
    }.items():
        failed = called(main, *arguments)
        assert failed.stdout == ""
        assert told in error_of(failed)


def test_squad_stands_beside_table_2(tabulate):
    texts, lines = tabulate(make(task="squad_v2", method="lora", budget="0.3M", last=0.85))
    assert lines == []
    ours = block(texts["squad.md"], "LoRA, 0.3M")
    last = ours["median (n)"]
    assert (last["v2.0 EM"], last["v2.0 F1"], last["v1.1 F1"]) == ("85.00 (1)", "85.00 (1)", "")
    assert (ours["paper"]["v2.0 EM"], ours["paper"]["v2.0 F1"], ours["paper"]["v1.1 EM"]) == ("83.60", "86.70", "86.60")
    assert ours["median - paper"]["v2.0 F1"] == "-1.70"
    (line,) = lines_of(texts["squad.csv"], task="squad_v2", metric="exact_match", method="lora", budget="0.3M")
    assert (line["paper"], line["difference"], line["paper_table"]) == ("83.60", "1.4000", "AdaLoRA-T2")
    assert "glue.md" not in texts and "packaged.csv" not in texts


def test_summaries_stand_beside_table_3_by_lsum(tabulate):
    texts, _ = tabulate(make(task="xsum", budget="2.20%", last=0.4, **BART), make(task="xsum", budget="2.20%", seed=2))
    ours = block(texts["summarization.md"], "AdaLoRA, 2.20%")
    assert ours["median (n)"]["XSum R-L"] == ours["median (n)"]["XSum R-Lsum"] == "40.00 (1)"
    assert (ours["paper"]["XSum R-1"], ours["paper"]["XSum R-L"], ours["paper"]["XSum R-Lsum"]) == (
        "44.72",
        "",
        "36.46",
    )
    assert ours["median - paper"]["XSum R-Lsum"] == "+3.54"
    assert "R-Lsum" in texts["summarization.tex"] and "inferred" in texts["summarization.md"]
    # the second is said to be DeBERTa's, which isn't the paper's backbone for it
    assert "## Summarization, DeBERTaV3-base" in texts["packaged.md"]


DECODER = {"model__title": "Llama-3.2-3B", "task__headline": "exact_number_validation"}


def test_a_split_that_is_scored_last_has_no_best_step_and_every_method_on_a_decoder_is_shown(tabulate):
    runs = []
    for method, key in (("adalora", "a" * 10), ("mora", "b" * 10)):
        run = make("metamath", method, budget="9.2M", key=key, **DECODER)
        first = {"exact_number_validation": 0.3, "loss": 0.5}
        runs.append(
            run | {"best": first, "last": {"exact_number_validation": 0.2, "exact_number_test": 0.25, "loss": 1}}
        )
    texts, _ = tabulate(*runs)
    page = texts["decoders.md"]
    assert "| **MoRA** " in page and page.count("median (n)") == 2
    assert "rank64" not in page and "47.84" in page
    lines = lines_of(texts["decoders.csv"], method="mora")
    assert [(line["median_last"], line["median_best"]) for line in lines] == [("25.0000", "")]


@pytest.mark.parametrize(("split", "table"), [("validation", "summarization.csv"), ("test", "packaged.csv")])
def test_another_split_than_the_papers_is_never_beside_them(tabulate, split, table):
    texts, _ = tabulate(make("xsum", budget="2.20%", last=0.2, task__rows={"train": 9, split: 9}, **BART))
    assert texts.keys() & {"summarization.csv", "packaged.csv"} == {table}


def test_a_subset_says_so_in_every_line_and_never_beside_the_paper(tabulate):
    texts, _ = tabulate(make(task="squad_v1", budget="1.2M", last=0.9, task__subset=True))
    ours = block(texts["packaged.md"], "AdaLoRA")
    assert set(ours) == {"median (n), subset", "best, subset"}
    assert "squad.md" not in texts
    assert {line["subset"] for line in lines_of(texts["packaged.csv"])} == {"True"}


def test_what_was_cut_from_the_data_is_said_once_a_page(tabulate):
    note = "train: 3 of 9 texts (33.3%) are truncated to task.max_length=4 tokens"
    texts, lines = tabulate(*(make(seed=seed, task__notes=[note]) for seed in (1, 2)))
    assert lines == [f"rte: {note}"]
    assert texts["glue.md"].count(f"rte: {note}") == texts["glue.tex"].count("3 of 9 texts") == 1


def test_a_threshold_is_no_score(tmp_path):
    run = make(task="squad_v2", budget="1.2M")
    run["last"]["best_f1_threshold"] = run["best"]["best_f1_threshold"] = -3.5
    wrong = make(task="squad_v2", budget="1.2M", seed=2)
    wrong["last"]["f1"] = 85.0
    frame, skipped = read(put(tmp_path, run, wrong))
    assert len(heads(frame)) == 1
    assert "not a fraction" in skipped[0]


def test_three_seeds_have_an_interval_and_one_has_none(tabulate):
    """mean 86.1, s 0.5, t_{2, 0.975} = 4.3027: 86.1 -+ 1.242."""
    scores = {1: 0.856, 2: 0.861, 3: 0.866}
    texts, _ = tabulate(*(make(seed=seed, last=last) for seed, last in scores.items()), make(task="mrpc"))
    ours = block(texts["glue.md"], "AdaLoRA, 0.3M")
    assert (ours["mean (95 %)"]["RTE"], ours["mean (95 %)"]["MRPC"]) == ("86.10 (84.9 to 87.3)", "")
    line, single = (lines_of(texts["glue.csv"], task=task, n=n)[0] for task, n in (("rte", "3"), ("mrpc", "1")))
    assert (line["mean_last"], line["low_last"], line["high_last"]) == ("86.1000", "84.8579", "87.3421")
    assert (line["mean_best"], line["low_best"]) == ("87.0000", "")  # all equal
    assert (single["mean_last"], single["low_last"]) == ("86.2800", "")


def test_the_claims_page_has_every_claim_and_other_backbones_apart(tabulate):
    small = {f"model__{key}": value for key, value in MINILM.items()}
    scores = {"adalora": (0.9, 0.91, 0.92), "lora": (0.89, 0.89, 0.9)}
    runs = [make(method=m, seed=i, last=s, **small) for m, each in scores.items() for i, s in enumerate(each)]
    texts, _ = tabulate(*runs)
    page, table = texts["claims.md"], lines_of(texts["claims.csv"])
    claims = {line["claim"] for line in table if not line["model"]}
    assert len(claims) >= 20
    assert (
        f"{len(claims)} claims: 0 reproduced, 0 partly, 0 not reproduced, 0 undecided, {len(claims)} not run." in page
    )
    assert "**glue-lora: " not in page.partition("## Methods against each other")[0]
    assert "Not run: glue-average, glue-lora, " in page
    assert "eva-glue (the suite lacks the model RoBERTa-large)" in page
    assert texts["claims.tex"].count(r"\begin{table}") == 1  # LaTeX has no table without lines
    assert "glue-lora: AdaLoRA scores" in page  # its footnote: the other backbone has it
    other = [line for line in table if line["model"]]
    assert {line["model"] for line in other} == {"MiniLM_L6 & co, fp32"}
    (line,) = [each for each in other if each["claim"] == "glue-lora"]
    assert (line["n"], line["least_p"], line["published"], line["verdict"]) == ("3", "0.25", "", "open")
    assert float(line["ours"]) == pytest.approx(100 * (0.01 + 0.02 + 0.02) / 3)
    own, elsewhere = page.split("## Methods against each other")
    assert "say nothing about the papers' claims" in elsewhere and " 0.25 |" not in own


def test_ten_seeds_have_the_bootstrap_beside_it(tabulate):
    scores = [0.8 + k / 277 for k in (0, 1, 1, 2, 2, 3, 4, 4, 6, 12)]
    texts, _ = tabulate(*(make(seed=seed, last=last) for seed, last in enumerate(scores, start=1)))
    (line,) = lines_of(texts["glue.csv"], task="rte", n="10")
    low, mean, high = (float(line[name]) for name in ("bca_low_last", "mean_last", "bca_high_last"))
    assert low < mean < high and high - mean > mean - low  # the longer tail is above


def test_an_interval_that_the_metric_cannot_reach_is_the_range_of_the_seeds(tabulate):
    """99, 99.5 and 70 %: mean 89.5, s 16.9, so Student's interval would end at 131.5."""
    runs = [make(seed=seed, last=last) for seed, last in enumerate((0.99, 0.995, 0.7))]
    texts, _ = tabulate(*runs)
    assert block(texts["glue.md"], "AdaLoRA, 0.3M")["mean (95 %)"]["RTE"] == "89.50 (seeds 70.0 to 99.5)"
    (line,) = lines_of(texts["glue.csv"], task="rte", n="3")
    assert float(line["high_last"]) > 100  # the statistics stay as they are
    cell = {"mean_last": 5.0, "low_last": -20.0, "high_last": 30.0, "min": 0.0, "max": 9.0, "n": 3}
    assert mean_of(cell | {"metric": "matthews"}) == "5.00 (-20.0 to 30.0)"
    assert mean_of(cell | {"metric": "accuracy"}) == "5.00 (seeds 0.0 to 9.0)"


def test_a_row_has_the_methods_usual_name(tabulate):
    svd = {"method__init_rank": 2, "method__target_rank": 2.0}
    texts, _ = tabulate(make(**svd), make("rte", "prilora"), make(**svd, method__importance="magnitude"))
    for name in ("SVD-LoRA, 0.3M", "PRILoRA, from the abstract, 0.3M", "SVD-LoRA [importance=magnitude], 0.3M"):
        assert block(texts["glue.md"], name)["median (n)"]["RTE"] == "86.28 (1)"
