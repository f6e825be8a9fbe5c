"""The page of verdicts: claims, our results and their uncertainty."""

import csv
import io
from collections.abc import Sequence

from adalora.reporting.comparisons import NOT_RUN, Part
from adalora.reporting.render import Document, Grid
from adalora.reporting.verdicts import VERDICTS, Group, Verdict
from adalora.statistics.seeds import Interval

HEADER = ["Claim", "Verdict", "n", "Comparison", "published", "ours", "95 % interval", "p", "least p", "seeds needed"]
TITLE = "The papers' claims and our runs"
INTRO = (
    "Differences in points, paired by seed; for costs by how much the ratio exceeds the largest printed one, for "
    "ranks the difference in mean rank. p: exact two-sided sign-flip test, Holm-corrected over a claim's comparisons; "
    "least p: the smallest that n pairs can give. Seeds needed: to decide a difference of the published size at the "
    "observed spread. A claim is reproduced if every comparison holds at p <= 0.05, partly reproduced if some do, not "
    "reproduced if none does and one fails, else undecided (docs/statistics.md)."
)
ELSEWHERE = (
    "The same comparisons on other backbones, or on rows that aren't the official ones. They show how the methods "
    "compare there and say nothing about the papers' claims. Seeds needed: for a difference of the observed size."
)
FIELDS = (
    "model", "claim", "place", "verdict", "comparison", "state", "published", "ours", "low", "high", "n", "p",
    "least_p", "seeds_needed", "seeds", "notes",
)  # fmt: skip


def claims_document(verdicts: Sequence[Verdict], others: Sequence[Group]) -> Document:
    """The page for Markdown and LaTeX. Claims without runs are only named; the CSV has their comparisons."""
    counts = ", ".join(f"{sum(v.verdict == name for v in verdicts)} {name}" for name in VERDICTS)
    run = [verdict for verdict in verdicts if verdict.verdict != NOT_RUN]
    left = [verdict.claim.id for verdict in verdicts if verdict.verdict == NOT_RUN]
    caption = [f"{len(verdicts)} claims: {counts}.", *([f"Not run: {', '.join(left)}."] if left else [])]
    grids = [grid(TITLE, caption, run)]
    grids += [grid(f"Methods against each other: {title}", [ELSEWHERE], found) for title, found in others]
    claims = {verdict.claim.id: verdict.claim for group in (run, *(found for _, found in others)) for verdict in group}
    notes = [f"{claim.id}: {claim.statement} ({claim.place}), {claim.step} step." for claim in claims.values()]
    return Document(TITLE, [INTRO], grids, notes)


def grid(title: str, caption: list[str], verdicts: Sequence[Verdict]) -> Grid:
    """A table with one block per claim."""
    blocks = []
    for verdict in verdicts:
        lines = [["", "", *cells(part)] for part in verdict.parts]
        lines[0][:2] = [verdict.claim.id, verdict.verdict]
        blocks.append(lines)
    return Grid(title, caption, HEADER, blocks)


def cells(part: Part) -> list[str]:
    """The columns of a comparison, starting with n."""
    found = part.found
    name = f"{part.name}: {part.state}" + (f" ({'; '.join(part.notes)})" if part.notes else "")
    published = "" if part.published is None else f"{part.published:+.2f}"
    if found is None:
        return ["", name, published, *[""] * 5]
    return [
        str(found.n), name, published, f"{found.mean:+.2f}", span(found.interval), probability(part.p),
        probability(found.smallest_p), "" if part.needed is None else str(part.needed),
    ]  # fmt: skip


def span(interval: Interval | None) -> str:
    """Format an interval; empty for None."""
    return "" if interval is None else f"{interval[0]:+.2f} to {interval[1]:+.2f}"


def probability(p: float | None) -> str:
    """Format a p-value with two significant digits; empty for None."""
    return "" if p is None else f"{p:.2g}"


def claims_table(verdicts: Sequence[Verdict], others: Sequence[Group]) -> str:
    """Write one CSV line per comparison; `model` is empty for the papers' backbones."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    for model, group in [("", verdicts), *others]:
        for verdict in group:
            for part in verdict.parts:
                found = part.found
                low, high = (found.interval if found else None) or (None, None)
                writer.writerow({
                    "model": model, "claim": verdict.claim.id, "place": verdict.claim.place, "verdict": verdict.verdict,
                    "comparison": part.name, "state": part.state, "published": part.published,
                    "ours": found.mean if found else None, "low": low, "high": high, "n": found.n if found else None,
                    "p": part.p, "least_p": found.smallest_p if found else None, "seeds_needed": part.needed,
                    "seeds": " ".join(map(str, part.seeds)), "notes": "; ".join(part.notes),
                })  # fmt: skip
    return text.getvalue()
