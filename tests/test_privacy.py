"""What a user has set in wandb itself holds: a server that would get uploads gets no request."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.programs import run
from tests.progress.test_tracking import Offline

KEY = "a" * 40


@pytest.fixture
def server():
    """A server that counts requests and answers none of them."""
    requests = []

    class Count(BaseHTTPRequestHandler):
        def do_POST(self):
            requests.append(self.path)
            self.send_error(403)

        def do_GET(self):
            self.do_POST()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Count) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", requests
        http.shutdown()


def settings(folder, mode):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings").write_text(f"[default]\nmode = {mode}\n")


@pytest.mark.parametrize(("key", "mode"), [("environment", "offline"), ("netrc", "disabled")])
@pytest.mark.parametrize(
    "place",
    ["folder", *(pytest.param(p, marks=pytest.mark.slow) for p in ("WANDB_MODE", "user settings", "WANDB_CONFIG_DIR"))],
)
def test_nothing_is_uploaded_against_the_user_s_setting(server, tiny_run, tmp_path, key, mode, place):
    url, requests = server
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    environment = {"HOME": str(home), "WANDB_BASE_URL": url, "WANDB_MODE": None, "WANDB_API_KEY": None}
    if key == "environment":
        environment["WANDB_API_KEY"] = KEY
    else:
        (home / ".netrc").write_text(f"machine {url.removeprefix('http://')}\nlogin user\npassword {KEY}\n")
        (home / ".netrc").chmod(0o600)
    if place == "WANDB_MODE":
        environment["WANDB_MODE"] = mode
    elif place == "WANDB_CONFIG_DIR":
        settings(tmp_path / "config", mode)
        environment["WANDB_CONFIG_DIR"] = str(tmp_path / "config")
    else:
        settings(here / "wandb" if place == "folder" else home / ".config" / "wandb", mode)
    options = ["tracking=wandb", "method=lora", "training.max_steps=2", "training.log_steps=1"]
    done = run("train.py", *tiny_run, *options, cwd=here, **environment)
    assert done.code == 0, done.stderr
    assert f"wandb, {mode}" in done.stdout
    assert requests == []
    (folder,) = (tmp_path / "runs").glob("*/*/*/*/*")
    if mode == "offline":
        assert not any(name.startswith("samples/") for name in Offline(folder).names())
    else:
        assert not list(folder.glob("wandb/*run*"))


@pytest.mark.slow
def test_without_a_setting_credentials_decide(server, tiny_run, tmp_path):
    """The same server does get requests, so that the test above could fail."""
    url, requests = server
    environment = {"HOME": str(tmp_path), "WANDB_BASE_URL": url, "WANDB_MODE": None, "WANDB_API_KEY": KEY}
    options = [*tiny_run, "tracking=wandb", "method=lora", "training.max_steps=2"]
    planned = run("train.py", *options, "dry_run=true", cwd=tmp_path, **environment)
    assert f"uploaded to {url}" in " ".join(planned.stdout.split())
    assert requests == []
    done = run("train.py", *options, cwd=tmp_path, **environment)
    assert done.code == 0, done.stderr
    assert requests
    assert "logging offline" in done.stdout
    assert (
        "wandb, offline"
        in run("train.py", *options, "dry_run=true", cwd=tmp_path, **environment | {"WANDB_API_KEY": ""}).stdout
    )
