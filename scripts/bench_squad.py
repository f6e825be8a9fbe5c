"""Benchmark finding answers from logits, for as many questions as in SQuAD v1.1's dev set, against a plain loop:

python scripts/bench_squad.py
python scripts/bench_squad.py --data FOLDER/validation.parquet --questions 11873

Logits are random, so answers are meaningless but the work is the same. Contexts are random words, or those of a SQuAD
file, repeated up to the number of questions, with the packaged WordPiece tokenizer. The loop gets `--reference` rows.
"""

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hydra import compose, initialize_config_dir
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from adalora.config import register, validated
from adalora.sources.packaged import packaged_folder
from tasks.squad.answers import find_answers
from tasks.squad.rows import checked
from tasks.squad.windows import windows

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


def tokenizer() -> PreTrainedTokenizerBase:
    """The tokenizer of the packaged weights."""
    register()
    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "conf"), version_base="1.3"):
        options = ["model=deberta_minilm", "task=r8"]
        package = validated(compose("config", overrides=options), options).model.package
    assert package is not None
    return AutoTokenizer.from_pretrained(packaged_folder(package))


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


def tiled(path: Path, count: int) -> pa.Table:
    """The rows of a file, repeated with new ids."""
    table = pq.read_table(path)
    rows = table.take(pa.array(np.arange(count) % table.num_rows))
    return rows.set_column(rows.column_names.index("id"), "id", pa.array([str(i) for i in range(count)]))


def main() -> None:
    """Time both, and compare their answers."""
    parser = argparse.ArgumentParser(description="Time from logits to answers, ours and a plain loop's.")
    parser.add_argument("--questions", type=int, default=10_570, help="rows (%(default)s: v1.1's dev set)")
    parser.add_argument("--reference", type=int, default=100, help="rows for the loop (%(default)s)")
    parser.add_argument("--data", type=Path, help="a parquet file in SQuAD's columns (default: random words)")
    args = parser.parse_args()
    raw = tiled(args.data, args.questions) if args.data else written(args.questions, random.Random(0))
    rows, _ = checked(raw, str(args.data), unanswerable=True, training=False)
    begin = time.perf_counter()
    cut = windows(rows, tokenizer(), max_length=384, stride=128)
    print(f"{rows.num_rows:,} questions, {len(cut):,} windows of 384 tokens: {time.perf_counter() - begin:.1f} s")

    rng = np.random.default_rng(0)
    starts, ends = ([rng.standard_normal(n, dtype=np.float32) for n in cut["length"]] for _ in range(2))
    begin = time.perf_counter()
    answers = find_answers(cut, rows, starts, ends)
    ours = time.perf_counter() - begin
    print(f"find_answers: {ours:.1f} s, {ours / rows.num_rows * 1e3:.2f} ms a question")

    some = rows.slice(0, args.reference)
    few = cut.select(range(int(np.searchsorted(cut["row"], some.num_rows))))
    begin = time.perf_counter()
    texts, odds = reference(few, some, starts, ends)
    loop = time.perf_counter() - begin
    print(f"plain loop:   {loop:.1f} s for {some.num_rows} questions, {loop / some.num_rows * 1e3:.2f} ms a question")
    said = [(found or [""])[0] for found in texts.values()]
    same = said == answers.text[: some.num_rows] and np.array_equal(
        list(odds.values()), answers.null_odds[: some.num_rows]
    )
    print(f"answers and null odds are {'the same' if same else 'NOT the same'} on these")
    if not same:
        sys.exit(1)


if __name__ == "__main__":
    main()
