"""Batch-norm, residual sums and average pooling: training on the interpreter against PyTorch."""

import numpy as np
import pytest
import torch
from graph_in_torch import GraphInTorch
from layer_cases import assert_close
from norm_networks import resnet, vgg
from training_cases import data, score_in_torch, train_in_torch

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
    MaxPool2d,
    Node,
    ReLU,
)
from eftrain.importers.torch_module import from_torch
from eftrain.optim import SGD
from eftrain.plan.schedule import Schedule
from eftrain.trainer import Trainer
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.isa import Flag, Opcode


def check_training(graph, device, sgd, samples=14, batch=5, epochs=2):
    """Losses, weights and running statistics after ``epochs``, and the evaluation then."""
    net = GraphInTorch(graph)
    graph = Graph(graph.input_shape, graph.layers, net.values() | graph.weights)
    net.load_state_dict({name: torch.tensor(value) for name, value in graph.weights.items()})
    x, y = data(samples, graph.input_shape, graph.classes)
    trainer = Trainer(graph, device, sgd)
    before = trainer.evaluate(x, y, batch_size=4)["loss"]
    net.eval()
    assert before == pytest.approx(score_in_torch(net, x, y)["loss"], rel=1e-4)
    net.train()
    history = trainer.fit(x, y, epochs, batch, shuffle=False)
    expected = train_in_torch(net, x, y, epochs, batch, sgd)
    assert np.allclose(history.losses, [loss for loss, _ in expected], rtol=1e-4)
    for name, value in trainer.state_dict().items():
        assert_close(value, net.values()[name], 1e-4, name)
    net.eval()
    after = trainer.evaluate(x, y, batch_size=4)["loss"]
    assert after == pytest.approx(score_in_torch(net, x, y)["loss"], rel=1e-4)


@pytest.mark.parametrize("array", ["4x4", "8x8"])
@pytest.mark.parametrize("network", [vgg, resnet])
def test_networks_train_as_in_pytorch(make_device, network, array):
    graph = from_torch(network(), (3, 8, 8))
    check_training(graph, make_device(array), SGD(0.05, 0.9, 0.001))


def test_a_bias_that_the_norm_takes_off_only_moves_the_running_mean(make_device):
    graph = from_torch(vgg(bias=True), (3, 8, 8))
    check_training(graph, make_device(), SGD(0.05, 0.9))


def test_momentum_goes_on_from_one_fit_to_the_next(make_device):
    x, y = data(10, (3, 8, 8), 4)
    twice, once = (Trainer(resnet(), make_device("4x4"), SGD(0.05, 0.9)) for _ in range(2))
    twice.fit(x, y, 1, 5, shuffle=False)
    twice.fit(x, y, 1, 5, shuffle=False)
    once.fit(x, y, 2, 5, shuffle=False)
    for name, value in once.state_dict().items():
        assert np.array_equal(value, twice.state_dict()[name]), name


def conv(inputs, outputs, source=None, kernel=3, stride=1):
    layer = Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    return layer if source is None else Node(layer, source)


