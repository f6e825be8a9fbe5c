"""Check rows of questions, choices and answers."""

import ast
import json
import re
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from adalora.errors import UserError
from tasks.answers.options import AnswersTask
from tasks.columns import as_text, blank, needed, total

LLM_ADAPTERS = ("instruction", "answer")  # columns of LLM-Adapters' rows
CHOICE = re.compile(r"\s*\bAnswer(\d+): ")
OPENING = re.compile(r"^Please [^:]*question: ?")
TRUTH = ("true", "false")


def check_rows(raw: pa.Table, task: AnswersTask, where: str) -> tuple[pa.Table, list[str]]:
    """Return the columns `row` (index in the file), `prompt`, and either `answer`, or `choices` and `gold` (index of
    the right choice); also notes for the user, such as how many rows were left out.

    `task.answer` of a choice is its text, its label (ARC's), a letter from A, or a number from 0: the first of these
    that all rows are.

    Raises:
        UserError: a column is missing or has gaps, or a row isn't valid; the message names it.
    """
    rows, notes = list(range(raw.num_rows)), []
    if task.choices and task.columns[0] not in raw.column_names and {*LLM_ADAPTERS} <= {*raw.column_names}:
        converted, rows = from_llm_adapters(raw, task, where)
        wrong, raw = raw.num_rows - len(rows), converted
        notes += [f"left out: {wrong:,} that aren't in LLM-Adapters' form"] if wrong else []
    wanted = [*task.columns, *task.choices, task.answer]
    options = "task.prompt, task.choices" if task.choices else "task.prompt"
    needed(raw, wanted, where, f"rename it, or set {options} and task.answer")
    texts = {name: as_text(raw, name, where).to_pylist() for name in task.columns}
    prompts = [task.prompt_of(dict(zip(texts, row, strict=True))) for row in zip(*texts.values(), strict=True)]
    columns: dict[str, Any] = {"row": rows, "prompt": prompts}
    answers = as_text(raw, task.answer, where)
    if not task.choices:
        table = pa.table(columns | {"answer": answers})
        empty = blank(table["answer"])
        count = total(empty)
        return table.filter(pc.invert(empty)), [f"left out: {count:,} with an empty answer"] if count else []
    choices, labels = choices_of(raw, task, where)
    gold, numbered = places([text.strip() for text in answers.to_pylist()], choices, labels, task.answer, where)
    if numbered and 0 not in gold:
        notes.append(
            f"{task.answer} is a number from 0, and 0 never occurs: if yours count from 1, give letters or texts"
        )
    return pa.table(columns | {"choices": pa.array(choices, pa.list_(pa.string())), "gold": gold}), notes


def choices_of(raw: pa.Table, task: AnswersTask, where: str) -> tuple[list[list[str]], list[list[str]] | None]:
    """The choices of every row, and their labels if they have any. Raises `UserError`."""
    if len(task.choices) > 1:
        columns = [as_text(raw, name, where).to_pylist() for name in task.choices]
        found: list[Any] = [list(row) for row in zip(*columns, strict=True)]
        labels: list[Any] = []
    else:
        (name,) = task.choices
        values = [as_json(value) for value in raw[name].to_pylist()]
        labels = [
            value["label"] for value in values if isinstance(value, dict) and isinstance(value.get("label"), list)
        ]
        found = [value.get("text") if isinstance(value, dict) else value for value in values]
    for i, row in enumerate(found):
        if not isinstance(row, list) or len(row) < 2 or not all(map(is_text, row)):
            raise UserError(f"{where}, row {i} (from 0): its choices must be two texts or more in a list")
    choices = [[(json.dumps(text) if isinstance(text, bool) else str(text)).strip() for text in row] for row in found]
    if len(labels) < len(choices):  # not all rows have any
        return choices, None
    if any(len(names) != len(row) for names, row in zip(labels, choices, strict=True)):
        raise UserError(f"{where}: a row has more or fewer labels than choices")
    return choices, [list(map(str, row)) for row in labels]


def as_json(value: Any) -> Any:
    """A list or object that a text file holds as text, in JSON or as Python writes it."""
    for read in (json.loads, ast.literal_eval) if isinstance(value, str) else ():
        with suppress(ValueError, SyntaxError):
            return read(value)
    return value


def is_text(value: Any) -> bool:
    """Whether a value can be a choice: a text that isn't empty, a number, or true or false."""
    return isinstance(value, int | float) or (isinstance(value, str) and bool(value.strip()))


def places(
    answers: list[str], choices: list[list[str]], labels: list[list[str]] | None, name: str, where: str
) -> tuple[list[int], bool]:
    """The place of every answer in its row's choices, and whether answers are these places. Raises `UserError`."""
    letters = [[chr(ord("A") + i) for i in range(len(row))] for row in choices]
    numbers = [[str(i) for i in range(len(row))] for row in choices]
    meanings = [choices, *([labels] if labels else []), letters, numbers]
    unknown = []
    for names in meanings:
        found = [row.index(answer) if answer in row else -1 for answer, row in zip(answers, names, strict=True)]
        if -1 not in found:
            return found, names is numbers
        unknown.append(found.index(-1))
    row = max(unknown)
    raise UserError(
        f"{where}, row {row} (from 0): {name} {answers[row]!r} is none of its {len(choices[row])} choices: give its "
        "text, its letter (A is the first) or its number (0 is the first), the same in all rows"
    )


def from_llm_adapters(raw: pa.Table, task: AnswersTask, where: str) -> tuple[pa.Table, list[int]]:
    """LLM-Adapters' rows in the task's columns, and the places of those that have their form: `instruction` holds
    question and choices, `answer` is `answer1` and so on, or `true` or `false`."""
    columns: dict[str, list[Any]] = {name: [] for name in (*task.columns[:1], *task.choices[:1], task.answer)}
    rows = []
    pairs = zip(*(as_text(raw, name, where).to_pylist() for name in LLM_ADAPTERS), strict=True)
    for row, (instruction, answer) in enumerate(pairs):
        if (parts := parse_llm_adapters(instruction, answer)) is not None:
            rows.append(row)
            for name, part in zip(columns, parts, strict=True):
                columns[name].append(part)
    return pa.table(columns), rows


def parse_llm_adapters(instruction: str, answer: str) -> tuple[str, list[str], str] | None:
    """Question, choices and the right choice of a row of LLM-Adapters; None if it isn't one."""
    head, _, form = instruction.rpartition("Answer format:")
    body = OPENING.sub("", head, count=1)
    if not head or body == head:
        return None
    names = form.strip().split("/")
    question, *parts = CHOICE.split(body.rstrip())
    choices = [text.strip() for text in parts[1::2]]
    if {*names} == {*TRUTH} and not choices:
        choices, names = list(TRUTH), list(TRUTH)
    numbered = [f"answer{number}" for number in parts[::2]] or names
    if not question.strip() or numbered != names or answer not in names or not all(choices):
        return None
    if len(choices) < 2:
        return None
    return question.strip(), choices, choices[names.index(answer)]
