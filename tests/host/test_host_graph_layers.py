"""Layers as data: their shapes against PyTorch's, and which of them the device refuses."""

import pytest
import torch
from graph_in_torch import GraphInTorch

from eftrain.errors import UserError
from eftrain.graph import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Graph,
    GroupNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    ReLU6,
    describe,
    initial_weights,
)
from eftrain.graph_file import graph_from_json, graph_to_json
from eftrain.plan.schedule import Schedule
from eftrain_hdl.config import CoreConfig

SHAPE = (4, 11, 8)
NEW = [
    Conv2d(4, 8, 3, padding=1, groups=2),
    Conv2d(4, 4, (11, 5), padding=(5, 2), groups=4),
    BatchNorm2d(4, frozen=True),
    GroupNorm(2, 4),
    ReLU6(),
    LeakyReLU(0.2),
    Dropout(0.25),
    MaxPool2d(3),
    MaxPool2d(3, stride=2, padding=1),
    MaxPool2d(2, stride=3),
    MaxPool2d((2, 3), (3, 2), (1, 0)),
]  # fmt: skip


def graph(layer):
    """``layer`` between a convolution and class scores."""
    head = [Conv2d(SHAPE[0], 4, 1), layer]
    size = layer.output_shape(SHAPE)
    return Graph(SHAPE, [*head, Flatten(), Linear(size[0] * size[1] * size[2], 2)])


@pytest.mark.parametrize("layer", NEW, ids=repr)
def test_shapes_and_parameters_are_those_of_pytorch(layer):
    network = graph(layer)
    net = GraphInTorch(network).eval()
    results = net.results(torch.zeros(1, *SHAPE))
    assert [tuple(result.shape[1:]) for result in results] == network.shapes
    assert {name: value.shape for name, value in net.values().items()} == network.parameter_shapes


@pytest.mark.parametrize(("layer", "message"), [
    (NEW[0], r"layer 1 \(Conv2d\) has 2 groups, .*; use groups=1\.$"),
    (NEW[2], r"layer 1 \(BatchNorm2d\) has frozen statistics, .*; use frozen=False\.$"),
    (NEW[3], r"layer 1 \(GroupNorm\) is a GroupNorm, .*; use BatchNorm2d after a Conv2d\.$"),
    (NEW[4], r"layer 1 \(ReLU6\) is a ReLU6, .*; use ReLU\.$"),
    (NEW[5], r"layer 1 \(LeakyReLU\) is a LeakyReLU, .*; use ReLU\.$"),
    (NEW[6], r"layer 1 \(Dropout\) is a Dropout, .*; use the network without it\.$"),
    (NEW[7], r"layer 1 \(MaxPool2d\) has kernel_size=\(3, 3\) and stride=\(3, 3\), .*; "
     r"use kernel_size=2 and stride=2\.$"),
    (NEW[9], r"layer 1 \(MaxPool2d\) has stride=\(3, 3\), .*; use stride=2\.$"),
    (MaxPool2d(2, padding=1), r"layer 1 \(MaxPool2d\) has padding=\(1, 1\), .*; use padding=0\.$"),
])
def test_layers_that_the_device_does_not_run(layer, message):
    with pytest.raises(UserError, match=message) as error:
        Schedule(graph(layer), CoreConfig())
    assert "which the device does not run yet" in str(error.value)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Conv2d(4, 6, 3, groups=4), "Conv2d out_channels is 6, which 4 groups do not divide"),
    (lambda: Conv2d(4, 6, 3, groups=3), "Conv2d in_channels is 4, which 3 groups"),
    (lambda: Conv2d(4, 4, 3, groups=0), "Conv2d groups is 0"),
    (lambda: GroupNorm(3, 4), "GroupNorm num_channels is 4, which 3 groups"),
    (lambda: GroupNorm(2, 4, eps=0), "GroupNorm eps is 0; give a number above 0"),
    (lambda: GroupNorm(2.0, 4), "GroupNorm num_groups is 2.0"),
    (lambda: LeakyReLU("steep"), "LeakyReLU negative_slope is 'steep'"),
    (lambda: LeakyReLU(1e300), "LeakyReLU negative_slope is 1e.300"),
    (lambda: Dropout(1.5), "Dropout p is 1.5; give a number from 0 to 1"),
    (lambda: MaxPool2d(2, stride="x"), "MaxPool2d stride is 'x'"),
])
def test_values_that_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(("layer", "message"), [
    (MaxPool2d(5), "has windows of 5 rows; use 2 or 3"),
    (MaxPool2d(3, stride=1), "has stride 1 over rows; use 2 or 3"),
    (MaxPool2d(3, padding=(0, 2)), "has padding 2 over columns; use 0 or 1"),
    (GroupNorm(2, 6), "takes 6 channels but receives 4"),
    (GroupNorm(2, 4), r"takes pictures \(C, H, W\) but receives a vector"),
    (MaxPool2d(3), r"takes pictures \(C, H, W\) but receives a vector"),
])
def test_shapes_that_are_refused(layer, message):
    shape = (4,) if "vector" in message else SHAPE
    with pytest.raises(UserError, match=rf"layer 0 \({layer.kind}\) {message}"):
        Graph(shape, [layer, Flatten(), Linear(4, 2)])


