"""Layer shapes to compare with PyTorch, and the comparisons; every function takes any ``Device``.

The same cases run on the interpreter and on the simulated core.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from comparison import assert_close, random

from eftrain import layers
from eftrain.plan.passes import Tile


@dataclass(frozen=True)
class ConvCase:
    """One convolution; pairs are (rows, columns). ``tile`` is forced on all three passes."""

    batch: int
    channels: tuple
    size: tuple
    kernel: tuple = (3, 3)
    stride: tuple = (1, 1)
    padding: tuple = (1, 1)
    tile: Tile | None = None

    def __str__(self):
        text = (
            f"b{self.batch}-{self.channels[0]}to{self.channels[1]}-{_times(self.size)}"
            f"-k{_times(self.kernel)}-s{_times(self.stride)}-p{_times(self.padding)}"
        )
        if self.tile:
            tile = (self.tile.out_blocks, self.tile.images, self.tile.rows, self.tile.cols)
            text += f"-tile{_times(tile)}"
        return text


def _times(sizes):
    return "x".join(str(size) for size in sizes)


CONV_CASES = (
    ConvCase(1, (1, 1), (1, 1), (1, 1), (1, 1), (0, 0)),
    ConvCase(1, (3, 5), (5, 7)),
    ConvCase(2, (8, 8), (8, 8)),
    ConvCase(3, (9, 17), (7, 5)),
    ConvCase(5, (4, 4), (3, 3), (3, 3), (1, 1), (0, 0)),
    ConvCase(2, (1, 16), (8, 8)),
    ConvCase(2, (16, 32), (8, 8)),
    ConvCase(1, (5, 3), (11, 9), (5, 5), (2, 2), (2, 2)),
    ConvCase(2, (3, 6), (13, 10), (3, 3), (3, 3), (1, 1)),
    ConvCase(1, (2, 3), (15, 17), (11, 11), (4, 4), (2, 2)),
    ConvCase(1, (2, 2), (4, 5), (11, 11), (1, 1), (10, 10)),
    ConvCase(4, (7, 9), (9, 9), (1, 1), (2, 2), (0, 0)),
    ConvCase(2, (5, 4), (9, 8), (2, 2), (4, 4), (1, 1)),
    ConvCase(1, (4, 5), (10, 6), (7, 2), (2, 1), (3, 0)),
    ConvCase(2, (3, 4), (6, 12), (1, 4), (1, 3), (0, 3)),
    ConvCase(2, (9, 9), (1, 13), (1, 3), (1, 2), (0, 1)),
    # Several tiles along every dimension, the last of each clipped.
    ConvCase(3, (17, 20), (7, 9), tile=Tile(2, 2, 3, 4)),
    ConvCase(2, (5, 9), (9, 11), (5, 3), (2, 2), (2, 1), Tile(1, 1, 2, 3)),
    ConvCase(2, (4, 4), (11, 7), (3, 3), (4, 4), (0, 0), Tile(1, 1, 1, 1)),
    ConvCase(1, (3, 3), (9, 9), (11, 11), (3, 3), (5, 5), Tile(1, 1, 1, 2)),
)

LINEAR_CASES = (
    # (batch, picture (C, H, W), outputs, tile)
    (1, (1, 1, 1), 1, None),
    (5, (16, 1, 1), 10, None),
    (3, (5, 3, 2), 17, None),
    (4, (32, 4, 4), 10, None),
    (5, (9, 2, 1), 20, Tile(1, 2, 1, 1)),
)

POOL_CASES = (
    # (batch, channels, size, tile)
    (1, 1, (2, 2), None),
    (2, 8, (8, 8), None),
    (3, 9, (7, 5), None),
    (2, 5, (9, 12), Tile(1, 1, 2, 4)),
    (5, 3, (6, 3), Tile(1, 2, 2, 2)),
)

LOSS_CASES = ((1, 2), (4, 10), (5, 17), (3, 64))
"""(images, classes)"""


def check_conv(device, case, tolerance=1e-5):
    """Forward, input gradient (plain and masked), weight and bias gradient of one convolution."""
    x = random(case.batch, case.channels[0], *case.size, seed=1)
    w = random(case.channels[1], case.channels[0], *case.kernel, seed=2)
    b = random(case.channels[1], seed=3)
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x, w, b))
    y = F.conv2d(tx, tw, tb, case.stride, case.padding)
    dy = random(*y.shape, seed=4)
    y.backward(torch.tensor(dy))
    step = {"stride": case.stride, "padding": case.padding, "tile": case.tile}

    assert_close(layers.conv_forward(device, x, w, b, **step), y.detach(), tolerance, "forward")
    rectified = layers.conv_forward(device, x, w, None, relu=True, **step)
    expected = F.relu(F.conv2d(tx, tw, None, case.stride, case.padding)).detach()
    # Relative to the values before the ReLU, which may have dropped all large ones.
    scale = float(y.detach().abs().max())
    assert np.abs(rectified - expected.numpy()).max() <= tolerance * scale

    if not any(size % 2 for size in y.shape[2:]):
        pooled = layers.conv_forward(device, x, w, b, pool=True, **step)
        assert_close(pooled, F.max_pool2d(y.detach(), 2), tolerance, "forward with pooling")

    dx = layers.conv_input_gradient(device, x.shape, w, dy, **step)
    assert_close(dx, tx.grad, tolerance, "input gradient")
    masked = layers.conv_input_gradient(device, x.shape, w, dy, mask=x, **step)
    assert np.array_equal(masked, np.where(x > 0, dx, 0)), "mask"

    dw, db = layers.conv_weight_gradient(device, x, dy, w.shape, **step)
    assert_close(dw, tw.grad, tolerance, "weight gradient")
    assert_close(db, tb.grad, tolerance, "bias gradient")
    alone, nothing = layers.conv_weight_gradient(device, x, dy, w.shape, bias=False, **step)
    # Not bit by bit: without the bias the planner may choose another tile, another order of sums.
    assert nothing is None
    assert_close(alone, dw, tolerance, "weight gradient without bias")


def check_linear(device, batch, picture, outputs, tile, tolerance=1e-5):
    """The three passes of a fully connected layer on a flattened picture."""
    x = random(batch, *picture, seed=1)
    w, b = random(outputs, int(np.prod(picture)), seed=2), random(outputs, seed=3)
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x, w, b))
    y = F.linear(tx.flatten(1), tw, tb)
    dy = random(batch, outputs, seed=4)
    y.backward(torch.tensor(dy))
    dy = dy[:, :, None, None]
    found = layers.conv_forward(device, x, w, b, tile=tile)
    assert_close(found[:, :, 0, 0], y.detach(), tolerance, "forward")
    dx = layers.conv_input_gradient(device, x.shape, w, dy, tile=tile)
    assert_close(dx, tx.grad, tolerance, "input gradient")
    dw, db = layers.conv_weight_gradient(device, x, dy, w.shape, tile=tile)
    assert_close(dw, tw.grad, tolerance, "weight gradient")
    assert_close(db, tb.grad, tolerance, "bias gradient")


def check_update(device, sgd, channels=(5, 9), tolerance=1e-5):
    """Two fused SGD steps, weights and momentum, against ``torch.optim.SGD``."""
    n, m = channels
    x, dy = random(2, n, 6, 5, seed=1), random(2, m, 6, 5, seed=2)
    parameters = (random(m, n, 3, 3, seed=3), random(m, seed=4))
    tensors = [torch.nn.Parameter(torch.tensor(p)) for p in parameters]
    optimizer = torch.optim.SGD(tensors, sgd.lr, sgd.momentum, weight_decay=sgd.weight_decay)
    momentum = tuple(np.zeros_like(p) for p in parameters)
    for _ in range(2):
        optimizer.zero_grad()
        F.conv2d(torch.tensor(x), *tensors, padding=1).backward(torch.tensor(dy))
        optimizer.step()
        parameters, moved = layers.conv_update(device, x, dy, parameters, momentum, sgd, padding=1)
        momentum = moved if sgd.momentum else momentum
    for found, expected in zip(parameters, tensors, strict=True):
        assert_close(found, expected.detach(), tolerance, "updated")


def check_pool(device, batch, channels, size, tile):
    """Max-pool and its backward, plain and with a ReLU before it: exact."""
    # Few distinct values, so that windows hold ties; few bits, so that bf16 copies them exactly.
    x = np.round(random(batch, channels, *size, seed=1))
    tx = torch.tensor(x, requires_grad=True)
    y = F.max_pool2d(tx, 2)
    dy = np.round(random(*y.shape, seed=2) * 8) / 8
    y.backward(torch.tensor(dy))
    assert np.array_equal(layers.max_pool(device, x, tile), y.detach().numpy())
    found = layers.max_pool_backward(device, x, dy, tile=tile)
    assert np.array_equal(found, tx.grad.numpy())

    before = torch.tensor(x, requires_grad=True)
    activation = F.relu(before)
    F.max_pool2d(activation, 2).backward(torch.tensor(dy))
    masked = layers.max_pool_backward(device, activation.detach().numpy(), dy, True, tile)
    assert np.array_equal(masked, before.grad.numpy())


def check_loss(device, images, classes, tolerance=1e-5):
    """Mean loss, correct count and gradient of softmax cross-entropy."""
    logits = 3 * random(images, classes, seed=1)
    labels = np.random.default_rng(2).integers(0, classes, images)
    tensor = torch.tensor(logits, requires_grad=True)
    mean = F.cross_entropy(tensor, torch.tensor(labels))
    mean.backward()
    expected = mean.item()
    loss, correct, gradient = layers.softmax_cross_entropy(device, logits, labels)
    assert abs(loss - expected) <= tolerance * max(1.0, expected)
    assert correct == int((logits.argmax(axis=1) == labels).sum())
    assert_close(gradient, tensor.grad, tolerance, "gradient of the logits")
