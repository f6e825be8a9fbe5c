"""Check the rows of extractive question answering: reject invalid ones, report unusual ones.

Training leaves out rows with nothing to learn. Evaluation never leaves a row out, so its scores equal the official
script's on the same file.
"""

import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from adalora.errors import UserError
from tasks.columns import as_text, needed

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "question": pa.string(),
        "context": pa.string(),
        "answers": pa.struct({"text": pa.list_(pa.string()), "answer_start": pa.list_(pa.int32())}),
    }
)
"""The columns of the hub's SQuAD; `answer_start` is a character index from 0."""


def check_rows(raw: pa.Table, where: str, unanswerable: bool, training: bool) -> tuple[pa.Table, list[str]]:
    """Check every row, and return the four columns of `SCHEMA` and notes for the user.

    Args:
        raw: the rows as stored; other columns are dropped.
        where: their source, for messages.
        unanswerable: whether a question may have no answer (v2).
        training: whether to leave out rows with a blank question or context.

    Raises:
        UserError: a column is missing or has the wrong type or nulls, there are no rows, an id occurs twice, an answer
            isn't at its position in the context, or a v1.1 question has no answer.
    """
    table = typed(raw, where)
    ids, questions, contexts, answers = (table[name].to_pylist() for name in SCHEMA.names)
    twice, count = Counter(ids).most_common(1)[0]
    if count > 1:
        raise UserError(f"{where}: the id {twice} occurs {count} times, predictions need an id of their own: rename it")
    for name, context, answer in zip(ids, contexts, answers, strict=True):
        fault = misplaced(context, answer["text"], answer["answer_start"])
        if fault:
            raise UserError(f"{where}: row {name}: {fault}")
        if not (answer["text"] or unanswerable):
            raise UserError(f"{where}: row {name} has no answer, and each must have one here: use task=squad_v2")

    notes, keep = [], np.ones(len(ids), dtype=bool)
    for column, texts in (("question", questions), ("context", contexts)):
        blank = np.array([not text.strip() for text in texts])
        if blank.any():
            fate = "left out" if training else "they stay in the scores"
            notes.append(f"{where}: {blank.sum()} rows with a blank {column} (first: {ids[blank.argmax()]}): {fate}")
        keep &= ~blank
    if training and not keep.all():
        table = table.filter(pa.array(keep))
    if table.num_rows == 0:
        raise UserError(f"{where}: every row has a blank question or context")
    return table, notes


def typed(raw: pa.Table, where: str) -> pa.Table:
    """Convert to the columns and types of `SCHEMA`, without nulls. SQuAD's own nested files have one row per article.

    Raises:
        UserError: a column is missing, has another type or has nulls, or there are no rows.
    """
    if "paragraphs" in raw.column_names and "context" not in raw.column_names:
        raw = unnest(raw, where)
    needed(raw, SCHEMA.names, where, f"question answering needs {', '.join(SCHEMA.names)}")
    if raw.num_rows == 0:
        raise UserError(f"{where} has no rows")
    columns: dict[str, Any] = {name: as_text(raw, name, where) for name in ("id", "question", "context")}
    answers = raw["answers"]
    try:
        answers.validate(full=True)
        if pa.types.is_list(answers.type):  # an object an answer
            answers = pa.chunked_array([pa.array(map(by_field, answers.to_pylist()), SCHEMA.field("answers").type)])
        columns["answers"] = answers.cast(SCHEMA.field("answers").type)
    except (pa.ArrowException, TypeError, KeyError) as error:  # another type, or text that isn't UTF-8
        kind = SCHEMA.field("answers").type
        raise UserError(f"{where}: column 'answers' must be {kind} (it is {answers.type})") from error
    given = enumerate(columns["answers"].to_pylist())
    gaps = [i for i, value in given if value is None or any(part is None or None in part for part in value.values())]
    if gaps:
        raise UserError(
            f"{where}: {len(gaps)} rows have a gap in column 'answers' (first: row {gaps[0]} from 0): fill it, lists "
            "without entries stand for no answer"
        )
    return pa.table(columns).combine_chunks()


def unnest(raw: pa.Table, where: str) -> pa.Table:
    """One row per question, from articles as SQuAD's own files have them. Raises `UserError` if a key is missing."""
    try:
        rows = [
            {
                **{name: question[name] if isinstance(question[name], str) else json.dumps(question[name])
                   for name in ("id", "question")},
                "context": paragraph["context"],
                "answers": by_field(question.get("answers") or []),
            }
            for paragraphs in raw["paragraphs"].to_pylist()
            for paragraph in (json.loads(paragraphs) if isinstance(paragraphs, str) else paragraphs)
            for question in paragraph["qas"]
        ]  # fmt: skip
        return pa.Table.from_pylist(rows, SCHEMA)
    except (KeyError, TypeError, ValueError, OverflowError, pa.ArrowException) as error:
        raise UserError(f"{where} isn't as SQuAD's own files are ({type(error).__name__}: {error})") from error


def by_field(answers: list[dict[str, Any]] | None) -> dict[str, list[Any]] | None:
    """Answers as one object of lists, from a list of objects."""
    if answers is None:
        return None
    return {name: [each[name] for each in answers] for name in ("text", "answer_start")}


def misplaced(context: str, texts: list[str], starts: list[int]) -> str | None:
    """Say what is wrong with a row's answers, if anything."""
    if len(texts) != len(starts):
        return f"{len(texts)} answer texts and {len(starts)} answer_start"
    for text, start in zip(texts, starts, strict=True):
        if not text.strip():
            return "an answer without text: use an empty list for no answer"
        if start < 0 or not context.startswith(text, start):
            found = context[max(start, 0) : max(start, 0) + len(text)]
            hint = f", it is at {context.index(text)}" if text in context else ""
            return (
                f"the answer {shown(text)} isn't at answer_start {start} of the context "
                f"(there: {shown(found)}{hint}): answer_start counts characters from 0"
            )
    return None


def shown(text: str) -> str:
    """Quote and shorten a text."""
    return repr(text if len(text) <= 40 else text[:37] + "...")
