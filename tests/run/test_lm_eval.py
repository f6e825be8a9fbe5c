"""Ours and lm_eval's scores of the same rows, one by one: needs `make lm-eval`, whose environment has no xdist."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.run.test_evaluate import scored
from tests.tiny import decoder

pytestmark = pytest.mark.slow
WORDS = ("fish", "fire", "ice", "stone", "a long answer")


@pytest.fixture
def llama(tmp_path):
    """A random Llama on single bytes with BOS before a text, and likelihoods that differ."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([], trainers.BpeTrainer(special_tokens=["<s>", "</s>"], initial_alphabet=alphabet))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    folder = tmp_path / "llama"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    model = decoder(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=256, tie_word_embeddings=True)
    model.float().save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"] *= 20
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def data(tmp_path):
    """ARC-Easy and OpenBookQA in invented rows: as LLM-Adapters has them, and as lists."""
    root = tmp_path / "data"
    for name in ("arc_easy", "openbookqa"):
        (root / name).mkdir(parents=True)
    start, form = "Please choose the correct answer to the question:", "Answer format: answer1/answer2/answer3"
    for split, count in {"train": 32, "test": 24}.items():
        old, new = [], []
        for i in range(count):
            choices = [WORDS[(i + j) % len(WORDS)] for j in range(3)]
            listed = " ".join(f"Answer{j}: {choice}" for j, choice in enumerate(choices, start=1))
            old.append({"instruction": f"{start} Which is {i}?\n\n{listed}\n\n{form}", "answer": f"answer{i % 3 + 1}"})
            new.append({"question_stem": f"It is {i}", "choices": choices, "answerKey": "ABC"[i % 3]})
        (root / "arc_easy" / f"{split}.json").write_text(json.dumps(old))
        (root / "openbookqa" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, new)))
    return root


@pytest.mark.parametrize("trained", [False, True])
def test_every_row_has_the_same_likelihoods_and_verdicts(llama, data, start, tmp_path, monkeypatch, capsys, trained):
    pytest.importorskip("lm_eval", reason="make lm-eval")
    given = ["model=decoder", f"model.path={llama}", f"data_root={data}", f"run_root={tmp_path}/runs", "device=cpu"]
    if trained:
        given = [
            start([
                *given, "task=arc_easy", "task.eval_split=test", "method=adalora", "budget=custom", "budget.rank=2",
                "training.epochs=2", "training.lr=0.01", "tracking=none", f"cache_dir={tmp_path}/cache",
            ])
        ]  # fmt: skip
    for name in ("arc_easy", "openbookqa"):
        place = [] if not trained else [f"data_root={data}"]
        options = [*given, *place, f"task={name}", "task.eval_split=test"]
        ours, theirs = (scored(monkeypatch, capsys, *options), scored(monkeypatch, capsys, *given, f"tasks={name}"))
        assert theirs["scores"]["acc"] == ours["scores"]["accuracy_test"]
        assert theirs["scores"]["acc_norm"] == ours["scores"]["accuracy_norm_test"]
        rows = [json.loads(line) for line in predictions(tmp_path, name, "predictions/test.jsonl")]
        others = [json.loads(line) for line in predictions(tmp_path, name, "predictions.jsonl")]
        assert len(rows) == len(others) == 24
        for row, other in zip(rows, others, strict=True):
            assert other["nats"] == pytest.approx(row["nats"], rel=1e-5)
            assert (other["acc"], other["acc_norm"]) == (row["accuracy"], row["accuracy_norm"])
        assert theirs["by"].startswith("lm_eval 0.4")
        assert theirs["task"]["origin"] == f"folder {name}, as JSON"
        assert not any(word in json.dumps(theirs) for word in ("Which is", "It is"))


def predictions(folder, name, file):
    (path,) = folder.glob(f"**/evaluations/**/{name}-*/{file}")
    return path.read_text().splitlines()


def test_a_task_that_lm_eval_doesn_t_know_is_named(llama, monkeypatch, capsys):
    pytest.importorskip("lm_eval", reason="make lm-eval")
    line = scored(monkeypatch, capsys, "model=decoder", f"model.path={llama}", "tasks=arc_eazy")
    assert "has no such task" in line
