"""Write predictions for reading and for the official scripts.

docs/deviations.md: D-best-threshold.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adalora.files.writing import write_json
from tasks.squad.answers import Answers


def write_predictions(folder: Path, answers: Answers, null_threshold: float | None) -> None:
    """Write `predictions.json` ({id: text}) for the official script.

    With a threshold (v2) also `null_odds.json` ({id: float}) and `best_spans.json`, the texts before thresholding,
    which the official script needs for its best values (D-best-threshold).

    Raises:
        UserError: the folder can't be written.
    """

    def write(name: str, values: Sequence[Any]) -> None:
        write_json(folder / name, dict(zip(answers.ids, values, strict=True)))

    write("predictions.json", answers.predictions(null_threshold))
    if null_threshold is not None:
        write("null_odds.json", answers.null_odds.tolist())
        write("best_spans.json", answers.text)
