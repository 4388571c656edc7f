"""Which parameters are trained, by name, and new class scores."""

import numpy as np
import pytest

from eftrain.errors import UserError
from eftrain.graph import (
    PICTURE,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Graph,
    Linear,
    Node,
    ReLU,
    initial_weights,
    select,
    with_classes,
)

NAMES = {0: "stem", 1: "stem.bn", 2: "relu", 3: "layer1.conv", 4: "layer1.relu", 6: "fc"}
LAYERS = [Conv2d(1, 3, 3), BatchNorm2d(3), ReLU(), Conv2d(3, 2, 3, bias=False), ReLU(), Flatten(),
          Linear(8, 4)]  # fmt: skip


def network(names=NAMES, layers=LAYERS, **trainable):
    return Graph((1, 6, 6), layers, initial_weights(layers, 1), names, trainable)


@pytest.mark.parametrize(
    "text, trained",
    [
        ("all", "0.weight 0.bias 1.weight 1.bias 3.weight 6.weight 6.bias"),
        ("bias", "0.bias 1.bias 6.bias"),
        ("last:1", "6.weight 6.bias"),
        (" last:2 ", "3.weight 6.weight 6.bias"),
        ("last:3", "1.weight 1.bias 3.weight 6.weight 6.bias"),
        ("last:4", "0.weight 0.bias 1.weight 1.bias 3.weight 6.weight 6.bias"),
        ("fc", "6.weight 6.bias"),
        ("layer1.*,fc", "3.weight 6.weight 6.bias"),
        ("stem , layer1.conv", "0.weight 0.bias 3.weight"),
        ("stem*", "0.weight 0.bias 1.weight 1.bias"),
        ("f?", "6.weight 6.bias"),
        ("[ls]*conv", "3.weight"),
        ("*", "0.weight 0.bias 1.weight 1.bias 3.weight 6.weight 6.bias"),
    ],
)
def test_selections(text, trained):
    graph = network(**{"0.weight": False, "6.bias": False})
    found = select(graph, text)
    assert [name for name, value in found.trainable.items() if value] == trained.split()
    assert found.layers == graph.layers and found.names == graph.names
    for name, value in graph.weights.items():
        assert np.array_equal(found.weights[name], value)
    assert graph.frozen == ["0.weight", "6.bias"]


def test_layers_without_names_go_by_those_that_messages_give():
    graph = network(names=None)
    assert select(graph, "layer 3 (Conv2d)").trained(3) == {"weight"}
    assert select(graph, "*Linear)").frozen == ["0.weight", "0.bias", "1.weight", "1.bias",
                                                "3.weight"]  # fmt: skip


@pytest.mark.parametrize(
    "text, message",
    [
        ("layer1.con", "'layer1.con' matches no layer; choose from layer1.conv, "),
        ("fc,stam", "'stam' matches no layer; choose from stem"),
        ("zzz", "matches no layer; choose from stem, stem.bn, layer1.conv, fc, or give all, bias"),
        ("relu", "'relu' matches only layers without parameters; choose from "),
        ("", "'' matches no layer"),
        ("FC", "'FC' matches no layer"),
        ("last:0", "'last:0' has no number of layers; give for example last:1."),
        ("last:", "has no number"),
        ("last:-1", "has no number"),
        ("last:²", "has no number"),
        ("last:5", "'last:5' is more than the 4 layers of the network that have parameters; give"),
    ],
)
def test_what_selects_nothing(text, message):
    with pytest.raises(UserError) as error:
        select(network(), text)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_network_without_biases():
    graph = Graph((4,), [Linear(4, 2, False)])
    with pytest.raises(UserError, match="has no biases"):
        select(graph, "bias")


@pytest.mark.parametrize("bias", [True, False])
def test_new_class_scores(bias):
    layers = [*LAYERS[:6], Linear(8, 4, bias)]
    graph = network(layers=layers, **{"6.weight": False, "0.weight": False})
    found = with_classes(graph, 7, seed=3)
    assert found.classes == 7 and found.layers == [*layers[:6], Linear(8, 7, bias)]
    assert found.frozen == ["0.weight"] and found.names == graph.names
    assert found.weights["6.weight"].shape == (7, 8)
    assert set(found.weights) == set(graph.weights)
    for name, value in graph.weights.items():
        assert np.array_equal(found.weights[name], value) == (not name.startswith("6.")), name
    again, other = with_classes(graph, 7, seed=3), with_classes(graph, 7, seed=4)
    assert np.array_equal(found.weights["6.weight"], again.weights["6.weight"])
    assert not np.array_equal(found.weights["6.weight"], other.weights["6.weight"])
    assert np.abs(found.weights["6.weight"]).max() <= 8**-0.5


def test_a_head_that_is_a_node_and_a_network_without_weights():
    graph = Graph((4,), [Node(Linear(4, 2), PICTURE)])
    found = with_classes(graph, 3)
    assert found.layers == [Node(Linear(4, 3), (PICTURE,))] and found.classes == 3


@pytest.mark.parametrize(
    "layers, classes, message",
    [
        ([*LAYERS, ReLU()], 3, r"ends in layer 7 \(ReLU\), a ReLU, so .*; end it with a Linear"),
        (LAYERS, 0, "classes is 0; give an integer of 1 or more"),
    ],
)
def test_heads_that_cannot_be_replaced(layers, classes, message):
    with pytest.raises(UserError, match=message):
        with_classes(network(layers=layers), classes)
