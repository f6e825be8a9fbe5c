"""Logged values over steps, averaged over seeds."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adalora.paths import layer_of, matches
from adalora.reading import Damaged, read_lines

POINTS = 60  # most points of a curve: more can't be seen at 270 pixels

Lines = list[dict[str, Any]]


def read_log(path: Path) -> tuple[Lines, str | None]:
    """Read a metrics.jsonl or ranks.jsonl; also return what is wrong with it, if anything."""
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
    """A function that returns the value of a key, if a line has it."""
    return lambda line: scale * line[key] if key in line else None


def over_seeds(runs: Sequence[Lines], value: Callable[[Mapping[str, Any]], float | None]) -> list[dict[str, float]]:
    """Compute `step`, `mean`, `low` and `high` (range of the seeds) of a value, at steps that all runs have."""
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
    """Compute `stack`, `layer`, `map` and the mean `rank` over the seeds for every adapted map."""
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
    """`over_seeds` of the mean rank of each kind of map, with its short name as `name`."""
    rows = []
    known = {path for lines in runs for path in lines[0]}
    for name, pattern in targets.items():
        paths = [path for path in known if matches(path, pattern)]

        def mean(line: Mapping[str, Any], paths: Sequence[str] = paths) -> float | None:
            found = [line[path] for path in paths if path in line]
            return statistics.mean(found) if found else None

        rows += [{**row, "name": name} for row in over_seeds(runs, mean)]
    return rows
