"""Damaged files of a run, adapter or backbone give one line or are rewritten, and never a wrong number."""

import json
import shutil
from itertools import chain, cycle, product

import pytest
import yaml
from safetensors.torch import load_file, save_file

from adalora.backbones.load import load_model, load_tokenizer, locate
from adalora.errors import UserError
from adalora.export.command import export
from adalora.files.reading import Damaged, read_json, sealed
from adalora.methods.init_from import read_initial
from adalora.methods.saved_adapter import read_adapter
from adalora.progress.tracking import Log
from adalora.records.result import read_finished
from adalora.reporting.curves import Logs
from adalora.reporting.frame import heads, read
from adalora.run.folder import read_status, status_or_empty
from adalora.run.trained import load_config, load_run
from adalora.sweep.records import record_of
from adalora.sweep.status import last_step, scan
from adalora.training import checkpoint
from tests.damage import JSON, WHOLE, field_damages


@pytest.fixture
def finished(start, tiny_run):
    return start([*tiny_run, "method=lora", "training.max_steps=2"])


def trials(path, depth=0, whole=WHOLE | JSON):
    """Damage a file in every way, one at a time: yields the name of the damage, and puts the file back."""
    keep = path.read_bytes()
    for name, damage in chain(whole.items(), field_damages(path, depth) if depth else ()):
        damage(path)
        yield name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.write_bytes(keep)


def is_one_line(error):
    return "\n" not in str(error) and len(str(error)) < 400


def test_a_result_that_was_changed_anywhere_is_no_result(finished):
    """The checksum detects a change in any field down to the second level."""
    file, whole, count = finished / "result.json", read_finished(finished), 0
    for name in trials(file, depth=2):
        try:
            found = read_finished(finished)
        except Damaged as error:
            assert is_one_line(error), name
            assert str(file) in str(error)
        else:
            assert found == whole, name  # a field replaced by what it was
        count += 1
        if count % 10 == 0:
            frame, skipped = read(finished)
            assert len(heads(frame)) + len(skipped) <= 1
        scan(finished.parents[4])
    assert count > 100


@pytest.mark.slow
def test_without_its_checksum_a_result_is_still_typed(finished):
    file = finished / "result.json"
    value = json.loads(file.read_text())
    for name, damage in field_damages(file, 2):
        damage(file)
        changed = json.loads(file.read_text())
        changed.pop("sha256", None)
        file.write_text(json.dumps(changed))
        try:
            read_finished(finished)
        except Damaged as error:
            assert is_one_line(error), name
        file.write_text(json.dumps(value))


def test_a_status_is_read_or_empty(finished):
    for name in trials(finished / "status", depth=1):
        assert status_or_empty(finished).steps >= 0, name
        scan(finished.parents[4])
        try:
            read_status(finished)
        except Damaged as error:
            assert is_one_line(error)


def test_a_damaged_status_of_a_finished_run_is_written_anew(start, tiny_run, finished, capsys):
    before = (finished / "result.json").read_bytes()
    (finished / "status").write_text("{")
    start([*tiny_run, "method=lora", "training.max_steps=2"])
    assert "status is damaged (invalid JSON" in " ".join(capsys.readouterr().out.split())
    assert read_status(finished).status == "done"
    assert (finished / "result.json").read_bytes() == before


def test_a_run_whose_result_or_adapter_is_not_what_it_was_is_repeated(start, tiny_run, finished, capsys):
    before = {name: (finished / name).read_bytes() for name in ("adapter/adapter.safetensors", "metrics.jsonl")}
    files = ("adapter/adapter.safetensors", "adapter/adapter.json", "result.json")
    for damage, file in product(("flipped", "gone", "a folder"), files):
        WHOLE[damage](finished / file)
        if (damage, file) == ("a folder", "result.json"):
            with pytest.raises(UserError, match="result.json can't be written"):
                start([*tiny_run, "method=lora", "training.max_steps=2"])
            return
        start([*tiny_run, "method=lora", "training.max_steps=2"])
        assert ": the run is repeated" in " ".join(capsys.readouterr().out.split()), (damage, file)
        assert before == {name: (finished / name).read_bytes() for name in before}, (damage, file)
        read_finished(finished)


