"""Graphs: what their layers read, and how PyTorch's modules become one."""

import pytest
import torch
import torch.nn.functional as F
from norm_networks import Residual, resnet
from torch import nn

from eftrain.errors import UserError
from eftrain.graph import (
    PICTURE,
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Graph,
    Linear,
    Node,
    ReLU,
)
from eftrain.importers.torch_module import from_torch
from eftrain.networks import NETWORKS, network
from eftrain.optim import SGD
from eftrain.plan.schedule import Schedule
from eftrain_hdl.config import CoreConfig

END = [Flatten(), Linear(3 * 36, 2)]


def test_layers_read_the_one_before_them_unless_they_say():
    graph = Graph((3, 6, 6), [ReLU(), Node(Add(), (0, PICTURE)), *END])
    assert [node.inputs for node in graph.nodes] == [(PICTURE,), (0, PICTURE), (1,), (2,)]
    assert graph.shapes == [(3, 6, 6)] * 3 + [(108,), (2,)]


@pytest.mark.parametrize(("layers", "message"), [
    ([Add()], r"layer 0 \(Add\) has inputs \(-1,\); name 2"),
    ([Node(ReLU(), (0,))], r"layer 0 \(ReLU\) reads layer 0"),
    ([Node(ReLU(), ("x",))], r"layer 0 \(ReLU\) reads layer 'x'"),
    ([Node(ReLU(), (0, 0))], r"name 1 of the layers"),
    ([ReLU(), Node(Conv2d(3, 4, 1), 0), Node(Add(), (0, 1))], r"adds layers of shapes"),
    ([ReLU(), Node(ReLU(), PICTURE)], r"layer 0 \(ReLU\) is read by no other layer"),
    ([BatchNorm2d(4)], r"layer 0 \(BatchNorm2d\) takes 4 channels but receives 3"),
    ([AvgPool2d(7)], r"layer 0 \(AvgPool2d\) has windows of 7 rows but its input has 6"),
    ([AvgPool2d((2, 12))], r"windows of 12 columns; the device takes 1 to 11"),
])
def test_graphs_that_are_refused(layers, message):
    with pytest.raises(UserError, match=message):
        Graph((3, 6, 6), [*layers, *END])


def test_windows_the_device_cannot_step():
    with pytest.raises(UserError, match="several windows of 5 rows"):
        Graph((3, 10, 10), [AvgPool2d(5), Flatten(), Linear(12, 2)])


@pytest.mark.parametrize(("options", "message"), [
    ({"eps": 0}, "BatchNorm2d eps is 0"),
    ({"eps": "small"}, "BatchNorm2d eps is 'small'"),
    ({"momentum": 1.5}, "BatchNorm2d momentum is 1.5"),
])
def test_batch_norms_that_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        BatchNorm2d(3, **options)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_by_name(name):
    assert network(name).classes in (10, 1000)


def test_unknown_networks_are_refused():
    with pytest.raises(UserError, match="no network 'vgg'; choose one of digits, "):
        network("vgg")


def test_resnet20_has_the_weights_of_the_paper():
    shapes = network("resnet20").parameter_shapes
    convolutions = [shape for shape in shapes.values() if len(shape) == 4]
    assert len(convolutions) == 19 + 2  # and two projections
    assert sum(torch.Size(shape).numel() for shape in convolutions) == 267_696 + 512 + 2_048


def test_modules_are_followed_through_their_forward():
    graph = from_torch(resnet(), (3, 8, 8))
    sums = [node.inputs for node in graph.nodes if isinstance(node.layer, Add)]
    assert sums == [(7, 2), (14, 16)]
    assert {"1.running_mean", "16.running_var"} <= set(graph.weights)


def test_layers_are_named_by_number_and_kind_unless_they_have_a_name():
    names = {1: "scores"}
    graph = Graph((3, 6, 6), END, names=names)
    assert [graph.layer_name(index) for index in (0, 1)] == ["layer 0 (Flatten)", "scores"]
    names[0] = "flatten"
    assert graph.names == {1: "scores"}


