"""Export a finished run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx2
import transformers
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from adalora.errors import UserError
from adalora.export import peft
from adalora.export.card import base_of, card
from adalora.files.writing import CHOOSE, new_folder, write_text
from adalora.run.trained import Trained, load_run

CARD = "README.md"
ELSEWHERE = CHOOSE.format("--out")
To = Literal["peft", "merged", "card"]


def export(
    run: Path, to: To, out: Path, form: peft.Form = "lora", push: str | None = None, backbone: str | None = None
) -> None:
    """Write an export of a run into folder `out`, with a model card.

    Args:
        run: the run folder.
        to: a PEFT adapter, a plain model with merged weights, or the card alone.
        out: a folder that is new or empty; for the card, one without README.md.
        form: of AdaLoRA's triplets in PEFT.
        push: a repository on the hub to upload the folder to.
        backbone: the folder of the run's backbone, if that isn't where it was.

    Raises:
        UserError: the run can't be exported, or a folder or the hub can't be written; the message says why.
    """
    if form != "lora" and to != "peft":
        raise UserError(f"--form {form} is for --to peft, not --to {to}")
    taken = out / CARD if to == "card" else out
    if taken.is_file() or (to != "card" and out.is_dir() and any(out.iterdir())):
        raise UserError(f"--out {out}: {taken} already exists, choose another folder")
    if push is not None:
        with reaching(push, "nothing is exported") as api:
            api.whoami()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    trained = load_run(run, backbone)
    if to == "merged" and trained.config.model.grafted and trained.config.model.model_type == "bart":
        raise UserError(
            f"{run}: BART's configuration has no place for BERT's LayerNorm epsilon, so a plain model would compute "
            "something else: use --to peft"
        )
    text = card(trained, to, run.name if to == "card" else push or out.name)
    if to == "card":
        write_text(out / CARD, text, ELSEWHERE)
    else:
        with new_folder(out, remedy=ELSEWHERE) as new:
            write(new, trained, to, form)
            (new / CARD).write_text(text, encoding="utf-8")
    if push is not None:
        with reaching(push, f"the export is in {out}") as api:
            api.create_repo(push, exist_ok=True)
            api.upload_folder(repo_id=push, folder_path=str(out), allow_patterns=CARD if to == "card" else None)


def write(folder: Path, trained: Trained, to: To, form: peft.Form) -> None:
    """Write the export's files, except the card."""
    model: Any = trained.model
    method, config = trained.method, trained.config
    if to == "merged":
        method.merge(model)
        model.save_pretrained(folder)
    else:
        whole = [*config.model.head, *config.model.train_modules]
        peft.save(folder, model, method, whole, base_of(config), config.task.peft_type, form)
        model.config.save_pretrained(folder)  # for the class names, which PEFT's files lack
    trained.tokenizer.save_pretrained(folder)


@contextmanager
def reaching(repo: str, kept: str) -> Iterator[HfApi]:
    """Turn the hub's errors into `UserError`; `kept` says what is there already."""
    try:
        yield HfApi()
    except (HfHubHTTPError, HFValidationError, httpx2.HTTPError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"--push {repo}: {reason}; {kept}: log in with `hf auth login`, or use `hf upload` later"
        ) from error
