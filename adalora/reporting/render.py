"""Render tables as Markdown and LaTeX from one grid of strings."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

LABELS = 4  # leading columns: method, budget, parameters, statistic


@dataclass(frozen=True)
class Grid:
    """A table. Each block is a group of lines; without blocks only title and caption are rendered."""

    title: str
    caption: list[str]
    header: list[str]
    blocks: list[list[list[str]]]


@dataclass
class Document:
    """A page of tables with introduction and footnotes."""

    title: str
    intro: list[str]
    grids: list[Grid]
    footnotes: list[str] = field(default_factory=list)


def markdown(document: Document) -> str:
    """Render GitHub Markdown, with columns also aligned for a terminal."""
    parts = [f"# {md(document.title)}", *map(md, document.intro)]
    for grid in document.grids:
        parts += [f"## {md(grid.title)}", *map(md, grid.caption)]
        if not grid.blocks:
            continue
        lines = [[md(cell) for cell in line] for block in grid.blocks for line in block]
        table = [[md(cell) for cell in grid.header], *lines]
        widths = [max(3, *(len(line[i]) for line in table)) for i in range(len(grid.header))]
        rule = ["-" * w if i < LABELS else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
        rows = [table[0], rule, *lines]
        parts += ["\n".join("| " + " | ".join(map(aligned, row, widths, range(len(row)))) + " |" for row in rows)]
    if document.footnotes:
        parts += ["\n".join(f"{i}. {md(note)}" for i, note in enumerate(document.footnotes, start=1))]
    return "\n\n".join(parts) + "\n"


def aligned(text: str, width: int, column: int) -> str:
    """Align labels left and numbers right."""
    return text.ljust(width) if column < LABELS else text.rjust(width)


def md(text: str) -> str:
    """Escape text for a Markdown table."""
    return re.sub(r"([|<>*`\\])", r"\\\1", one_line(text))


def one_line(text: str) -> str:
    """Collapse whitespace."""
    return " ".join(text.split())


TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "[": "{[}", "]": "{]}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip


def tex(text: str) -> str:
    """Escape text for LaTeX; signed numbers get a proper minus."""
    text = one_line(text)
    if re.fullmatch(r"[+-]\d[\d.]*", text):
        return f"${text}$"
    return "".join(TEX.get(character, character) for character in text)


def latex(document: Document) -> str:
    """Render one float per table, for a document that loads booktabs."""
    parts = [f"% {one_line(document.title)}", r"% \usepackage{booktabs}"]
    tables = [grid for grid in document.grids if grid.blocks]
    if not tables:
        parts += [f"% {one_line(text)}" for text in document.intro]
    for grid in document.grids:
        if not grid.blocks:
            parts += ["", *(f"% {one_line(text)}" for text in [f"{grid.title}.", *grid.caption])]
            continue
        columns = len(grid.header)
        caption = " ".join(map(tex, [f"{grid.title}.", *document.intro, *grid.caption]))
        blocks = [heading(block, columns) for block in grid.blocks]
        notes = document.footnotes if grid is tables[-1] else []
        parts += [
            "",
            r"\begin{table}",
            r"\centering\tiny\setlength{\tabcolsep}{2pt}",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{{'l' * (LABELS - 2)}{'r' * (columns - LABELS)}}}",
            r"\toprule",
            line(grid.header[LABELS - 2 :]),
            *(text for block in blocks for text in (r"\midrule", *block)),
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\raggedright {i}. {tex(note)}" for i, note in enumerate(notes, start=1)),
            r"\end{table}",
        ]
    return "\n".join(parts) + "\n"


def heading(block: Sequence[Sequence[str]], columns: int) -> list[str]:
    """The lines of a block, under a full-width line with its method and budget."""
    method, budget = block[0][0], block[0][1]
    label = tex(f"{method}, {budget}" if budget else method)
    return [
        rf"\multicolumn{{{columns - LABELS + 2}}}{{l}}{{{label}}} \\",
        *(line(cells[LABELS - 2 :]) for cells in block),
    ]


def line(cells: Sequence[str]) -> str:
    """One line of a tabular."""
    return " & ".join(map(tex, cells)) + r" \\"
