"""A hub on 127.0.0.1 that answers as the real one does, and fails as told. Repositories are kept in memory.

Checked with huggingface_hub 2.4, hf_xet 1.8 and transformers 5.23: metadata and redirects of `resolve`, error codes,
gated, private, disabled and renamed repositories, tokens, ranges, a CDN of its own origin and a xet server.
"""

import hashlib
import json
import re
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

sleep = time.sleep  # tests replace time.sleep
LARGE = (".bin", ".safetensors", ".parquet", ".model")  # served by the CDN
TOKENS = {"reader": "alice", "stranger": "mallory"}  # alice may read what is private or gated
CHUNK, XORB = 1 << 16, 1 << 26  # bytes of a xet chunk, and of the block that hf_xet writes at once


@dataclass
class Repo:
    """A repository with one commit."""

    files: dict[str, bytes]
    flag: str = ""  # private, gated, disabled, or renamed:NEW
    revision: str = "main"

    @property
    def sha(self):
        return hashlib.sha1(repr(sorted(self.files)).encode() + b"".join(self.files.values())).hexdigest()


@dataclass
class Hub:
    """What the servers share. A fault: `do` with its value, for the first `times` requests whose path matches."""

    repos: dict[str, Repo] = field(default_factory=dict)  # by models/ID or datasets/ID
    xet: bool = False
    faults: list[dict] = field(default_factory=list)
    log: list[str] = field(default_factory=list)  # "GET hub /api/..."
    urls: dict[str, str] = field(default_factory=dict)

    def fault(self, line):
        for fault in self.faults:
            if re.search(fault["path"], line) and fault.get("times", 1) > 0:
                fault["times"] = fault.get("times", 1) - 1
                return fault
        return {}

    @property
    def calls(self):
        """The requests for metadata of a repository, without the files'."""
        return [line for line in self.log if re.search(r"hub /api/(models|datasets)/", line)]

    def blob(self, digest):
        files = (content for repo in self.repos.values() for content in repo.files.values())
        return next(content for content in files if hashlib.sha256(content).hexdigest() == digest)


