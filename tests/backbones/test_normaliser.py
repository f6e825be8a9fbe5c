"""The loaded tokenizer against sentencepiece itself, on a small model trained here."""

import io
import json

import pytest
import sentencepiece
from transformers import AutoTokenizer

from adalora.backbones.files import Weights
from adalora.backbones.load import load_tokenizer
from adalora.backbones.normaliser import with_own_normaliser
from adalora.errors import UserError

LINES = [
    "The film was very good, and the cast, too... 1/2 of it.",
    'It is a "great" film, e.g. Abc 123 km2.',
    "naïve café résumé ñ ü ö ß",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "A B C 0 1 2 3 4 5 6 7 8 9 . , ! ? ; : ' ( ) - /",
]
TEXTS = [
    "it… ½ of the ﬁlm",
    "Ａｂｃ　１２３ ㎞²",
    "a no-break\u00a0space and a zero\u200bwidth one",
    " two  blanks , tabs\t\tand\nlines \r\n",
    "“curly” ‘quotes’ – dashes — and ①②",
    "cafe\u0301 nai\u0308ve café",
    "",
    "   ",
]
SINGLE = [f"a{chr(code)}b" for code in range(0x20, 0xFFFF) if not 0xD800 <= code < 0xE000]


@pytest.fixture(scope="module", params=["nmt_nfkc", "identity", "nmt_nfkc_cf"])
def folder(request, tmp_path_factory):
    """Write a DeBERTa tokenizer's files with a sentencepiece model that has these rules."""
    place = tmp_path_factory.mktemp(request.param)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES * 20), model_writer=model, vocab_size=120, model_type="unigram",
        normalization_rule_name=request.param, pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]",
        bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]", hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    (place / "spm.model").write_bytes(model.getvalue())
    (place / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "DebertaV2Tokenizer"}))
    (place / "config.json").write_text(json.dumps({"model_type": "deberta-v2"}))
    return place


def loaded(folder, compose):
    return load_tokenizer(compose("task=rte").model, Weights(folder, "test", "0", []))


BMP = pytest.param(SINGLE, id="every character of the BMP", marks=pytest.mark.slow)


@pytest.mark.parametrize("texts", [pytest.param(TEXTS, id="lines"), BMP])
def test_tokens_are_sentencepiece_s(folder, compose, texts):
    expected = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model")).encode(texts)
    found = loaded(folder, compose)(texts, add_special_tokens=False)["input_ids"]
    unlike = [text for text, one, other in zip(texts, found, expected, strict=True) if one != other]
    assert not unlike


def test_a_saved_tokenizer_loads_as_the_same(folder, compose, tmp_path):
    """Load the tokenizer as a user of an export does, next to a DeBERTa configuration."""
    tokenizer = loaded(folder, compose)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(TEXTS, TEXTS)["input_ids"] == tokenizer(TEXTS, TEXTS)["input_ids"]
    assert again.special_tokens_map == tokenizer.special_tokens_map
    assert again.model_max_length == tokenizer.model_max_length


def test_pairs_and_padding_are_deberta_s(folder, compose):
    library = AutoTokenizer.from_pretrained(folder)
    for plain in (["a b", "c"], ["a", "b c d"]):
        expected = library(plain, plain, padding=True)
        assert dict(loaded(folder, compose)(plain, plain, padding=True)) == dict(expected)


def test_offsets_still_point_into_the_text(folder, compose):
    """Offsets, which SQuAD needs, point at the original character of a normalised token."""
    text = "the ﬁlm… was good"
    tokenizer = loaded(folder, compose)
    places = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert places[0][0] == 0
    assert places[-1][1] == len(text)
    assert all(start <= end for start, end in places)
    assert any(text[start:end] == "…" for start, end in places) or "identity" in str(folder)


def test_a_damaged_model_is_one_line(folder, compose, tmp_path):
    tokenizer = loaded(folder, compose)
    (tmp_path / "spm.model").write_bytes(b"\xff\xff\xff\xff")
    with pytest.raises(UserError, match=r"spm\.model isn't a sentencepiece model"):
        with_own_normaliser(tokenizer, tmp_path)
