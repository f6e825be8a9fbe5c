"""The causal tasks' data from an emulated hub, in the repositories' own layout, with invented rows."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.utils import close_session

from tasks.data import load_data
from tests.emulator import Hub, Repo, serving
from tests.sources.test_hub import point


def parquet(rows):
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def arc(letters, gold):
    return {
        "id": "x", "question": "What swims?", "answerKey": gold,
        "choices": {"text": ["a fish", "a stone", "a cup"], "label": letters},
    }  # fmt: skip


ARC = [arc(["A", "B", "C"], "A"), arc(["1", "2", "3"], "3")]
BOOK = [{"id": "x", "question_stem": "Fire is", "choices": ARC[0]["choices"], "answerKey": "B"}]
GSM = [{"question": f"{i} + 1?", "answer": f"It is <<{i}+1={i + 1}>>.\n#### {i + 1}"} for i in range(300)]
META = [{"query": "1 + 1?", "original_question": "1 + 1?", "type": "GSM_Rephrased", "response": "2. The answer is: 2"}]
NEWS = {
    split: [{"category": "sports", "headline": f"{split}", "text": f"Akụkọ {split}.", "url": split}]
    for split in ("train", "validation", "test")
}
REPOS = {
    "allenai/ai2_arc": Repo({
        f"{name}/{split}-00000-of-00001.parquet": parquet(ARC)
        for name in ("ARC-Easy", "ARC-Challenge") for split in NEWS
    }),
    "allenai/openbookqa": Repo({f"main/{split}-00000-of-00001.parquet": parquet(BOOK) for split in NEWS}),
    "openai/gsm8k": Repo({f"main/{split}-00000-of-00001.parquet": parquet(GSM) for split in ("train", "test")}),
    "meta-math/MetaMathQA": Repo({"README.md": b"", "MetaMathQA-395K.json": json.dumps(META).encode()}),
    "masakhane/masakhanews": Repo(
        {f"ibo/{split}/0000.parquet": parquet(rows) for split, rows in NEWS.items()}, revision="refs/convert/parquet"
    ),
    "EdinburghNLP/xsum": Repo(
        {"default/test/0000.parquet": parquet([{"document": "It rained.", "summary": "Rain.", "id": "1"}])},
        revision="refs/convert/parquet",
    ),
}  # fmt: skip
EXPECTED = {
    "arc_easy": ({"train": 2, "validation": 2, "test": 2}, ["allenai/ai2_arc"]),
    "arc_challenge": ({"train": 2, "validation": 2, "test": 2}, ["allenai/ai2_arc"]),
    "openbookqa": ({"train": 1, "validation": 1, "test": 1}, ["allenai/openbookqa"]),
    "gsm8k": ({"train": 100, "validation": 200, "test": 300}, ["openai/gsm8k"]),
    "metamath": ({"train": 1, "validation": 50, "test": 300}, ["meta-math/MetaMathQA", "openai/gsm8k"]),
    "igbo": (
        {"train": 1, "validation": 1, "test": 1, "english": 1}, ["masakhane/masakhanews", "EdinburghNLP/xsum"],
    ),
}  # fmt: skip


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serving(Hub({f"datasets/{name}": repo for name, repo in REPOS.items()})) as served:
        point(monkeypatch, served.urls["hub"], tmp_path)
        yield served
    close_session()


@pytest.mark.parametrize("name", EXPECTED)
def test_the_rows_of_a_task_come_from_the_hub_with_the_commit(hub, compose, name):
    rows, repositories = EXPECTED[name]
    data = load_data(compose(f"task={name}").task)
    assert data.rows == rows
    assert data.origin == "; ".join(f"hub {repo}@{REPOS[repo].sha}" for repo in repositories)
    assert data.subset is True
    assert data.own is False
    if name.startswith("arc"):
        assert data.tables["test"]["gold"].to_pylist() == [0, 2]
    if name == "openbookqa":
        assert data.tables["test"].to_pylist() == [
            {"row": 0, "prompt": "Fire is", "choices": ["a fish", "a stone", "a cup"], "gold": 1}
        ]
