"""Networks with frozen parameters: three steps on a device against PyTorch's requires_grad."""

import numpy as np
import torch
from graph_in_torch import GraphInTorch
from layer_cases import assert_close
from training_cases import data, train_in_torch

from eftrain.graph import (
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
from eftrain.optim import SGD
from eftrain.trainer import Trainer

MOVING = SGD(0.05, 0.9, 0.01)
SHAPE = (2, 6, 6)


def conv(inputs, outputs, bias=True):
    return Conv2d(inputs, outputs, 3, padding=1, bias=bias)


PLAIN = [conv(2, 5), ReLU(), MaxPool2d(), conv(5, 6), ReLU(), Flatten(), Linear(54, 5), ReLU(),
         Linear(5, 3)]  # fmt: skip
NORMS = [conv(2, 5, False), BatchNorm2d(5), ReLU(), MaxPool2d(), conv(5, 6, False), BatchNorm2d(6),
         ReLU(), AvgPool2d(), Flatten(), Linear(6, 3)]  # fmt: skip
RESIDUAL = [
    conv(2, 5, False), BatchNorm2d(5), ReLU(), conv(5, 5, False), BatchNorm2d(5), ReLU(),
    conv(5, 5, False), BatchNorm2d(5), Node(Add(), (7, 2)), ReLU(),
    Conv2d(5, 6, 3, 2, 1, bias=False), BatchNorm2d(6), Conv2d(5, 6, 1, 2, bias=False),
    BatchNorm2d(6), Node(Add(), (11, 13)), ReLU(), AvgPool2d(), Flatten(), Linear(6, 3),
]  # fmt: skip
RESIDUAL[12] = Node(RESIDUAL[12], 9)
UNNORMED = [conv(2, 4), ReLU(), conv(4, 4), Node(Add(), (2, 1)), ReLU(), conv(4, 4), Flatten(),
            Linear(144, 3)]  # fmt: skip

CASES = {
    # Layers, and the parameters that are trained.
    "all": (PLAIN, "0.weight 0.bias 3.weight 3.bias 6.weight 6.bias 8.weight 8.bias"),
    "last layer": (PLAIN, "8.weight 8.bias"),
    "last two": (PLAIN, "6.weight 6.bias 8.weight 8.bias"),
    "a middle layer": (PLAIN, "3.weight 3.bias"),
    "the first layer": (PLAIN, "0.weight 0.bias"),
    "weights without biases": (PLAIN, "0.weight 3.weight 6.weight 8.weight"),
    "biases": (PLAIN, "0.bias 3.bias 6.bias 8.bias"),
    "one bias": (PLAIN, "6.bias"),
    "weights and biases mixed": (PLAIN, "0.bias 3.weight 8.weight 8.bias"),
    "norms: last layer": (NORMS, "9.weight 9.bias"),
    "norms: the first convolution": (NORMS, "0.weight"),
    "norms: convolutions": (NORMS, "0.weight 4.weight 9.weight 9.bias"),
    "norms: batch-norms": (NORMS, "1.weight 1.bias 5.weight 5.bias"),
    "norms: a bias": (NORMS, "9.bias"),
    "residual: last layer": (RESIDUAL, "18.weight 18.bias"),
    "residual: the projection": (RESIDUAL, "12.weight"),
    "residual: the last block": (
        RESIDUAL,
        "10.weight 11.weight 11.bias 12.weight 13.weight 13.bias 18.weight 18.bias",
    ),
    "residual: below the shortcut": (RESIDUAL, "0.weight 18.bias"),
    "residual: inside a block": (RESIDUAL, "3.weight 4.weight 4.bias"),
    "sums: biases": (UNNORMED, "0.bias 2.bias 5.bias 7.bias"),
    "sums: behind the sum": (UNNORMED, "5.bias 7.weight"),
}


def network(layers, trained):
    """A Graph that trains the named parameters only."""
    graph = Graph(SHAPE, layers)
    unknown = set(trained.split()) - set(graph.trainable)
    assert not unknown
    trainable = {name: name in trained.split() for name in graph.trainable}
    return Graph(SHAPE, layers, trainable=trainable)


def check_steps(device, name):
    """Three steps with momentum; what is frozen keeps its bits."""
    graph = network(*CASES[name])
    torch.manual_seed(1)
    net = GraphInTorch(graph)
    before = {key: value.copy() for key, value in net.values().items()}
    graph = Graph(SHAPE, graph.layers, before, trainable=graph.trainable)
    for key, parameter in net.named_parameters():
        parameter.requires_grad_(graph.trainable[key])
    x, y = data(11, SHAPE, 3)
    trainer = Trainer(graph, device, MOVING)
    trainer.fit(x[:8], y[:8], 1, 4, shuffle=False)
    trainer.fit(x[8:], y[8:], 1, 4, shuffle=False)  # Momentum goes on; a smaller batch.
    train_in_torch(net, x, y, 1, 4, MOVING)
    after = trainer.state_dict()
    for key, value in after.items():
        assert_close(value, net.values()[key], 1e-4, key)
        if not graph.trainable.get(key, True):
            assert np.array_equal(value, before[key]), key
        elif "running" not in key:
            assert not np.array_equal(value, before[key]), key


def check_sections(device, name):
    """Evaluation, full batches and a smaller one, evaluation: all of them share memory."""
    trainer = Trainer(network(*CASES[name]), device, MOVING)
    x, y = data(7, SHAPE, 3)
    before = trainer.evaluate(x, y, batch_size=4)
    history = trainer.fit(x, y, 2, 4, test=(x, y))
    assert history.before == before and history.after == trainer.evaluate(x, y, batch_size=4)
    assert history.after != before
