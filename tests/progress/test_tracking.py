"""What is logged: metrics.jsonl, and what wandb's own reader finds in an offline run."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from adalora.errors import Interrupted, UserError
from adalora.progress.track_report import track
from adalora.progress.tracking import Log
from adalora.progress.watch import beside_paper
from adalora.reporting.pages import gather
from adalora.reporting.report import write_report
from adalora.reporting.tables import write_tables
from adalora.training import loop
from adalora.training.batches import LengthGroups
from tasks.discovery import create
from tasks.task_type import Split
from tests.reporting.forged import make, put, resolve_plan

DOCS = (Path(__file__).parents[2] / "docs/wandb.md").read_text()
NAMES = re.findall(r"^\| `([^`]+)` \|", DOCS, flags=re.M)


class Offline:
    """The newest offline run of a run's folder, as `wandb leet inspect` reads it."""

    def __init__(self, folder):
        self.files = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(self.files[-1])]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        self.records = [json.loads(line) for line in done.stdout.splitlines()]
        self.run = self.of("run")[0]
        self.exit_code = self.of("exit")[-1].get("exit_code", 0)
        self.history = [record["item"] for record in self.of("history")]
        self.summary = {}
        for record in self.of("summary"):
            self.summary |= record.get("update", {})

    def of(self, kind):
        return [record[kind] for record in self.records if record["type"] == kind]

    def series(self, name):
        return {row["_step"]: row[name] for row in self.history if name in row}

    def names(self):
        keys = {key.partition("._")[0] for row in [*self.history, self.summary] for key in row if "/" in key}
        return {
            key.rpartition(".")[0] if key.startswith(("ranks/", "samples/")) and "." in key else key for key in keys
        }

    def table(self, name):
        path = self.files[-1].parent / "files" / self.summary[f"{name}.path"]
        found = json.loads(path.read_text())
        return [dict(zip(found["columns"], row, strict=True)) for row in found["data"]]


@pytest.fixture
def tracked(tiny_run):
    """A run of 24 steps, logged by wandb in the folder."""
    return [
        *tiny_run,
        "tracking=wandb",
        "wandb.samples=32",
        "method=adalora",
        "training.log_steps=3",
        "training.eval_steps=4",
    ]