UNUSUAL = {
    "the projection reads first": [
        conv(3, 6), BatchNorm2d(6), ReLU(), conv(6, 6, 2, 1, 2), BatchNorm2d(6),
        conv(6, 6, 2, 3, 2), BatchNorm2d(6), Node(Add(), (6, 4)), ReLU(),
    ],
    "the sum is pooled": [
        conv(3, 6), BatchNorm2d(6), conv(6, 6), BatchNorm2d(6), Node(Add(), (3, 1)), ReLU(),
        MaxPool2d(),
    ],
    "an odd map is pooled after the norm": [
        Conv2d(3, 6, 2), BatchNorm2d(6), ReLU(), MaxPool2d(), conv(6, 5),
    ],
    "the scores are normalised": [
        conv(3, 6), ReLU(), Conv2d(6, 4, 8, bias=False), BatchNorm2d(4), ReLU(), Flatten(),
    ],
    "the input is added": [conv(3, 3), BatchNorm2d(3), Node(Add(), (PICTURE, 1)), conv(3, 5)],
    "additions without batch-norm": [
        conv(3, 6), ReLU(), conv(6, 6), Node(Add(), (2, 1)), ReLU(), conv(6, 6), ReLU(),
        Node(Add(), (6, 4)), MaxPool2d(),
    ],
    "a map has four readers": [
        conv(3, 6), BatchNorm2d(6), ReLU(), conv(6, 6), conv(6, 6, 2), conv(6, 6, 2),
        Node(Add(), (3, 4)), Node(Add(), (6, 5)), Node(Add(), (7, 2)),
    ],
    "two poolings of one map": [
        conv(3, 6), Node(MaxPool2d(), 0), Node(MaxPool2d(), 0), Node(Add(), (1, 2)),
    ],
    "a map is pooled, convolved and added": [
        conv(3, 6), Node(MaxPool2d(), 0), conv(6, 6, 0), BatchNorm2d(6), Node(Add(), (3, 0)),
        conv(6, 6, stride=2), Node(Add(), (5, 1)),
    ],
    "an addend is teed by the convolution that adds it": [
        conv(3, 6), BatchNorm2d(6), conv(6, 6), Node(Add(), (2, 1)),
    ],
    "a pooled map is flattened": [conv(3, 6), BatchNorm2d(6), ReLU(), MaxPool2d()],
    "means over several windows, then a ReLU": [conv(3, 6), AvgPool2d((2, 4)), ReLU()],
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_graphs_train_as_in_pytorch(make_device, name):
    layers = list(UNUSUAL[name])
    if not isinstance(layers[-1], Flatten):
        # The shape before the scores, from a network that is not run.
        probe = Graph((3, 8, 8), [*layers, AvgPool2d(), Flatten(), Linear(_channels(layers), 1)])
        layers += [Flatten(), Linear(int(np.prod(probe.shapes[len(layers)])), 4)]
    torch.manual_seed(2)
    check_training(Graph((3, 8, 8), layers), make_device("4x4"), SGD(0.02, 0.9))


def _channels(layers):
    nodes = [node.layer if isinstance(node, Node) else node for node in layers]
    return next(node.out_channels for node in reversed(nodes) if isinstance(node, Conv2d))


def test_maps_too_large_for_a_kernel_are_flattened(make_device):
    layers = [Conv2d(1, 5, 3), BatchNorm2d(5), ReLU(), MaxPool2d(), Flatten(), Linear(720, 3)]
    torch.manual_seed(0)
    check_training(Graph((1, 26, 26), layers), make_device("4x4"), SGD(0.02))


# -- the passes that carry it ----------------------------------------------------------------------


def opcodes(layer_passes):
    return [layer_pass.opcode for layer_pass in layer_passes]


def step(network, size=(3, 8, 8)):
    schedule = Schedule(from_torch(network(), size), CoreConfig(), SGD(0.1))
    return schedule.training_step(4)


def test_normalisation_and_pooling_ride_along():
    passes = step(vgg)
    assert opcodes(passes).count(Opcode.PASS) == 1  # Average pooling.
    pooling = [p for p in passes if Flag.POOL in p.flags]
    assert [p.second.tensor for p in pooling] == ["raw.4", "raw.8"]
    assert all({Flag.KEEP, Flag.STATISTICS, Flag.NORM_X} <= p.flags for p in pooling)
    unpooling = [p for p in passes if Flag.UNPOOL in p.flags]
    assert opcodes(unpooling) == [Opcode.PASS_BP, Opcode.CONV_BP]
    assert all({Flag.NORM_MASK, Flag.STATISTICS} <= p.flags for p in unpooling)
    updates = [p for p in passes if p.opcode is Opcode.CONV_WU]
    assert [Flag.NORM_DY in p.flags for p in updates] == [False, True, True, True]


def test_residual_sums_are_formed_by_their_first_reader():
    passes = step(resnet)
    sums = [p for p in passes if Flag.X_PAIR in p.flags and p.opcode is not Opcode.NORM]
    assert opcodes(sums) == [Opcode.CONV_FP, Opcode.PASS]
    assert all(Flag.TEE in p.flags for p in sums)
    # Only the statistics of the projection's gradient need a pass of their own.
    assert [p.flags & {Flag.STATISTICS} for p in passes if p.opcode is Opcode.PASS][1:] == [
        {Flag.STATISTICS}
    ]
    added = [p for p in passes if Flag.ADD in p.flags]
    assert opcodes(added) == [Opcode.CONV_BP] * 2


def test_strided_pointwise_convolutions_read_the_rows_they_use():
    passes = [p for p in step(resnet) if p.layer == "4.shortcut.0"]
    strides = {p.opcode: p.geometry.stride for p in passes if p.stationary}
    assert strides == {
        Opcode.CONV_FP: (1, 2), Opcode.CONV_BP: (2, 2), Opcode.CONV_WU: (1, 2),
    }  # fmt: skip
    reads = {p.opcode: p for p in passes}
    row = 8 * CoreConfig().vector_bytes
    assert reads[Opcode.CONV_FP].stream.row_stride == 2 * row
    assert reads[Opcode.CONV_WU].stationary.row_stride == 2 * row


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [
    [BatchNorm2d(3), conv(3, 4)],
    [conv(3, 4), ReLU(), BatchNorm2d(4)],
    [conv(3, 4), BatchNorm2d(4), BatchNorm2d(4)],
    [conv(3, 4), BatchNorm2d(4), Node(Add(), (0, 1))],
])
def test_norms_that_follow_no_convolution(layers):
    net = Graph((3, 8, 8), [*layers, Flatten(), Linear(256, 2)])
    with pytest.raises(UserError, match=r"BatchNorm2d\) does not follow a Conv2d"):
        Schedule(net, CoreConfig())


def test_one_value_has_no_variance(make_device):
    net = Graph((3, 3, 3), [Conv2d(3, 4, 3), BatchNorm2d(4), Flatten(), Linear(4, 2)])
    x, y = data(5, (3, 3, 3), 2)
    with pytest.raises(UserError, match="batch size that leaves no picture alone"):
        Trainer(net, make_device(), SGD(0.1)).fit(x, y, batch_size=2)
