"""What runs logged over their steps, averaged over seeds."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adalora.paths import layer_of, matches
from adalora.reading import Damaged, read_lines

POINTS = 60  # of a curve: at 270 pixels more can hardly be seen

Lines = list[dict[str, Any]]


def read_log(path: Path) -> tuple[Lines, str | None]:
    """The lines of a metrics.jsonl or ranks.jsonl, and what is wrong with it: it is missing, or ends early."""
    place = f"{path.parent.name}/{path.name}"
    try:
        found, unreadable = read_lines(path)
    except Damaged as error:
        return [], f"{place}: {error.reason}"
    lines: Lines = [{"step": line.step, **line.numbers} for _, line in found]
    if not lines:
        return lines, f"{place}: no such file, or an empty one"
    return lines, f"{place}: {unreadable} lines can't be read" if unreadable else None


def logged(key: str, scale: float = 1.0) -> Callable[[Mapping[str, Any]], float | None]:
    """The value of a key, where a line has it."""
    return lambda line: scale * line[key] if key in line else None


def over_seeds(runs: Sequence[Lines], value: Callable[[Mapping[str, Any]], float | None]) -> list[dict[str, float]]:
    """`step`, `mean`, `low` and `high` (the range of the seeds) of a value, at the steps that all runs have."""
    by_step: dict[int, list[float]] = defaultdict(list)
    for lines in runs:
        for line in lines:
            if (number := value(line)) is not None:
                by_step[line["step"]].append(number)
    whole = [(step, numbers) for step, numbers in sorted(by_step.items()) if len(numbers) == len(runs)]
    every = -(-len(whole) // POINTS) or 1
    kept = [pair for i, pair in enumerate(whole) if i % every == 0 or i == len(whole) - 1]
    return [{"step": s, "mean": statistics.mean(n), "low": min(n), "high": max(n)} for s, n in kept]


def mean_ranks(ranks: Iterable[Mapping[str, float]], targets: Mapping[str, str]) -> list[dict[str, Any]]:
    """`stack`, `layer`, `map` and the mean `rank` over the seeds of every adapted map."""
    values: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    for each in ranks:
        for path, rank in each.items():
            name = next((name for name, pattern in targets.items() if matches(path, pattern)), None)
            if name is not None:
                values[*layer_of(path), name].append(rank)
    return [
        {"stack": stack, "layer": layer, "map": name, "rank": statistics.mean(found)}
        for (stack, layer, name), found in values.items()
    ]


def ranks_by_map(runs: Sequence[Lines], targets: Mapping[str, str]) -> list[dict[str, Any]]:
    """`over_seeds` of the mean rank of each kind of map, `name` its short name."""
    rows = []
    known = {path for lines in runs for path in lines[0]}
    for name, pattern in targets.items():
        paths = [path for path in known if matches(path, pattern)]

        def mean(line: Mapping[str, Any], paths: Sequence[str] = paths) -> float | None:
            found = [line[path] for path in paths if path in line]
            return statistics.mean(found) if found else None

        rows += [{**row, "name": name} for row in over_seeds(runs, mean)]
    return rows
