"""Starting from PEFT's adapters: the same function, the right budget, and mistakes in one line."""

import json

import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from adalora.backbones.load import load_model, locate
from adalora.errors import UserError
from adalora.planning.plan import make_plan
from adalora.training.build import build_model
from tests.tiny import INPUTS, trained

TARGETS = ["query_proj", "key_proj", "value_proj", "attention.output.dense", "intermediate.dense", "output.dense"]
TOTAL = 24
SAME = "model.pos_query_base_only=false"
ROWS = {"train": 96, "validation": 32}


@pytest.fixture
def peft_adapter(compose, tiny_run, tmp_path):
    """`peft_adapter(config)`: an adapter that PEFT made and saved, and its model; two steps trained at most."""

    def make(config, steps=0):
        suite = compose(*tiny_run, SAME, "method=lora").backbone
        torch.manual_seed(3)
        model = get_peft_model(load_model(suite, locate(suite, str(tmp_path)), 2), config)
        torch.manual_seed(4)
        for name, p in model.named_parameters():
            if p.requires_grad and ("lora_B" in name or "lora_E" in name):
                torch.nn.init.normal_(p, std=0.3)
        optimizer = torch.optim.AdamW(trained(model), lr=1e-2)
        model.eval()
        for t in range(steps):
            step(model, optimizer, t)
        model.save_pretrained(tmp_path / "adapter")
        return tmp_path / "adapter", model

    return make


def step(model, optimizer, t):
    model(**INPUTS, labels=torch.tensor([0, 1])).loss.backward()
    optimizer.step()
    model.base_model.update_and_allocate(t)
    optimizer.zero_grad()


def lora(**more):
    return LoraConfig(task_type="SEQ_CLS", target_modules=TARGETS, exclude_modules=["pooler.dense"],
                      modules_to_save=["pooler", "classifier"], **{"r": 3, "lora_alpha": 5, **more})  # fmt: skip


def adalora(**more):
    return AdaLoraConfig(task_type="SEQ_CLS", target_modules=TARGETS, exclude_modules=["pooler.dense"],
                         modules_to_save=["pooler", "classifier"], lora_alpha=7, init_r=4, target_r=2,
                         total_step=TOTAL, tinit=2, tfinal=6, **more)  # fmt: skip


def built(compose, tiny_run, *overrides):
    config = compose(*tiny_run, SAME, *overrides)
    plan = make_plan(config, ROWS, locate(config.model, config.cache_dir).folder)
    return build_model(plan.config, locate(config.model, config.cache_dir), 2, torch.device("cpu"))


@pytest.mark.parametrize("more", [{}, {"use_rslora": True}, {"rank_pattern": {"query_proj": 1}, "r": 2}], ids=str)
def test_a_lora_adapter_of_peft_gives_the_same_logits(compose, tiny_run, peft_adapter, more):
    folder, model = peft_adapter(lora(**more))
    params = "budget.params=1800" if "r" in more else "budget.params=2700"
    ours, method = built(compose, tiny_run, "method=lora", "method.alpha=32", params, f"method.init_from={folder}")
    assert set(method.ranks().values()) == {more.get("r", 3)}
    torch.testing.assert_close(ours.eval()(**INPUTS).logits, model(**INPUTS).logits, atol=1e-5, rtol=1e-5)


def test_a_rank_that_came_with_the_adapter_isn_t_called_an_option(compose, tiny_run, peft_adapter):
    folder, _ = peft_adapter(lora())
    with pytest.raises(UserError, match=r"rank 3, as in method\.init_from, has .*: use budget=custom budget\.params="):
        built(compose, tiny_run, "method=lora", "budget.params=1800", f"method.init_from={folder}")


LAYER = "deberta.encoder.layer.0.attention.self"


@pytest.mark.parametrize(
    "pattern",
    [
        "query_proj",
        f"{LAYER}.query_proj",
        r"^deberta\.encoder\.layer\.0\.attention\.self\.query_proj",
        r".*\.layer\.0\..*query_proj",
        "(query|key)_proj",
        "layer.0.attention.self.(query|value)_proj",
        "proj",  # the end of no whole name: matches nothing
        r"attention\.output\.dense",
    ],
)
def test_patterns_are_peft_s_regular_expressions(compose, tiny_run, peft_adapter, pattern):
    """Two patterns, of which the first that matches counts; PEFT's own model is the truth."""
    patterns = {"rank_pattern": {pattern: 1, "value_proj": 2}, "alpha_pattern": {pattern: 20, "query_proj": 3}}
    folder, model = peft_adapter(lora(**patterns))
    args = ["method=lora", "method.alpha=32", "budget.params=2700", f"method.init_from={folder}"]
    ours, _ = built(compose, tiny_run, *args)
    torch.testing.assert_close(ours.eval()(**INPUTS).logits, model(**INPUTS).logits, atol=1e-5, rtol=1e-5)


