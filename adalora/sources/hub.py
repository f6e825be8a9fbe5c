"""Get files from the hub, file by file, and say in one line what is wrong (docs/hub.md)."""

import errno
import functools
import logging
import os
import re
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import httpx2  # the HTTP library of huggingface_hub, for its exceptions
from huggingface_hub import constants, get_token, hf_hub_download
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import (
    build_hf_headers,
    enable_progress_bars,
    hf_raise_for_status,
    http_backoff,
    validate_repo_id,
)
from pydantic import BaseModel, Field

from adalora import processes
from adalora.errors import UserError
from adalora.files.reading import reason
from adalora.files.writing import unwritable, write_text

Kind = Literal["model", "dataset"]
Needs = Mapping[str, Sequence[Sequence[str]]]
"""What a run needs, by name: groups of file patterns, of which the first that matches anything is taken."""
Found = TypeVar("Found")

CONNECT_SECONDS = 5.0  # for the connection alone; HF_HUB_ETAG_TIMEOUT (10 s) is for the answer
MEMORY = 60.0  # seconds for which a failure is remembered; a multirun's jobs share a process
TRIES = 3  # of a request or download that fails with a server's error
SHARD = re.compile(r"-\d{5}-of-(\d{5})")
SILENCE = 8  # seconds without a byte until a download is tried again; huggingface_hub's six tries take under a minute
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
DEMO = "run `make demo`, which needs no hub"
LOG_IN = "log in with `hf auth login`"


class Trouble(NamedTuple):
    """Why the hub doesn't give something, and what the user can do."""

    why: str
    remedy: str

    def message(self, missing: Sequence[str], local: Sequence[str]) -> str:
        """The message about all that is missing for this reason, with the options for local copies."""
        what = f"{missing[0]} isn't cached" if len(missing) == 1 else f"these aren't cached: {', '.join(missing)}"
        return f"{self.why}, and {what}: {self.remedy}, or give local copies ({' '.join(local)})"


class NotAvailable(UserError):
    """`what` isn't cached, and the hub doesn't give it; `local` is the option for a local copy."""

    def __init__(self, what: str, trouble: Trouble, local: str) -> None:
        super().__init__(trouble.message([what], [local]))
        self.what, self.trouble, self.local = what, trouble, local


class File(BaseModel):
    """A file in the hub's answer."""

    rfilename: str


class Listing(BaseModel):
    """The hub's answer about a revision: its commit and files."""

    sha: str = Field(pattern="^[0-9a-f]{40}$")
    siblings: list[File]


if "HF_HUB_DOWNLOAD_TIMEOUT" not in os.environ:
    constants.HF_HUB_DOWNLOAD_TIMEOUT = SILENCE
os.environ.setdefault("HF_XET_CLIENT_READ_TIMEOUT", f"{SILENCE}s")  # hf_xet's own is none: it waits for ever
os.environ.setdefault("HF_XET_CLIENT_RETRY_MAX_ATTEMPTS", str(TRIES))

answers: dict[tuple[str, str, Kind], Listing] = {}  # of this process: a repository is asked for once
troubles: dict[tuple[str, str, Kind] | None, tuple[float, Trouble]] = {}  # and when; None: the hub didn't answer at all


def all_of(finds: Sequence[Callable[[], Found]]) -> list[Found]:
    """Call all functions and return their results; report everything missing at once.

    Raises:
        UserError: something is neither on the hub nor cached.
    """
    results: list[Found] = []
    missing: dict[Trouble, list[NotAvailable]] = {}
    for find in finds:
        try:
            results.append(find())
        except NotAvailable as error:
            missing.setdefault(error.trouble, []).append(error)
    if missing:
        lines = []
        for trouble, errors in missing.items():
            whats, local = (
                list(dict.fromkeys(each)) for each in zip(*((e.what, e.local) for e in errors), strict=True)
            )
            lines.append(trouble.message(whats, local))
        raise UserError("; ".join(lines))
    return results