@pytest.mark.parametrize("name", ["metrics.jsonl", "ranks.jsonl"])
def test_a_finished_run_says_that_its_log_is_damaged_and_so_does_a_report(start, tiny_run, finished, capsys, name):
    """The result stands: no number of it is read from a log."""
    before = (finished / "result.json").read_bytes()
    for damage in trials(finished / name, whole=WHOLE):
        capsys.readouterr()
        start([*tiny_run, "method=lora", "training.max_steps=2"])
        shown = " ".join(capsys.readouterr().out.split())
        assert f"{name} is " in shown, damage
        assert "the result stands, but reports leave this log out" in shown, damage
        assert (finished / "result.json").read_bytes() == before
        logs, runs = Logs(), heads(read(finished.parents[4])[0])
        assert len(runs) == 1
        assert logs.of(runs, name).empty, damage
        assert len(logs.faults) == 1
        if name == "metrics.jsonl":
            assert record_of(finished).evaluations == []
    assert record_of(finished).evaluations != []


@pytest.mark.parametrize("name", ["metrics.jsonl", "ranks.jsonl"])
def test_a_log_gives_what_can_be_read(finished, name):
    whole = Log(finished / name).lines()
    bad = [{"step": -1}, {"step": "1"}, {"step": 1.5}, {"steps": 1}, {"step": 1, "a": "x"}, {"step": True}, [1], None]
    lines = [json.dumps(value) for value in bad]
    (finished / name).write_bytes(
        (finished / name).read_bytes() + b"\xff\n" + b"[" * 100_000 + b"\n" + "\n".join(lines).encode()
    )
    assert Log(finished / name).lines() == whole
    last_step(finished)
    for damage in trials(finished / name, whole=WHOLE):
        try:
            Log(finished / name).lines()
        except Damaged as error:
            assert is_one_line(error), damage
        last_step(finished)


def test_nan_survives(tmp_path):
    (tmp_path / "file").write_text(json.dumps(sealed({"a": float("nan"), "b": float("inf"), "c": 0.1})))
    found = read_json(tmp_path / "file", dict[str, float | str], "x")
    assert str(found["a"]) == "nan"
    assert (found["b"], found["c"]) == (float("inf"), 0.1)


