"""The demo's pictures and base network: fixed to the bit, and a fair exercise."""

import hashlib

import numpy as np
import pytest
from torch_repeat import accuracy, load, repeat

from eftrain.data import digits
from eftrain.data.train_digits_base import network
from eftrain.networks import digits as digits_network
from eftrain.personalize import Settings, prepare
from eftrain.weights_file import load_weights


@pytest.fixture(scope="module")
def task():
    return prepare(Settings())


def digest(*arrays):
    data = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    return hashlib.sha256(data).hexdigest()[:16]


def test_every_picture_is_used_once():
    base, (adapt, test) = digits.base(), digits.new_user()
    assert (len(base.y), len(adapt.y), len(test.y)) == (900, 400, 497)
    for split in (base, adapt, test):
        assert split.x.shape == (len(split.y), 1, 8, 8)
        assert split.x.dtype == np.float32
        assert split.x.min() == 0 and split.x.max() <= 1
        assert set(split.y) == set(range(10))
    # Labels of all parts together are those of the whole set.
    from sklearn.datasets import load_digits

    labels = np.concatenate([base.y, adapt.y, test.y])
    assert (np.bincount(labels) == np.bincount(load_digits().target)).all()


def test_the_pictures_are_the_same_on_every_machine():
    base, (adapt, test) = digits.base(), digits.new_user()
    assert digest(base.x, base.y) == "473c5bd9255dc978"
    assert digest(adapt.x, adapt.y, test.x, test.y) == "68410faa30d4680a"


def test_the_transform_leaves_the_picture_when_it_is_zero():
    x = digits.base().x[:20]
    assert (digits.slant_and_rotate(x, slant=0, rotation=0) == x).all()


def test_a_quarter_turn_is_exact_and_clockwise():
    x = digits.base().x[:20]
    turned = digits.slant_and_rotate(x, slant=0, rotation=90)
    assert (turned == np.rot90(x, k=-1, axes=(2, 3))).all()


def test_a_slant_moves_the_upper_rows_to_the_right():
    x = np.zeros((1, 1, 8, 8), np.float32)
    x[:, :, :, 4] = 1
    columns = (digits.slant_and_rotate(x, slant=0.5, rotation=0)[0, 0] * np.arange(8)).sum(axis=1)
    assert (np.diff(columns) < 0).all()


def test_the_shipped_weights_fit_the_network_and_its_twin_in_pytorch():
    graph = digits_network(load_weights(digits.BASE_WEIGHTS, digits_network().layers))
    shapes = {name: tuple(value.shape) for name, value in network().state_dict().items()}
    assert shapes == graph.parameter_shapes


def test_the_base_network_reads_its_own_hand_but_not_the_new_users(task):
    module = load(task.graph)
    base = digits.base()
    assert accuracy(module, base.x, base.y) >= 0.95
    assert accuracy(module, *task.test) <= 0.60


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pytorch_reaches_ninety_percent(seed):
    task = prepare(Settings(seed=seed))
    assert task.settings.epochs <= 5
    module, steps = repeat(task)
    assert len(steps) == 50
    assert accuracy(module, *task.test) >= 0.90
