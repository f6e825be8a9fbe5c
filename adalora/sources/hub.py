"""Files from the hub, or a plain answer within seconds when it is away."""

import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import httpx2  # what huggingface_hub speaks, and raises
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name

from adalora.errors import UserError
from adalora.reading import reason

PROBE_SECONDS = 3.0
PATIENCE, LEAST = 30.0, 10_000  # seconds, and the bytes that a download must bring in them
Found = TypeVar("Found")


class NotAvailable(UserError):
    """The hub is away and nothing is cached. `what` names the missing thing, `remedy` a local way."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} is not cached and the hub can't be reached")
        self.what, self.remedy = what, remedy


@functools.cache
def reachable() -> bool:
    """Whether the hub answers within `PROBE_SECONDS`; False at once if HF_HUB_OFFLINE is set.

    Asked before any library call, since those retry for half a minute. The probe runs in a thread
    because a name look-up knows no time limit of its own.
    """
    if constants.HF_HUB_OFFLINE:
        return False
    answered = threading.Event()

    def probe() -> None:
        try:
            httpx2.head(constants.ENDPOINT, timeout=PROBE_SECONDS)
            answered.set()
        except httpx2.HTTPError:
            pass

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    if not answered.is_set():
        # for whatever else in this process, or below it, would ask the hub
        os.environ["HF_HUB_OFFLINE"] = "1"
    return answered.is_set()


def all_of(finds: Sequence[Callable[[], Found]]) -> list[Found]:
    """The results of all, and what is missing of any named at once.

    Raises:
        UserError: the hub is away and something isn't cached.
    """
    results: list[Found] = []
    missing: list[NotAvailable] = []
    for find in finds:
        try:
            results.append(find())
        except NotAvailable as error:
            missing.append(error)
    if missing:
        whats = dict.fromkeys(error.what for error in missing)
        remedies = dict.fromkeys(error.remedy for error in missing)
        raise UserError(
            f"the hub can't be reached and nothing is cached of: {', '.join(whats)}. "
            f"Three ways on: give local copies ({' '.join(remedies)}; data_root=FOLDER for several tasks), "
            "connect once so that they are cached, or run `make demo`, which needs no hub"
        )
    return results


def fetch(
    repo: str,
    revision: str,
    patterns: Sequence[str],
    kind: Literal["model", "dataset"],
    remedy: str,
) -> Path:
    """The folder with the files of `repo` that match `patterns`; its name is the resolved commit.

    Raises:
        NotAvailable: the hub is away and the files are not cached.
        UserError: the hub refuses (no such repository or revision, no access), breaks off, stalls, or what answers
            isn't a hub.
    """
    download = partial(
        snapshot_download,
        repo,
        revision=revision,
        repo_type=kind,
        allow_patterns=list(patterns),
        local_files_only=not reachable(),
    )
    place = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type=kind)
    try:
        return Path(watched(download, place))
    except LocalEntryNotFoundError as error:
        raise NotAvailable(f"{kind} {repo} ({revision})", remedy) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError) as error:
        raise UserError(
            f"the hub has no {kind} {repo} at revision {revision} that this account may read: "
            f"check the name, log in with `hf auth login`, or give {remedy}"
        ) from error
    except (HfHubHTTPError, httpx2.HTTPError, OSError, RuntimeError) as error:  # RuntimeError: hf-xet's
        raise UserError(
            f"the download of {kind} {repo} broke off ({type(error).__name__}: {reason(error)}): run the same "
            f"command again, it goes on where it stopped, or give {remedy}"
        ) from error
    except Stalled as error:
        raise UserError(
            f"the download of {kind} {repo} stands still ({error}): run the same command again, it goes on where it "
            f"stopped, or give {remedy}"
        ) from error
    except Exception as error:  # a library that takes an answer for the hub's may raise anything
        raise UserError(
            f"what answers at {constants.ENDPOINT} isn't the hub ({type(error).__name__}: {reason(error)}): log in to "
            f"the network, check HF_ENDPOINT, or give {remedy}"
        ) from error


class Stalled(Exception):
    """A download that makes no progress."""


def watched(download: Callable[[], Found], place: Path) -> Found:
    """The result of a download, which must put at least `LEAST` bytes below `place` every `PATIENCE` seconds.

    It runs in a thread, which can't be stopped: where it hangs, it is left behind.

    Raises:
        Stalled: it doesn't.
    """
    outcome: Future[Found] = Future()

    def work() -> None:
        try:
            outcome.set_result(download())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            outcome.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    before = size(place)
    while True:
        try:
            return outcome.result(PATIENCE)
        except TimeoutError:
            if outcome.done():  # its own
                raise
            now = size(place)
            if now - before < LEAST:
                raise Stalled(f"{now - before:,} bytes in {PATIENCE:.0f} seconds") from None
            before = now


def size(folder: Path) -> int:
    """Bytes of the files below a folder; files may go while this looks."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size
    return total
