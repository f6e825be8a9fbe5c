"""Simulate the coverage of the intervals and the false-positive rate of the tests (docs/statistics.md):

python -m scripts.coverage
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np

from adalora.statistics.over_tasks import bootstrap
from adalora.statistics.paired import ALPHA, sign_flip, stratified_interval
from adalora.statistics.seeds import Interval, bca_interval, spread, t_interval

SEEDS = (3, 5, 10)
TASKS = 8  # tasks in GLUE
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
SOURCES: dict[str, tuple[Draw, float]] = {  # distribution of a cell's scores, and its mean
    "normal": (lambda rng, size: rng.normal(size=size), 0.0),
    "RTE-like, k/277 at 86 %": (lambda rng, size: rng.binomial(277, 0.86, size) / 277, 0.86),
    "skewed (a run in ten fails)": (lambda rng, size: rng.normal(size=size) - 5 * (rng.random(size) < 0.1), -0.5),
}


def share(hits: Iterator[bool]) -> str:
    """Format the percentage of hits."""
    return f"{100 * np.mean(list(hits)):.1f} %"


def covers(interval: Interval | None, truth: float) -> bool:
    """Whether an interval contains the truth; one without spread doesn't."""
    return interval is not None and interval[0] <= truth <= interval[1]


def coverage(sims: int) -> Iterator[list[str]]:
    """Rows of the first table."""
    for name, (draw, truth) in SOURCES.items():
        for n in SEEDS:
            x = draw(np.random.default_rng(n), (sims, n))
            yield [
                name, str(n), share(covers(t_interval(row), truth) for row in x),
                share(covers(bca_interval(row, resamples=999), truth) for row in x[: sims // 5]),
            ]  # fmt: skip


def over_tasks(sims: int) -> Iterator[list[str]]:
    """Rows of the second table: a mean over tasks whose spreads differ by a factor of five."""
    scale = np.linspace(0.2, 1.0, TASKS)
    for n in SEEDS:
        x = np.random.default_rng(n).normal(size=(sims, TASKS, n)) * scale[:, None]
        welch = share(covers(stratified_interval(list(tasks)), 0.0) for tasks in x)
        percentile = (
            bootstrap(
                {"one": {str(i): row for i, row in enumerate(tasks)}},
                lambda scores: np.mean([part.mean(axis=-1) for part in scores[0]], axis=0, keepdims=True),
            )[0].interval
            for tasks in x[: sims // 10]
        )  # fmt: skip
        yield [str(n), welch, share(covers(interval, 0.0) for interval in percentile)]


def size(sims: int) -> Iterator[list[str]]:
    """Rows of the third table: equal methods, so every decision is a false positive."""
    for name, (draw, _) in SOURCES.items():
        for n in SEEDS:
            rng = np.random.default_rng(n)
            d = draw(rng, (sims, n)) - draw(rng, (sims, n))
            tasks = draw(rng, (sims // 5, TASKS * n)) - draw(rng, (sims // 5, TASKS * n))
            ttest = (covers(t_interval(row), 0.0) or not spread(row) for row in d)
            yield [
                name, str(n), f"{2 / 2**n:.3g}", share((sign_flip(row)[0] or 1) <= ALPHA for row in d),
                share(not inside for inside in ttest), share((sign_flip(row)[0] or 1) <= ALPHA for row in tasks),
            ]  # fmt: skip


def table(header: list[str], rows: Iterator[list[str]]) -> str:
    """Markdown."""
    lines = [header, ["-" * len(cell) for cell in header], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Coverage of the intervals and size of the tests, by simulation.")
    parser.add_argument("--sims", type=int, default=2_000, help="simulated entries a row (%(default)s)")
    sims = parser.parse_args().sims
    print(table(["scores of an entry", "seeds", "t interval", "BCa"], coverage(sims)), end="\n\n")
    print(table(["seeds", "mean over 8 tasks, Welch", "percentile bootstrap"], over_tasks(sims)), end="\n\n")
    head = ["scores of an entry", "seeds", "smallest p", "sign flip, an entry", "t, an entry", "sign flip, 8 tasks"]
    print(table(head, size(sims)))


if __name__ == "__main__":
    main()
