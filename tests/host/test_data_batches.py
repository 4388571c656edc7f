"""Batches: each picture once an epoch, the same for the same seed, and from any place on."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from eftrain.data.augmentation import Augmentation
from eftrain.data.batches import Batches, Position
from eftrain.data.dataset import Split
from eftrain.data.normalisation import Normalisation
from eftrain.errors import UserError

COUNT = 23
ORDER_OF_EIGHT = [5, 2, 4, 6, 7, 1, 3, 0]


@pytest.fixture(scope="module")
def split():
    generator = np.random.default_rng(0)
    return Split(generator.random((COUNT, 2, 5, 4), np.float32), np.arange(COUNT))


def equal(left, right):
    return len(left) == len(right) and all(
        np.array_equal(a, b) for p, q in zip(left, right, strict=True)
        for a, b in zip(p, q, strict=True)
    )  # fmt: skip


def run(batches, epochs):
    return [batch for _ in range(epochs) for batch in batches]


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [5, 5, 5, 5, 3]), (True, [5, 5, 5, 5])])
def test_each_picture_once_an_epoch(split, drop_last, sizes):
    batches = Batches(split, 5, drop_last=drop_last)
    found = list(batches)
    assert [len(y) for _, y in found] == sizes
    assert (len(batches), batches.images) == (len(sizes), sum(sizes))
    labels = np.concatenate([y for _, y in found])
    assert len(set(labels)) == len(labels) == sum(sizes)
    # Labels are the pictures' numbers here.
    assert all(np.array_equal(x, split.x[y]) for x, y in found)


@pytest.mark.parametrize("drop_last", [False, True])
def test_the_batches_of_pytorchs_loader(split, drop_last):
    """Given the order of an epoch, and in the set's own order without shuffling."""
    pictures = TensorDataset(torch.tensor(split.x), torch.tensor(split.y))
    for batches in (Batches(split, 4, seed=2, drop_last=drop_last),
                    Batches(split, 4, shuffle=False, drop_last=drop_last)):  # fmt: skip
        sampler = batches.order(0).tolist() if batches.shuffle else None
        loader = DataLoader(pictures, batch_size=4, sampler=sampler, drop_last=drop_last)
        expected = [(x.numpy(), y.numpy()) for x, y in loader]
        assert equal(list(batches), expected)


def test_the_order_depends_on_seed_and_epoch_alone(split):
    def orders(seed, size=5):
        return [Batches(split, size, seed).order(epoch).tolist() for epoch in range(3)]

    assert orders(4) == orders(4, size=7)
    different = {tuple(order) for seed in (0, 1, 4) for order in orders(seed)}
    assert len(different) == 9
    batches = Batches(split, 5, seed=4)
    assert [np.concatenate([y for _, y in batches]).tolist() for _ in range(3)] == orders(4)


def test_the_order_is_that_of_this_version():
    """A change of the generator would break the resuming of runs that were begun before it."""
    split = Split(np.zeros((8, 1, 1, 1), np.float32), np.arange(8))
    assert Batches(split, 8, seed=1).order(0).tolist() == ORDER_OF_EIGHT


def test_a_resumed_run_gets_what_it_would_have_got(split):
    settings = {"augment": Augmentation(True, 2), "normalisation": Normalisation(0.5, 0.25)}
    whole = run(Batches(split, 5, 9, **settings), 4)
    batches, before = Batches(split, 5, 9, **settings), []
    for _ in range(2):
        for batch in batches:
            before.append(batch)
            if len(before) == 8:
                break
    saved = batches.position
    assert saved == Position(1, 3)
    after = run(Batches(split, 5, 9, position=saved, **settings), 3)
    assert equal(before + after, whole)


def test_the_position_is_that_of_the_next_batch(split):
    batches, seen = Batches(split, 10), []
    for _ in range(2):
        seen += [batches.position for _ in batches]
    assert seen == [Position(0, 1), Position(0, 2), Position(1, 0)] + [
        Position(1, 1), Position(1, 2), Position(2, 0)]  # fmt: skip
    assert sorted(seen) == seen
    batches.position = Position(0, 2)
    assert [len(y) for _, y in batches] == [3]


def test_augmented_before_normalised(split):
    augment, normalisation = Augmentation(True, 2), Normalisation((0.5, 0.2), (0.25, 2))
    batches = Batches(split, 6, 3, augment=augment, normalisation=normalisation)
    x, y = batches.batch(Position(7, 1))
    index = batches.order(7)[6:12]
    assert np.array_equal(y, split.y[index])
    expected = normalisation.apply(augment.apply(split.x[index], index, 3, 7))
    assert np.array_equal(x, expected)


def test_the_set_stays_as_it_is(split):
    before = split.x.copy()
    run(Batches(split, 6, shuffle=False, augment=Augmentation(flip=True),
                normalisation=Normalisation(1, 2)), 2)  # fmt: skip
    assert np.array_equal(split.x, before)


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_whole_epoch_is_its_batches(split, drop_last):
    batches = Batches(split, 5, 1, augment=Augmentation(crop=1), drop_last=drop_last,
                      normalisation=Normalisation(1, 2))  # fmt: skip
    batches.position = Position(2, 0)
    parts = list(batches)
    x, y = batches.epoch(2)
    assert np.array_equal(x, np.concatenate([part for part, _ in parts]))
    assert np.array_equal(y, np.concatenate([part for _, part in parts]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 5, "seed": -1}, "seed is -1"),
        ({"batch_size": 5, "seed": 1 << 64}, "seed is 18446744073709551616; give at most"),
        ({"batch_size": 24, "drop_last": True}, "has 23 pictures .* give 23 or less"),
        ({"batch_size": 5, "augment": Augmentation(crop=4)}, "pictures of 5x4 would be lost"),
        ({"batch_size": 5, "normalisation": Normalisation((1, 2, 3), (1, 2, 3))}, "has 3 channels"),
        ({"batch_size": 5, "position": 3}, "position is a int; give a Position"),
        ({"batch_size": 5, "position": Position(0, 5)}, "step 5 of an epoch of 5 steps; give the"),
        ({"batch_size": 5, "position": Position(-1, 0)}, "epoch is -1"),
        ({"batch_size": 5, "position": Position(0, 0.5)}, "step is 0.5"),
    ],
)
def test_bad_arguments(split, arguments, message):
    with pytest.raises(UserError, match=message):
        Batches(split, **arguments)


def test_batches_that_no_epoch_has(split):
    with pytest.raises(UserError, match="step 5 of an epoch of 5 steps"):
        Batches(split, 5).batch(Position(0, 5))
