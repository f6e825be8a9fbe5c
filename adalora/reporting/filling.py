"""Fill in the templates of Markdown pages."""

import traceback
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateSyntaxError

from adalora.errors import UserError
from adalora.files.reading import read_text, reason
from adalora.reporting.tables import probability, signed, span


def fill(path: Path, **values: Any) -> str:
    """Fill in a template of a Markdown page. Raises `UserError` if it has a mistake."""
    environment = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "signed": signed, "span": span, "p": probability, "mean": mean, "median": median, "std": stdev,
    }  # fmt: skip
    template = read_text(path, "restore it")
    try:
        return environment.from_string(template).render(values).rstrip() + "\n"
    except TemplateSyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.message}") from error
    except Exception as error:  # whatever the template's expressions raise
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == "<template>"), "?")
        raise UserError(f"{path}, line {line}: {type(error).__name__}: {reason(error)}") from error