def test_windows_reach_into_the_padding():
    assert MaxPool2d(3, 2, 1).output_shape((1, 1, 4)) == (1, 1, 2)
    assert MaxPool2d(3).output_shape((1, 2, 4)) == "needs pictures of at least 3x3 but receives 2x4"


def test_layers_of_earlier_versions_write_themselves_as_before():
    layers = [Conv2d(1, 2, 3), BatchNorm2d(2), MaxPool2d(2), ReLU(), AvgPool2d()]
    assert describe(layers) == (
        "Conv2d(in_channels=1, out_channels=2, kernel_size=(3, 3), stride=(1, 1), padding=(0, 0), "
        "bias=True) > BatchNorm2d(num_features=2, eps=1e-05, momentum=0.1) > "
        "MaxPool2d(kernel_size=(2, 2)) > ReLU() > AvgPool2d(kernel_size=None)"
    )
    assert repr(MaxPool2d(3, 2)) == "MaxPool2d(kernel_size=(3, 3), stride=(2, 2))"
    assert repr(MaxPool2d(2, stride=2)) == "MaxPool2d(kernel_size=(2, 2))"
    assert "groups=2" in repr(NEW[0]) and repr(NEW[0]) != repr(Conv2d(4, 8, 3, padding=1))


@pytest.mark.parametrize("layer", NEW, ids=repr)
def test_networks_survive_json(layer):
    network = graph(layer)
    network = Graph(SHAPE, network.layers, trainable={"0.bias": False})
    again = graph_from_json(graph_to_json(network))
    assert again.layers == network.layers and again.trainable == network.trainable


def test_group_norm_starts_as_in_pytorch():
    weights = initial_weights([GroupNorm(2, 4)], seed=0)
    assert {name: set(value) for name, value in weights.items()} == {"0.weight": {1}, "0.bias": {0}}


LAYERS = [Conv2d(1, 3, 3), BatchNorm2d(3), Flatten(), Linear(48, 4)]


def test_parameters_are_trained_unless_a_graph_says_otherwise():
    names = ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"]
    assert Graph((1, 6, 6), LAYERS).trainable == dict.fromkeys(names, True)
    graph = Graph((1, 6, 6), LAYERS, trainable={"3.bias": True, "1.weight": False})
    assert graph.frozen == ["1.weight"] and list(graph.trainable) == names


@pytest.mark.parametrize(("trainable", "message"), [
    (["0.weight"], "trainable is a list; give a dict"),
    ({"1.running_mean": False}, "'1.running_mean', which is no parameter"),
    ({"0.weight": "no"}, "trainable has 'no' for 0.weight; give True or False"),
])
def test_marks_that_are_refused(trainable, message):
    with pytest.raises(UserError, match=message):
        Graph((1, 6, 6), LAYERS, trainable=trainable)


