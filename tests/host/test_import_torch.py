"""PyTorch modules become graphs that compute the same, and are left alone."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from graph_in_torch import GraphInTorch
from import_networks import NETWORKS, make
from torch import nn

from eftrain.errors import UserError
from eftrain.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GroupNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    ReLU6,
)
from eftrain.importers.torch_module import from_torch
from eftrain.networks import network


def results(graph, x):
    """Class scores of a graph in evaluation."""
    net = GraphInTorch(graph)
    net.load_state_dict({name: torch.tensor(value) for name, value in graph.weights.items()})
    return net.eval()(x).detach().numpy()


def gradients(graph, x):
    """Of the sum of squares of the scores of a training step, by the graph's names."""
    net = GraphInTorch(graph)
    net.load_state_dict({name: torch.tensor(value) for name, value in graph.weights.items()})
    net.train()(x).square().sum().backward()
    return [value.grad.numpy() for value in net.parameters()]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_compute_the_same(name):
    net, shape = make(name)
    graph = from_torch(net, shape)
    x = torch.randn(3, *shape)
    np.testing.assert_allclose(
        results(graph, x), net.eval()(x).detach().numpy(), rtol=1e-4, atol=1e-4
    )
    assert graph.frozen == [] and len(graph.trainable) == len(list(net.parameters()))
    own = {path for path, module in net.named_modules() if not list(module.children())}
    assert set(graph.names.values()) <= own and (graph.names or name == "CIFAR 1X")


def test_networks_train_the_same():
    net, shape = make("ResNet-20")
    graph = from_torch(net, shape)
    x = torch.randn(2, *shape)
    net.train()(x).square().sum().backward()
    by_name = {
        f"{index}.{kind}": value.grad.numpy()
        for index, path in graph.names.items()
        for kind, value in net.get_submodule(path).named_parameters()
    }
    found = dict(zip(graph.trainable, gradients(graph, x), strict=True))
    assert set(by_name) == set(found)
    for name, value in by_name.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-3 * abs(value).max())


def test_every_layer_and_form():
    net, shape = make("every layer")
    graph = from_torch(net, shape)
    assert [node.layer for node in graph.nodes] == [
        Conv2d(3, 8, (5, 3), padding=(2, 1)),
        GroupNorm(4, 8),
        LeakyReLU(0.1),
        Conv2d(8, 8, 3, padding=1, groups=2),
        BatchNorm2d(8, 1e-3, 0.01),
        ReLU6(),
        Add(),
        MaxPool2d(2, stride=3),
        AvgPool2d(2),
        Flatten(),
        Dropout(0.3),
        Linear(72, 12, bias=False),
        ReLU6(),
        Linear(12, 4),
    ]
    assert graph.nodes[6].inputs == (5, 2)
    assert graph.names == {
        0: "conv", 1: "norm", 2: "act", 3: "grouped", 4: "bn", 7: "pool", 8: "avg", 10: "drop",
        11: "fc1", 13: "fc2",
    }  # fmt: skip


def test_the_built_in_network_and_the_module_are_the_same():
    built_in, graph = network("resnet20"), from_torch(*make("ResNet-20"))
    # The module computes a shortcut before the block, and takes the mean over the whole picture.
    kinds = [sorted(repr(n.layer) for n in g.nodes if not isinstance(n.layer, AvgPool2d))
             for g in (built_in, graph)]  # fmt: skip
    assert kinds[0] == kinds[1]


def test_a_plain_sequential_keeps_its_numbers():
    net, shape = make("CIFAR 1X")
    graph = from_torch(net, shape)
    assert {name: value.shape for name, value in graph.weights.items()} == {
        name: tuple(value.shape) for name, value in net.state_dict().items()
    }
    assert graph.names == {}


@pytest.mark.parametrize("training", [True, False])
def test_the_module_is_left_alone(training):
    net, shape = make("every layer")
    net.train(training)
    before = copy.deepcopy(net.state_dict())
    graph = from_torch(net, shape)
    assert [module.training for module in net.modules()] == [training] * len(list(net.modules()))
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    graph.weights["0.weight"][:] = 0
    assert torch.equal(net.conv.weight, before["conv.weight"])


def test_evaluation_mode_makes_no_difference():
    net, shape = make("every layer")
    training, evaluation = from_torch(net, shape), from_torch(net.eval(), shape)
    assert training.layers == evaluation.layers and Dropout(0.3) in training.layers


def test_parts_in_evaluation_mode_are_frozen():
    net, shape = make("every layer")
    net.bn.eval()
    net.drop.eval()
    graph = from_torch(net, shape)
    assert [n.layer for n in graph.nodes if isinstance(n.layer, BatchNorm2d)] == [
        BatchNorm2d(8, 1e-3, 0.01, frozen=True)
    ]
    assert not any(isinstance(node.layer, Dropout) for node in graph.nodes)
    x = torch.randn(2, *shape)
    expected = net(x)
    net = GraphInTorch(graph)
    net.load_state_dict({name: torch.tensor(value) for name, value in graph.weights.items()})
    assert torch.allclose(net.train()(x), expected, atol=1e-5)


def test_requires_grad_is_honoured():
    net, shape = make("every layer")
    for parameter in (*net.conv.parameters(), net.fc2.bias, net.bn.weight):
        parameter.requires_grad_(False)
    graph = from_torch(net, shape)
    assert graph.frozen == ["0.weight", "0.bias", "4.weight", "13.bias"]


def test_modules_used_twice_have_one_name():
    graph = from_torch(*make("ResNet-20"))
    assert [name for name in graph.names.values() if name == "stages.0.relu"] == ["stages.0.relu"]
    first = [index for index, name in graph.names.items() if name == "stages.0.relu"]
    assert isinstance(graph.nodes[first[0]].layer, ReLU)


@pytest.mark.parametrize(
    ("function", "layer"),
    [
        (lambda x: torch.clamp(x, 0, 6), ReLU6()),
        (lambda x: x.clamp_(min=0), ReLU()),
        (lambda x: F.hardtanh(x, 0, 6, inplace=True), ReLU6()),
        (lambda x: F.leaky_relu_(x, 0.2), LeakyReLU(0.2)),
        (lambda x: torch.relu(x).contiguous(), ReLU()),
    ],
)
def test_functions(function, layer):
    assert from_torch(Function(function), (4,)).layers == [Linear(4, 4), layer]


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.layer, self.function = nn.Linear(4, 4), function

    def forward(self, x):
        return self.function(self.layer(x))


def test_a_softmax_at_the_end_is_left_out():
    plain = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    for end in (nn.Softmax(1), nn.LogSoftmax(-1)):
        graph = from_torch(nn.Sequential(*plain, end), (1, 6, 6))
        assert graph.layers == [Flatten(), Linear(36, 4)]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(F.relu(self.first(x)))


def test_tied_parameters_are_refused():
    with pytest.raises(UserError, match=r"second \(Linear\) .* shares its weight with first; give"):
        from_torch(Tied(), (4,))


def test_modules_that_cannot_be_copied_are_refused():
    net = nn.Sequential(nn.Linear(4, 4))
    net.lock = (value for value in ())
    with pytest.raises(UserError, match="The model Sequential cannot be copied .*generator"):
        from_torch(net, (4,))


def test_input_shapes_are_checked_first():
    for shape in ((6, 6), (1, 0, 6), "x"):
        with pytest.raises(UserError, match="input_shape"):
            from_torch(nn.Linear(4, 4), shape)
