"""PRILoRA: its ranks, the norms of the inputs against plain sums, and its pruning."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing, nn

from adalora.backbones.position_query import bypass_position_query
from adalora.errors import UserError
from adalora.fast import swap
from adalora.fast.attention import SWAPS
from adalora.methods.discovery import create
from adalora.methods.prilora.options import PRILoRAConfig, linear_ranks
from adalora.methods.sora.options import SoRAConfig
from adalora.module_paths import layer_of
from adalora.training.optimizer import groups_of
from tasks.discovery import create as create_task
from tests.tiny import bart, classifier, targets_of

TABLE = {  # r_s, r_f -> ranks of the 12 layers: shared specification, and sums of uniform LoRA
    (1, 3): [1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3],
    (2, 6): [2, 2, 3, 3, 3, 4, 4, 5, 5, 5, 6, 6],
    (4, 12): [4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11, 12],
}


# -- ranks


@pytest.mark.parametrize("ends", TABLE)
def test_ranks_grow_from_first_to_last(ends):
    assert linear_ranks(*ends, 12) == TABLE[ends]
    assert linear_ranks(*reversed(ends), 12) == TABLE[ends][::-1]


def test_ranks_are_whole_near_the_line_ordered_and_of_its_sum():
    for layers in range(1, 25):
        for mean in np.linspace(1, 9, 33):
            half = min(mean / 2, mean - 1)
            ranks = linear_ranks(mean - half, mean + half, layers)
            line = np.linspace(mean - half, mean + half, layers) if layers > 1 else [mean - half]
            assert ranks == sorted(ranks) and ranks[0] >= 1
            assert max(abs(r - x) for r, x in zip(ranks, line, strict=True)) < 1 or layers == 1
            assert abs(sum(ranks) - layers * mean) <= 0.5 or layers == 1


def paths(stack, layers, *names):
    return {f"{stack}.{layer}.{name}": (8, 8) for layer in range(layers) for name in names}


@pytest.mark.parametrize("mean, ends", {2: (1, 3), 4: (2, 6), 8: (4, 12)}.items())
def test_each_stack_of_layers_runs_over_the_whole_range(mean, ends):
    encoder = paths("model.encoder.layers", 12, "self_attn.q_proj", "fc1")
    decoder = paths("model.decoder.layers", 12, "self_attn.q_proj", "encoder_attn.q_proj")
    ranks = PRILoRAConfig(mean_rank=mean).ranks_of(encoder | decoder)
    for path, rank in ranks.items():
        assert rank == TABLE[ends][int(path.split(".")[3])]
    falling = PRILoRAConfig(mean_rank=mean, spread=-0.5).ranks_of(encoder)
    assert [falling[f"model.encoder.layers.{layer}.fc1"] for layer in range(12)] == TABLE[ends][::-1]
    assert set(PRILoRAConfig(mean_rank=mean, spread=0).ranks_of(encoder).values()) == {mean}


def test_every_size_has_more_parameters_than_the_one_before():
    shapes = paths("encoder.layer", 6, "a", "b") | paths("decoder.layer", 3, "a")
    method = PRILoRAConfig()
    counts = [method.with_size(size, shapes).count(shapes).kept for size in range(1, 40)]
    assert counts[0] == sum(16 for _ in shapes)  # rank 1 everywhere
    assert all(a < b for a, b in pairwise(counts))
    assert all(method.with_size(size, shapes).size(shapes) == size for size in range(1, 40))


def test_the_layer_of_a_target():
    assert layer_of("deberta.encoder.layer.3.attention.self.query_proj") == ("deberta.encoder.layer", 3)
    assert layer_of("model.decoder.layers.11.encoder_attn.k_proj") == ("model.decoder.layers", 11)
    with pytest.raises(UserError, match="pooler.dense, which isn't in a numbered layer"):
        layer_of("pooler.dense")


# -- inputs


@pytest.fixture
def model(tiny_model):
    return classifier(tiny_model)


def attach(model, config, compose, total=100):
    method = create(config.with_steps(total))
    method.attach(model, targets_of(model, compose("task=sst2", f"method={config.name}")), total)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return method


IDS = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 9, 3, 0], [2, 9, 3, 0, 0], [2, 7, 7, 8, 3]])
MASK = (IDS != 0).long()


def by_hand(model, method, ids, mask):
    """sum of x_j^2 over the unpadded tokens of each module's first input, from the test's own hooks."""
    inputs = {}

    def note(path, _, args):
        inputs.setdefault(path, args[0].detach().clone())  # a hook that returns something replaces the input

    hooks = [module.register_forward_pre_hook(partial(note, path)) for path, module in method.modules.items()]
    model(input_ids=ids, attention_mask=mask)
    for hook in hooks:
        hook.remove()
    return {path: (x.numpy() ** 2)[mask.bool().numpy()].sum(0) for path, x in inputs.items()}


@pytest.mark.parametrize("attention", ["exact", "eager", "exact, positions bypassed"])
def test_norms_are_those_of_the_unpadded_tokens_over_micro_batches(model, compose, attention):
    if attention.startswith("exact"):
        swap(model, SWAPS)
    method = attach(model, PRILoRAConfig(mean_rank=2, sparsity=0, beta=0.7), compose)
    if attention.endswith("bypassed"):
        bypass_position_query(model)
    model.eval()
    halves = [by_hand(model, method, IDS[i : i + 2], MASK[i : i + 2]) for i in (0, 2)]
    assert not method.inputs.sums  # an evaluation
    model.train()
    with torch.inference_mode():
        model(input_ids=IDS, attention_mask=MASK)
    assert not method.inputs.sums
    expected = dict.fromkeys(method.modules, 0.0)
    for t in range(3):
        for i in (0, 2)[: 1 + t % 2]:
            model(input_ids=IDS[i : i + 2], attention_mask=MASK[i : i + 2]).logits.sum().backward()
        method.after_step(t)
        for path in expected:
            m = np.sqrt(sum(half[path] for half in halves[: 1 + t % 2]))
            expected[path] = 0.7 * expected[path] + 0.3 * m
    for path, norm in zip(method.modules, method.norms, strict=True):
        np.testing.assert_allclose(norm.numpy(), expected[path], rtol=1e-10, err_msg=path)


def test_more_padding_and_another_precision_change_next_to_nothing(model, compose):
    method = attach(model.float().train(), PRILoRAConfig(mean_rank=2), compose)

    def norms(ids):
        model(input_ids=ids, attention_mask=(ids != 0).long())
        return method.inputs.take(len(method.norms))

    plain, padded = norms(IDS), norms(nn.functional.pad(IDS, (0, 7)))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = norms(IDS)
    for one, other, low in zip(plain, padded, rounded, strict=True):
        assert one.dtype == low.dtype == torch.float32
        torch.testing.assert_close(other, one)
        torch.testing.assert_close(low, one, rtol=0.05, atol=0.05)


def test_a_step_without_inputs_says_so(model, compose):
    method = attach(model, PRILoRAConfig(mean_rank=2), compose)
    with pytest.raises(RuntimeError, match="needs the inputs of every adapted module"):
        method.after_step(0)


def toy(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 4)).double().requires_grad_(False)
    return model, {"0": model[0], "2": model[2]}


def one_process(rank, place, queue):
    distributed.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
    model, targets = toy()
    method = create(PRILoRAConfig(mean_rank=2, beta=0).with_steps(10))
    method.attach(model, targets, 10)
    x = torch.arange(48, dtype=torch.float64).sin().view(8, 6)
    model(x[rank::2])
    method.after_step(0)
    queue.put((rank, [norm.tolist() for norm in method.norms]))
    distributed.destroy_process_group()


def test_two_processes_have_the_norms_of_the_whole_batch(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    processes = [context.Process(target=one_process, args=(rank, tmp_path / "store", queue)) for rank in range(2)]
    for process in processes:
        process.start()
    found = dict(queue.get() for _ in processes)
    for process in processes:
        process.join()
    assert found[0] == found[1]
    model, _ = toy()
    x = torch.arange(48, dtype=torch.float64).sin().view(8, 6)
    for norms, inputs in zip(found[0], (x, model[1](model[0](x))), strict=True):
        np.testing.assert_allclose(norms, np.sqrt((inputs.numpy() ** 2).sum(0)), rtol=1e-12)


# -- pruning


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.7])
def test_pruning_takes_the_lowest_of_each_row(model, compose, sparsity):
    method = attach(model.train(), PRILoRAConfig(mean_rank=3, sparsity=sparsity), compose)
    model(input_ids=IDS, attention_mask=MASK)
    before = [A.detach().clone() for A in method.factors]
    method.after_step(99)
    for A, old, norm in zip(method.factors, before, method.norms, strict=True):
        for row, was in zip(A.detach().numpy(), old.numpy(), strict=True):
            dead = np.argsort(np.abs(was) * norm.numpy(), kind="stable")[: round(sparsity * len(was))]
            expected = was.copy()
            expected[dead] = 0
            np.testing.assert_array_equal(row, expected)
    whole = sum(module.lora_B.numel() for module in method.modules.values())
    whole += sum(A.numel() - len(A) * round(sparsity * A.shape[1]) for A in method.factors)
    assert method.metrics()["nonzero"] == whole


def test_when_it_is_pruned():
    """After t_i = 3, every 4 steps, and after the last of 14; pruned entries grow back in between."""
    model, targets = toy()
    method = create(PRILoRAConfig(mean_rank=2, initial_steps=4, mask_interval=4))
    method.attach(model, targets, 14)
    pruned = []
    for t in range(14):
        model(torch.randn(3, 6).double())
        with torch.no_grad():
            for A in method.factors:
                A += 0.01  # an optimizer's move, of pruned entries too
        method.after_step(t)
        zeros = [(A == 0).sum(1).tolist() for A in method.factors]
        if any(map(sum, zeros)):
            assert zeros == [[A.shape[1] // 2] * len(A) for A in method.factors]
            pruned.append(t)
    assert pruned == [7, 11, 13]
    assert PRILoRAConfig().with_steps(1000).initial_steps == 150


def test_the_state_is_the_norms(model, compose):
    method = attach(model.train(), PRILoRAConfig(mean_rank=2), compose)
    model(input_ids=IDS, attention_mask=MASK)
    method.after_step(0)
    state = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    expected = [norm.clone() for norm in method.norms]
    model(input_ids=IDS.flip(0)[:1], attention_mask=MASK.flip(0)[:1])
    method.after_step(1)
    assert not torch.equal(method.norms[0], expected[0])
    method.load_state_dict(state)
    assert all(map(torch.equal, method.norms, expected))


@pytest.mark.parametrize(
    "values, message",
    [
        ({"mean_rank": 0.5}, r"method\.mean_rank=0\.5: at least 1"),
        ({"spread": 1.0}, r"method\.spread=1: must lie between -1 and 1"),
        ({"sparsity": 1.0}, r"method\.sparsity=1: must lie in \[0, 1\)"),
        ({"beta": -0.1}, r"method\.beta=-0\.1"),
        ({"initial_steps": -1}, r"method\.initial_steps=-1: must be finite and not negative, or null"),
        ({"mask_interval": 0}, r"method\.mask_interval=0: at least 1"),
        ({"dropout": 1.0}, r"method\.dropout"),
    ],
)
def test_wrong_options_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        PRILoRAConfig(**values)


# -- an encoder-decoder, for SoRA too


def test_padded_targets_are_left_out_of_the_decoder_s_norms(compose):
    model = bart(layers=3, vocab_size=50, dropout=0.0).train()
    method = create(PRILoRAConfig(mean_rank=2).with_steps(6))
    method.attach(model, targets_of(model, compose("model=bart_large")), 6)
    ids, labels = torch.randint(4, 50, (2, 9)), torch.tensor([[5, 6, 7, 2], [8, 2, -100, -100]])

    def norms(labels):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels)
        return method.inputs.take(48)

    for one, other in zip(norms(labels), norms(nn.functional.pad(labels, (0, 3), value=-100)), strict=True):
        torch.testing.assert_close(other, one)


@pytest.mark.parametrize("source, target", [(9, 4), (4, 4)], ids=["longer", "as long"])
def test_padded_sources_are_left_out_as_the_suite_trains(compose, source, target):
    """Through the loss of a summary, whose masks are fused attention's."""
    task = create_task(compose("task=xsum").task)
    model = bart(layers=3, vocab_size=50, dropout=0.0).train()
    model.config._attn_implementation = "sdpa"
    method = create(PRILoRAConfig(mean_rank=2).with_steps(6))
    method.attach(model, targets_of(model, compose("model=bart_large")), 6)
    ids, labels = torch.randint(4, 50, (2, source)), torch.randint(4, 50, (2, target))
    mask = torch.ones_like(ids)
    mask[1, 2:] = 0
    labels[0, 3:] = -100

    def norms(ids, mask):
        task.loss(model, {"input_ids": ids, "attention_mask": mask, "labels": labels})
        return method.inputs.take(48)

    padded = nn.functional.pad(ids, (0, 7), value=1), nn.functional.pad(mask, (0, 7))
    for one, other in zip(norms(ids, mask), norms(*padded), strict=True):
        torch.testing.assert_close(other, one)