@pytest.mark.slow
def test_a_configuration_is_read_or_named(finished):
    file = finished / "config.yaml"
    tree = yaml.safe_load(file.read_text())
    keep = file.read_text()
    count = 0

    def attempt(text, name):
        nonlocal count
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        try:
            load_config(finished)
        except UserError as error:
            assert is_one_line(error), name
            assert str(file) in str(error), name
        count += 1

    texts = {"empty": "", "half": keep[: len(keep) // 2], "bytes": b"\xff\xfe", "list": "[1]", "deep": "[" * 2000}
    for name, text in (texts | {"tag": "!!python/object/apply:os.system ['false']", "number": "7"}).items():
        attempt(text, name)
    bad = cycle([None, [], {}, "x", -1, float("nan"), ...])  # the last: gone
    for part, value in tree.items():
        for name in (None, "x", []):
            attempt(yaml.safe_dump(tree | {part: name}), f"{part}={name}")
        for key in value if isinstance(value, dict) else ():
            other = {k: v for k, v in value.items() if k != key} | ({} if (new := next(bad)) is ... else {key: new})
            attempt(yaml.safe_dump(tree | {part: other}), f"{part}.{key}={new}")
    assert count > 100
    file.unlink()
    with pytest.raises(Damaged, match="config.yaml is missing"):
        load_config(finished)


def test_a_configuration_that_is_not_the_result_s_makes_no_model(finished):
    file = finished / "config.yaml"
    whole = file.read_text()
    for old, new in (("alpha: ", "alpha: 1"), ("pos_query_base_only: false", "pos_query_base_only: true")):
        assert old in whole
        file.write_text(whole.replace(old, new))
        with pytest.raises(Damaged, match="config.yaml is damaged"):
            load_run(finished)


def test_an_adapter_that_is_damaged_is_named(finished):
    for file in ("adapter/adapter.json", "adapter/adapter.safetensors"):
        for name in trials(finished / file, whole=WHOLE | JSON):
            if name == "flipped" and file.endswith("json"):
                continue  # may stay JSON: it says what the tensors mean, and no number comes from it
            with pytest.raises(Damaged) as caught:
                load_run(finished)
            assert is_one_line(caught.value), name
            assert str(finished / file) in str(caught.value)


def test_a_checkpoint_that_was_changed_anywhere_is_damaged(killed, tiny_run, tmp_path):
    killed([*tiny_run, "method=adalora", "training.checkpoint_steps=2", "training.log_steps=1"], 3)
    (place,) = tmp_path.rglob("step-*")
    whole = checkpoint.load(place.parent)[1]
    count = 0
    for file, depth, ways in ((checkpoint.STATE, 2, WHOLE | JSON), (checkpoint.TENSORS, 0, WHOLE)):
        for name in trials(place / file, depth, ways):
            try:
                found = checkpoint.load(place.parent)[1]
            except UserError as error:
                assert is_one_line(error), name
                assert "step-00000002" in str(error)
            else:
                unsealed = name.startswith("sha256=gone")  # as an older schema has it
                assert found == whole or unsealed, name
            count += 1
    assert count > 150


CONFIG_KEYS = (
    "hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads", "max_position_embeddings", "model_type",
    "pos_att_type", "position_buckets", "layer_norm_eps", "hidden_act", "relative_attention",
)  # fmt: skip


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_a_backbone_that_is_damaged_is_one_line(compose, tiny_model, tmp_path, file):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    model = compose("task=sst2", f"model.path={folder}").backbone
    count = 0
    path, keep = folder / file, (folder / file).read_bytes()
    ways = dict(WHOLE if file.endswith("safetensors") else WHOLE | JSON)
    if file == "config.json":
        ways |= {name: damage for name, damage in field_damages(path, 1) if name.partition("=")[0] in CONFIG_KEYS}
    for name, damage in ways.items():
        damage(path)
        try:
            weights = locate(model, str(tmp_path / "cache"))
            load_model(model, weights, 2)
            load_tokenizer(model, weights)("a good film")
        except UserError as error:
            assert is_one_line(error), (name, str(error))
            assert str(folder) in str(error), name
            count += 1
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.write_bytes(keep)
    assert count >= {"config.json": 60, "tokenizer.json": 7, "tokenizer_config.json": 4, "model.safetensors": 5}[file]


def test_a_peft_adapter_that_is_damaged_is_one_line(start, tiny_run, tmp_path):
    run = start([*tiny_run, "model.pos_query_base_only=false", "method=lora", "training.max_steps=2"])
    out = tmp_path / "peft"
    export(run, "peft", out)

    class Options:
        def initial_adapter(self):
            return read_adapter(str(out), "lora", "LORA")

    count = 0
    for file, depth, ways in (("adapter_config.json", 1, WHOLE | JSON), ("adapter_model.safetensors", 0, WHOLE)):
        for name in trials(out / file, depth, ways):
            try:
                read_initial(Options())
            except UserError as error:
                assert is_one_line(error), (name, str(error))
                count += 1
    assert count > 40
    tensors = load_file(out / "adapter_model.safetensors")
    key = next(name for name in tensors if "lora_A" in name)
    for change in (lambda t: t / 0, lambda t: t.flatten(), lambda t: t.int(), lambda t: t[0, 0]):
        save_file(tensors | {key: change(tensors[key]).contiguous()}, out / "adapter_model.safetensors")
        with pytest.raises(Damaged, match=key):
            read_initial(Options())
