"""Single layers on the simulated core against PyTorch, and bf16 against exact arithmetic."""

import layer_cases as cases
import ml_dtypes
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from eftrain import layers
from eftrain.optim import SGD
from eftrain.plan.passes import Tile

SEED = 20220317

KERNEL_SWEEP = tuple(
    # Every kernel from 1 to 11 on either axis, with every stride and a padding of its own.
    cases.ConvCase(
        batch=1 + k % 3,
        channels=(1 + k % 6, 1 + 3 * k % 7),
        size=(max(k - 2 * (k // 3), 1) + 3 + k % 2, 12 - k + 4),
        kernel=(k, 12 - k),
        stride=(1 + k % 4, 4 - k % 4),
        padding=(k // 3, 0 if k % 2 else (11 - k) // 2),
        tile=Tile(1, 1, 2, 2) if k % 3 == 0 else None,
    )
    for k in range(1, 12)
)

FULL_BUFFERS = (
    # All of the accumulators, then, of the 4x4 core, also all of the stream (forward) and the
    # stationary buffer (WU).
    cases.ConvCase(1, (4, 4), (32, 64), (1, 1), (1, 1), (0, 0), Tile(1, 1, 32, 64)),
    cases.ConvCase(1, (4, 8), (64, 64), (2, 2), (2, 2), (0, 0), Tile(2, 1, 32, 64)),
)

ALL_CONVOLUTIONS = cases.CONV_CASES + KERNEL_SWEEP + FULL_BUFFERS
BF16_CASES = cases.CONV_CASES[1:7] + cases.CONV_CASES[8:10] + cases.CONV_CASES[16:19]


@pytest.fixture(scope="session", params=["device", "default_device"])
def core(request):
    """The 4x4 core, then the default one: channel counts below, at and above both groups."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("case", ALL_CONVOLUTIONS, ids=str)
def test_convolution(core, case):
    cases.check_conv(core, case)


@pytest.mark.parametrize("case", cases.LINEAR_CASES)
def test_fully_connected(core, case):
    cases.check_linear(core, *case)


@pytest.mark.parametrize(
    "sgd", [SGD(0.1), SGD(0.05, 0.9), SGD(0.05, 0.5, 0.01), SGD(0.1, weight_decay=0.1)]
)
def test_update(core, sgd):
    cases.check_update(core, sgd)


@pytest.mark.parametrize("channels", [(8, 16), (17, 3)])
def test_update_of_other_channels(core, channels):
    cases.check_update(core, SGD(0.05, 0.5, 0.01), channels)


@pytest.mark.parametrize("case", cases.POOL_CASES)
def test_pooling(core, case):
    cases.check_pool(core, *case)


@pytest.mark.parametrize("case", cases.POOL_CASES)
def test_pooling_of_a_bf16_core(bf16_device, case):
    cases.check_pool(bf16_device, *case)


@pytest.mark.parametrize("case", cases.LOSS_CASES)
def test_loss(core, case):
    cases.check_loss(core, *case)


def test_loss_of_a_bf16_core_is_fp32(bf16_device):
    cases.check_loss(bf16_device, 5, 17)


@pytest.mark.parametrize("probability", [0.3, 0.8])
def test_a_stalling_memory_changes_no_bit(fresh_device, probability):
    print(f"seed {SEED}")
    x, w, b = (cases.random(*shape, seed=SEED) for shape in ((3, 5, 7, 6), (9, 5, 3, 3), (9,)))
    dy = cases.random(3, 9, 7, 6, seed=SEED)
    sgd, momentum = SGD(0.05, 0.9, 0.01), (np.ones_like(w), np.ones_like(b))

    def passes():
        for tile in (None, Tile(2, 2, 2, 4)):
            step = {"padding": 1, "tile": tile}
            yield layers.conv_forward(fresh_device, x, w, b, relu=True, **step)
            yield layers.conv_input_gradient(fresh_device, x.shape, w, dy, mask=x, **step)
            (new_w, new_b), (moved_w, moved_b) = layers.conv_update(
                fresh_device, x, dy, (w, b), momentum, sgd, **step
            )
            yield from (new_w, new_b, moved_w, moved_b)
        yield layers.max_pool_backward(fresh_device, x, dy[:, :5, :3, :3])

    fresh_device.wait(4096)
    begin = fresh_device.cycles
    expected = list(passes())
    middle = fresh_device.cycles
    fresh_device.set_stalls(SEED, probability)
    found = list(passes())
    assert fresh_device.cycles - middle > middle - begin, "the memory did not stall"
    for stalled, smooth in zip(found, expected, strict=True):
        assert stalled.tobytes() == smooth.tobytes()


def _bf16(values):
    """Rounded to the nearest bf16, exactly as float64."""
    return torch.tensor(values.astype(ml_dtypes.bfloat16).astype(np.float64))


@pytest.mark.parametrize("case", BF16_CASES, ids=str)
def test_convolution_in_bf16(bf16_device, case):
    """Operands are rounded to bf16 once; products are exact and sums are fp32, hence the tolerance:
    that of fp32, against float64 arithmetic on the rounded operands."""
    x = cases.random(case.batch, case.channels[0], *case.size, seed=1)
    w = cases.random(case.channels[1], case.channels[0], *case.kernel, seed=2)
    b = cases.random(case.channels[1], seed=3)
    tx, tw = _bf16(x).requires_grad_(), _bf16(w).requires_grad_()
    y = F.conv2d(tx, tw, torch.tensor(b, dtype=torch.float64), case.stride, case.padding)
    dy = cases.random(*y.shape, seed=4)
    y.backward(_bf16(dy))
    step = {"stride": case.stride, "padding": case.padding, "tile": case.tile}

    found = layers.conv_forward(bf16_device, x, w, b, **step)
    cases.assert_close(found, y.detach(), 1e-5, "forward")
    found = layers.conv_input_gradient(bf16_device, x.shape, w, dy, **step)
    cases.assert_close(found, tx.grad, 1e-5, "input gradient")
    dw, db = layers.conv_weight_gradient(bf16_device, x, dy, w.shape, **step)
    cases.assert_close(dw, tw.grad, 1e-5, "weight gradient")
    cases.assert_close(db, _bf16(dy).sum((0, 2, 3)), 1e-5, "bias gradient")


def test_bf16_is_close_to_fp32_but_not_the_same(bf16_device):
    """Each operand is within 2**-9 of its value, so a product is within about 2**-8."""
    x, w = cases.random(2, 8, 6, 6, seed=1), cases.random(8, 8, 3, 3, seed=2)
    exact = F.conv2d(torch.tensor(x), torch.tensor(w), padding=1).numpy()
    found = layers.conv_forward(bf16_device, x, w, padding=1)
    bound = F.conv2d(torch.tensor(abs(x)), torch.tensor(abs(w)), padding=1).numpy() * 2**-7.9
    assert (np.abs(found - exact) <= bound).all()
    assert np.abs(found - exact).max() > 1e-4 * np.abs(exact).max()


def test_update_of_a_bf16_core_keeps_fp32_weights(bf16_device):
    """A step far below the resolution of bf16 still moves the weights."""
    x, dy = cases.random(2, 3, 5, 5, seed=1), cases.random(2, 6, 5, 5, seed=2)
    w, b = cases.random(6, 3, 3, 3, seed=3), cases.random(6, seed=4)
    sgd, zeros = SGD(1e-5), (np.zeros_like(w), np.zeros_like(b))
    (new_w, new_b), _ = layers.conv_update(bf16_device, x, dy, (w, b), zeros, sgd, padding=1)
    tw = torch.zeros(w.shape, dtype=torch.float64, requires_grad=True)
    F.conv2d(_bf16(x), tw, padding=1).backward(_bf16(dy))
    # The step itself, to what fp32 weights of size 1 to 4 resolve.
    for found, old, gradient in ((new_w, w, tw.grad), (new_b, b, _bf16(dy).sum((0, 2, 3)))):
        expected = old.astype(np.float64) - 1e-5 * gradient.numpy()
        assert np.abs(found - expected).max() <= 2**-22
        assert np.abs(found - old).max() > 1e-5
