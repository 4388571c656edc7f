"""Normalisation equals PyTorch's to the bit, and comes from where the rule says."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from eftrain.data.dataset import Dataset, Split
from eftrain.data.normalisation import PRESETS, Normalisation, find_normalisation
from eftrain.errors import UserError
from eftrain.graph import Flatten, Graph, Linear

IMAGENET = "0.485,0.456,0.406/0.229,0.224,0.225"


def pictures(channels):
    return np.random.default_rng(0).random((5, channels, 4, 3), np.float32)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("mnist", 1),
        ("mnist", 3),
        ("cifar10", 3),
        ("imagenet", 3),
        ("none", 3),
    ],
)
def test_equal_to_pytorch(name, channels):
    x, normalisation = pictures(channels), PRESETS[name]
    mean, std = (
        torch.tensor(values, dtype=torch.float32)[:, None, None]
        for values in (normalisation.mean, normalisation.std)
    )
    expected = torch.tensor(x).sub(mean).div(std).numpy()
    before = x.copy()
    assert np.array_equal(normalisation.apply(x), expected)
    assert np.array_equal(x, before)
    assert normalisation.apply(x, out=x) is x
    assert np.array_equal(x, expected)


def test_text():
    assert Normalisation.parse(IMAGENET) == PRESETS["imagenet"]
    assert Normalisation.parse("0.5/2") == Normalisation([0.5], torch.tensor([2.0]))
    assert Normalisation.parse("mnist") == Normalisation(0.1307, 0.3081)
    cifar10 = Normalisation.parse("0.4914,0.4822,0.4465/0.247,0.2435,0.2616")
    assert Normalisation.parse("cifar10") == cifar10


@pytest.mark.parametrize("text", ["cifar", "", "0.5", "0.5/0.5/0.5", "0.5;0.5", "a/b", "0.5,/1"])
def test_text_of_another_form(text):
    with pytest.raises(UserError, match="is not written MEAN,.../STD,...; for example") as error:
        Normalisation.parse(text)
    assert "one of none, mnist, cifar10, imagenet." in str(error.value)


@pytest.mark.parametrize(("mean", "std", "message"), [
    ((0.5, 0.5), (1,), "has 2 means and 1 standard deviations"),
    ((0.5, 0.5), (1, 0), "std holds 0; give numbers above 0"),
    ((0.5,), (-2,), "std holds -2; give"),
    ((0.5,), (1e-60,), "std holds 1e-60; give numbers above 0"),
    ((float("nan"),), (1,), r"mean is \(nan,\); give one number a channel"),
    ((0,), (1e300,), r"std is \(1e\+300,\); give"),
    ((), (), r"mean is \(\); give"),
    (np.eye(2), (1,), r"mean is array\(\[\[1., 0.\], \[0., 1.\]\]\); give"),
    (None, (1,), "mean is None; give"),
    ("half", (1,), "mean is 'half'; give"),
])  # fmt: skip
def test_values(mean, std, message):
    with pytest.raises(UserError, match=message) as error:
        Normalisation(mean, std)
    assert "\n" not in str(error.value)


def test_channels():
    for shape, network in (((1, 4, 3), "pictures of 1 channels"), ((3,), "vectors of 3")):
        message = f"has 3 channels but the network takes {network}"
        with pytest.raises(UserError, match=message):
            PRESETS["imagenet"].apply(np.zeros((2, *shape), np.float32))


def test_the_given_one_precedes_the_models_and_that_the_datas():
    graph = Graph((1, 2, 2), [Flatten(), Linear(4, 2)])
    split = Split(pictures(1), np.zeros(5, int))
    data = Dataset(train=split, class_names=("0",), normalisation=Normalisation(3, 1))
    assert find_normalisation() is None
    assert find_normalisation(model=graph) is None
    assert find_normalisation(model=graph, dataset=data) == Normalisation(3, 1)
    graph.normalisation = (2, 1)
    assert find_normalisation(model=graph, dataset=data) == Normalisation(2, 1)
    assert find_normalisation("mnist", graph, data) == PRESETS["mnist"]
    assert find_normalisation("none", graph, data).apply(split.x).tolist() == split.x.tolist()


@pytest.mark.parametrize("attribute", ["pretrained_cfg", "default_cfg"])
def test_where_timm_has_it(attribute):
    settings = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "num_classes": 10}
    model = torch.nn.Sequential()
    setattr(model, attribute, settings)
    assert find_normalisation(model=model) == PRESETS["imagenet"]
    model.normalisation = "mnist"
    assert find_normalisation(model=model) == PRESETS["mnist"]
    del settings["std"]
    assert find_normalisation(model=SimpleNamespace(**{attribute: settings})) is None


def test_a_normalisation_of_another_kind():
    with pytest.raises(UserError, match="is a float; give a Normalisation, a pair"):
        find_normalisation(0.5)
