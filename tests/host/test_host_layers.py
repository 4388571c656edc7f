"""Planner, packer and driver: single layers on the interpreter against PyTorch."""

import layer_cases as cases
import numpy as np
import pytest

from eftrain import layers
from eftrain.optim import SGD

SMALL = {"stream_depth": 256, "stationary_depth": 256, "accumulator_depth": 2048}
"""Buffers so small that most layers need several tiles."""


@pytest.mark.parametrize("array", ["4x4", "8x8", "16x16"])
@pytest.mark.parametrize("case", cases.CONV_CASES, ids=str)
def test_convolution(make_device, case, array):
    cases.check_conv(make_device(array), case)


@pytest.mark.parametrize("case", [c for c in cases.CONV_CASES if c.tile is None], ids=str)
def test_convolution_with_small_buffers(make_device, case):
    cases.check_conv(make_device("8x8", **SMALL), case)


def test_full_width_rows_that_do_not_fit_are_cut_into_columns(make_device):
    device = make_device("4x4", stream_depth=64, stationary_depth=64, accumulator_depth=64)
    cases.check_conv(device, cases.ConvCase(2, (5, 6), (4, 90), (3, 3), (1, 1), (1, 1)))
    cases.check_pool(device, 2, 5, (4, 150), None)


@pytest.mark.parametrize("array", ["4x4", "8x8", "16x16"])
@pytest.mark.parametrize("case", cases.LINEAR_CASES)
def test_fully_connected(make_device, case, array):
    cases.check_linear(make_device(array), *case)


@pytest.mark.parametrize("sgd", [SGD(0.1), SGD(0.05, 0.9), SGD(0.05, 0.5, 0.01)])
def test_update(make_device, sgd):
    cases.check_update(make_device(), sgd)


@pytest.mark.parametrize("array", ["4x4", "8x8"])
@pytest.mark.parametrize("case", cases.POOL_CASES)
def test_pooling(make_device, case, array):
    cases.check_pool(make_device(array), *case)


@pytest.mark.parametrize("case", cases.LOSS_CASES)
def test_loss(make_device, case):
    cases.check_loss(make_device(), *case)


def test_passes_do_not_write_past_their_result(make_device):
    device = make_device()
    x, w = cases.random(2, 3, 5, 5), cases.random(9, 3, 3, 3)
    layers.conv_forward(device, x, w, padding=1)
    # The program is the last region; the interpreter's memory starts as NaN.
    tail = device.words[device.memory_size // 8:]
    assert np.isnan(tail).all()
