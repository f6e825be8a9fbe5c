"""Every row of the table in docs/hub.md, against an emulated hub."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from adalora.errors import UserError
from adalora.sources import hub as client
from tests.emulator import Hub, Repo, serving

ROOT = Path(__file__).parents[2]
MODEL = {"config.json": b"{}", "spm.model": b"words", "pytorch_model.bin": os.urandom(100_000)}
NEEDS = {
    "config.json": [["config.json"]], "tokenizer": [["*.model", "tokenizer.json"]],
    "weights": [["model.safetensors", "model-*-of-*.safetensors"], ["pytorch_model.bin"]],
}  # fmt: skip
ALL = {"path": "hub", "times": 99}
ROW = re.compile(r"^\| ([^|]+) \| (?:`(.*)`)? ?\| (\d+) \|$", re.M)
ROWS = {what: (said, int(code)) for what, said, code in ROW.findall((ROOT / "docs/hub.md").read_text())}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with a few repositories, which this process takes for the hub, with an empty cache."""
    repos = {
        "models/emu/tiny": Repo(MODEL | {"tf_model.h5": b"unneeded"}),
        "models/emu/half": Repo({"config.json": b"{}", "spm.model": b"words"}),
        "models/emu/private": Repo(MODEL, "private"), "models/emu/gated": Repo(MODEL, "gated"),
        "models/emu/gone": Repo(MODEL, "disabled"), "models/old/tiny": Repo({}, "renamed:emu/tiny"),
        "datasets/emu/glue": Repo({
            "sst2/train-00000-of-00002.parquet": b"a", "sst2/train-00001-of-00002.parquet": b"b",
            "mnli/train-00000-of-00002.parquet": b"a", "sst2/validation-00000-of-00001.parquet": b"c",
        }),
    }  # fmt: skip
    with serving(Hub(repos)) as served:
        point(monkeypatch, served.urls["hub"], tmp_path)
        yield served
    close_session()


def point(monkeypatch, url, folder):
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN_PATH", "")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    forget(monkeypatch)


def forget(monkeypatch):
    """As another process."""
    monkeypatch.setattr(client, "answers", {})
    monkeypatch.setattr(client, "troubles", {})
    client.say.cache_clear()


def fetch(repo="emu/tiny", revision="main", needs=NEEDS, kind="model"):
    return client.fetch(repo, revision, needs, kind, "model.path=FOLDER")


def faults(**values):
    return lambda hub, monkeypatch: hub.faults.append({**ALL, **values})


def cached(*more):
    def act(hub, monkeypatch):
        fetch()
        forget(monkeypatch)
        for step in more:
            step(hub, monkeypatch)

    return act


def only_the_tokenizer(hub, monkeypatch):
    fetch(needs={"tokenizer": NEEDS["tokenizer"]})
    forget(monkeypatch)
    silence(hub, monkeypatch)