def lines(folder, name="metrics.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_an_offline_run_holds_all_that_a_dashboard_needs(start, tracked, capfd):
    folder = start(tracked)
    captured = capfd.readouterr()
    assert captured.err == ""
    assert "logging   wandb, offline" in captured.out
    assert captured.out.partition("\nnext ")[0].count("wandb") == 1
    run = Offline(folder)
    result = json.loads((folder / "result.json").read_text())

    # every number of metrics.jsonl, at its step
    for line in lines(folder):
        step = line.pop("step")
        for name, value in line.items():
            assert run.series(name)[step] == (value if value == value else "NaN"), name
    assert set(run.series("eval/accuracy")) == set(range(4, 25, 4))
    assert set(run.series("speed/tokens_per_second")) == set(range(3, 25, 3))
    assert all(speed > 0 for speed in run.series("speed/tokens_per_second").values())

    # the summary is the result
    for group in ("last", "best", "parameters"):
        assert {name: run.summary[f"{group}/{name}"] for name in result[group]} == result[group]
    assert run.summary["best/step"] == result["best_step"]
    assert run.summary["eval/accuracy"] == result["last"]["accuracy"]
    assert run.summary["memory/peak_mb"] > 0
    assert not any(name.startswith("paper/") for name in run.summary)  # a tiny model, 128 rows

    # ranks: pictures where they changed, and a table of all of them
    pictures = run.series("ranks/heatmap.path")
    assert len(pictures) >= 2
    assert all((run.files[-1].parent / "files" / path).stat().st_size > 1000 for path in pictures.values())
    table = run.table("ranks/over_time")
    assert len(table) == 6 * 12
    last = {row["module"]: row["rank"] for row in table if row["step"] == 24}
    assert (
        last
        == result["ranks"]
        == {name: rank for name, rank in lines(folder, "ranks.jsonl")[-1].items() if name != "step"}
    )
    assert {(row["layer"], row["name"]) for row in table} >= {(0, "query"), (1, "output")}

    samples = run.table("samples/predictions")
    assert list(samples[0]) == ["row", "text_1", "reference", "prediction", "right", "confidence"]
    assert len(samples) == 32
    assert all(row["right"] == (row["reference"] == row["prediction"]) for row in samples)
    assert sum(row["right"] for row in samples) / 32 == result["last"]["accuracy"]
    assert {row["reference"] for row in samples} == {"negative", "positive"}

    # who it is
    about, config = run.run, run.run["config"]["update"]
    assert about["run_id"] == (folder / "wandb/id").read_text()
    assert (about["project"], about["display_name"]) == ("adalora", "sst2-adalora-custom-seed1")
    assert about["run_group"] == f"{result['model']['name']}-sst2-adalora-custom"
    assert about["job_type"] == "adalora"
    assert about["tags"] == ["sst2", "adalora", "custom", result["model"]["name"]]
    assert config["method"]["target_rank"] == result["method"]["target_rank"]
    assert config["training"]["lr"] == 0.02
    assert config["key"] == result["key"]
    assert config["code"]["commit"] == result["commit"]
    text = json.dumps(run.run["config"])
    assert "settings" not in text or '"settings": {}' in text
    assert "weight_decay" in text and "cache_dir" not in text and "run_root" not in text
    places = [option.partition("=")[2] for option in tracked if option.startswith(("task.data_dir=", "model.path="))]
    assert len(places) == 2 and not any(place in text for place in places)
    assert run.exit_code == 0

    # docs/wandb.md lists the names, all of them and no others; fp16's is of a GPU
    written = {re.sub(r"^(eval|last|best)/(accuracy|loss)$", r"\1/<metric>", name) for name in run.names()}
    assert written | {"train/skipped_steps"} == {name for name in NAMES if not name.startswith("paper/")}


@pytest.mark.slow
def test_a_resumed_run_goes_on_in_the_same_wandb_run(start, killed, tracked, tmp_path):
    args = [*tracked, "training.checkpoint_steps=5"]
    whole = start([*args, f"run_root={tmp_path}/whole"])
    killed(args, 12)
    (status,) = (tmp_path / "runs").rglob("status")
    first = Offline(status.parent)
    folder = start(args)
    second, reference = Offline(folder), Offline(whole)
    assert first.run["run_id"] == second.run["run_id"] != reference.run["run_id"]
    assert first.exit_code == 1
    for name in ("metrics.jsonl", "ranks.jsonl"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    for name in ("train/loss", "allocation/budget", "eval/accuracy"):  # from the first step on
        assert second.series(name) == reference.series(name)
    assert second.series("ranks/heatmap.sha256") == reference.series("ranks/heatmap.sha256")
    assert second.table("ranks/over_time") == reference.table("ranks/over_time")


@pytest.mark.slow
def test_wandb_is_closed_with_the_process_s_exit_code(start, tracked, tmp_path, monkeypatch):
    original = loop.log

    def presses(parts, window, progress):
        original(parts, window, progress)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop, "log", presses)
    with pytest.raises(Interrupted):
        start(tracked)
    monkeypatch.setattr(loop, "log", original)
    (status,) = (tmp_path / "runs").rglob("status")
    assert Offline(status.parent).exit_code == 128 + signal.SIGINT
    with pytest.raises(UserError, match="NaN"):
        start([*tracked, "training.lr=1e30", "training.max_grad_norm=null", f"run_root={tmp_path}/nan"])
    (status,) = (tmp_path / "nan").rglob("status")
    assert Offline(status.parent).exit_code == 1


def test_a_wandb_that_can_t_be_imported_costs_one_line(start, tracked, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert (start([*tracked, "training.max_steps=2"]) / "result.json").is_file()
    assert capfd.readouterr().out.count("going on without it") == 1


@pytest.mark.parametrize("fails", ["init", "log", "finish"])
def test_a_failing_wandb_costs_one_line(start, tracked, monkeypatch, capfd, fails):
    import wandb

    def broken(*_, **__):
        raise wandb.errors.CommError("the wire [is] cut\nand more")

    monkeypatch.setattr(*((wandb, "init") if fails == "init" else (wandb.Run, fails)), broken)
    folder = start([*tracked, "training.max_steps=2", "training.log_steps=1"])
    captured = capfd.readouterr()
    assert captured.out.count("wandb failed (the wire [is] cut): going on without it") == 1
    assert captured.err == ""
    assert json.loads((folder / "status").read_text())["status"] == "done"
    assert lines(folder)[-1]["step"] == 2
    monkeypatch.undo()
    wandb.teardown()  # with what is left of the run


def test_the_run_after_a_failed_one_has_its_own(start, tracked, tmp_path, monkeypatch):
    """A multirun's jobs share a process, and a failed wandb run stays open in it."""
    import wandb

    with monkeypatch.context() as broken:
        broken.setattr(wandb.Run, "log", lambda *_, **__: 1 / 0)
        start([*tracked, "training.max_steps=2", "training.log_steps=1"])
    folder = start([*tracked, "training.max_steps=2", "seed=2", f"run_root={tmp_path}/second"])
    wandb.teardown()
    assert Offline(folder).run["display_name"] == "sst2-adalora-custom-seed2"


def test_ctrl_c_while_wandb_finishes_leaves_a_finished_run(start, tracked, monkeypatch):
    import wandb

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(wandb.Run, "finish", stop)
    options = [*tracked, "training.max_steps=2"]
    with pytest.raises(KeyboardInterrupt):
        start(options)
    monkeypatch.undo()
    wandb.teardown()
    monkeypatch.setattr("adalora.run.run.train", None)  # it isn't trained again
    assert json.loads((start(options) / "status").read_text())["status"] == "done"


def filed(start, overrides):
    record = Offline(start([*overrides, "training.max_steps=2"])).run
    return {name: record.get(name) for name in ("project", "display_name", "run_group", "tags", "notes", "entity")}


@pytest.mark.slow
def test_options_of_wandb_win_over_its_environment_variables_and_these_over_ours(start, tracked, tmp_path, monkeypatch):
    ours = filed(start, [*tracked, f"run_root={tmp_path}/ours"])
    assert ours["project"] == "adalora"
    assert ours["tags"][:2] == ["sst2", "adalora"]
    assert not ours["notes"]
    names = {"PROJECT": "p", "NAME": "n", "RUN_GROUP": "g", "TAGS": "one, two", "NOTES": "why", "ENTITY": "us"}
    for name, value in names.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    theirs = {"project": "p", "display_name": "n", "run_group": "g", "notes": "why", "entity": "us"}
    assert filed(start, [*tracked, f"run_root={tmp_path}/theirs"]) == theirs | {"tags": [*ours["tags"], "one", "two"]}
    options = ["project=P", "name=N", "group=G", "tags=[three]", "notes=because", "entity=them"]
    own = {"project": "P", "display_name": "N", "run_group": "G", "notes": "because", "entity": "them"}
    found = filed(start, [*tracked, f"run_root={tmp_path}/own", *(f"wandb.{option}" for option in options)])
    assert found == own | {"tags": [*ours["tags"], "one", "two", "three"]}


@pytest.mark.slow
def test_a_server_out_of_reach_leaves_an_offline_run(start, tracked, monkeypatch, capfd):
    import wandb

    original = wandb.init

    def away(**options):
        if options["mode"] == "online":
            raise wandb.errors.CommError("no route")
        return original(**options)

    monkeypatch.setattr(wandb, "init", away)
    monkeypatch.setenv("WANDB_MODE", "online")
    wandb.teardown()  # it has read the environment before
    folder = start(tracked)
    monkeypatch.undo()
    wandb.teardown()
    assert capfd.readouterr().out.count("wandb can't be reached (no route): logging offline") == 1
    assert Offline(folder).exit_code == 0


@pytest.mark.slow
def test_a_place_where_wandb_cannot_write(start, tracked, tmp_path, capfd):
    folder = start([*tracked, "tracking=none"])
    for path in ("result.json", "status"):
        (folder / path).unlink()
    (folder / "wandb").write_text("in the way")
    assert start(tracked) == folder
    captured = capfd.readouterr()
    assert captured.out.count("wandb failed (") == 1
    assert captured.err == ""


def test_a_line_cut_off_in_the_middle_is_dropped(tmp_path):
    log = Log(tmp_path / "metrics.jsonl")
    log.write(1, {"train/loss": 0.1})
    log.write(2, {"train/loss": float("nan")})
    with log.path.open("a") as file:
        file.write('{"step": 2, "tra')
    assert [line["step"] for line in log.lines()] == [1, 2]
    assert Log(log.path).start(2, log.sha256)
    assert log.path.read_text() == '{"step": 1, "train/loss": 0.1}\n{"step": 2, "train/loss": NaN}\n'


@pytest.mark.parametrize("damage", ["gone", "flipped", "half", "bytes"])
def test_a_log_that_is_not_what_was_written_is_noticed(tmp_path, damage):
    log = Log(tmp_path / "metrics.jsonl")
    for step in (0, 1, 2):
        log.write(step, {"train/loss": 0.1 + step})
    saved = log.sha256
    log.write(3, {"train/loss": 3.1})
    lines = log.path.read_bytes().splitlines(keepends=True)
    lines[1] = {"gone": b"", "flipped": lines[1].replace(b"1.1", b"1.3"), "half": lines[1][:9] + b"\n",
                "bytes": b"\xff\xfe" + lines[1]}[damage]  # fmt: skip
    log.path.write_bytes(b"".join(lines))
    again = Log(log.path)
    assert not again.start(2, saved)
    assert [line["step"] for line in again.lines()] == ([0, 1, 2] if damage == "flipped" else [0, 2])


def test_a_run_that_begins_anew_keeps_no_line_of_the_one_before(tmp_path):
    log = Log(tmp_path / "metrics.jsonl")
    log.write(0, {"eval/loss": 0.1})
    assert Log(log.path).start(0, None)
    assert log.lines() == []


def test_tokens_are_the_rows_own():
    order = LengthGroups([3, 5, 7, 11, 13], batch_size=2, micro_batches=1, seed=1)
    assert order.tokens(0, 3) == order.tokens(3, 6) == 39
    assert sum(order.tokens(step, step + 1) for step in range(2, 8)) == order.tokens(2, 8) == 2 * 39
    order.start_at(4)
    assert [sum((3, 5, 7, 11, 13)[row] for row in rows) for rows in order] == [order.tokens(4, 5), order.tokens(5, 6)]


def test_samples_of_a_regression_show_the_error(compose):
    table = pa.table({"text_1": list("abcdefghij"), "text_2": list("klmnopqrst"), "label": [i / 2 for i in range(10)]})
    split = Split("validation", table, None, None, None)
    samples = create(compose("task=stsb").task).samples(split, torch.arange(10.0).unsqueeze(1), 4)
    assert samples.columns == ["row", "text_1", "text_2", "reference", "prediction", "error"]
    assert samples.rows[1:3] == [[2, "c", "m", 1.0, 2.0, 1.0], [5, "f", "p", 2.5, 5.0, 2.5]]


def test_the_paper_s_cell_stands_in_the_summary(compose):
    run = resolve_plan(compose, "task=rte")
    run["last"] = {"accuracy": 0.875, "loss": 0.5}
    assert beside_paper(run) == {"paper/accuracy": 87.36, "paper/difference": 0.14}


@pytest.mark.parametrize(
    ("part", "key", "value"), [("model", "comparable", False), ("task", "subset", True), ("budget", "name", "custom")]
)
def test_no_cell_of_the_paper_where_it_does_not_apply(compose, part, key, value):
    run = resolve_plan(compose, "task=rte")
    run[part][key] = value
    assert beside_paper(run) == {}


def test_a_report_is_an_offline_run_with_its_tables_and_files(tmp_path, monkeypatch):
    """The verdicts' counts, the CSV files as tables, the page, and everything as an artifact."""
    monkeypatch.setenv("WANDB_API_KEY", "")
    runs = [make(method=m, seed=seed, last=0.85 + seed / 100) for m in ("adalora", "lora") for seed in (1, 2, 3)]
    found = gather(put(tmp_path / "runs", *runs))
    out, warned = tmp_path / "out", []
    files = write_tables(found, out)
    page, _ = write_report(found, out)
    track(found, page, files, warned.append)
    assert warned == []
    run = Offline(out)
    assert run.run["job_type"] == "report" and run.exit_code == 0
    counts = {name: value for name, value in run.summary.items() if name.startswith("verdicts/")}
    assert sum(counts.values()) == len(found.verdicts) and counts["verdicts/undecided"] >= 1
    claims = run.table("tables/claims")
    assert {row["claim"] for row in claims} >= {"glue-average", "low-budget-rte"}
    assert any(row["paper"] == "87.36" for row in run.table("tables/glue"))
    assert run.summary["report._type"] == "html-file"
    (artifact,) = [each for each in run.of("artifact") if each["type"] == "report"]
    assert {entry["path"] for entry in artifact["manifest"]["contents"]} == {path.name for path in [page, *files]}