@pytest.mark.parametrize(
    "config",
    [PRILoRAConfig(mean_rank=2), SoRAConfig(max_rank=4, target_rank=2)],
    ids=lambda config: config.name,
)
def test_on_bart_it_trains_and_prunes(compose, config):
    model = bart(layers=3, vocab_size=50, dropout=0.0)
    targets = targets_of(model, compose("model=bart_large"))
    shapes = {path: tuple(module.weight.shape) for path, module in targets.items()}
    method = create(config.with_steps(6))
    method.attach(model, targets, 6)
    assert len(method.modules) == 48
    optimizer = torch.optim.AdamW(groups_of(model, method, 0.01), lr=0.01)
    ids, answer = torch.randint(4, 50, (4, 9)), torch.randint(4, 50, (4, 6))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    batch = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": answer}
    model.train()
    states = {}
    final = model.model.encoder.register_forward_hook(lambda _, args, out: states.update(encoder=out[0].detach()))
    for t in range(6):
        model(**batch).logits.square().mean().backward()
        method.before_step(t, optimizer)
        optimizer.step()
        if config.name == "prilora" and t == 0:
            sums = dict(zip(method.modules, method.inputs.sums.values(), strict=False))
            keys = sums["model.decoder.layers.2.encoder_attn.k_proj"]  # the encoder's states, without padding
            torch.testing.assert_close(keys, (states["encoder"] ** 2)[mask.bool()].sum(0))
        method.after_step(t)
        optimizer.zero_grad()
    final.remove()
    ranks = method.ranks()
    if config.name == "prilora":
        for stack in ("encoder", "decoder"):
            assert [ranks[f"model.{stack}.layers.{layer}.fc1"] for layer in range(3)] == [1, 2, 3]
        assert method.kept() is None  # as counted
    else:
        assert abs(method.kept() - method.config.count(shapes).kept) <= 48 / 2
        assert sum(ranks[path] * sum(shape) for path, shape in shapes.items()) == method.kept()
