"""Packing against the layouts of architecture.md, written out index by index."""

import numpy as np
import pytest
from layer_cases import random

from eftrain.pack.program import Advance, epochs
from eftrain.pack.tensors import (
    pack_bias,
    pack_labels,
    pack_map,
    pack_weights,
    unpack_bias,
    unpack_map,
    unpack_weights,
)
from eftrain_hdl import isa
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


def test_biases_and_labels():
    bias = random(9)
    assert np.array_equal(pack_bias(bias, 4).reshape(-1), [*bias, 0, 0, 0])
    assert np.array_equal(unpack_bias(pack_bias(bias, 4).tobytes(), 9), bias)
    labels = np.frombuffer(pack_labels(np.arange(1, 8), 3), np.uint32)
    assert labels.tolist() == [1, 2, 3, 0, 4, 5, 6, 0, 7, 0, 0, 0]


@pytest.mark.parametrize(("samples", "batch"), [(10, 4), (8, 4), (3, 3)])
def test_pointers_visit_every_batch_and_return(samples, batch):
    advance = Advance(input=batch * 32, labels=16, results=16)
    body = isa.encode(Opcode.PASS)
    sizes = []

    def step(images):
        sizes.append(images)
        return [body]

    code = [isa.decode(blob) for blob in epochs(2, samples, batch, advance, step)]
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
