"""Shared fixtures: tiny real models and data."""

import json
import os
import re
import shutil
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path

import hydra
import numpy as np
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser

from adalora.config import register, validate
from tests.programs import Done

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests run side by side, on tiny models
for name in [name for name in os.environ if name.startswith("WANDB_")]:
    del os.environ[name]  # a user's project or tags
os.environ |= {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"}

UNEQUAL = ("seconds", "peak_memory_mb", "command", "commit", "sha256")  # of a result: what two equal runs needn't share
GOLDEN = Path(__file__).parent / "golden"
CONF = Path(__file__).parents[1] / "conf"


@pytest.fixture
def golden():
    """`golden("adalora_a")`: the recorded arrays and their configuration."""

    def load(name: str):
        arrays = np.load(GOLDEN / f"{name}.npz")
        return arrays, json.loads(str(arrays["config"]))

    return load


@pytest.fixture(scope="session")
def shared_data():
    """`shared_data("xsum/test.parquet")`: a path in the nearest folder `shared/data` above; skips without it."""

    def find(name: str) -> Path:
        for parent in Path(__file__).parents:
            if (path := parent / "shared" / "data" / name).exists():
                return path
        pytest.skip(f"needs shared/data/{name}")

    return find


@pytest.fixture(scope="session")
def compose():
    """`compose("task=rte", "seed=2")`: the committed configuration with these overrides, checked.

    A model other than DeBERTa gets a task that it serves, if none is given.
    """
    register()

    @cache
    def composed(overrides: tuple[str, ...]):
        groups = {override.partition("=")[0]: override.partition("=")[2] for override in overrides}
        model = groups.get("model", "deberta")
        if "task" not in groups and not model.startswith("deberta"):
            overrides = (*overrides, "task=xsum" if model.startswith("bart") else "task=igbo")
        tree = composed_tree(overrides)
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return validate(tree, overrides)

    return lambda *overrides: deepcopy(composed(overrides))


@pytest.fixture
def compose_with():
    """`compose_with(folder, "task=rte", "+mine=x")`: `compose` with another folder on Hydra's search path."""
    register()

    def composed(folder: Path, *overrides: str):
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            options = [*overrides, f"hydra.searchpath=[file://{folder}]"]
            return validate(hydra.compose("config", overrides=options), options)

    return composed


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A folder with a random DeBERTa-v2 of two layers and its WordPiece tokenizer, for `model.path`."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import DebertaV2Config, DebertaV2Model, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = DebertaV2Config(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, relative_attention=True, position_buckets=8, share_att_key=True,
        pos_att_type="p2c|c2p", norm_rel_ebd="layer_norm", position_biased_input=False, type_vocab_size=0,
        initializer_range=0.2,  # so that its random features tell words apart
    )  # fmt: skip
    DebertaV2Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def still_model(tiny_model, tmp_path_factory):
    """`tiny_model` without dropout."""
    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("still") / "model")
    config = json.loads((folder / "config.json").read_text())
    none = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
    (folder / "config.json").write_text(json.dumps(config | none))
    return folder


WORDS = ["a", "the", "film", "plot", "cast", "is", "was", "very", "good", "great", "fine", "bad", "poor", "dull"]
JUDGING = WORDS[8:]


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """A folder with 96 training and 32 validation rows in SST-2's columns; the label is whether a good word occurs."""
    import random

    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("data")
    draw = random.Random(0)
    for split, rows in {"train": 96, "validation": 32}.items():
        labels = [i % 2 for i in range(rows)]
        telling = {0: WORDS[11:], 1: WORDS[8:11]}
        sentences = [
            " ".join([*draw.choices(WORDS[:8], k=draw.randint(2, 12)), draw.choice(telling[label])]) for label in labels
        ]
        table = pa.table({"sentence": sentences, "label": labels, "idx": list(range(rows))})
        pq.write_table(table, folder / f"{split}.parquet")
    return folder


def short_run(folder):
    """The options of every tiny run: files in the test's folder, and a few epochs."""
    return [
        f"run_root={folder}/runs", f"cache_dir={folder}/cache", "tracking=none", "device=cpu", "budget=custom",
        "training.epochs=4", "training.batch_size=16",
    ]  # fmt: skip


