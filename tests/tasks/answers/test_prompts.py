"""Tokens of prompt and answer against truth made by hand, for tokenizers that put BOS first, EOS last, both or none."""

import pyarrow as pa
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BartTokenizer, PreTrainedTokenizerFast

from adalora.errors import UserError
from tasks.answers.features import chat
from tasks.discovery import create

CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def letters():
    """A byte-level tokenizer of single characters, whose post-processor puts <s> first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([], trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", additional_special_tokens=special[2:]
    )


@pytest.fixture(scope="module")
def bart(shared_data):
    return BartTokenizer.from_pretrained(shared_data("tokenizers/bart_bpe"))


@pytest.fixture
def features(compose):
    def build(tokenizer, prompt, answer, training, *options):
        rows = {"row": [7], "prompt": [prompt]}
        if isinstance(answer, list):
            table = pa.table(rows | {"choices": [answer], "gold": [1]})
            found = create(compose("task=choices", *options).task).features(table, tokenizer, training)
        else:
            table = pa.table(rows | {"answer": [answer]})
            found = create(compose("task=answers", *options).task).features(table, tokenizer, training)
        pieces = [tokenizer.convert_ids_to_tokens(ids) for ids in found["input_ids"]]
        return [(row[:-n], row[-n:]) for row, n in zip(pieces, found["scored"], strict=True)]

    return build


def test_bos_is_the_tokenizer_s_and_eos_ends_an_answer_in_training(features, letters):
    prompt = ["<s>", *"Q:Ġhi?", "Ċ", *"A:"]
    assert features(letters, "Q: hi?\nA:", "no", False) == [(prompt, [*"Ġno"])]
    assert features(letters, "Q: hi?\nA:", "no", True) == [(prompt, [*"Ġno", "</s>"])]
    assert features(letters, "Q:\n", "no", False) == [(["<s>", *"Q:", "Ċ"], [*"no"])]
    assert features(letters, "Q: ", "no", False) == [(["<s>", *"Q:"], [*"Ġno"])]
    assert features(letters, "", "no", False) == [(["<s>"], [*"Ġno"])]


def test_bart_s_own_end_stays_away_from_the_prompt(features, bart):
    prompt = ["<s>", "Question", ":", "ĠWhat", "Ġis", "Ġhot", "?", "Ċ", "Answer", ":"]
    text = "Question: What is hot?\nAnswer:"
    assert features(bart, text, "fire", True) == [(prompt, ["Ġfire", "</s>"])]
    assert features(bart, text, ["ice", "the sun"], False) == [(prompt, ["Ġice"]), (prompt, ["Ġthe", "Ġsun"])]


def test_training_has_the_right_choice_and_evaluation_all_of_them(features, letters):
    prompt = ["<s>", *"Q"]
    assert features(letters, "Q", ["no", "yes"], True) == [(prompt, [*"Ġyes", "</s>"])]
    assert features(letters, "Q", ["no", "yes"], False) == [(prompt, [*"Ġno"]), (prompt, [*"Ġyes"])]


def test_the_loss_is_on_the_answer_or_on_all_but_the_first_token(features, letters):
    assert features(letters, "Q", "a", True, "task.loss_on=all") == [(["<s>"], ["Q", "Ġ", "a", "</s>"])]
    assert features(letters, "Q", "a", False, "task.loss_on=all") == [(["<s>", "Q"], ["Ġ", "a"])]


def test_a_chat_template_stands_around_both(features, letters):
    letters.chat_template = CHAT
    prompt = ["<|user|>", *"hi", "<|end|>", "Ċ", "<|assistant|>"]
    assert features(letters, "hi", " no ", False, "task.template=chat") == [(prompt, [*"no"])]
    assert features(letters, "hi", " no ", True, "task.template=chat") == [(prompt, [*"no", "<|end|>"])]
    letters.chat_template = CHAT.replace("<|assistant|>{% endif", "<|assistant|>Well, {% endif")
    with pytest.raises(UserError, match="where generation starts"):
        features(letters, "hi", "no", True, "task.template=chat")
    letters.chat_template = "{{ strftime_now('%d %b %Y') }}|{{ messages[-1].content }}"
    assert chat(letters, "hi") == "26 Jul 2024|hi"  # whatever day it is
    letters.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        features(letters, "hi", "no", True, "task.template=chat")


def test_an_answer_without_a_token_is_named(features):
    known = Tokenizer(models.BPE({"a": 0, "</s>": 1}, []))
    with pytest.raises(UserError, match=r"row 7 .* drops its answer"):
        features(PreTrainedTokenizerFast(tokenizer_object=known, eos_token="</s>"), "a", "b", True)


def test_what_max_length_cuts_is_counted_and_an_answer_cut_whole_is_an_error(compose, letters):
    kind = create(compose("task=answers", "task.max_length=8").task)
    table = pa.table({"row": [3, 5], "prompt": ["Q", "QQ"], "answer": ["a", "abcdefg"]})
    found = kind.features(table, letters, True)
    assert found["input_ids"][1] == letters("QQ abcd")["input_ids"][:8]
    assert found["scored"][:] == [3, 5]
    assert kind.notes(table, found) == ["1 of 2 rows (50.0%) are truncated to task.max_length=8 tokens"]
    with pytest.raises(UserError, match=r"row 5 .* of evaluation has 11 tokens.*task.max_length=11"):
        kind.features(table, letters, False)
    table = pa.table({"row": [9], "prompt": ["QQQQQQQ"], "answer": ["a"]})
    with pytest.raises(UserError, match=r"row 9 .* of training has 11 tokens, its prompt alone fills"):
        kind.features(table, letters, True)


def test_answers_without_a_number_are_counted(compose, letters):
    kind = create(compose("task=answers", "task.metrics=[exact_number]", "task.headline=exact_number").task)
    table = pa.table({"row": [3, 5], "prompt": ["Q", "QQ"], "answer": ["a", "3 a"]})
    assert kind.notes(table, kind.features(table, letters, True)) == [
        "1 of 2 answers have no number and score 0 in exact_number"
    ]
