"""PEFT's tuners as a method: counts, bypass, merging; its AdaLoRA against PEFT's own code and ours."""

import pytest
import torch
from torch import nn

from adalora.backbones.outline import Outline
from adalora.backbones.position_query import base_only
from adalora.config.schema import Budget
from adalora.errors import UserError
from adalora.methods.adalora.options import AdaLoRAConfig
from adalora.methods.discovery import create
from adalora.methods.peft.options import PEFTConfig
from adalora.methods.peft.tuners import TUNERS
from adalora.planning.budget import solve
from tests.tiny import INPUTS, classifier, shapes_of, targets_of, trained, wake

SMALL = {  # settings that fit modules of 32 and 64
    "ADALORA": {"init_r": 3, "target_r": 2},
    "BOFT": {"boft_block_size": 4},
    "C3A": {"block_size": 8},
    "FOURIERFT": {"n_frequency": 50},
    "GRALORA": {"r": 4},
    "MISS": {"r": 4},
    "OFT": {"oft_block_size": 4},
    "ROAD": {"group_size": 32},
    "VBLORA": {"num_vectors": 10, "vector_length": 16},
    "WAVEFT": {"n_frequency": 50},
}
UNMERGEABLE = ["LILY"]


@pytest.fixture
def model(tiny_model):
    return classifier(tiny_model).float()


@pytest.fixture
def targets(model, compose):
    return targets_of(model, compose("task=sst2", "method=peft"))


def config_of(kind, **more):
    return PEFTConfig(type=kind, config={**SMALL.get(kind, {}), **more})


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", TUNERS)
def test_a_tuner_is_counted_trains_all_of_it_steps_aside_and_merges(model, targets, kind):
    shapes, before = shapes_of(targets), model(**INPUTS).logits
    method = create(config_of(kind).with_steps(20))
    method.attach(model, targets, total_steps=20)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert method.config.count(shapes).peak == sum(p.numel() for p in trained.values())
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(trained.values(), lr=0.05)
    for t in range(2):  # at first one of two factors may be 0
        (model(**INPUTS).logits.pow(2).sum() + method.regulariser()).backward()
        assert all(p.grad is not None for p in trained.values())
        optimizer.step()
        method.after_step(t)
        optimizer.zero_grad()
    model.eval()  # PEFT's layers come in training mode
    after = model(**INPUTS).logits
    assert not torch.allclose(after, before)

    x = torch.randn(3, 32)
    query = model.deberta.encoder.layer[0].attention.self.query_proj
    with base_only(query):
        assert torch.equal(query(x), targets[next(iter(targets))](x))
    assert torch.equal(model(**INPUTS).logits, after)
    if kind in UNMERGEABLE:
        with pytest.raises(UserError, match=f"PEFT can't merge {kind}"):
            method.merge(model)
        return
    method.merge(model)
    torch.testing.assert_close(model(**INPUTS).logits, after, atol=2e-5, rtol=1e-5)
    assert all(type(model.get_submodule(path)) is nn.Linear for path in targets)


@pytest.mark.parametrize("kind", [kind for kind, tuner in TUNERS.items() if tuner.knob])
def test_the_size_grows_the_count_and_is_found_again(kind):
    shapes = {"a.query": (48, 48), "a.dense": (96, 48), "b.query": (48, 48), "b.dense": (96, 48)}
    rest = {name: value for name, value in SMALL.get(kind, {}).items() if name != TUNERS[kind].knob}
    method = PEFTConfig(type=kind, config={"init_r": 40} if kind == "ADALORA" else rest)
    counts = []
    for size in range(1, 5 if kind == "LOKR" else 7):  # LoKr's factors are full, and smaller, from some rank on
        config = method.with_size(size, shapes)
        assert config.size(shapes) == size
        counts.append(config.count(shapes).kept)
    assert counts == sorted(set(counts))


