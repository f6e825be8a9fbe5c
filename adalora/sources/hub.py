"""Get files from the hub, or fail within seconds if it can't be reached."""

import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import httpx2  # the HTTP library of huggingface_hub, for its exceptions
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
PATIENCE, LEAST = 30.0, 10_000  # seconds, and the bytes that a download must transfer in that time
Found = TypeVar("Found")


class NotAvailable(UserError):
    """The hub can't be reached and the files aren't cached. `what` is missing, `remedy` is a local alternative."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} is not cached and the hub can't be reached")
        self.what, self.remedy = what, remedy


@functools.cache
def reachable() -> bool:
    """Whether the hub answers within `PROBE_SECONDS`; immediately False if HF_HUB_OFFLINE is set.

    Called before any library call, because those retry for half a minute. The probe runs in a thread because DNS
    look-ups have no timeout.
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
        # for other code in this process and its children
        os.environ["HF_HUB_OFFLINE"] = "1"
    return answered.is_set()


def all_of(finds: Sequence[Callable[[], Found]]) -> list[Found]:
    """Call all functions and return their results; report everything missing at once.

    Raises:
        UserError: the hub can't be reached and something isn't cached.
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
            f"the hub can't be reached, and these aren't cached: {', '.join(whats)}. "
            f"Either give local copies ({' '.join(remedies)}; data_root=FOLDER for several tasks), "
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
    """Download the files of `repo` that match `patterns`; the returned folder is named after the resolved commit.

    Raises:
        NotAvailable: the hub can't be reached and the files aren't cached.
        UserError: the repository or revision doesn't exist or isn't accessible, the download fails or stalls, or the
            server isn't a hub.
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
    except (HfHubHTTPError, httpx2.HTTPError, OSError, RuntimeError) as error:  # RuntimeError comes from hf-xet
        raise UserError(
            f"the download of {kind} {repo} failed ({type(error).__name__}: {reason(error)}): run the same "
            f"command again, it resumes where it stopped, or give {remedy}"
        ) from error
    except Stalled as error:
        raise UserError(
            f"the download of {kind} {repo} has stalled ({error}): run the same command again, it resumes where it "
            f"stopped, or give {remedy}"
        ) from error
    except Exception as error:  # if something else answers, the library may raise anything
        raise UserError(
            f"what answers at {constants.ENDPOINT} isn't the hub ({type(error).__name__}: {reason(error)}): log in to "
            f"the network, check HF_ENDPOINT, or give {remedy}"
        ) from error


class Stalled(Exception):
    """A download makes no progress."""


def watched(download: Callable[[], Found], place: Path) -> Found:
    """Run a download that must write at least `LEAST` bytes below `place` every `PATIENCE` seconds.

    It runs in a thread, which can't be stopped; if it hangs, it is abandoned.

    Raises:
        Stalled: it makes no progress.
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
            if outcome.done():  # raised by the download itself
                raise
            now = size(place)
            if now - before < LEAST:
                raise Stalled(f"{now - before:,} bytes in {PATIENCE:.0f} seconds") from None
            before = now


def size(folder: Path) -> int:
    """Total bytes of the files below a folder; files may disappear meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size
    return total
