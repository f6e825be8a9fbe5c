"""Which rows form a batch, their order and padding."""

import random

import pytest
import torch

from adalora.training.batches import ByLength, LengthGroups, evaluation_size, loader
from tasks.classification.task_type import Classification
from tests.tiny import padding as padded_with

LENGTHS = random.Random(0).choices(range(5, 129), k=1003)  # 250 batches of 4, and 3 rows
SIZE = 4


def groups(micro_batches=1, seed=1, lengths=LENGTHS, size=SIZE):
    return LengthGroups(lengths, size, micro_batches, seed)


def epoch_of(sampler, epoch):
    sampler.start_at(epoch * sampler.steps)
    return list(sampler)


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 400, 1003])
@pytest.mark.parametrize("micro_batches", [1, 2, 4])
def test_every_row_comes_once_an_epoch(rows, micro_batches):
    sampler = groups(micro_batches, lengths=LENGTHS[:rows])
    for epoch in range(3):
        seen = [row for batch in epoch_of(sampler, epoch) for row in batch]
        assert sorted(seen) == list(range(rows))


def test_the_order_is_a_function_of_seed_and_epoch():
    first, second = groups(seed=3), groups(seed=3)
    epoch_of(second, 0)  # what came before makes no difference
    torch.manual_seed(99)
    assert epoch_of(first, 5) == epoch_of(second, 5)


def test_epochs_and_seeds_differ():
    orders = [epoch_of(groups(seed=seed), epoch) for seed in (1, 2) for epoch in (0, 1)]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])
    together = [{frozenset(batch) for batch in order} for order in orders]
    assert all(a != b for i, a in enumerate(together) for b in together[:i])  # who meets whom, too


def test_torch_s_own_generator_is_left_alone():
    rows = [{"input_ids": [1, 2], "label": 0}] * len(LENGTHS)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(loader(rows, groups(), collate(0, 1)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_start_at_gives_the_tail_of_the_epoch(micro_batches):
    sampler = groups(micro_batches, lengths=LENGTHS[:23])  # 6 steps an epoch, the last of 3 rows
    assert sampler.steps == 6
    full = [epoch_of(sampler, epoch) for epoch in range(2)]
    assert len(full[0]) == len(full[1]) == 6 * micro_batches
    for step in range(12):
        sampler.start_at(step)
        epoch, skipped = divmod(step, 6)
        assert list(sampler) == full[epoch][skipped * micro_batches :]


def test_the_short_batch_comes_last():
    for epoch in range(5):
        sizes = [len(batch) for batch in epoch_of(groups(), epoch)]
        assert sizes == [4] * 250 + [3]


def test_micro_batches_cut_each_batch():
    whole, parts = epoch_of(groups(1), 2), epoch_of(groups(2), 2)
    assert [len(part) for part in parts] == [2] * 500 + [2, 1]
    assert [parts[i] + parts[i + 1] for i in range(0, 502, 2)] == whole


@pytest.mark.parametrize("rows, micro_batches", [(1003, 1), (1003, 2), (1001, 2), (1000, 4), (3, 1)])
def test_len_is_the_number_of_batches_to_come(rows, micro_batches):
    sampler = groups(micro_batches, lengths=LENGTHS[:rows])
    for step in (0, 1, sampler.steps - 1, sampler.steps, sampler.steps + 1):
        sampler.start_at(step)
        assert len(sampler) == len(list(sampler))


def padding(batches):
    return sum(max(LENGTHS[row] for row in batch) - LENGTHS[row] for batch in batches for row in batch)


def test_grouped_batches_have_little_padding():
    rows = random.Random(1).sample(range(len(LENGTHS)), len(LENGTHS))
    shuffled = [rows[i : i + SIZE] for i in range(0, len(rows), SIZE)]
    assert padding(epoch_of(groups(), 0)) < padding(shuffled) / 5


def test_batches_do_not_come_in_order_of_length():
    batches = epoch_of(groups(lengths=LENGTHS[:160]), 0)  # 40, sorted by length together
    longest = torch.tensor([max(LENGTHS[row] for row in batch) for batch in batches])
    assert abs(torch.corrcoef(torch.stack([longest, torch.arange(40)]).double())[0, 1]) < 0.5


def test_evaluation_goes_by_length():
    batches = list(ByLength([5, 2, 9, 2, 7], 2))
    assert batches == [[1, 3], [0, 4], [2]]
    assert len(ByLength([5, 2, 9, 2, 7], 2)) == 3
    assert len(ByLength([5, 2, 9, 2], 2)) == 2


def collate(pad_id, multiple):
    """As a classification task pads."""
    return Classification(None).collate(padded_with(pad_id), multiple)


ROWS = [{"input_ids": [7, 8, 9], "label": 1}, {"input_ids": [5], "label": 0}]


def test_rows_are_padded_to_the_longest():
    batch = collate(3, 1)(ROWS)
    assert batch["input_ids"].tolist() == [[7, 8, 9], [5, 3, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [1, 0]
    assert batch["labels"].dtype == torch.int64


@pytest.mark.parametrize("length, width", [(1, 8), (8, 8), (9, 16)])
def test_rows_are_padded_to_a_multiple(length, width):
    batch = collate(0, 8)([{"input_ids": [4] * length, "label": 0}, {"input_ids": [4], "label": 0}])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, width)
    assert batch["attention_mask"].sum(1).tolist() == [length, 1]


def test_scores_stay_fractions():
    labels = collate(0, 1)([{"input_ids": [1], "label": 2.5}, {"input_ids": [1], "label": 0.25}])["labels"]
    assert labels.tolist() == [2.5, 0.25]


def test_the_loader_joins_order_and_padding():
    rows = [{"input_ids": [row + 1] * length, "label": row} for row, length in enumerate([2, 1, 3])]
    first, second = loader(rows, ByLength([2, 1, 3], 2), collate(0, 1))
    assert first["input_ids"].tolist() == [[2, 0], [1, 1]]
    assert first["labels"].tolist() == [1, 0]
    assert second["input_ids"].tolist() == [[3, 3, 3]]


@pytest.mark.parametrize(
    ("rows", "most", "device", "size"),
    [
        (277, 128, "cpu", 18), (277, 128, "cuda", 128), (20, 128, "cpu", 8), (5463, 128, "cpu", 128),
        (277, 16, "cpu", 16), (277, 4, "cpu", 4), (1, 128, "cpu", 8),
    ],
)  # fmt: skip
def test_an_evaluation_on_a_cpu_has_batches_small_enough_to_need_little_padding(rows, most, device, size):
    assert evaluation_size(rows, most, device) == size
