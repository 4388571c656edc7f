"""The model of the epilogue against PyTorch and float64.

``test_epilogue_cocotb.py`` compares the hardware with the model.
"""

import itertools

import numpy as np
import pytest
import torch

from eftrain_hdl.datapath.epilogue import Epilogue
from eftrain_hdl.datapath.epilogue_model import DrainedBlock
from eftrain_hdl.datapath.pooling import MaxPool, is_negative_model, is_positive_model
from eftrain_hdl.datapath.unpooling import MaxUnpool
from eftrain_hdl.isa import PARTIAL_BEATS, Flag, Opcode

SEED = 20240611
CORNERS = np.array(
    [0, 1 << 31, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00001, 1,
     0x80000001, 0x00800000, 0x80800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800001],
    np.uint32,
)  # fmt: skip
RATES = {"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
T = 8


def bits(values):
    return np.asarray(values, np.float32).view(np.uint32)


def floats(words, columns=T):
    return np.asarray(words, np.uint32).view(np.float32).reshape(-1, columns)


def random_words(rng, shape):
    """fp32 bits: mostly moderate numbers with repetitions, so that ties occur, and some corners."""
    words = bits(rng.integers(-8, 9, shape) * 0.375)
    words = np.where(rng.random(shape) < 0.5, bits(rng.normal(size=shape)), words)
    return np.where(rng.random(shape) < 0.05, rng.choice(CORNERS, shape), words)


def test_signs():
    values = np.append(CORNERS, bits([2.5, -2.5]))
    numbers = values.view(np.float32)
    normal = np.abs(numbers) >= np.float32(2.0**-126)
    np.testing.assert_array_equal(is_positive_model(values), (numbers > 0) & normal)
    np.testing.assert_array_equal(is_negative_model(values), (numbers < 0) & normal)


def pictures(windows):
    """(n, 4, T) -> (n*T, 1, 2, 2): window k as a picture of a channel."""
    return torch.from_numpy(windows.copy()).permute(0, 2, 1).reshape(-1, 1, 2, 2)


def test_pooling_follows_pytorch():
    rng = np.random.default_rng(SEED)
    windows = random_words(rng, (200, 4, T))
    x = pictures(floats(windows).reshape(200, 4, T)).requires_grad_()
    y = torch.nn.functional.max_pool2d(x, 2)
    pooled = MaxPool.model(windows.reshape(-1, T))
    np.testing.assert_array_equal(floats(pooled).ravel(), y.detach().numpy().ravel())

    upstream = rng.normal(size=(200, T)).astype(np.float32)
    y.backward(torch.from_numpy(upstream.reshape(-1, 1, 1, 1)))
    routed = floats(MaxUnpool.model(bits(upstream), windows.reshape(-1, T))).reshape(200, 4, T)
    # Of several NaNs PyTorch takes the last and we the first: leave these windows out.
    clear = (np.isnan(floats(windows).reshape(200, 4, T)).sum(axis=1) < 2)[:, None]
    reference = x.grad.reshape(200, T, 4).permute(0, 2, 1).numpy()
    np.testing.assert_array_equal(np.where(clear, routed, 0), np.where(clear, reference, 0))


def test_pooling_before_batch_norm_is_pooling_after_it():
    """The maximum of gamma*y + beta is that of y, or the minimum where gamma is negative."""
    rng = np.random.default_rng(SEED)
    windows = rng.integers(-4, 5, (100, 4, T)).astype(np.float32)
    gamma = rng.choice([-2.0, -0.5, 0.5, 4.0], T).astype(np.float32)
    pooled = MaxPool.model(bits(windows).reshape(-1, T), gamma < 0)
    x = pictures(windows * gamma).requires_grad_()
    y = torch.nn.functional.max_pool2d(x, 2)
    np.testing.assert_array_equal((floats(pooled) * gamma).ravel(), y.detach().numpy().ravel())
    upstream = rng.normal(size=(100, T)).astype(np.float32)
    y.backward(torch.from_numpy(upstream.reshape(-1, 1, 1, 1)))
    routed = MaxUnpool.model(bits(upstream), bits(windows).reshape(-1, T), gamma < 0)
    reference = x.grad.reshape(100, T, 4).permute(0, 2, 1).reshape(-1, T).numpy()
    np.testing.assert_array_equal(floats(routed), reference)


@pytest.mark.parametrize("momentum", (0.0, 0.9))
def test_sgd_follows_pytorch(momentum):
    """Three steps against float64: each step rounds a handful of times, 2**-24 relative each."""
    rng = np.random.default_rng(SEED)
    shape = (64, T)
    weights = rng.normal(size=shape).astype(np.float32)
    velocity = np.zeros(shape, np.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(weights.astype(np.float64)))
    rates = {name: np.float32(value) for name, value in RATES.items()} | {
        "momentum": np.float32(momentum)
    }
    optimiser = torch.optim.SGD(
        [parameter], lr=float(rates["learning_rate"]), momentum=float(rates["momentum"]),
        weight_decay=float(rates["weight_decay"]),
    )  # fmt: skip
    flags = [Flag.UPDATE, Flag.MOMENTUM] if momentum else [Flag.UPDATE]
    for _ in range(3):
        gradient = rng.normal(size=shape).astype(np.float32)
        parameter.grad = torch.from_numpy(gradient.astype(np.float64))
        optimiser.step()
        side = np.stack([weights, velocity], axis=1) if momentum else weights
        result, _ = Epilogue.model(
            bits(gradient), bits(side).reshape(-1, T), opcode=Opcode.CONV_WU, flags=flags,
            **{name: int(bits(value)) for name, value in rates.items()},
        )  # fmt: skip
        if momentum:
            weights, velocity = floats(result).reshape(64, 2, T).swapaxes(0, 1)
        else:
            weights = floats(result)
        np.testing.assert_allclose(weights, parameter.detach().numpy(), rtol=0, atol=1e-6)


def test_bias_residual_relu_follow_pytorch():
    rng = np.random.default_rng(SEED)
    acc, residual = rng.normal(size=(2, 10, T)).astype(np.float32)
    bias = rng.normal(size=(2, T)).astype(np.float32)
    result, second = Epilogue.model(
        bits(acc), bits(bias), bits(residual), opcode=Opcode.CONV_FP,
        flags=(Flag.ADD, Flag.BIAS, Flag.RELU), blocks=[DrainedBlock(5, k) for k in range(2)],
    )  # fmt: skip
    expected = torch.relu(
        torch.from_numpy(acc) + torch.from_numpy(bias.repeat(5, axis=0))
        + torch.from_numpy(residual)
    )  # fmt: skip
    np.testing.assert_array_equal(floats(result), expected.numpy())
    assert not second.size


def sums_of(record, group):
    """``(shift, sums 1, sums 2)`` of a record, in float64."""
    sums = floats(record[group:], 4 * PARTIAL_BEATS).reshape(2, -1, group)
    return floats(record[:group], group)[0], *sums.astype(np.float64).sum(axis=1)


def split(o, results, group):
    """Results and record of one block."""
    return o[: results * group].reshape(results, group), o[results * group :]


@pytest.mark.parametrize("group", (4, 8, 16, 32))
@pytest.mark.parametrize("addend", (False, True))
def test_forward_statistics_give_mean_and_variance(group, addend):
    """Over two tiles of two blocks, far from zero: the shift keeps the variance exact."""
    rng = np.random.default_rng(SEED)
    centre = 100 * rng.normal(size=(2, group))
    acc = (rng.normal(size=(2, 2, 300, group)) + centre[:, None]).astype(np.float32)
    residual = rng.normal(size=acc.shape).astype(np.float32) * addend
    blocks = [DrainedBlock(300, b, t == 0, t == 1) for t, b in itertools.product((0, 1), (0, 1))]
    o, _ = Epilogue.model(
        bits(acc).reshape(-1, group), (), bits(residual).reshape(-1, group)[: 1200 * addend],
        opcode=Opcode.CONV_FP, flags={Flag.STATISTICS} | ({Flag.ADD} if addend else set()),
        blocks=blocks,
    )  # fmt: skip
    y = acc + residual
    first_tile, o = split(o, 600, group)
    np.testing.assert_array_equal(floats(first_tile, group), y[0].reshape(-1, group))
    for block in (0, 1):
        _, o = split(o, 300, group)
        words = group + 8 * PARTIAL_BEATS
        record, o = o[:words], o[words:]
        shift, one, two = sums_of(record, group)
        np.testing.assert_array_equal(shift, y[0, block, 0])
        exact = y[:, block].reshape(-1, group).astype(np.float64)
        mean = shift + one / 600
        np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=0, atol=1e-5)
        variance = two / 600 - (one / 600) ** 2
        np.testing.assert_allclose(variance, exact.var(axis=0), rtol=2e-5)
    assert not o.size