def silence(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    hub.faults.append({**ALL, "delay": 1})


def offline(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def nobody(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


def token(value):
    return lambda hub, monkeypatch: monkeypatch.setenv("HF_TOKEN", value)


def untrusted(hub, monkeypatch):
    if not shutil.which("openssl"):
        pytest.skip("needs openssl, to make a certificate")
    file = Path(constants.HF_HUB_CACHE).parent / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-keyout", file, "-out",
         f"{file}.crt"], check=True, capture_output=True,
    )  # fmt: skip
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    hub.tls = serving(hub, file)  # kept, so that it goes on
    hub.tls.__enter__()
    monkeypatch.setattr(constants, "ENDPOINT", hub.urls["hub"])


def occupied(hub, monkeypatch):
    Path(constants.HF_HUB_CACHE).write_text("a file")


def quiet_file(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    hub.faults.append({"path": "cdn /blob", "times": 99, "stall": 0})


def slow(hub, monkeypatch):
    """A tenth of both times."""
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", constants.HF_HUB_ETAG_TIMEOUT / 10)
    hub.faults.append({"path": "hub", "delay": 0.4})


def each(*values):
    """Every request's first tries fail."""

    def act(hub, monkeypatch):
        hub.faults += [{"path": "GET hub /api", "times": 1, "status": status} for status in values]

    return act


GLUE = {"repo": "emu/glue", "kind": "dataset"}
TEST, SHARDS = ({"needs": {name: [[name]]}} for name in ("sst2/test-*.parquet", "mnli/train-*.parquet"))
CASES = {  # row of docs/hub.md -> what happens, and what is asked for
    "the hub has everything": (lambda *_: None, {}),
    "everything is cached": (cached(), {}),
    "everything is cached, and HF_HUB_OFFLINE is set": (cached(offline), {}),
    "HF_HUB_OFFLINE is set": (offline, {}),
    "the first answer takes 4 seconds": (slow, {}),
    "one request in three is limited (429) or fails (504)": (each(429, 504), {}),
    "one file in three fails on the CDN (503)": (
        lambda hub, _: hub.faults.append({"path": "cdn", "times": 2, "status": 503}), {},
    ),
    "a connection breaks within a file": (lambda hub, _: hub.faults.append({"path": "cdn", "cut": 2}), {}),
    "nothing listens at the hub's address": (nobody, {}),
    "nothing listens, and everything is cached": (cached(nobody), {}),
    "the hub is silent": (silence, {}),
    "the hub is silent, and everything is cached": (cached(silence), {}),
    "the hub is silent, and only the tokenizer is cached": (only_the_tokenizer, {}),
    "requests stay limited": (faults(status=429), {}),
    "the hub stays out of order": (faults(status=503), {}),
    "the CDN stays out of order": (faults(path="cdn", status=503), {}),
    "a connection stays silent within a file": (quiet_file, {}),
    "the repository is private or missing": (lambda *_: None, {"repo": "emu/private"}),
    "the repository is private, with a token that may not read it": (token("stranger"), {"repo": "emu/private"}),
    "the repository is gated": (lambda *_: None, {"repo": "emu/gated"}),
    "the repository is gated and the account not approved": (token("stranger"), {"repo": "emu/gated"}),
    "the repository is disabled": (lambda *_: None, {"repo": "emu/gone"}),
    "the repository has moved": (lambda *_: None, {"repo": "old/tiny"}),
    "the revision doesn't exist": (lambda *_: None, {"revision": "v9"}),
    "the token has expired": (token("expired"), {}),
    "the token has expired, and everything is cached": (cached(token("expired")), {}),
    "the repository has no weights": (lambda *_: None, {"repo": "emu/half"}),
    "the dataset has no such split": (lambda *_: None, GLUE | TEST),
    "a shard of a split is missing": (lambda *_: None, GLUE | SHARDS),
    "the certificate isn't trusted": (untrusted, {}),
    "the network wants a log-in first": (faults(status=200, body=b"<html>Log in</html>"), {}),
    "something else answers": (faults(status=200, body=b'{"sha": null}'), {}),
    "the cache can't be written": (occupied, {}),
}  # fmt: skip


@pytest.mark.parametrize("row", CASES)
def test_what_is_said_and_how_it_ends(hub, monkeypatch, capfd, row):
    act, wanted = CASES[row]
    act(hub, monkeypatch)
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)  # the libraries' waits before the next try
    capfd.readouterr()
    said, code = ROWS[row]
    try:
        folder = fetch(**wanted)
    except UserError as error:
        line, found = str(error), 1
        assert "\n" not in line
        assert "FOLDER" in line or "HF_HOME" in line
    else:
        line, found = capfd.readouterr().err, 0
        if "repo" not in wanted:
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == MODEL
    assert found == code, line
    assert said.format(hub=hub.urls["hub"]) in line
    assert said or not line
    assert "Signature" not in line
    assert "LEAK" not in hub.log


def test_the_table_is_whole():
    assert CASES.keys() == ROWS.keys()


@pytest.mark.parametrize("name", ["../../evil.json", "/evil.json", "a/../../evil.json"])
def test_no_file_leaves_the_cache(hub, tmp_path, name):
    hub.repos["models/emu/tiny"].files[name] = b"evil"
    with pytest.raises(UserError):
        fetch(needs={"evil": [[name]]})
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b'{"a": 1}', b'{"sha": "../..", "siblings": []}', b'{"sha": "%s", "siblings": "x"}' % (b"0" * 40)],
)
def test_an_answer_of_another_kind_is_one_line(hub, answer):
    hub.faults.append({**ALL, "status": 200, "body": answer})
    with pytest.raises(UserError, match="isn't the hub") as caught:
        fetch()
    assert "\n" not in str(caught.value)