def fetch(repo: str, revision: str, needs: Needs, kind: Kind, local: str) -> Path:
    """Download what is needed of a repository; the returned folder is named after the commit.

    The hub is asked once for the commit and the names of the files, and nothing else if they are cached. If it doesn't
    give them, cached files are used, and a line on stderr says so.

    Args:
        repo, revision, kind: the repository.
        needs: names of what is needed, with the patterns of the files.
        local: the option for a local copy, named in messages.

    Raises:
        NotAvailable: the files aren't cached, and the hub can't be reached or doesn't give them.
        UserError: the repository lacks something, a download failed, or the cache can't be written.
    """
    what, root = f"{kind} {repo}", cache_of(repo, kind)
    folder = cached(repo, revision, kind)
    _, lacking = chosen(names_in(folder), needs)
    asked = ask(repo, revision, kind, TRIES if lacking else 1)
    if isinstance(asked, Trouble):
        if folder is None or lacking:
            raise NotAvailable(f"{what} ({', '.join(lacking)})" if folder else what, asked, local)
        if not constants.HF_HUB_OFFLINE and processes.rank() == 0:
            say(f"{asked.why}: using {what} as cached, commit {folder.name[:10]}")
        return folder
    names, lacking = chosen([file.rfilename for file in asked.siblings], needs)
    if lacking:
        raise UserError(f"{what} at revision {revision} has no {' and no '.join(lacking)}: give another, or {local}")
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        enable_progress_bars()  # transformers' bars are switched off together with these
    if not all((root / "snapshots" / asked.sha / name).exists() for name in names) and processes.rank() == 0:
        say(f"downloading {what}, commit {asked.sha[:10]}")
    for name in names:
        try:
            download(repo, name, asked.sha, kind)
        except Exception as error:
            raise failed(error, repo, revision, kind, name, local) from error
    with suppress(OSError, UserError):  # a shared cache may be read-only
        ref = root / "refs" / revision
        if not ref.is_file() or ref.read_text() != asked.sha:
            write_text(ref, asked.sha)  # at once: another run may be reading it
    return root / "snapshots" / asked.sha


@functools.cache
def say(line: str) -> None:
    """Print a line on stderr, once."""
    print(line, file=sys.stderr)


def cache_of(repo: str, kind: Kind) -> Path:
    """The repository's folder in the hub's cache. Raises `UserError` for what can't be a repository."""
    try:
        return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type=kind)
    except HFValidationError as error:
        raise UserError(
            f"{repo} can't be a name on the hub: give OWNER/NAME, or a folder with model.path=FOLDER"
        ) from error


def cached(repo: str, revision: str, kind: Kind) -> Path | None:
    """The folder in the hub's cache with the newest known commit of a revision, complete or not."""
    ref = cache_of(repo, kind) / "refs" / revision
    folder = cache_of(repo, kind) / "snapshots" / (ref.read_text().strip() if ref.is_file() else revision)
    return folder if folder.is_dir() else None


def names_in(folder: Path | None) -> list[str]:
    """The files below a folder."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()] if folder else []


def chosen(names: Sequence[str], needs: Needs) -> tuple[list[str], list[str]]:
    """The files that are needed, and what of `needs` is lacking. A set of shards (`-00000-of-00002`) must be whole."""
    files, lacking = [], []
    for need, groups in needs.items():
        found = next(filter(None, (matching(names, patterns) for patterns in groups)), [])
        shards = Counter(SHARD.sub(r"-of-\1", name) for name in found if SHARD.search(name))
        whole = all(count == int(name.rpartition("-of-")[2][:5]) for name, count in shards.items())
        files += found
        lacking += [] if found and whole else [need]
    return files, lacking


def matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The names that match any of the patterns; `*` doesn't match `/`."""
    alike = ((name, pattern) for name in names for pattern in patterns if name.count("/") == pattern.count("/"))
    return sorted({name for name, pattern in alike if fnmatch(name, pattern)})


def ask(repo: str, revision: str, kind: Kind, tries: int) -> Listing | Trouble:
    """Ask the hub for a revision's commit and files, or say why it doesn't give them."""
    if constants.HF_HUB_OFFLINE:
        return Trouble("HF_HUB_OFFLINE is set", f"unset it and connect once, or {DEMO}")
    key = repo, revision, kind
    if key in answers:
        return answers[key]
    for since, trouble in (troubles[known] for known in (None, key) if known in troubles):
        if time.monotonic() - since < MEMORY:
            return trouble
    found = request(repo, revision, kind, tries)
    if isinstance(found, Listing):
        answers[key] = found
    else:
        troubles[key] = time.monotonic(), found
    return found


