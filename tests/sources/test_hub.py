"""A local server plays the hub: unreachable, or failing in every way we could think of."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUBS = {  # what the server does, and what we say
    "portal": "isn't the hub",
    "empty": "isn't the hub",
    "a list": "isn't the hub",
    "other JSON": "isn't the hub",
    "no commit": "isn't the hub",
    "no list of files": "isn't the hub",
    "a file's name is a number": "isn't the hub",
    "a file leaves the folder": "isn't the hub",
    "a file at the root": "isn't the hub",
    "half of a file": "failed|has stalled",
    "another length": "failed|has stalled|isn't the hub",
    "hangs": "has stalled",
    "hangs in a file": "has stalled",
    "trickles": "has stalled",
    "trickles in a file": "has stalled",
    "closes": "failed|has stalled",
    "500": "can't be reached",
    "404": "can't be reached",
    "401": "has no model|failed",
    "turns in circles": "failed|isn't the hub|has stalled",
}
SCRIPT = f"""
import json, os, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT, mode = {COMMIT!r}, ["portal"]
FILE = json.dumps({{"model_type": "deberta-v2", "padding": "x" * 30_000}}).encode()
NAMES = {{"a file leaves the folder": "../../../../evil.json", "a file at the root": "/evil.json",
         "a file's name is a number": 7}}


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.respond(False)

    def do_GET(self):
        self.respond(True)

    def respond(self, body):
        now, api = mode[0], "/api/" in self.path
        name = NAMES.get(now, "config.json")
        if self.path == "/":
            return self.answer(b"", body)
        if now == "portal":
            return self.answer(b"<html>Welcome! Log in to go on</html>", body, kind="text/html")
        if now == "closes":
            return self.connection.close()
        if now in ("500", "404", "401"):
            return self.answer(b"no", body, code=int(now))
        if now == "turns in circles":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if now == "hangs" or (now == "hangs in a file" and not api):
            return time.sleep(20)
        tree = "/tree/" in self.path
        answer = {{"id": "x/y", "sha": COMMIT, "siblings": [{{"rfilename": name}}]}}
        if tree:
            answer = [{{"type": "file", "path": name, "oid": "abc", "size": len(FILE)}}]
        if now == "no commit":
            answer = answer if tree else {{**answer, "sha": None}}
        if now == "no list of files":
            answer = {{"x": 1}} if tree else {{**answer, "siblings": "x"}}
        if api:
            found = {{"empty": b"", "a list": b"[]", "other JSON": b'{{"a": 1}}'}}.get(now, json.dumps(answer).encode())
            return self.answer(found, body, slow=now == "trickles")
        cut = len(FILE) // 2 if now == "half of a file" else None
        self.answer(FILE, body, cut=cut, slow=now == "trickles in a file", more=7 * (now == "another length"))

    def answer(self, content, body, code=200, kind="application/json", cut=None, slow=False, more=0):
        self.send_response(code)
        for key, value in {{"X-Repo-Commit": COMMIT, "ETag": '"abc"', "Content-Length": str(len(content) + more),
                           "Content-Type": kind, "Connection": "close"}}.items():
            self.send_header(key, value)
        self.end_headers()
        for part in ([content[i : i + 1] for i in range(200)] if slow else [content[:cut]]) if body else ():
            self.wfile.write(part)
            time.sleep(0.1 if slow else 0)

    def log_message(self, *args):
        pass

    def handle(self):
        try:
            super().handle()
        except OSError:
            pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{{server.server_port}}"
from adalora.sources import hub
from adalora.errors import UserError
hub.PATIENCE = 0.5
told = {{}}
for mode[0] in json.loads(sys.argv[1]):
    started = time.monotonic()
    try:
        repo = "x/" + mode[0].replace(" ", "-").replace(chr(39), "")
        told[mode[0]] = f"no error: {{hub.fetch(repo, 'main', ['*.json'], 'model', 'model.path=FOLDER')}}"
    except UserError as error:
        told[mode[0]] = str(error)
    told[mode[0]] += f" [{{time.monotonic() - started:.1f}} s]"
print(json.dumps(told))
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Our message for each hub, and the folder in which everything had to stay."""
    folder = tmp_path_factory.mktemp("hub")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(list(HUBS))], cwd=ROOT, capture_output=True, text=True, timeout=200,
        env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "a" / "hf"), "HF_HUB_DISABLE_XET": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), folder


@pytest.mark.parametrize("hub", HUBS)
def test_a_false_hub_is_one_line(told, hub):
    line = told[0][hub]
    assert re.search(HUBS[hub], line), line
    assert "\n" not in line
    assert "model.path=FOLDER" in line or "can't be reached" in line  # of which `all_of` makes one line for all
    assert float(line.rpartition("[")[2].removesuffix(" s]")) < 4


def test_no_file_leaves_the_folder(told):
    assert not [path for path in told[1].rglob("evil*") if "blobs" not in path.parts]
    assert not Path("/evil.json").exists()
    assert [path.name for path in told[1].iterdir()] == ["a"]


def test_a_hub_that_never_answers_costs_three_seconds(tmp_path):
    """An address that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code = (
            "import time; from adalora.sources.hub import reachable; start = time.monotonic();"
            "assert not reachable(); print(time.monotonic() - start)"
        )
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60,
            env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 4
    assert time.monotonic() - started < 30