class Common(BaseHTTPRequestHandler):
    """A request, with its fault."""

    protocol_version = "HTTP/1.1"
    hub: Hub
    where = ""

    def log_message(self, *args):
        pass

    def handle(self):
        with suppress(OSError, ValueError):
            super().handle()

    def do_HEAD(self):
        self.serve()

    def do_GET(self):
        self.serve()

    def serve(self):
        line = f"{self.command} {self.where} {self.path}"
        self.hub.log.append(line)
        self.broken = self.hub.fault(line)
        sleep(self.broken.get("delay", 0))
        if "close" in self.broken:
            self.close_connection = True
            return self.connection.close()
        if "status" in self.broken:
            return self.reply(self.broken["status"], self.broken.get("body", b""))
        return self.answer(urlsplit(self.path).path)

    def reply(self, status, body=b"", headers=None, first=0, last=None, size=None):
        """Send bytes; `cut`, `stall` and `rate` (bytes, bytes, bytes a second) break or slow them down."""
        self.send_response_only(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        rate, limit = self.broken.get("rate"), self.broken.get("cut", self.broken.get("stall", len(body)))
        step = max(1, rate // 10) if rate else 1 << 18
        for start in range(0, min(limit, len(body)), step):
            self.wfile.write(body[start : min(start + step, limit)])
            sleep(step / rate if rate else 0)
        if limit < len(body):
            sleep(60 if "stall" in self.broken else 0)
            self.close_connection = True
            self.connection.close()

    def ranged(self, body, headers=None):
        """Send a file, or the range that was asked for."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not asked:
            return self.reply(200, body, headers)
        first, last = int(asked[1]), min(int(asked[2] or len(body)), len(body) - 1)
        return self.reply(
            206, body[first : last + 1], {**(headers or {}), "Content-Range": f"bytes {first}-{last}/{len(body)}"}
        )


class HubServer(Common):
    """The hub itself."""

    where = "hub"

    def error(self, status, message, code=None):
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self.reply(status, json.dumps({"error": message}).encode(), headers)

    def json(self, value):
        self.reply(200, json.dumps(value).encode())

    def answer(self, path):
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in TOKENS:
            return self.error(401, "Invalid credentials in Authorization header")
        user = TOKENS.get(token)
        api = re.fullmatch(r"/api/((?:models|datasets)/[^/]+/[^/]+)/(revision|xet-read-token)/(.+)", path)
        file = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if not (api or file):
            return self.error(404, "Sorry, we can't find the page you are looking for.")
        key = api[1] if api else f"{file[1] or 'models/'}{file[2]}"
        repo = self.hub.repos.get(key)
        flag, name = repo.flag if repo else "", key.partition("/")[2]
        if repo is None or (flag == "private" and user != "alice"):
            return (
                self.error(404, "not found", "RepoNotFound")
                if user
                else self.error(401, "Invalid username or password.")
            )
        if flag == "disabled":
            return self.error(403, "Access to this resource is disabled.")
        if flag.startswith("renamed:"):
            return self.reply(307, headers={"Location": self.path.replace(name, flag.partition(":")[2], 1)})
        if file and flag == "gated" and user != "alice":
            return self.error(403 if user else 401, f"Access to {name} is restricted.", "GatedRepo")
        if unquote(api[3] if api else file[3]) not in (repo.revision, repo.sha):
            return self.error(404, "Invalid rev id", "RevisionNotFound")
        if api and api[2] == "xet-read-token":
            token = {"accessToken": "xet", "exp": int(time.time()) + 3600, "casUrl": self.hub.urls["cdn"]}
            headers = {
                "X-Xet-Cas-Url": token["casUrl"],
                "X-Xet-Access-Token": "xet",
                "X-Xet-Token-Expiration": str(token["exp"]),
            }
            return self.reply(200, json.dumps(token).encode(), headers)
        if api:
            return self.json({"id": name, "sha": repo.sha, "siblings": [{"rfilename": path} for path in repo.files]})
        return self.resolve(repo, key, unquote(file[4]))

    def resolve(self, repo, key, path):
        if path not in repo.files:
            return self.error(404, "Entry not found", "EntryNotFound")
        content, headers = repo.files[path], {"X-Repo-Commit": repo.sha}
        if not path.endswith(LARGE):
            return self.ranged(content, headers | {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'})
        digest = hashlib.sha256(content).hexdigest()
        headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{digest}"'}
        headers["Location"] = f"{self.hub.urls['cdn']}/blob/{digest}?X-Amz-Signature=secret"
        if self.hub.xet:
            headers["X-Xet-Hash"] = digest
            headers["Link"] = f'<{self.hub.urls["hub"]}/api/{key}/xet-read-token/{repo.sha}>; rel="xet-auth"'
        return self.reply(302, headers=headers)


class Cdn(Common):
    """The CDN and the xet server, of another origin: they must never see a token."""

    where = "cdn"

    def answer(self, path):
        kind, _, digest = path.rpartition("/")
        if "blob" in kind and self.headers.get("Authorization"):
            self.hub.log.append("LEAK")
        if kind.startswith("/v2"):
            return self.reply(404)
        content = self.hub.blob(digest)
        if kind == "/blob":
            return self.ranged(content)
        if kind == "/xorb":
            parts = [content[i : i + CHUNK] for i in range(0, len(content), CHUNK)]
            framed = [b"\0" + len(p).to_bytes(3, "little") + b"\0" + len(p).to_bytes(3, "little") + p for p in parts]
            return self.ranged(b"".join(framed), {"Content-Type": "application/octet-stream"})
        chunks = -(-len(content) // CHUNK)
        assert len(content) <= XORB, "a file of one block"
        whole = {"start": 0, "end": chunks}
        name = hashlib.sha256(digest.encode()).hexdigest()
        url = {
            "range": whole,
            "url": f"{self.hub.urls['cdn']}/xorb/{digest}",
            "url_range": {"start": 0, "end": len(content) + 8 * chunks - 1},
        }
        term = {"hash": name, "unpacked_length": len(content), "range": whole}
        return self.reply(
            200, json.dumps({"offset_into_first_range": 0, "terms": [term], "fetch_info": {name: [url]}}).encode()
        )


@contextmanager
def serving(hub, certificate=None):
    """Serve a hub; `hub.urls` has the addresses. `certificate` (a PEM file with key) makes it https."""
    servers = {}
    for name, kind in {"hub": HubServer, "cdn": Cdn}.items():
        servers[name] = server = ThreadingHTTPServer(("127.0.0.1", 0), type(name, (kind,), {"hub": hub}))
        server.daemon_threads = True
        server.handle_error = lambda *args: None
        scheme = "http"
        if certificate and name == "hub":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            scheme = "https"
        hub.urls[name] = f"{scheme}://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield hub
    finally:
        for server in servers.values():
            server.shutdown()
            server.server_close()