@pytest.mark.parametrize("mask", ((), (Flag.SIDE_MASK,), (Flag.NORM_MASK,)))
@pytest.mark.parametrize("more", ((), (Flag.ADD,), (Flag.UNPOOL,)))
def test_gradient_statistics_give_the_gradients_of_gamma_and_beta(mask, more):
    """relu(batch_norm(y)) behind a residual sum or a pooling, against autograd in float64."""
    rng = np.random.default_rng(SEED)
    n = 50
    y = rng.normal(size=(n, T)).astype(np.float32)
    windows = rng.normal(size=(n, 4, T)).astype(np.float32)
    mean, k0, beta = rng.normal(size=(3, T)).astype(np.float32)
    record = np.stack([k0, np.ones(T), beta - mean * k0, mean]).astype(np.float32)
    acc, addend = rng.normal(size=(2, n, T)).astype(np.float32)
    side_mask = rng.normal(size=(n, T)).astype(np.float32)
    if Flag.SIDE_MASK in mask:
        side = np.concatenate([record, np.stack([side_mask, y], axis=1).reshape(-1, T)])
    else:
        side = np.concatenate([record, y])
    auxiliary = addend if Flag.ADD in more else windows if Flag.UNPOOL in more else ()
    o, _ = Epilogue.model(
        bits(acc), bits(side), bits(auxiliary).reshape(-1, T), opcode=Opcode.CONV_BP,
        flags={Flag.STATISTICS, *mask, *more},
    )  # fmt: skip

    # With rstd = 1, gamma is k0.
    gamma64 = torch.tensor(k0.astype(np.float64), requires_grad=True)
    beta64 = torch.tensor(beta.astype(np.float64), requires_grad=True)
    z = acc + addend if Flag.ADD in more else acc
    normal = gamma64 * torch.from_numpy((y - mean).astype(np.float64)) + beta64
    active = torch.relu(normal) if Flag.NORM_MASK in mask else normal
    if Flag.SIDE_MASK in mask:
        z = np.where(side_mask > 0, z, np.float32(0))
    active.backward(torch.from_numpy(z.astype(np.float64)))
    results, record = split(o, n * (4 if Flag.UNPOOL in more else 1), T)
    shift, one, two = sums_of(record, T)
    assert not shift.any()
    np.testing.assert_allclose(one, beta64.grad.numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(two, gamma64.grad.numpy(), rtol=0, atol=2e-5)

    if Flag.NORM_MASK in mask:
        z = np.where(normal.detach().numpy() > 0, z, np.float32(0))
    if Flag.UNPOOL in more:
        place = (windows * np.sign(k0)).argmax(axis=1)[:, None]
        z = np.where(np.arange(4)[None, :, None] == place, z[:, None], 0).reshape(-1, T)
    np.testing.assert_array_equal(floats(results), z)


@pytest.mark.parametrize("mask", (False, True))
@pytest.mark.parametrize("more", ((), (Flag.ADD,), (Flag.UNPOOL,)))
def test_sums_give_the_gradient_of_a_bias(mask, more):
    """Two tiles of two blocks; the sums are those of what UNPOOL spreads, and sums 2 are zeros."""
    rng = np.random.default_rng(SEED)
    n = 50
    acc, addend, side = rng.normal(size=(3, 2, 2, n, T)).astype(np.float32)
    windows = rng.normal(size=(2, 2, n, 4, T)).astype(np.float32)
    acc[..., 0] = np.inf
    auxiliary = addend if Flag.ADD in more else windows if Flag.UNPOOL in more else np.zeros((0, T))
    blocks = [DrainedBlock(n, b, t == 0, t == 1) for t, b in itertools.product((0, 1), (0, 1))]
    o, _ = Epilogue.model(
        bits(acc).reshape(-1, T), bits(side).reshape(-1, T)[: side.size // T * mask],
        bits(auxiliary).reshape(-1, T), opcode=Opcode.CONV_BP,
        flags={Flag.SUMS, *[Flag.SIDE_MASK] * mask, *more}, blocks=blocks,
    )  # fmt: skip
    z = acc + addend if Flag.ADD in more else acc
    z = np.where(side > 0, z, np.float32(0)) if mask else z
    each = 4 if Flag.UNPOOL in more else 1
    results = z
    if Flag.UNPOOL in more:
        place = windows.argmax(axis=3)[..., None, :]
        results = np.where(np.arange(4)[:, None] == place, z[..., None, :], 0)
    results = results.reshape(4, -1, T)
    for number, block in enumerate(blocks):
        found, o = split(o, n * each, T)
        np.testing.assert_array_equal(floats(found), results[number])
        if block.group_last:
            words = T + 8 * PARTIAL_BEATS
            record, o = o[:words], o[words:]
            shift, one, two = sums_of(record, T)
            exact = z[:, block.block].astype(np.float64).sum(axis=(0, 1))
            np.testing.assert_allclose(one, exact, rtol=0, atol=1e-5)
            assert not shift.any() and not two.any()
    assert not o.size


def test_forward_pooling_keeps_the_results():
    """POOL, KEEP and STATISTICS: both outputs, and the sums are those of full resolution."""
    rng = np.random.default_rng(SEED)
    acc = rng.normal(size=(20, 4, T)).astype(np.float32)
    gamma = np.array([1, -1, -0.0, 0, -2, 3, np.nan, -np.inf], np.float32)
    o, second = Epilogue.model(
        bits(acc).reshape(-1, T), bits(gamma)[None], opcode=Opcode.CONV_FP,
        flags={Flag.POOL, Flag.KEEP, Flag.STATISTICS},
    )  # fmt: skip
    np.testing.assert_array_equal(floats(second), acc.reshape(-1, T))
    pooled, record = split(o, 20, T)
    expected = np.where(gamma < 0, acc.min(axis=1), acc.max(axis=1))
    np.testing.assert_array_equal(floats(pooled), expected)
    shift, one, two = sums_of(record, T)
    d = acc.reshape(-1, T).astype(np.float64) - shift
    np.testing.assert_allclose(one, d.sum(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(two, (d * d).sum(axis=0), rtol=1e-5)


def test_two_levels_keep_the_sums_exact():
    """A million ones in tiles of 1,024 vectors: exact to the last bit."""
    statistics = {Flag.STATISTICS}
    tiles = 64
    acc = np.ones((tiles * 1024, 4), np.float32)
    acc[0] = 0
    blocks = [DrainedBlock(1024, 0, k == 0, k == tiles - 1) for k in range(tiles)]
    o, _ = Epilogue.model(bits(acc), opcode=Opcode.CONV_FP, flags=statistics, blocks=blocks)
    _, one, two = sums_of(o[acc.size :], 4)
    assert (one == len(acc) - 1).all() and (two == len(acc) - 1).all()