@pytest.mark.parametrize(("names", "message"), [
    (["flatten", "scores"], "names are a list; give a dict"),
    ({2: "scores"}, "name 'scores' is for layer 2, which does not exist"),
    ({"1.weight": "scores"}, "for layer '1.weight', which does not exist"),
    ({1: ""}, "Layer 1 has the name ''"),
    ({1: 7}, "Layer 1 has the name 7"),
    ({0: "scores", 1: "scores"}, "has the name 'scores'; give a text of its own"),
])
def test_names_that_are_refused(names, message):
    with pytest.raises(UserError, match=message):
        Graph((3, 6, 6), END, names=names)


def test_messages_and_passes_use_the_names():
    layers = [ReLU(), Conv2d(1, 4, 11), BatchNorm2d(4), Flatten(), Linear(4 * 16 * 16, 2)]
    graph = Graph((1, 26, 26), layers, names={0: "relu", 1: "conv1", 2: "bn1", 4: "fc"})
    step = Schedule(graph, CoreConfig(accumulator_depth=2048), SGD(0.1)).training_step(2)
    assert {layer_pass.layer for layer_pass in step} == {"relu", "conv1", "fc", "loss"}
    small = Schedule(graph, CoreConfig.parse("16x16", accumulator_depth=1024), SGD(0.1))
    with pytest.raises(UserError, match="^conv1: its CONV_WU pass needs"):
        small.training_step(2)


class Strange(nn.Module):
    """Runs a function of its layer and its input."""

    def __init__(self, body):
        super().__init__()
        self.layer, self.body = nn.Linear(4, 4), body

    def forward(self, x):
        return self.body(self.layer, x)


HERE = r"at test_host_graph.py line \d+"


@pytest.mark.parametrize(("body", "message"), [
    (lambda layer, x: layer(x) if x.sum() > 0 else x, f"Strange cannot be followed {HERE} "),
    (lambda layer, x: layer(x[:, 1:]), rf"cannot be followed in layer \(Linear\) {HERE} \(a and b"),
    (lambda layer, x: layer(x) * 2, rf"^Operator mul \(node mul {HERE}\) is not supported; use"),
    (lambda layer, x: layer(x).sin().exp() * 2, r"^Operators sin \(.*\), exp \(.*\) and 1 more "),
    (lambda layer, x: F.relu(x, True) + 1, rf"layer 1 \(add\) {HERE} works on 1, which is no re"),
    (lambda layer, x: torch.add(layer(x), x, alpha=2), r"layer 1 \(add\) .* has alpha=2"),
    (lambda layer, x: F.linear(x, layer.weight.t()), "Operator t "),
    (lambda layer, x: F.linear(x, x[0:1]), "Operator slice "),
    (lambda layer, x: layer(torch.softmax(x, 1)), "reads a softmax, which is supported only at"),
    (lambda layer, x: torch.softmax(layer(x), 0), r"layer 1 \(softmax\) .* has axis 0; .* scores"),
    (lambda layer, x: layer(x).view(1, -1), r"gives the shape \(1, 8\) from \(2, 4\)"),
    (lambda layer, x: layer(x).mean(1), r"takes the mean over axes \(1,\)"),
    (lambda layer, x: (layer(x), x), "does not return the result of its last layer"),
    (lambda layer, x: layer.weight, "does not return the result of its last layer"),
])
def test_modules_that_cannot_be_followed(body, message):
    with pytest.raises(UserError, match=message) as error:
        from_torch(Strange(body), (4,))
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_modules_of_several_inputs_are_refused():
    two = type("Two", (nn.Module,), {"forward": lambda self, x, y: x + y})()
    with pytest.raises(UserError, match="Two takes several inputs; give a model of one"):
        from_torch(two, (4,))


def test_what_pytorch_says_of_errors_is_not_printed(capfd):
    with pytest.raises(UserError, match="cannot be followed"):
        from_torch(Strange(lambda layer, x: layer(x) if x.sum() > 0 else x), (4,))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("layer", "message"), [
    (nn.BatchNorm2d(3, affine=False), "affine=False"),
    (nn.BatchNorm2d(3, momentum=None), "momentum=None"),
    (nn.BatchNorm2d(3, track_running_stats=False), "track_running_stats=False"),
    (nn.AvgPool2d(2, stride=1), "stride=1"),
    (nn.AvgPool2d(2, padding=1), "padding=1"),
    (nn.AdaptiveAvgPool2d(2), "output_size=2"),
])
def test_options_that_are_refused(layer, message):
    with pytest.raises(UserError, match=message):
        from_torch(nn.Sequential(Residual(3, 3, 1), layer), (3, 6, 6))
