"""Logging: metrics.jsonl in the run folder, and wandb (docs/wandb.md lists the names)."""

import hashlib
import io
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adalora import __version__
from adalora.config.schema import Resolved
from adalora.files.reading import read_lines, reason
from adalora.files.writing import write_text, writing
from adalora.paths import ROOT
from adalora.records.provenance import commit

if TYPE_CHECKING:
    from matplotlib.figure import Figure


SAMPLES = 48  # rows of public data whose text and prediction are logged
PATHS = ("path", "data_dir", "train_file", "eval_file", "init_from", "data_root")  # options of the machine
SHARED = ("project", "entity", "notes")  # shared by all runs, or set by the user


class Log:
    """A log with one JSON object per line: `step`, and values under names with slashes, which don't change.

    On resume, the lines after the checkpoint are dropped, because the run repeats those steps.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digest = hashlib.sha256()

    def start(self, step: int, digest: str | None) -> bool:
        """Keep the lines up to `step`; at step 0 the run starts over and none are kept.

        Args:
            step: the checkpoint's step.
            digest: `sha256` at that time, None at step 0.

        Returns:
            Whether the kept lines match the digest.
        """
        lines, _ = read_lines(self.path) if step else ([], 0)
        text = "".join(f"{text}\n" for text, line in lines if line.step <= step)
        write_text(self.path, text)
        self.digest = hashlib.sha256(text.encode())
        return digest is None or self.sha256 == digest

    @property
    def sha256(self) -> str:
        """Digest of all lines of this run."""
        return self.digest.hexdigest()

    def lines(self) -> list[dict[str, Any]]:
        """All valid lines; a line cut off in the middle, for example, isn't."""
        return [{"step": line.step, **line.numbers} for _, line in read_lines(self.path)[0]]

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one line."""
        line = json.dumps({"step": step, **values}) + "\n"
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line)
        self.digest.update(line.encode())


def wandb_settings() -> Any:
    """wandb's settings from wherever it takes them: environment, the user's settings file, `wandb/settings` in the
    working folder. `model_fields_set` has the names of those that are set."""
    from wandb.sdk import wandb_setup

    return wandb_setup.singleton().settings


def wandb_mode() -> str:
    """Where wandb logs: as the user has set, else online if wandb finds credentials, and offline if not."""
    from wandb.sdk.lib import wbauth

    settings = wandb_settings()
    if "mode" in settings.model_fields_set:
        return settings.mode
    found = wbauth.authenticate_session(host=settings.base_url, source="adalora", prompt=False, update_session=False)
    return "online" if found else "offline"


def destination(config: Resolved) -> str:
    """Where a run will be logged, in a few words."""
    if config.tracking == "none":
        return "metrics.jsonl in the run's folder"
    try:
        mode, settings = wandb_mode(), wandb_settings()
    except Exception as error:  # noqa: BLE001 - wandb never ends a run
        return f"wandb, which fails ({reason(error)}): metrics.jsonl in the run's folder has every number"
    if mode in ("online", "shared"):
        rows = config.wandb.samples
        text = f"{SAMPLES} rows of text if the data are public" if rows is None else f"{rows} rows of text"
        return f"wandb, uploaded to {settings.base_url}, with {text}"
    return f"wandb, {mode}"


def samples_of(config: Resolved, own: bool) -> int:
    """Rows whose text and prediction are logged: `wandb.samples`, else none of data of one's own (from files)."""
    wanted = config.wandb.samples
    return wanted if wanted is not None else 0 if own else SAMPLES


