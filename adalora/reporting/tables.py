"""Tables of our runs, next to the published numbers where those apply, as Markdown, CSV and LaTeX.

A row is a method at a budget, as in the paper's Table 1; a cell summarises the seeds of one task. Runs that differ in
anything else are never summarised together (adalora/reporting/frame.py). Both the last and the best step are shown,
because papers differ in which they report (docs/deviations.md: D-incre-select).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from adalora.files.writing import write_text
from adalora.records.published import decimals
from adalora.reporting.columns import reach
from adalora.reporting.pages import Document, Findings, Section
from adalora.reporting.verdicts import VERDICTS

FIELDS = [
    "model", "task", "metric", "method", "budget", "variant", "n", "seeds", "median_last", "min", "max", "std",
    "mean_last", "low_last", "high_last", "bca_low_last", "bca_high_last", "median_best", "mean_best", "low_best",
    "high_best", "paper", "difference", "paper_table", "comparable", "subset", "kept", "commits",
]  # fmt: skip
PAPER_FIELDS = ("paper", "difference", "paper_table")
NUMBERS = [*FIELDS[6:7], *FIELDS[8:23], "kept"]
DECIMALS = {"paper": 2, "kept": 0, "n": 0}  # in CSV; else 4
COMPARISON = ["comparison", "n", "published", "ours", "95 % interval", "p", "least p", "seeds needed"]
CLAIMS = "The papers' claims and our runs"


@dataclass(frozen=True)
class Table:
    """A table of text. A line with one filled cell is the heading of those below it."""

    title: str
    caption: Sequence[str]
    text: pd.DataFrame


def number(value: float | None, form: str = ".2f") -> str:
    """Format a number; empty for None and NaN."""
    return "" if value is None or pd.isna(value) else format(value, form)


def signed(value: float | None, digits: int = 2) -> str:
    """Format with sign and decimals; empty for None and NaN."""
    return "" if value is None or pd.isna(value) else f"{round(value, digits) + 0.0:+.{digits}f}"


def span(interval: tuple[float, float] | None, digits: int = 2) -> str:
    """Format the interval of a difference; empty for None."""
    return "" if interval is None else f"{interval[0]:+.{digits}f} to {interval[1]:+.{digits}f}"


def probability(p: float | None) -> str:
    """Format a p-value with two significant digits; empty for None."""
    return number(p, ".2g")


def millions(count: float) -> str:
    """Format a parameter count as the paper does."""
    return f"{count / 1e6:.2f}M" if count >= 1e4 else f"{count:,.0f}"


def interval_of(cell: Mapping[str, Any]) -> tuple[float, float, bool] | None:
    """The 95 % interval of a cell's mean, or the range of the seeds (True) if the metric can't reach an end of it."""
    low, high = cell["low_last"], cell["high_last"]
    if pd.isna(low):
        return None
    lowest, highest = reach(cell["metric"])
    return (low, high, False) if lowest <= low and high <= highest else (cell["min"], cell["max"], True)


def mean_of(cell: Mapping[str, Any]) -> str:
    """A cell's mean with its interval."""
    found, digits = interval_of(cell), decimals(cell["metric"])
    if found is None:
        return number(cell["mean_last"], f".{digits}f") if cell["n"] > 1 else ""
    low, high, of_seeds = found
    ends = f"{low:.{digits - 1}f} to {high:.{digits - 1}f}"
    return f"{cell['mean_last']:.{digits}f} ({'seeds ' if of_seeds else ''}{ends})"


def value_of(cell: Mapping[str, Any], column: str) -> str:
    """A value of a cell with its metric's decimals."""
    return number(cell[column], f".{decimals(cell['metric'])}f")


def kept_of(section: Section, row: pd.DataFrame) -> float:
    """The median adapter parameters at the end of the runs behind a row; NaN if there are none."""
    paths = set().union(*row["paths"].dropna())
    return float(section.runs.loc[section.runs["path"].isin(paths), "kept"].median())


def table(section: Section, run: bool = False) -> Table:
    """The text of a table, with published numbers in lines below ours; `run`: only rows and columns that were run."""
    known = section.filled(run)
    titles = list(known["column"].unique())
    ours, subset = "ours" if section.costs else "median", ", subset" if section.subset else ""
    lines = []
    for _, group in known.groupby("row"):
        cells = group.to_dict("records")
        first, kept = cells[0], kept_of(section, group)
        named = {
            f"{ours} (n){subset}": [
                f"{value_of(c, 'median_last')} ({c['n']:.0f})" if c["n"] > 0 else "" for c in cells
            ],
            f"std{subset}": [value_of(c, "std") for c in cells],
            f"mean (95 %){subset}": list(map(mean_of, cells)),
            f"best{subset}": ["" if section.costs else value_of(c, "median_best") for c in cells],
            f"{section.source}": [value_of(c, "paper") for c in cells],
            f"{ours} - {section.source}": [signed(c["difference"]) for c in cells],
        }
        params = {
            f"{ours} (n){subset}": "" if pd.isna(kept) else millions(kept),
            section.source: group["params"].dropna().max(),
        }
        lines.append([first["label"], "", *[""] * len(titles)])
        lines += [[name, params.get(name, ""), *texts] for name, texts in named.items() if any(texts)]
    return Table(section.title, caption(section), pd.DataFrame(lines, columns=["", "# Params", *titles]))


