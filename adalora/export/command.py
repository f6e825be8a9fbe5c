"""The command of `scripts/export.py`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import transformers
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from adalora.errors import UserError
from adalora.export import merged, peft
from adalora.export.card import base_of, card
from adalora.export.trained import Trained, load_run
from adalora.files import CHOOSE, new_folder, writing

CARD = "README.md"
ELSEWHERE = CHOOSE.format("out")
OPTIONS = ("to", "out", "type", "push", "model.path")
ALLOWED = {"to": ("peft", "merged", "card"), "type": ("auto", "lora")}


def export(arguments: Sequence[str]) -> str:
    """Run `RUN to=... out=... [type=...] [push=...] [model.path=...]` and return a line for the user.

    Raises:
        UserError: the arguments are wrong, or the run can't be exported; the message says why.
    """
    run, options = parsed(arguments)
    out, to = Path(options["out"]).expanduser(), options["to"]
    taken = out / CARD if to == "card" else out
    if taken.is_file() or (to != "card" and out.is_dir() and any(out.iterdir())):
        raise UserError(f"out={options['out']}: {taken} already exists, choose another folder")
    if "push" in options:
        with reaching(options["push"], "nothing is exported") as api:
            api.whoami()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    trained = load_run(run, options.get("model.path"))
    text = card(trained, to, options.get("push", options["out"] if to != "card" else str(run)))
    if to == "card":
        with writing(out, ELSEWHERE):
            out.mkdir(parents=True, exist_ok=True)
            (out / CARD).write_text(text, encoding="utf-8")
    else:
        with new_folder(out, remedy=ELSEWHERE) as place:
            write(place, trained, to, options)
            (place / CARD).write_text(text, encoding="utf-8")
    if "push" in options:
        with reaching(options["push"], f"the export is in {out}") as api:
            api.create_repo(options["push"], exist_ok=True)
            api.upload_folder(repo_id=options["push"], folder_path=str(out))
    return str(out)


def parsed(arguments: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """Parse the run folder and the options. Raises `UserError`."""
    runs = [argument for argument in arguments if "=" not in argument]
    if len(runs) != 1:
        raise UserError(f"give one run folder, not {len(runs)} (--help shows how)")
    options = {"type": "auto"} | dict(a.split("=", 1) for a in arguments if "=" in a)
    for name in options:
        if name not in OPTIONS:
            raise UserError(f"there is no option {name}: allowed are {', '.join(OPTIONS)}")
    for name in ("to", "out"):
        if not options.get(name):
            raise UserError(f"{name}= is missing (--help shows how)")
    for name, values in ALLOWED.items():
        if options[name] not in values:
            raise UserError(f"{name}={options[name]}: allowed are {', '.join(values)}")
    return Path(runs[0]).expanduser(), options


def write(place: Path, trained: Trained, to: str, options: dict[str, str]) -> None:
    """Write the export's files, except the card."""
    model, method, config = trained.model, trained.method, trained.config
    if to == "merged":
        merged.save(place, model, method)
    else:
        form: peft.Form = "lora" if options["type"] == "lora" else "auto"
        peft.save(place, model, method, config.model.head, base_of(config), config.task.peft_type, form)
        base: Any = model
        base.config.save_pretrained(place)  # for the class names, which PEFT's files lack
    trained.tokenizer.save_pretrained(place)


@contextmanager
def reaching(repo: str, kept: str) -> Iterator[HfApi]:
    """Turn the hub's errors into `UserError`; `kept` says what is there already."""
    try:
        yield HfApi()
    except (HfHubHTTPError, HFValidationError, httpx2.HTTPError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"push={repo}: {reason}; {kept}: log in with `hf auth login`, or use `hf upload` later"
        ) from error