def test_an_adalora_adapter_of_peft_gives_the_same_logits_and_ends_at_the_budget(
    compose, tiny_run, tmp_path, peft_adapter
):
    """The same file, gone on from by PEFT and by us: 24 of 48 triplets had survived, and are to survive."""
    folder, model = peft_adapter(adalora(), steps=17)  # below the initial 48 by now, the last prunings still to come
    survivors = sum(sum(kept) for kept in model.peft_config["default"].rank_pattern.values())
    assert 24 <= survivors < 48

    suite = compose(*tiny_run, SAME, "method=lora").backbone
    torch.manual_seed(3)
    again = PeftModel.from_pretrained(
        load_model(suite, locate(suite, str(tmp_path)), 2), folder, is_trainable=True
    ).eval()
    torch.testing.assert_close(again(**INPUTS).logits, model(**INPUTS).logits)
    optimizer = torch.optim.AdamW(trained(again), lr=1e-2)
    for t in range(17, 19):
        step(again, optimizer, t)
    left = sum(sum(kept) for kept in again.peft_config["default"].rank_pattern.values())
    assert left == max(0, survivors - (48 - 24))  # PEFT subtracts from 48 again: hardly a triplet is left

    overrides = ["method=adalora", f"method.init_from={folder}", "method.alpha=32", "method.target_rank=2"]
    ours, method = built(compose, tiny_run, *overrides)
    assert method.config.init_rank == 4
    torch.testing.assert_close(ours.eval()(**INPUTS).logits, model(**INPUTS).logits, atol=1e-5, rtol=1e-5)
    optimizer = torch.optim.AdamW(trained(ours), lr=1e-2)
    for t in range(TOTAL):
        loss = ours(**INPUTS, labels=torch.tensor([0, 1])).loss + method.regulariser()
        loss.backward()
        optimizer.step()
        method.after_step(t)
        optimizer.zero_grad()
    assert sum(method.ranks().values()) == 24


def test_a_run_starts_there_is_scored_before_its_first_step_and_its_key_follows_the_content(
    start, tiny_run, peft_adapter, tmp_path
):
    folder, _ = peft_adapter(lora())
    args = [*tiny_run, SAME, "method=lora", f"method.init_from={folder}", "budget.params=2700", "training.max_steps=2"]
    first = start(args)
    lines = [json.loads(line) for line in (first / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["step"] == 0
    assert "eval/accuracy" in lines[0]
    moved = tmp_path / "moved"
    folder.rename(moved)
    assert start([*args[:-3], f"method.init_from={moved}", *args[-2:], f"run_root={tmp_path}/b"]).name == first.name
    tensors = load_file(moved / "adapter_model.safetensors")
    tensors[next(iter(tensors))] += 1
    save_file(tensors, moved / "adapter_model.safetensors")
    args = [*args[:-3], f"method.init_from={moved}", *args[-2:], f"run_root={tmp_path}/c"]
    assert start(args).name != first.name


def rewrite(folder, **options):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | options))


def retensor(folder, change):
    path = folder / "adapter_model.safetensors"
    save_file({name: change(name, tensor).contiguous() for name, tensor in load_file(path).items()}, path)


def test_killed_before_its_first_checkpoint_it_repeats_no_line(start, killed, tiny_run, peft_adapter):
    folder, _ = peft_adapter(lora())
    run = [*tiny_run, SAME, "method=lora", "budget.params=2688", f"method.init_from={folder}", "training.max_steps=4",
           "training.log_steps=1", "training.checkpoint_steps=3"]  # fmt: skip
    killed(run, 2)
    steps = [json.loads(line)["step"] for line in (start(run) / "metrics.jsonl").read_text().splitlines()]
    assert steps.count(0) == 1
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    "spoil, overrides, message",
    [
        (lambda f: None, ["model.pos_query_base_only=true"], r"set model\.pos_query_base_only=false"),
        (lambda f: f.rename(f.with_name("gone")), [], r"init_from=.*: no such folder$"),
        (lambda f: (f / "adapter_model.safetensors").unlink(), [], r"has no adapter_model\.safetensors"),
        (lambda f: (f / "adapter_config.json").write_text("{"), [], r"adapter_config\.json is damaged"),
        (lambda f: (f / "adapter_model.safetensors").write_bytes(b"x"), [], r"safetensors is damaged"),
        (lambda f: None, ["method=adalora"], r"has PEFT type LORA, but method=adalora needs ADALORA"),
        (lambda f: rewrite(f, use_dora=True), [], r"has use_dora, which method=lora can't express"),
        (lambda f: rewrite(f, init_lora_weights="pissa"), [], "changes the base weights"),
        (lambda f: None, ["method.rank=2", "budget.params=1800"], r"has rank 3 at .*, more than this run's 2"),
        (lambda f: None, ["method.modules=[query]", "budget.params=390"], r"adapts deberta.*, which this run doesn't"),
        (
            lambda f: retensor(f, lambda n, t: t[:, :16] if n.endswith("query_proj.lora_A.weight") else t),
            [],
            r"trained on another backbone: deberta.*query_proj is 32 x 16 there and 32 x 32 here",
        ),
        (
            lambda f: retensor(f, lambda n, t: t[:1] if "classifier" in n else t),
            [],
            r"trained on another task: classifier\.\w+ is \(1.*\) there and \(2",
        ),
    ],
)
def test_what_can_t_be_started_from_is_one_line(compose, tiny_run, peft_adapter, spoil, overrides, message):
    folder, _ = peft_adapter(lora())
    spoil(folder)
    with pytest.raises(UserError, match=message) as caught:
        args = ["method=lora", f"method.init_from={folder}", "budget.params=2700", *overrides]
        config = compose(*tiny_run, SAME, *args)
        make_plan(config, ROWS, locate(config.model, config.cache_dir).folder)
    assert "\n" not in str(caught.value)