def caption(section: Section) -> list[str]:
    """Caption of a table: model, data, seeds, commits."""
    runs = section.runs
    if runs.empty:
        return ["No run of ours yet."]
    models, data = set(), {}
    for run in runs["result"]:
        task, model = run.task, run.model
        models.add(f"{model['title']} ({model['origin']}, {model['digest'][:10]})")
        splits = ", ".join(f"{split} {count:,}" for split, count in task["rows"].items())
        text = f"{task['name']}: {task['origin']}, {splits}, digest {task['digest'][:10]}"
        data[text] = f"{text}, task version {task['version']}, trained on {task['train_split']}"
    sized = sorted(set(runs["budget"]) - {"any"})
    budget = f" Budget: {sized[0]}." if len(sized) == 1 else ""
    rows = {True: "NOT the official row counts", False: "the official row counts", None: "no official row counts"}
    return [
        f"Model: {'; '.join(sorted(models))}. Precision: {', '.join(sorted(set(runs['precision'])))}.{budget}",
        f"Data, {rows[section.subset]}: {'; '.join(data[text] for text in sorted(data))}.",
        f"Seeds: {', '.join(map(str, sorted(set(runs['seed']))))}. Commits: {', '.join(sorted(set(runs['commit'])))}.",
    ]


def claims_frame(findings: Findings) -> pd.DataFrame:
    """One row per comparison, and one for a claim without any; `model` is empty for the papers' backbones."""
    judged = [("", each) for each in findings.verdicts]
    judged += [(model, each) for model, group in findings.elsewhere for each in group]
    rows: list[dict[str, Any]] = []
    for verdict in findings.verdicts:
        if verdict.claim.lacks:
            claim = {"model": "", "claim": verdict.claim.id, "place": verdict.claim.place, "verdict": verdict.verdict}
            rows.append(claim | {"decision": verdict.verdict, "notes": f"the suite lacks {verdict.claim.lacks}"})
    for (model, verdict), part in ((pair, part) for pair in judged for part in pair[1].comparisons):
        found = vars(part.found) if part.found else {}
        low, high = found.get("interval") or (None, None)
        rows.append({
            "model": model, "claim": verdict.claim.id, "place": verdict.claim.place, "verdict": verdict.verdict,
            "comparison": part.name, "decision": str(part.decision), "digits": part.digits, "published": part.published,
            "ours": found.get("mean"),
            "low": low, "high": high, "n": found.get("n"), "p": part.p, "least_p": found.get("smallest_p"),
            "seeds_needed": part.needed, "seeds": " ".join(map(str, part.seeds)), "notes": "; ".join(part.notes),
        })  # fmt: skip
    return pd.DataFrame(rows, dtype=object)


def claims_tables(findings: Findings, frame: pd.DataFrame) -> list[Table]:
    """The papers' claims that were run, and the comparisons on other backbones."""
    counts = ", ".join(f"{sum(v.verdict == name for v in findings.verdicts)} {name}" for name in VERDICTS)
    left = [verdict.claim for verdict in findings.verdicts if not verdict.run]
    names = [f"{claim.id} (the suite lacks {claim.lacks})" if claim.lacks else claim.id for claim in left]
    about = [f"{len(findings.verdicts)} claims: {counts}.", *([f"Not run: {', '.join(names)}."] if left else [])]
    ids = [claim.id for claim in left]
    tables = [Table(CLAIMS, about, comparisons(frame[(frame["model"] == "") & ~frame["claim"].isin(ids)]))]
    for model, _ in findings.elsewhere:
        text = comparisons(frame[frame["model"] == model])
        tables.append(Table(f"Methods against each other: {model}", [findings.texts.elsewhere], text))
    return tables


def comparisons(frame: pd.DataFrame) -> pd.DataFrame:
    """The text of some comparisons, below their claims."""
    lines = []
    for (claim, verdict), group in frame.groupby(["claim", "verdict"], sort=False):
        lines.append([f"{claim}: {verdict}", *[""] * (len(COMPARISON) - 1)])
        for row in group.itertuples():
            interval = None if pd.isna(row.low) else (row.low, row.high)
            lines.append([
                f"{row.comparison}: {row.decision}" + (f" ({row.notes})" if row.notes else ""), number(row.n, "d"),
                signed(row.published, row.digits), signed(row.ours, row.digits), span(interval, row.digits),
                probability(row.p), probability(row.least_p), number(row.seeds_needed, "d"),
            ])  # fmt: skip
    return pd.DataFrame(lines, columns=COMPARISON)


