"""The hub, played by a server on this machine: away at once, and away in the middle of a download."""

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = json.dumps({"model_type": "deberta-v2", "padding": "x" * 10_000}).encode()


class Hub(BaseHTTPRequestHandler):
    """Knows one repository with one file, and breaks off in the middle of it."""

    def do_HEAD(self):
        self.answer(b"" if self.path == "/" else CONFIG, body=False)

    def do_GET(self):
        if "/tree/" in self.path:
            self.answer(
                json.dumps([{"type": "file", "path": "config.json", "oid": "abc", "size": len(CONFIG)}]).encode()
            )
        elif self.path.startswith("/api/models/"):
            self.answer(json.dumps({"id": "x/y", "sha": COMMIT, "siblings": [{"rfilename": "config.json"}]}).encode())
        else:
            self.answer(CONFIG, cut=len(CONFIG) // 2)

    def answer(self, body_bytes, body=True, cut=None):
        self.send_response(200)
        for name, value in {
            "X-Repo-Commit": COMMIT, "ETag": '"abc"', "Content-Length": str(len(body_bytes)),
            "Content-Type": "application/json", "Connection": "close",
        }.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(body_bytes[:cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def command(tmp_path, data, **environment):
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "task=sst2", f"task.data_dir={data}", f"run_root={tmp_path}/runs"],
        env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf"), **environment},
        cwd=ROOT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1, done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def test_a_download_that_breaks_off_says_how_to_go_on(hub, tmp_path, tiny_data):
    line = command(tmp_path, tiny_data, HF_ENDPOINT=hub)
    assert "the download of model microsoft/deberta-v3-base broke off" in line
    assert "run the same command again" in line
    assert "model.path=FOLDER" in line


def test_a_hub_that_never_answers_costs_three_seconds(tmp_path):
    """An address that takes connections and says nothing."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        code = (
            "import time; from adalora.backbones.hub import reachable; start = time.monotonic();"
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
