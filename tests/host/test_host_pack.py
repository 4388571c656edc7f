"""Packing against the layouts of architecture.md, written out index by index."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from layer_cases import assert_close, random

from eftrain.graph import BatchNorm2d, Conv2d, Flatten, Graph, Linear
from eftrain.pack.fold import fold_pictures, fold_weights, unfold_weights
from eftrain.pack.parameters import pack_norms, unpack_norms
from eftrain.pack.program import Advance, Slots, Step, assemble, epochs
from eftrain.pack.tensors import (
    pack_bias,
    pack_labels,
    pack_map,
    pack_weights,
    unpack_bias,
    unpack_map,
    unpack_weights,
)
from eftrain.plan import passes
from eftrain.plan.fold import FOLDS, Fold
from eftrain.plan.passes import linear_map
from eftrain.plan.schedule import Schedule
from eftrain_hdl import isa
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.isa import Opcode


@pytest.mark.parametrize("group", [4, 8])
def test_maps(group):
    x = random(2, 9, 3, 5)
    packed = pack_map(x, group)
    for b, c, row, col in np.ndindex(x.shape):
        assert packed[b, c // group, row, col, c % group] == x[b, c, row, col]
    assert np.count_nonzero(packed) == x.size
    assert np.array_equal(unpack_map(packed.tobytes(), 2, (9, 3, 5), group), x)


@pytest.mark.parametrize("group", [4, 8])
def test_weights(group):
    w = random(5, 9, 2, 3)
    packed = pack_weights(w, group).reshape(-1, -(-9 // group), 6, group, group)
    for m, n, row, col in np.ndindex(w.shape):
        found = packed[m // group, n // group, row * 3 + col, m % group, n % group]
        assert found == w[m, n, row, col]
    assert np.count_nonzero(packed) == w.size
    assert np.array_equal(unpack_weights(packed.tobytes(), w.shape, group), w)


def test_columns_of_a_fully_connected_layer_follow_the_map_in_memory():
    w, x = random(5, 9 * 2 * 3), random(1, 9, 2, 3, seed=1)
    packed = pack_weights(w, 4, (9, 2, 3)).reshape(2, -1, 4, 4)
    vectors = pack_map(x, 4).reshape(-1, 4)
    found = np.einsum("abmn,bn->am", packed, vectors).reshape(-1)[:5]
    assert np.allclose(found, w @ x.reshape(-1), atol=1e-5)
    assert np.array_equal(unpack_weights(packed.tobytes(), w.shape, 4, (9, 2, 3)), w)


@pytest.mark.parametrize("kind", FOLDS)
@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), [
    ((3, 3), (1, 1), (1, 1), (6, 7)), ((11, 11), (4, 4), (2, 2), (15, 17)),
    ((3, 5), (2, 3), (1, 2), (9, 8)), ((2, 2), (4, 4), (1, 1), (9, 8)),
    ((1, 4), (1, 3), (0, 3), (6, 12)), ((1, 1), (2, 2), (0, 0), (7, 7)),
])
def test_folded_taps_give_the_same_convolution(kind, kernel, stride, padding, size):
    layer = Conv2d(3, 5, kernel, stride, padding)
    x, w = random(2, 3, *size), random(*layer.weight_shape, seed=1)
    expected = F.conv2d(torch.tensor(x), torch.tensor(w), None, stride, padding)
    fold = Fold(kind, layer, size, expected.shape[2:])
    packed, weights = fold_pictures(x, fold), fold_weights(w, fold)
    assert packed.shape[1:] == fold.shape and weights.shape[2:] == fold.kernel
    found = F.conv2d(torch.tensor(packed), torch.tensor(weights), None, fold.stride, fold.pad)
    assert_close(found.numpy(), expected)
    assert np.array_equal(unfold_weights(weights, fold), w)


def test_batch_norm_records():
    net = Graph((3, 2, 2), [Conv2d(3, 5, 1), BatchNorm2d(5), Flatten(), Linear(20, 2)])
    stages = Schedule(net, CoreConfig.parse("4x4")).stages
    values = {
        name: random(*shape, seed=seed)
        for seed, (name, shape) in enumerate(net.parameter_shapes.items())
    }
    momentum = {name: 2 * value for name, value in values.items()}
    packed = pack_norms(stages, values, momentum)
    records = np.frombuffer(packed["1.parameters"], "<f4").reshape(2, 8, 4)
    mean = values["1.running_mean"] - values["0.bias"]
    rows = [values["1.weight"], values["1.bias"], mean, values["1.running_var"],
            momentum["1.weight"], momentum["1.bias"]]  # fmt: skip
    for row, vector in enumerate(rows):
        assert np.array_equal(records[:, row].reshape(-1), [*vector, 0, 0, 0])
    learnt, moved = unpack_norms(stages, packed.get, values)
    for name in ("weight", "bias", "running_var"):
        assert np.array_equal(learnt[f"1.{name}"], values[f"1.{name}"])
    assert_close(learnt["1.running_mean"], values["1.running_mean"])
    assert np.array_equal(moved["1.weight"], momentum["1.weight"])


def test_biases_and_labels():
    bias = random(9)
    assert np.array_equal(pack_bias(bias, 4).reshape(-1), [*bias, 0, 0, 0])
    assert np.array_equal(unpack_bias(pack_bias(bias, 4).tobytes(), 9), bias)
    labels = np.frombuffer(pack_labels(np.arange(1, 8), 3), np.uint32)
    assert labels.tolist() == [1, 2, 3, 0, 4, 5, 6, 0, 7, 0, 0, 0]


@pytest.mark.parametrize(("samples", "batch"), [(10, 4), (8, 4), (3, 3)])
def test_pointers_visit_every_batch_and_return(samples, batch):
    advance = Advance(input=batch * 32, labels=16, results=16)
    loss = passes.loss(1, 2, linear_map("x", 2, 4), "x", "x")
    sizes = []

    def step(images):
        sizes.append(images)
        return [Step(loss, Slots({"x": 0}, {}))]

    blob = assemble(epochs(2, samples, batch, advance, step))
    size = isa.DESCRIPTOR_BYTES
    code = [isa.decode(blob[start:start + size]) for start in range(0, len(blob) - size, size)]
    visited, pointers, loops, position = [], [0, 0, 0], [], 0
    while position < len(code):
        opcode, _, values = code[position]
        position += 1
        if opcode is Opcode.LOOP:
            loops.append([position, values["count"]])
        elif opcode is Opcode.NEXT:
            pointers = [p + values[f"increment_{i}"] for i, p in enumerate(pointers, 1)]
            loops[-1][1] -= 1
            if loops[-1][1]:
                position = loops[-1][0]
            else:
                loops.pop()
        else:
            visited.append(tuple(pointers))
    count = -(-samples // batch)
    assert visited == [
        (index * batch * 32, index * 16, (epoch * count + index) * 16)
        for epoch in range(2) for index in range(count)
    ]
    assert pointers == [0, 0, 2 * count * 16]
    assert sizes == ([batch, samples % batch] if samples % batch else [batch])