def test_what_is_missing_for_the_same_reason_is_one_sentence(hub, monkeypatch):
    nobody(hub, monkeypatch)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(UserError) as caught:
        client.all_of([fetch, lambda: fetch(**GLUE), lambda: fetch(**GLUE)])
    assert "these aren't cached: model emu/tiny, dataset emu/glue: " in str(caught.value)
    with pytest.raises(UserError, match="gated.*; .*disabled"):
        point(monkeypatch, hub.urls["hub"], Path(constants.HF_HUB_CACHE))
        client.all_of([lambda: fetch("emu/gated"), lambda: fetch("emu/gone")])


def test_it_asks_once_and_downloads_what_it_lacks(hub, monkeypatch):
    fetch(needs={"config.json": NEEDS["config.json"]})
    fetch()
    fetch()
    assert len(hub.calls) == 1
    assert sum("GET" in line for line in hub.log) == 1 + len(MODEL)
    assert not any("tf_model" in line for line in hub.log)
    hub.log.clear()
    forget(monkeypatch)
    fetch()
    assert hub.log == ["GET hub /api/models/emu/tiny/revision/main"]


def test_a_failure_is_asked_about_again_after_a_while(hub, monkeypatch):
    there = constants.ENDPOINT
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    for act, repo in ((nobody, "emu/tiny"), (faults(status=500), "emu/tiny")):
        hub.faults.clear()
        act(hub, monkeypatch)
        for _ in range(2):
            with pytest.raises(UserError):
                fetch(repo)
        hub.faults.clear()
        monkeypatch.setattr(constants, "ENDPOINT", there)
        with pytest.raises(UserError):
            fetch(repo)
        with monkeypatch.context() as later:
            later.setattr(client, "MEMORY", 0.0)
            assert fetch(repo).is_dir()
        shutil.rmtree(constants.HF_HUB_CACHE)
        forget(monkeypatch)


def test_a_commit_that_moves_on_is_fetched(hub, monkeypatch):
    before = fetch()
    hub.repos["models/emu/tiny"].files = MODEL | {"config.json": b"[]"}
    forget(monkeypatch)
    after = fetch()
    assert [(folder / "config.json").read_bytes() for folder in (before, after)] == [b"{}", b"[]"]


@pytest.mark.slow
@pytest.mark.parametrize("xet", [False, True])
def test_ctrl_c_in_a_download(tmp_path, xet):
    """The process ends by itself, whatever threads a library has."""
    files = {**MODEL, "config.json": b'{"model_type": "deberta-v2"}', "pytorch_model.bin": os.urandom(3_000_000)}
    with serving(Hub({"models/microsoft/deberta-v3-base": Repo(files)}, xet)) as hub:
        hub.faults.append({"path": "cdn /(blob|xorb)", "times": 99, "rate": 100_000})
        process = subprocess.Popen(
            [sys.executable, "train.py", "tracking=none", f"run_root={tmp_path}", f"cache_dir={tmp_path}"],
            cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a shell's background
            env=os.environ | {"HF_ENDPOINT": hub.urls["hub"], "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"},
        )  # fmt: skip
        while process.poll() is None and not any(re.search("cdn /(blob|xorb)", line) for line in hub.log):
            time.sleep(0.1)
        time.sleep(1)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert time.monotonic() - started < 10  # seen: 1.3 s
    assert "stopped" in said
    assert "Traceback" not in said