@pytest.fixture
def tiny_run(tiny_model, tiny_data, tmp_path):
    """The overrides of a run that takes a second: `train.py *tiny_run method=lora`."""
    return [
        "task=sst2", f"task.data_dir={tiny_data}", "model=deberta", f"model.path={tiny_model}", *short_run(tmp_path),
        "budget.params=1740", "training.lr=0.02",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def articles(tmp_path_factory):
    """Rows in XSum's columns; the summary names the document's opinion word."""
    import random

    import pyarrow as pa
    import pyarrow.parquet as pq

    folder, draw = tmp_path_factory.mktemp("xsum"), random.Random(0)
    for split, count in {"train": 96, "validation": 24}.items():
        judged = [JUDGING[i % len(JUDGING)] for i in range(count)]
        documents = [" ".join([*draw.choices(WORDS[:7], k=draw.randint(2, 8)), word, "plot"]) for word in judged]
        if split == "train":
            documents[-1] = ""
        rows = {"document": documents, "summary": [f"is {word}" for word in judged], "id": list(range(count))}
        pq.write_table(pa.table(rows), folder / f"{split}.parquet")
    return folder


@pytest.fixture(scope="session")
def tiny_bart(tmp_path_factory, tiny_model):
    """A folder with a random BART of two and two layers, and the tiny tokenizer."""
    from transformers import AutoTokenizer

    from tests.tiny import bart

    folder = tmp_path_factory.mktemp("bart")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.save_pretrained(folder)
    tokens = {"pad": 0, "bos": 2, "eos": 3, "decoder_start": 3, "forced_eos": 3}
    tokens = {f"{name}_token_id": number for name, number in tokens.items()}
    bart(width=32, vocab_size=len(tokenizer), init_std=0.2, dropout=0.0, **tokens).float().save_pretrained(folder)
    return folder


@pytest.fixture
def summaries(articles, tiny_bart, tmp_path):
    return [
        "task=xsum", f"task.data_dir={articles}", "model=bart", f"model.path={tiny_bart}", *short_run(tmp_path),
        "budget.rank=2", "training.lr=0.01", "training.max_grad_norm=1.0",
        "task.max_length=32", "task.max_target_length=8", "task.num_beams=2", "task.no_repeat_ngram=0",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory, tiny_model):
    """A folder with a random Llama of two layers, and the tiny tokenizer with BOS and EOS."""
    from transformers import AutoTokenizer

    from tests.tiny import decoder

    folder = tmp_path_factory.mktemp("llama")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.bos_token, tokenizer.eos_token = "[CLS]", "[SEP]"
    tokenizer.save_pretrained(folder)
    decoder(vocab_size=len(tokenizer), tie_word_embeddings=True).float().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """Articles in the columns of Igbo news; each repeats one sentence."""
    import random

    import pyarrow as pa
    import pyarrow.csv

    folder, draw = tmp_path_factory.mktemp("texts"), random.Random(0)
    for split, count in {"train": 96, "validation": 12}.items():
        sentences = [f"the {draw.choice(WORDS[2:5])} was very {draw.choice(JUDGING)}" for _ in range(count)]
        rows = {"text": [" ".join([sentence] * draw.randint(1, 4)) for sentence in sentences]}
        pa.csv.write_csv(pa.table(rows), folder / f"{split}.csv")
    return folder


@pytest.fixture
def causal_run(texts, tiny_llama, tmp_path):
    return [
        "task=text", f"task.data_dir={texts}", "model=decoder", f"model.path={tiny_llama}", *short_run(tmp_path),
        "budget.rank=2", "training.lr=0.02", "task.max_length=32", "task.eval_length=16", "task.eval_stride=8",
    ]  # fmt: skip


def composed_tree(overrides):
    """Compose these overrides. Composing takes 0.2 s, so those that differ only in plain options are composed once.

    Hydra's own function sets the options.
    """
    options = [o for o in overrides if re.match(r"[\w.]+=", o) and not (CONF / o.partition("=")[0]).is_dir()]
    options = [o for o in options if not o.startswith("hydra.")]
    tree = deepcopy(composed_once(one_spelling([o for o in overrides if o not in options])))
    ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(options), tree)
    return tree


DEFAULTS = ("model=deberta_v3_base", "task=rte", "method=adalora", "budget=0.3M", "recipe=paper")  # of conf/config.yaml


def one_spelling(chosen):
    """These choices in one order, without defaults that nothing else overrides."""
    names = [choice.partition("=")[0] for choice in chosen]
    if len({*names}) < len(names) or not {*names} <= {default.partition("=")[0] for default in DEFAULTS}:
        return tuple(chosen)  # an experiment, a further folder, a group twice
    if all(choice == "task=rte" for choice in chosen if choice.startswith("task=")):  # other tasks choose their budget
        chosen = [choice for choice in chosen if choice not in DEFAULTS]
    return tuple(sorted(chosen))


@cache
def composed_once(overrides):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", overrides=list(overrides))


@pytest.fixture
def start():
    """`start(overrides)` runs one experiment in this process, as train.py does; returns its run folder's path."""
    from adalora.run.run import run

    register()

    def go(overrides: list[str]) -> Path:
        tree = composed_tree(overrides)
        run(validate(tree, overrides), overrides)
        (status,) = Path(tree.run_root).rglob("status")
        return status.parent

    return go


@pytest.fixture
def prepared():
    """`prepared(overrides)`: a run that is ready to start."""
    from adalora.planning.identity import cell_id
    from adalora.run.run import prepare
    from adalora.training.build import build_accelerator

    register()

    def go(overrides):
        config = validate(composed_tree(overrides), overrides)
        return prepare(config, cell_id(config), build_accelerator(config), overrides)

    return go


class Killed(BaseException):
    """Simulates a death at a chosen point; test_command_line.py uses a real SIGKILL."""


@pytest.fixture
def killed(start, monkeypatch):
    """`killed(overrides, 6, 12)`: a run dies right after it logs step 6, resumes, and dies again after step 12."""
    from adalora.training import loop

    original = loop.log

    def go(overrides: list[str], *steps: int) -> None:
        for step in steps:

            def dies(parts, window, progress, at=step):
                original(parts, window, progress)
                if progress.step == at:
                    raise Killed

            with monkeypatch.context() as patch, pytest.raises(Killed):
                patch.setattr(loop, "log", dies)
                start(overrides)

    return go


@pytest.fixture
def called(monkeypatch, capsys):
    """`called(main, "glue")`: how a script ends with these arguments, in this process."""
    from scripts.options import exit_code

    def go(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
        capsys.readouterr()
        try:
            code = exit_code(main)
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return Done(code or 0, said.out, said.err)

    return go