@pytest.mark.parametrize(
    "kind, size, per_map",
    [
        ("LORA", {"r": 3}, lambda o, i: 3 * (o + i)),
        ("ADALORA", {"init_r": 3, "target_r": 2}, lambda o, i: 3 * (o + i + 1)),
        ("VERA", {"r": 5}, lambda o, i: 5 + o),
        ("LOHA", {"r": 2}, lambda o, i: 4 * (o + i)),
        ("HRA", {"r": 2}, lambda o, i: 2 * i),
        ("OFT", {"oft_block_size": 4}, lambda o, i: i // 4 * 6),
        ("C3A", {"block_size": 8}, lambda o, i: o * i // 8),
        ("IA3", {}, lambda o, i: o),
        ("FOURIERFT", {"n_frequency": 7}, lambda o, i: 7),
    ],
)
def test_counts_are_those_of_the_papers_formulas(kind, size, per_map):
    shapes = {"a.x": (32, 32), "a.y": (64, 32), "b.y": (64, 32), "b.z": (32, 64)}
    assert PEFTConfig(type=kind, config=size).count(shapes).peak == sum(per_map(*s) for s in shapes.values())


def test_a_budget_is_solved_for_the_knob_and_a_tuner_without_one_is_asked(compose):
    model = compose("task=sst2", "method=peft").backbone
    model.path = "tiny"
    shapes = {f"m.{i}": (64, 32) for i in range(4)}
    budget = Budget(name="custom", params=400, settings={})

    def setting(kind, **options):
        model.head = []
        outline = Outline(
            base="m", hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=64, vocab_size=50,
            query_width=64, key_width=64, positions=None, linear=shapes,
        )  # fmt: skip
        return solve(model, PEFTConfig(type=kind, config=options), budget, outline, shapes)

    assert setting("VERA").config.config == {"r": 36}  # 4 (64 + 36) = 400
    assert setting("LORA", r=1, lora_alpha=3).config.config == {"r": 1, "lora_alpha": 3}
    plain = setting("IA3")
    assert (plain.budget, plain.counts.peak, plain.deviation) == ("any", 4 * 64, None)
    with pytest.raises(UserError, match="oft_block_size 4 = 192"):
        setting("OFT")
    with pytest.raises(UserError, match=r"method\.config\.oft_block_size=5"):
        setting("OFT", oft_block_size=5)


def test_the_orthogonality_term_is_peft_s_own(model, targets):
    method = create(config_of("ADALORA", orth_reg_weight=0.3).with_steps(20))
    method.attach(model, targets, total_steps=20)
    wake(model)
    out = method.tuner(**INPUTS, labels=torch.tensor([0, 1]))  # PEFT's wrapper adds the term to the loss
    bare = model(**INPUTS, labels=torch.tensor([0, 1]))
    torch.testing.assert_close(method.regulariser(), out.loss - bare.loss)


def test_ours_and_peft_s_adalora_prune_alike_step_by_step(tiny_model, compose):
    """With the same start, loss and schedule, ranks and fp64 weights agree at every step."""

    total, sides = 24, []
    for config in (
        AdaLoRAConfig(init_rank=4, target_rank=2, initial_steps=3, final_steps=8, alpha=16, orthogonality=0.1),
        config_of("ADALORA", init_r=4, target_r=2, tinit=3, tfinal=8, lora_alpha=16, orth_reg_weight=0.1),
    ):
        model = classifier(tiny_model)
        method = create(config.with_steps(total))
        method.attach(model, targets_of(model, compose("task=sst2", "method=peft")), total)
        parameters = trained(model)
        sides.append((model, method, parameters, torch.optim.AdamW(parameters, lr=0.02)))
    shapes = [sorted(p.shape for p in side[2]) for side in sides]
    assert shapes[0] == shapes[1]
    ours, theirs = ({path: model.get_submodule(path) for path in sides[0][1].ranks()} for model, *_ in sides)
    wake(sides[0][0])
    for path in ours:
        for name in ("lora_A", "lora_B", "lora_E"):
            getattr(theirs[path], name)["default"].data.copy_(getattr(ours[path], name).data)
    history = []
    for t in range(total):
        for model, method, _, optimizer in sides:
            (model(**INPUTS).logits - 1).pow(2).sum().add(method.regulariser()).backward()
            optimizer.step()
            method.after_step(t)
            optimizer.zero_grad()
        a, b = (method.ranks() for _, method, *_ in sides)
        assert a == b, t
        history.append(sum(a.values()))
        for path in ours:
            torch.testing.assert_close(theirs[path].lora_E["default"], ours[path].lora_E, atol=1e-9, rtol=1e-7)
    assert history[0] == 48
    assert history[-1] == 24
    assert len(set(history)) > 5
    assert len(set(sides[0][1].ranks().values())) > 1  # the budget went where it matters


@pytest.mark.parametrize(
    "kind, config, message",
    [
        ("PROMPT_TUNING", {}, r"type=PROMPT_TUNING: not a PEFT tuner of linear layers: .*all are .*LORA"),
        ("LORRA", {}, r"did you mean LORA or "),
        ("LORA", {"rank": 4}, r"there is no option method\.config\.rank: LORA has r"),
        ("LORA", {"r": "four"}, r"method\.config\.r=four: should be a valid integer"),
        ("LORA", {"r": 4.5}, r"method\.config\.r=4\.5: should be a valid integer"),
        ("LORA", {"use_dora": 3}, r"method\.config\.use_dora=3: should be a valid boolean"),
        ("LORA", {"target_modules": ["a"]}, r"method\.config\.target_modules is the suite's to set"),
        ("LORA", {"init_lora_weights": "pissa"}, r"init_lora_weights=pissa: allowed are True, False, gaussian"),
        ("ADALORA", {"init_r": 2, "target_r": 2}, r"target_r=2 must be less"),
        ("ADALORA", {"orth_reg_weight": -0.5}, r"orth_reg_weight=-0\.5: at least 0"),
        ("ADALORA", {"beta1": 1}, r"beta1=1: must lie in \(0, 1\)"),
        ("OFT", {"r": 4, "oft_block_size": 4}, r"type=OFT: .*oft_block"),
    ],
)
def test_a_wrong_option_is_one_line(kind, config, message):
    with pytest.raises(UserError, match=message) as caught:
        PEFTConfig(type=kind, config=config)
    assert "\n" not in str(caught.value)


def test_an_option_needs_no_plus_and_may_have_one(compose):
    plain = compose("method=peft", "method.type=vera", "method.config.r=256")
    assert plain.method == compose("method=peft", "method.type=VERA", "+method.config.r=256").method
    assert plain.method.config == {"r": 256}
    with pytest.raises(UserError, match=r"method\.config\.r=four: should be a valid integer"):
        compose("method=peft", "method.config.r=four")


def test_what_peft_refuses_in_the_modules_is_one_line():
    with pytest.raises(UserError, match="vector_length"):
        PEFTConfig(type="VBLORA", config={"num_vectors": 4}).count({"a": (48, 48)})


def test_a_schedule_without_room_is_refused():
    with pytest.raises(UserError, match=r"tinit=15 \+ method\.config\.tfinal=5 leave none of the 20"):
        config_of("ADALORA", tinit=15, tfinal=5).with_steps(20)