def csv_of(document: Document) -> str:
    """One line per cell, with four decimals."""
    cells = pd.concat([
        section.cells.assign(model=section.model, comparable=section.comparable, subset=section.subset)
        for section in document.sections
    ]).rename(columns={"variant": "options", "name": "variant"})  # fmt: skip
    compared = any(section.source for section in document.sections)
    lines = cells[[name for name in FIELDS if compared or name not in PAPER_FIELDS]].astype(object)
    for name in lines.columns.intersection(NUMBERS):
        lines[name] = [number(value, f".{DECIMALS.get(name, 4)}f") for value in cells[name]]
    return lines.to_csv(index=False)


def markdown(title: str, about: Sequence[str], tables: Sequence[Table], notes: Sequence[str]) -> str:
    """A page as GitHub Markdown."""
    parts = [f"# {md(title)}", *map(md, about)]
    for each in tables:
        parts += [f"## {md(each.title)}", *map(md, each.caption)]
        if len(each.text):
            parts.append(grid(each.text, "pipe"))
    parts += ["\n".join(f"{i}. {md(note)}" for i, note in enumerate(notes, start=1))] if notes else []
    return "\n\n".join(parts) + "\n"


def grid(text: pd.DataFrame, form: str) -> str:
    """A table in one of tabulate's forms, the first column aligned left."""
    lines = text.copy()
    if form == "pipe":
        lines = text.map(md).rename(columns=md)
        lines[lines.columns[0]] = [
            f"**{name}**" if head else name for name, head in zip(lines.iloc[:, 0], headings(text), strict=True)
        ]
    align = ["left", *["right"] * (len(text.columns) - 1)]
    return lines.to_markdown(index=False, tablefmt=form, disable_numparse=True, colalign=align)


def headings(text: pd.DataFrame) -> pd.Series:
    """Which lines are headings."""
    return (text.iloc[:, 1:] == "").all(axis=1)


def md(text: str) -> str:
    """Escape text for a Markdown table."""
    return re.sub(r"([|<>*`\\])", r"\\\1", one_line(text))


def one_line(text: str) -> str:
    """Collapse whitespace."""
    return " ".join(text.split())


def latex(name: str, title: str, about: Sequence[str], tables: Sequence[Table], notes: Sequence[str]) -> str:
    """Tables to `\\input` into a document that loads booktabs; where they come from stands in comments."""
    parts = [rf"% {one_line(title)}: needs \usepackage{{booktabs}}", *(f"% {one_line(text)}" for text in about)]
    for i, each in enumerate(tables, start=1):
        parts += [f"% {one_line(text)}" for text in (f"{each.title}.", *each.caption)]
        if each.text.empty:
            continue
        lines = each.text.map(lambda text: f"${text}$" if re.fullmatch(r"[+-]\d[\d.]*", text) else one_line(text))
        styler = lines.style.hide(axis="index").format(escape="latex-math").format_index(escape="latex", axis=1)
        styler = styler.set_properties(subset=(headings(lines), lines.columns[0]), textbf="--rwrap")
        whole = styler.to_latex(
            hrules=True, column_format="l" + "r" * (len(lines.columns) - 1), position_float="centering",
            caption=re.sub(r"([&%$#_{}])", r"\\\1", each.title),
            label=f"tab:{name}" + (f"-{i}" if len(tables) > 1 else ""),
        )  # fmt: skip
        parts.append(whole.rstrip())
    return "\n".join([*parts, *(f"% {i}. {one_line(note)}" for i, note in enumerate(notes, start=1))]) + "\n"


def write_tables(findings: Findings, out: Path, claims: bool = True) -> list[Path]:
    """Write every page that shows a run, and `claims` if any comparison was run, as md, csv and tex.

    Args:
        findings: what to write.
        out: the folder.
        claims: whether to write `claims`.

    Raises:
        UserError: a file can't be written.
    """
    texts: dict[str, str] = {}
    for name, document in findings.documents.items():
        if document.run:
            content = document.title, document.about, list(map(table, document.sections)), document.notes
            texts |= {f"{name}.md": markdown(*content), f"{name}.csv": csv_of(document)}
            texts[f"{name}.tex"] = latex(name, *content)
    groups = [[v for v in findings.verdicts if v.run], *(found for _, found in findings.elsewhere)]
    judged = {verdict.claim.id: verdict.claim for group in groups for verdict in group}
    if judged and claims:
        notes = [f"{claim.id}: {claim.statement} ({claim.place}), {claim.step} step." for claim in judged.values()]
        frame = claims_frame(findings)
        content = CLAIMS, [findings.texts.claims], claims_tables(findings, frame), notes
        texts |= {"claims.md": markdown(*content), "claims.csv": frame.drop(columns="digits").to_csv(index=False)}
        texts["claims.tex"] = latex("claims", *content)
    return [put(out, name, text) for name, text in texts.items()]


def put(out: Path, name: str, text: str) -> Path:
    """Write a file into `out`. Raises `UserError`, which names --out."""
    write_text(out / name, text, "choose another folder with --out FOLDER")
    return out / name


def shown(findings: Findings) -> str:
    """What was run, as text for a terminal."""
    sections = [section for document in findings.documents.values() for section in document.sections]
    tables = [table(section, run=True) for section in sections if len(section.runs)]
    return "\n\n".join(f"{each.title}\n{grid(each.text, 'simple')}" for each in tables)
