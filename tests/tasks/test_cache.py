"""Tokenisation with a real WordPiece tokenizer over a vocabulary of letters."""

import pyarrow as pa
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from adalora.errors import UserError
from tasks.cache import SUMS, save, tokenise
from tests.damage import WHOLE

VOCABULARY = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcdefgh", "##s"]
CLS, SEP, UNK = 1, 2, 3
A, B, C, D, E, F, G, H, S = range(4, 13)


@pytest.fixture(scope="module")
def tokenizer():
    model = Tokenizer(WordPiece({token: i for i, token in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    model.pre_tokenizer = Whitespace()
    model.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=model, **special)


@pytest.fixture
def task(compose):
    """A task of two texts, by its maximal length."""
    return lambda length: compose("task=rte", f"task.max_length={length}").task


def refuse(*texts, **options):
    raise AssertionError("tokenised again")


PAIRS = pa.table({"text_1": ["a b c d e f", "as z"], "text_2": ["g h", "b"], "label": [1, 0]})


def test_pairs_become_ids_with_labels_and_lengths(tokenizer, tmp_path, task):
    rows = tokenise(PAIRS, "content", task(32), tokenizer, "files", True, tmp_path)
    assert rows["input_ids"][:] == [[CLS, A, B, C, D, E, F, SEP, G, H, SEP], [CLS, A, S, UNK, SEP, B, SEP]]
    assert rows["label"][:] == [1, 0]
    assert rows["length"][:] == [11, 7]


def test_the_longer_text_is_cut_first(tokenizer, tmp_path, task):
    rows = tokenise(PAIRS, "content", task(8), tokenizer, "files", True, tmp_path)
    assert rows["input_ids"][:] == [[CLS, A, B, C, SEP, G, H, SEP], [CLS, A, S, UNK, SEP, B, SEP]]
    assert rows["length"][:] == [8, 7]


def test_single_texts(tokenizer, tmp_path, task):
    table = pa.table({"text_1": ["a b c d", "h"], "label": [2.5, 0.0]})
    rows = tokenise(table, "content", task(4), tokenizer, "files", True, tmp_path)
    assert rows["input_ids"][:] == [[CLS, A, B, SEP], [CLS, H, SEP]]
    assert rows["label"][:] == [2.5, 0.0]


def test_the_second_time_comes_from_the_cache(tokenizer, tmp_path, task):
    first = tokenise(PAIRS, "content", task(8), tokenizer, "files", True, tmp_path)
    second = tokenise(PAIRS, "content", task(8), refuse, "files", True, tmp_path)
    assert second["input_ids"][:] == first["input_ids"][:]
    assert second["label"][:] == first["label"][:]


@pytest.mark.parametrize(
    "content, files, length", [("other", "files", 8), ("content", "other", 8), ("content", "files", 9)]
)
def test_other_rows_tokenizer_or_length_are_another_entry(tokenizer, tmp_path, task, content, files, length):
    tokenise(PAIRS, "content", task(8), tokenizer, "files", True, tmp_path)
    with pytest.raises(AssertionError, match="tokenised again"):
        tokenise(PAIRS, content, task(length), refuse, files, True, tmp_path)


def test_a_failed_attempt_leaves_nothing_behind(tokenizer, tmp_path, task):
    with pytest.raises(AssertionError, match="tokenised again"):
        tokenise(PAIRS, "content", task(8), refuse, "files", True, tmp_path)
    assert len(tokenise(PAIRS, "content", task(8), tokenizer, "files", True, tmp_path)) == 2
    assert not list((tmp_path / "tokenised").glob(".*"))


def test_the_slower_of_two_writers_keeps_what_is_there(tokenizer, tmp_path, task):
    rows = tokenise(PAIRS, "content", task(8), tokenizer, "files", True, tmp_path)
    (folder,) = (tmp_path / "tokenised").iterdir()
    before = sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())
    save(rows, folder)
    assert sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir()) == before
    assert list((tmp_path / "tokenised").iterdir()) == [folder]


@pytest.mark.parametrize("damage", WHOLE)
@pytest.mark.parametrize("file", ["data-00000-of-00001.arrow", SUMS])
def test_a_damaged_entry_is_made_again_and_the_user_is_told(tokenizer, tmp_path, task, file, damage):
    before = tokenise(PAIRS, "content", task(8), tokenizer, "files", True, tmp_path)["input_ids"][:]
    (folder,) = (tmp_path / "tokenised").iterdir()
    WHOLE[damage](folder / file)
    told = []
    again = tokenise(PAIRS, "content", task(8), tokenizer, "files", True, tmp_path, told.append)
    assert again["input_ids"][:] == before
    assert len(told) == 1
    assert str(folder) in told[0]
    assert tokenise(PAIRS, "content", task(8), refuse, "files", True, tmp_path, refuse)["input_ids"][:] == before
    assert list((tmp_path / "tokenised").iterdir()) == [folder]


def test_a_file_in_an_entry_s_place_is_replaced(tokenizer, tmp_path, task):
    tokenise(PAIRS, "content", task(8), tokenizer, "files", True, tmp_path)
    (folder,) = (tmp_path / "tokenised").iterdir()
    folder.rename(tmp_path / "elsewhere")
    folder.write_text("")
    told = []
    assert len(tokenise(PAIRS, "content", task(8), tokenizer, "files", True, tmp_path, told.append)) == 2
    assert len(told) == 1


TYPES = {  # rows, and for each type of task an option that changes tokens
    "rte": (PAIRS, "task.max_length=8"),
    "cnn_dailymail": (pa.table({"source": ["a b c d"], "target": ["e f g h"]}), "task.max_target_length=5"),
    "squad_v2": (pa.table({"id": ["1"], "question": ["a"], "context": ["b c d e f g h a b c"],
                           "answers": [{"text": ["c"], "answer_start": [2]}]}), "task.stride=2"),
}  # fmt: skip


@pytest.mark.parametrize(
    "name, scores",
    [
        ("rte", ["task.metrics=[accuracy,f1]"]),
        (
            "cnn_dailymail",
            ["task.num_beams=2", "task.min_length=4", "task.length_penalty=1.5", "task.no_repeat_ngram=2"],
        ),
        ("squad_v2", ["task.n_best=3", "task.max_answer_length=7", "task.null_threshold=1.0"]),
    ],
)
def test_only_what_changes_tokens_makes_another_entry(tokenizer, tmp_path, compose, name, scores):
    table, tokens = TYPES[name]
    start = (f"task={name}", "task.max_length=12", *(["task.stride=1"] if name == "squad_v2" else []))
    first = tokenise(table, "content", compose(*start).task, tokenizer, "files", True, tmp_path)["input_ids"][:]
    for option in scores:
        found = tokenise(table, "content", compose(*start, option).task, refuse, "files", True, tmp_path)
        assert found["input_ids"][:] == first
    with pytest.raises((AssertionError, AttributeError)):  # tokenised again, by what is no tokenizer
        tokenise(table, "content", compose(*start, tokens).task, refuse, "files", True, tmp_path)


def test_an_unwritable_cache_is_named(tokenizer, tmp_path, task):
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(UserError, match=r"file/below.*can't be written.*cache_dir"):
        tokenise(PAIRS, "content", task(8), tokenizer, "files", True, file / "below")
