"""The answers of find_answers, computed pair by pair, and questions to try both on."""

import random

import datasets
import numpy as np
import pyarrow as pa

Logits = list[np.ndarray]
Span = tuple[float, int, int, int, int, int]


def reference(
    cut: datasets.Dataset, rows: pa.Table, starts: Logits, ends: Logits, n_best: int = 20, max_answer_length: int = 30
) -> tuple[dict[str, list[str]], dict[str, float]]:
    """The best spans' texts and the null odds by id, computed pair by pair.

    A reference for `tasks.squad.answers.find_answers` made of plain loops; tests compare the two.
    """
    of_row: dict[int, list[int]] = {}
    for i, row in enumerate(cut["row"]):
        of_row.setdefault(row, []).append(i)
    texts: dict[str, list[str]] = {}
    odds: dict[str, float] = {}
    for row, (name, text) in enumerate(zip(rows["id"].to_pylist(), rows["context"].to_pylist(), strict=True)):
        candidates: list[Span] = []
        null = []
        for i in of_row.get(row, []):
            window = cut[i]
            inside = range(window["context"], window["context"] + len(window["char_start"]))
            start = [float(value) for value in starts[i][: window["length"]]]
            end = [float(value) for value in ends[i][: window["length"]]]
            null.append(start[0] + end[0])
            for s in sorted(range(len(start)), key=lambda place: (-start[place], place))[:n_best]:
                for e in sorted(range(len(end)), key=lambda place: (-end[place], place))[:n_best]:
                    if s not in inside or e not in inside or e < s or e - s + 1 > max_answer_length:
                        continue
                    a, b = window["char_start"][s - inside.start], window["char_end"][e - inside.start]
                    if text[a:b]:
                        candidates.append((-start[s] - end[e], i, s, e, a, b))
        candidates.sort()
        texts[name] = [text[a:b].rstrip() for *_, a, b in candidates[:n_best]]
        odds[name] = (min(null) if null else 0.0) + (candidates[0][0] if candidates else 0.0)
    return texts, odds


def written(count: int, rng: random.Random) -> pa.Table:
    """Rows of random words: contexts of 60 to 250 words, some of several windows, questions of 5 to 15."""
    words = ["river", "of", "1912", "electrons", "the", "Warsaw", "was", "(unknown)", "photosynthesis", "a", "3.5%"]
    texts = [" ".join(rng.choices(words, k=rng.choice([60, 100, 120, 150, 250]))) for _ in range(count // 5 + 1)]
    return pa.table(
        {
            "id": [str(i) for i in range(count)],
            "question": [" ".join(rng.choices(words, k=rng.randint(5, 15))) + "?" for _ in range(count)],
            "context": [texts[i // 5] for i in range(count)],
            "answers": [{"text": [], "answer_start": []}] * count,
        }
    )


def n_best_answers(answers, rows: pa.Table) -> dict[str, list[dict]]:
    """The best spans of `find_answers` by id: `text`, `score`, `start`, `end` (characters)."""
    listed: dict[str, list[dict]] = {name: [] for name in answers.ids}
    contexts = rows["context"].to_pylist()
    for row, score, start, end in zip(*(values.tolist() for values in answers.spans), strict=True):
        text = contexts[row][start:end].rstrip()
        listed[answers.ids[row]].append({"text": text, "score": score, "start": start, "end": end})
    return listed
