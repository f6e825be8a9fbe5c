"""What is logged: metrics.jsonl in the run folder always, wandb beside it."""

import json
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from adalora.files import write_text, writing


class Log:
    """One JSON object a line: `step`, and values under stable slash-grouped names.

    On resumption the lines after the checkpoint are dropped: the run goes through them again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, step: int) -> None:
        """Keep the lines up to `step` only."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        kept = [line for line in lines if _step(line) is not None and _step(line) <= step]  # type: ignore[operator]
        write_text(self.path, "".join(f"{line}\n" for line in kept))

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one line."""
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def _step(line: str) -> int | None:
    """The step of a line; None for one that was cut off in the middle."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None


def logged_in() -> bool:
    """Whether wandb would find an API key: WANDB_API_KEY, or an entry in ~/.netrc."""
    import wandb

    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(wandb.Settings().base_url).hostname
    try:
        return bool(host and netrc.netrc().authenticators(host))
    except (OSError, netrc.NetrcParseError):
        return False


def start_wandb(folder: Path, key: str, config: dict[str, Any]) -> Any:
    """A wandb run in the run's folder: offline unless logged in, continued under the same id.

    Args:
        folder: the run's folder.
        key: the run's key, which becomes part of wandb's id.
        config: the resolved configuration.
    """
    import wandb

    model, task, method, budget = (config[part]["name"] for part in ("model", "task", "method", "budget"))
    seed = f"seed{config['seed']}"
    mode = os.environ.get("WANDB_MODE") or ("online" if logged_in() else "offline")
    return wandb.init(
        project="adalora",
        dir=folder,
        id=f"{seed}-{key}",
        resume="allow" if mode == "online" else None,
        mode=mode,  # type: ignore[arg-type]
        name=f"{task}-{method}-{budget}-{seed}",
        group=f"{model}-{task}-{method}-{budget}",
        job_type=method,
        tags=[task, method, budget, model],
        config=config,
        settings=wandb.Settings(silent=True, console="off"),
    )