def request(repo: str, revision: str, kind: Kind, tries: int) -> Listing | Trouble:
    """`ask`, without memory. A server's error, a rate limit or silence is tried again, with huggingface_hub's waits."""
    try:
        validate_repo_id(repo)
        response = http_backoff(
            "GET",
            f"{constants.ENDPOINT}/api/{kind}s/{repo}/revision/{revision.replace('/', '%2F')}",
            headers=build_hf_headers(),
            timeout=httpx2.Timeout(constants.HF_HUB_ETAG_TIMEOUT, connect=CONNECT_SECONDS),
            max_retries=tries - 1,
        )
        hf_raise_for_status(response)
        return Listing.model_validate_json(response.content)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, OSError) as error:
        trouble = trouble_of(error, repo, revision, kind)
        if isinstance(error, httpx2.TransportError):
            troubles[None] = time.monotonic(), trouble
        return trouble


def download(repo: str, name: str, commit: str, kind: Kind) -> None:
    """Download a file unless it is cached. huggingface_hub doesn't try again after a server's error; this does."""
    for attempt in range(TRIES):
        try:
            hf_hub_download(repo, name, repo_type=kind, revision=commit)
            return
        except HfHubHTTPError as error:
            if error.response.status_code < 500 or attempt == TRIES - 1:
                raise
        time.sleep(2**attempt)


def failed(error: BaseException, repo: str, revision: str, kind: Kind, name: str, local: str) -> UserError:
    """What to say about a download that failed."""
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__:
        error = error.__cause__
    code = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return UserError(unwritable(constants.HF_HUB_CACHE, error.errno, "choose another folder with HF_HOME"))
    if code >= 500 or (not code and isinstance(error, httpx2.TransportError | OSError | RuntimeError)):
        return UserError(
            f"the download of {name} of {kind} {repo} failed ({short(error)}): run the same command again, which keeps "
            f"files that are complete, or give a local copy ({local})"
        )
    return NotAvailable(f"{kind} {repo}", trouble_of(error, repo, revision, kind), local)


def trouble_of(error: BaseException, repo: str, revision: str, kind: Kind) -> Trouble:
    """Explain why the hub doesn't give something."""
    what, site = f"{kind} {repo}", constants.ENDPOINT
    page = f"{site}/{'datasets/' if kind == 'dataset' else ''}{repo}"
    code = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if isinstance(error, GatedRepoError):
        also = "" if get_token() else f", and {LOG_IN}"
        return Trouble(f"{what} is gated", f"ask for access at {page}{also}")
    if isinstance(error, DisabledRepoError):
        return Trouble(f"the hub has disabled {what}", f"see {page}")
    if isinstance(error, RevisionNotFoundError):
        return Trouble(f"{what} has no revision {revision}", f"see {page}")
    if code == 401 and get_token():  # with a valid token, a repository that is private or missing is a 404
        remedy = "log in again with `hf auth login`, or do without (unset HF_TOKEN, or `hf auth logout`)"
        return Trouble("the hub doesn't accept your token", remedy)
    if code == 401 or isinstance(error, RepositoryNotFoundError):
        return Trouble(f"the hub has no {what} that you may read", f"check the name; if it is private, {LOG_IN}")
    if code == 403:
        return Trouble(f"the hub refuses access to {what}", f"see {page}")
    if code == 429:
        return Trouble("the hub limits your requests", f"wait some minutes, or {LOG_IN}, which raises the limit")
    if code >= 500:
        return Trouble(f"the hub answers {code}", "try again later")
    if isinstance(error, HFValidationError):
        return Trouble(f"{repo} can't be a name on the hub", "check it")
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes(error)):
        remedy = "set SSL_CERT_FILE to a file with your network's certificate"
        return Trouble(f"the certificate of {site} isn't trusted", remedy)
    if isinstance(error, httpx2.TransportError):
        remedy = "connect and run the same command again, or " + DEMO
        return Trouble(f"the hub can't be reached ({short(error)})", remedy)
    remedy = "log in to the network, or check HF_ENDPOINT"
    return Trouble(f"what answers at {site} isn't the hub ({short(error)})", remedy)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def short(error: BaseException) -> str:
    """An error in a few words."""
    if isinstance(error, HfHubHTTPError):
        return f"{error.response.status_code} {error.response.reason_phrase}".strip()
    return f"{type(error).__name__}: {unsigned(reason(error))}"


def unsigned(text: str) -> str:
    """A text without the queries of its addresses: they may be signatures, which give access."""
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", text)


def unsign(record: logging.LogRecord) -> bool:
    """Remove signatures from huggingface_hub's messages."""
    record.msg, record.args = unsigned(record.getMessage()), ()
    return True


for module in ("huggingface_hub.file_download", "huggingface_hub.utils._http"):
    logging.getLogger(module).addFilter(unsign)