class Wandb:
    """A wandb run that can't break training: after its first failure it warns once and stays silent.

    It writes into `wandb/` in the folder and prints nothing. It is offline unless logged in.

    Args:
        folder: the run folder.
        about: arguments of `wandb.init`: name, group, job_type, tags, config.
        key: key of a training run. Its wandb id is kept in the folder, so that a resumed run continues the same one.
        warn: called with one line for the user.
    """

    def __init__(
        self, folder: Path, about: Mapping[str, Any], warn: Callable[[str], None], key: str | None = None
    ) -> None:
        self.folder, self.warn = folder, warn
        self.run: Any = None
        self.data_dir = os.environ.get("WANDB_DATA_DIR")
        os.environ["WANDB_DATA_DIR"] = self.data_dir or str((folder / "wandb" / "data").absolute())
        code = {"commit": commit(), "version": __version__}
        options: dict[str, Any] = {"dir": folder, **about}
        options["config"] = {**about["config"], "code": code}
        try:
            if key is not None:
                options["id"] = self._id(re.sub(r"[^\w.-]", "", f"{about['name']}-{key}"))
            mode = wandb_mode()
            options["project"] = options.get("project") or wandb_settings().project or "adalora"
        except Exception as error:  # noqa: BLE001
            self._give_up(error)
            return
        if mode == "online":
            try:
                self.run = self._init(options | {"mode": "online", "resume": "allow"})
                return
            except Exception as error:  # noqa: BLE001
                warn(f"wandb can't be reached ({reason(error)}): logging offline, see docs/wandb.md")
                mode = "offline"
                self._let_go()
        try:
            self.run = self._init(options | {"mode": mode})
        except Exception as error:  # noqa: BLE001
            self._give_up(error)

    @staticmethod
    def _init(options: Mapping[str, Any]) -> Any:
        import wandb

        ours: dict[str, Any] = {
            "silent": True, "console": "off", "init_timeout": 30, "finish_timeout": 120, "finish_timeout_raises": True,
            "reinit": "create_new",  # a failed run of an earlier job may still be open
            "git_root": str(ROOT) if (ROOT / ".git").exists() else None,
        }  # fmt: skip
        users = wandb_settings().model_fields_set  # an explicit setting of the user's wins
        settings = wandb.Settings(**{name: value for name, value in ours.items() if name not in users})
        if "silent" not in users:
            wandb.setup(settings=wandb.Settings(silent=True))  # the library's own warnings
        return wandb.init(**options, settings=settings)

    @staticmethod
    def _let_go() -> None:
        """Stop wandb's service process after a failed start."""
        import wandb

        with suppress(Exception):
            wandb.teardown(exit_code=1)

    def _id(self, name: str) -> str:
        """The wandb id given at the first start. The key alone won't do: wandb never reuses a deleted run's id, and a
        copy of the folder would overwrite the run."""
        path = self.folder / "wandb" / "id"
        if not path.exists():
            write_text(path, f"{name}-{secrets.token_hex(3)}")
        return path.read_text(encoding="utf-8")

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Log the values of one step. Steps that an online run already has are dropped: a resumed run repeats them."""
        self._attempt(lambda run, _: run.log(dict(values), step=step) if step >= run.step else None)

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Set summary values of the run."""
        self._attempt(lambda run, _: run.summary.update(dict(values)))

    def image(self, step: int, name: str, make: Callable[[], "Figure"]) -> None:
        """Log a figure for one step; it is only drawn if needed."""

        def log(run: Any, wandb: Any) -> None:
            from PIL import Image

            if step >= run.step:
                file = io.BytesIO()
                make().savefig(file, dpi=80, format="png")
                run.log({name: wandb.Image(Image.open(file))}, step=step)

        self._attempt(log)

    def table(self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Log a table that the dashboard can filter and group."""

        def log(run: Any, wandb: Any) -> None:
            table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
            run.log({name: table}, step=max(step, run.step))

        self._attempt(log)

    def files(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Log files as an artifact."""

        def log(run: Any, wandb: Any) -> None:
            artifact = wandb.Artifact(name, type=kind)
            for path in paths:
                artifact.add_file(str(path))
            run.log_artifact(artifact)

        self._attempt(log)

    def page(self, name: str, path: Path) -> None:
        """Log an HTML page."""
        self._attempt(lambda run, wandb: run.log({name: wandb.Html(path.read_text("utf-8"), inject=False)}))

    def finish(self, exit_code: int) -> None:
        """Finish the run; it counts as failed unless `exit_code` is 0."""
        self._attempt(lambda run, _: run.finish(exit_code=exit_code))
        self.run = None
        if self.data_dir is None:
            os.environ.pop("WANDB_DATA_DIR", None)

    def _attempt(self, action: Callable[[Any, Any], None]) -> None:
        """Call `action` with the run and wandb."""
        if self.run is None:
            return
        try:
            import wandb

            action(self.run, wandb)
        except Exception as error:  # noqa: BLE001 - whatever it is, the training is worth more
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.run = None
        self.warn(f"wandb failed ({reason(error)}): going on without it, the files on disk have every number")


def about_run(config: Resolved, budget: str, key: str) -> dict[str, Any]:
    """Arguments of `wandb.init` for a training run. Our options win over wandb's environment variables, and those over
    our defaults.

    Args:
        config: the resolved configuration.
        budget: the budget's name in the run folder's path.
        key: the run's key.
    """
    model, task, method, filed = config.model.name, config.task.name, config.method.name, config.wandb
    tags = [tag.strip() for tag in os.environ.get("WANDB_TAGS", "").split(",")]
    others = {name: getattr(filed, name) or os.environ.get(f"WANDB_{name.upper()}") for name in SHARED}
    options = {"tracking", "wandb", "cache_dir", "run_root"}  # belongs to the machine and account, not to the run
    return {
        "name": filed.name or os.environ.get("WANDB_NAME") or f"{task}-{method}-{budget}-seed{config.seed}",
        "group": filed.group or os.environ.get("WANDB_RUN_GROUP") or f"{model}-{task}-{method}-{budget}",
        "job_type": method,
        "tags": list(dict.fromkeys(filter(None, [task, method, budget, model, *tags, *filed.tags]))),
        **{name: value for name, value in others.items() if value},
        "config": names_only({name: value for name, value in asdict(config).items() if name not in options})
        | {"key": key},
    }


def names_only(options: Any) -> Any:
    """Options with the names of files and folders instead of their paths."""
    if not isinstance(options, dict):
        return options
    return {
        key: Path(value).name if key in PATHS and isinstance(value, str) else names_only(value)
        for key, value in options.items()
    }
