"""Batch-norm without passes of its own, descriptor by descriptor, against PyTorch in float64.

Every check takes any ``Device``; the same cases run on the interpreter and on the simulated core.
``program`` is ``Program`` or ``OverlappedProgram``.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from comparison import assert_close, random
from raw_program import ONE, Conv, Program

from eftrain_hdl.isa import COEFFICIENT_VECTORS, PARAMETER_VECTORS, Flag, Opcode

FP, BP, PASS, PASS_BP = Opcode.CONV_FP, Opcode.CONV_BP, Opcode.PASS, Opcode.PASS_BP

EPSILON, SHARE = 1e-5, 0.1
LEARNING = {"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.01}
NORM = {"epsilon": EPSILON, "statistics_momentum": SHARE}


@dataclass(frozen=True)
class NormCase:
    """Convolution, batch-norm, ReLU, perhaps 2x2 maximum, convolution."""

    batch: int
    channels: tuple
    size: tuple
    first: Conv = Conv()
    second: Conv = Conv()
    pool: bool = False

    def __str__(self):
        sizes = "x".join(map(str, (*self.channels, *self.size)))
        tile = "-tiled" if self.first.tile or self.second.tile else ""
        return f"b{self.batch}-{sizes}{'-pool' if self.pool else ''}{tile}"


NORM_CASES = (
    NormCase(2, (3, 4, 4), (4, 4)),
    NormCase(1, (2, 5, 3), (5, 3)),
    NormCase(3, (9, 10, 7), (4, 6), ONE, Conv((3, 3), (2, 2), (1, 1))),
    NormCase(2, (3, 4, 4), (4, 4), pool=True),
    NormCase(2, (4, 9, 5), (8, 6), pool=True),
    # Several tiles along every dimension: of the forward pass of the first, then of all passes.
    NormCase(3, (5, 9, 4), (5, 6), Conv(tile=(2, 2, 2, 3)), Conv(tile=(1, 1, 3, 2))),
    NormCase(3, (4, 9, 6), (8, 12), Conv(tile=(1, 2, 4, 2)), Conv(tile=(2, 1, 1, 4)), True),
)


def check_norm(device, case, tolerance=2e-5, program=Program, compare=assert_close):
    """Forward and backward of a ``NormCase``; every gradient, update and running statistic.

    ``compare`` is called for each result, as :func:`comparison.assert_close` is.
    """
    n, m, o = case.channels
    x, w1 = random(case.batch, n, *case.size, seed=1), random(m, n, *case.first.kernel, seed=2)
    w2, b2 = random(o, m, *case.second.kernel, seed=3), random(o, seed=4)
    gamma, beta = random(m, seed=5) + 0.1, random(m, seed=6)
    running, velocity = abs(random(2, m, seed=7)), random(2, m, seed=8)
    running_before = torch.tensor(running.astype(np.float64))

    # PyTorch.
    tx, tw1, tw2, tb2, tg, tb = (
        torch.tensor(a.astype(np.float64), requires_grad=True) for a in (x, w1, w2, b2, gamma, beta)
    )
    ty = F.conv2d(tx, tw1, None, case.first.stride, case.first.pad)
    mean, var = running_before.clone()
    normal = F.relu(F.batch_norm(ty, mean, var, tg, tb, True, SHARE, EPSILON))
    pooled = F.max_pool2d(normal, 2) if case.pool else normal
    out = F.conv2d(pooled, tw2, tb2, case.second.stride, case.second.pad)
    dy = random(*out.shape, seed=9)
    out.backward(torch.tensor(dy.astype(np.float64)))

    # The device.
    p = program(device)
    xs, dys = p.map(x), p.map(dy)
    w1s, w2s, b2s = p.weights(w1), p.weights(w2), p.vector(b2)
    parameters = p.parameters(gamma, beta, *running, *velocity)
    statistics, sums = p.new_statistics(m), p.new_statistics(m)
    coefficients, back = p.new_coefficients(m), p.new_coefficients(m)
    y = p.new_map(*ty.shape)
    ys, pixels = y, case.batch * ty.shape[2] * ty.shape[3]
    if case.pool:
        ys = p.new_map(*pooled.shape)
        p.layer(
            FP, [Flag.STATISTICS, Flag.POOL, Flag.KEEP], case.first, stream=xs, stationary=w1s,
            output=ys, second=y, statistics=statistics, bias=parameters,
            bias_vectors=PARAMETER_VECTORS,
        )  # fmt: skip
    else:
        p.layer(
            FP, [Flag.STATISTICS], case.first, stream=xs, stationary=w1s, output=y,
            statistics=statistics,
        )  # fmt: skip
    p.norm(
        channels=m, statistics=statistics, parameters=parameters, coefficients=coefficients,
        pixels=pixels, **NORM,
    )  # fmt: skip
    result = p.new_map(*out.shape)
    p.layer(
        FP, [Flag.NORM_X, Flag.X_RELU, Flag.BIAS], case.second, stream=ys, stationary=w2s,
        output=result, stream_coefficients=coefficients, bias=b2s,
    )  # fmt: skip
    p.run()
    found = p.read_records(parameters, m, PARAMETER_VECTORS)
    compare(p.read_map(y), ty.detach(), tolerance, "convolution")
    compare(found[2], mean, tolerance, "running mean")
    compare(found[3], var, tolerance, "running variance")
    assert np.array_equal(found[[0, 1, 4, 5]], np.stack([gamma, beta, *velocity]))
    compare(found[6], ty.detach().mean((0, 2, 3)), tolerance, "mean")
    variance = ty.detach().var((0, 2, 3), unbiased=False)
    compare(found[7], 1 / (variance + EPSILON).sqrt(), tolerance, "1/sqrt(variance)")
    compare(p.read_map(result), out.detach(), tolerance, "output")

    z = p.new_map(*ty.shape, zero=case.pool)
    flags = [Flag.NORM_MASK, Flag.STATISTICS] + [Flag.UNPOOL] * case.pool
    p.layer(
        BP, flags, case.second, stream=dys, stationary=w2s, output=z, norm=ys, bias=coefficients,
        statistics=sums, **({"auxiliary": y} if case.pool else {}),
    )  # fmt: skip
    p.norm(
        [Flag.GRADIENT, Flag.UPDATE, Flag.MOMENTUM], channels=m, statistics=sums,
        parameters=parameters, coefficients=back, pixels=pixels, **LEARNING,
    )  # fmt: skip
    dw2, dw1, dx = p.new_weights(*w2.shape), p.new_weights(*w1.shape), p.new_map(*x.shape)
    db2 = p.vector(np.full(o, np.nan))
    p.update(
        [Flag.NORM_X, Flag.X_RELU, Flag.BIAS], case.second, x=ys, dy=dys, output=dw2, bias=db2,
        stationary_coefficients=coefficients,
    )  # fmt: skip
    p.update(
        [Flag.NORM_DY], case.first, x=xs, dy=z, output=dw1, companion=y, stream_coefficients=back
    )
    p.layer(
        BP, [Flag.NORM_DY], case.first, stream=z, stationary=w1s, output=dx, companion=y,
        stream_coefficients=back,
    )  # fmt: skip
    p.run()
    compare(p.read_weights(dw2), tw2.grad, tolerance, "weight gradient after the norm")
    compare(p.read_vector(db2, o), tb2.grad, tolerance, "bias gradient")
    new = p.read_records(parameters, m, PARAMETER_VECTORS)
    for row, old, gradient in ((0, gamma, tg.grad), (1, beta, tb.grad)):
        moved = LEARNING["momentum"] * velocity[row] + gradient.numpy()
        moved += LEARNING["weight_decay"] * old
        compare(new[4 + row], moved, tolerance, "velocity")
        compare(new[row], old - LEARNING["learning_rate"] * moved, tolerance, "parameter")
    assert np.array_equal(new[[2, 3, 6, 7]], found[[2, 3, 6, 7]])
    # Cancellation: the gradient of a normalised map has neither mean nor projection on y.
    compare(p.read_weights(dw1), tw1.grad, 10 * tolerance, "weight gradient before the norm")
    compare(p.read_map(dx), tx.grad, 10 * tolerance, "input gradient")


RESIDUAL_CASES = tuple(
    # (batch, channels, size, whether the other branch is normalised too, tile)
    (batch, channels, size, paired, tile)
    for paired in (False, True)
    for batch, channels, size, tile in (
        (2, 4, (4, 4), None),
        (3, 10, (5, 3), None),
        (2, 9, (6, 5), (1, 1, 3, 2)),
    )
)


def check_residual(device, batch, channels, size, paired, tile, tolerance=2e-5, program=Program):
    """``relu(norm(y) + s)`` on load, kept by TEE for the backward pass; ``paired``: the other
    branch is a batch-norm as well. The gradient meets a second reader of the sum (ADD)."""
    conv, shape = Conv(tile=tile), (batch, channels, *size)
    y, s, other = (random(*shape, seed=seed) for seed in (1, 2, 3))
    gammas, betas = random(2, channels, seed=4), random(2, channels, seed=5)
    w = random(channels + 1, channels, 3, 3, seed=6)

    ty, ts, tw, tg, tb = (
        torch.tensor(a.astype(np.float64), requires_grad=True) for a in (y, s, w, gammas, betas)
    )
    branch = F.batch_norm(ts, None, None, tg[1], tb[1], True, 0, EPSILON) if paired else ts
    total = F.relu(F.batch_norm(ty, None, None, tg[0], tb[0], True, 0, EPSILON) + branch)
    out = F.conv2d(total, tw, padding=1)
    dy = random(*out.shape, seed=7)
    (out * torch.tensor(dy)).sum().backward(retain_graph=True)
    tw_gradient = tw.grad.clone()
    (total * torch.tensor(other)).sum().backward()

    p = program(device)
    maps = [p.map(a) for a in ((y, s) if paired else (y,))]
    ys, ss, ws = maps[0], maps[1] if paired else p.map(s), p.weights(w)
    pixels = batch * size[0] * size[1]
    parameters, coefficients = [], []
    for branch_map, gamma, beta in reversed(list(zip(maps, gammas, betas, strict=False))):
        # The statistics of a map that no convolution has just written: an FP with the identity.
        statistics, copied = p.new_statistics(channels), p.new_map(*shape)
        identity = p.weights(np.eye(channels)[:, :, None, None])
        p.layer(
            FP, [Flag.STATISTICS], stream=branch_map, stationary=identity, output=copied,
            statistics=statistics,
        )  # fmt: skip
        parameters.insert(0, p.parameters(gamma, beta))
        joined = {"pair": coefficients[0]} if coefficients else {}
        coefficients.insert(0, p.new_coefficients(channels))
        p.norm(
            [Flag.X_PAIR] if joined else [], channels=channels, statistics=statistics,
            parameters=parameters[0], coefficients=coefficients[0], pixels=pixels, **joined, **NORM,
        )  # fmt: skip
    result, tee = p.new_map(*out.shape), p.new_map(*shape)
    p.layer(
        FP, [Flag.NORM_X, Flag.X_PAIR, Flag.X_RELU, Flag.TEE], conv, stream=ys, stationary=ws,
        output=result, companion=ss, stream_coefficients=coefficients[0], second=tee,
    )  # fmt: skip
    p.run()
    assert_close(p.read_map(tee), total.detach(), tolerance, "sum")
    assert_close(p.read_map(result), out.detach(), tolerance, "output")

    z, copy, dys = p.new_map(*shape), p.new_map(*shape), p.map(dy)
    sums, more = p.new_statistics(channels), p.new_statistics(channels)
    p.layer(
        BP, [Flag.ADD, Flag.SIDE_MASK, Flag.STATISTICS], conv, stream=dys, stationary=ws, output=z,
        side=tee, norm=ys, auxiliary=p.map(other), bias=coefficients[0], statistics=sums,
    )  # fmt: skip
    backs = [p.new_coefficients(channels) for _ in maps]
    norm = {"channels": channels, "pixels": pixels, **LEARNING}
    p.norm(
        [Flag.GRADIENT, Flag.UPDATE], statistics=sums, parameters=parameters[0],
        coefficients=backs[0], **norm,
    )  # fmt: skip
    if paired:
        p.layer(
            PASS, [Flag.STATISTICS], Conv((1, 1), (1, 1), (0, 0), tile), stream=z, output=copy,
            norm=ss, bias=coefficients[1], statistics=more,
        )  # fmt: skip
        p.norm(
            [Flag.GRADIENT], statistics=more, parameters=parameters[1], coefficients=backs[1],
            **norm,
        )  # fmt: skip
    # The gradient itself, through the identity.
    identity, dw = p.weights(np.eye(channels)[:, :, None, None]), p.new_weights(*w.shape)
    gradients = [p.new_map(*shape) for _ in maps]
    for branch_map, back, gradient in zip(maps, backs, gradients, strict=True):
        p.layer(
            BP, [Flag.NORM_DY], stream=z, stationary=identity, output=gradient,
            companion=branch_map, stream_coefficients=back,
        )  # fmt: skip
    p.update(conv=conv, x=tee, dy=dys, output=dw)
    p.run()
    assert_close(p.read_weights(dw), tw_gradient, tolerance, "weight gradient")
    assert_close(p.read_map(gradients[0]), ty.grad, 10 * tolerance, "gradient of y")
    if paired:
        assert np.array_equal(p.read_map(copy), p.read_map(z))
        assert_close(p.read_map(gradients[1]), ts.grad, 10 * tolerance, "gradient of the other y")
        new = p.read_records(parameters[1], channels, PARAMETER_VECTORS)
        assert np.array_equal(new[:2], [gammas[1], betas[1]]), "updated without UPDATE"
    else:
        assert_close(p.read_map(z), ts.grad, tolerance, "gradient of s")
    new = p.read_records(parameters[0], channels, PARAMETER_VECTORS)
    for row, old, gradient in ((0, gammas[0], tg.grad[0]), (1, betas[0], tb.grad[0])):
        step = gradient.numpy() + LEARNING["weight_decay"] * old
        assert_close(new[row], old - LEARNING["learning_rate"] * step, tolerance, "parameter")
    assert not new[4:6].any(), "velocity without MOMENTUM"


def check_frozen(device, channels=6, tolerance=1e-5):
    """Running statistics instead of those of the batch; nothing but the coefficients changes."""
    gamma, beta, mean = random(3, channels, seed=1)
    var = abs(random(channels, seed=2))
    k0, k2 = random(2, channels, seed=3)
    p = Program(device)
    parameters, result = p.parameters(gamma, beta, mean, var), p.new_coefficients(channels)
    joined = p.new_coefficients(channels)
    pair = p.coefficients(k0, np.ones(channels), k2, mean)
    before = p.read_records(parameters, channels, PARAMETER_VECTORS)
    norm = {"channels": channels, "parameters": parameters, **NORM}
    p.norm([Flag.FROZEN], coefficients=result, **norm)
    p.norm([Flag.FROZEN, Flag.X_PAIR], coefficients=joined, pair=pair, **norm)
    p.run()
    factor = gamma / np.sqrt(var + EPSILON)
    expected = np.stack([factor, np.ones(channels), beta - mean * factor, mean])
    found = p.read_records(result, channels, COEFFICIENT_VECTORS)
    assert_close(found, expected, tolerance, "coefficients")
    expected[1], expected[2] = k0, expected[2] + k2
    found = p.read_records(joined, channels, COEFFICIENT_VECTORS)
    assert_close(found, expected, tolerance, "joined coefficients")
    assert np.array_equal(before, p.read_records(parameters, channels, PARAMETER_VECTORS))


def check_partial_sums(device, channels=6, tolerance=1e-5):
    """NORM adds up the partial sums of a record however the drain has split them."""
    group, blocks = Program(device).group, -(-channels // Program(device).group)
    rng = np.random.default_rng(1)
    pixels, padded = 64, blocks * group
    y = rng.normal(3, 2, (pixels, padded))
    shift = y[0].astype(np.float32)
    words = 8 * 4
    record = np.zeros((blocks, group + 2 * words), np.float32)
    totals = np.stack([(y - shift).sum(0), ((y - shift) ** 2).sum(0)])
    parts = words // group
    shares = rng.uniform(-1, 1, (parts, 1))
    shares[-1] += 1 - shares.sum()
    for block in range(blocks):
        lanes = slice(block * group, (block + 1) * group)
        record[block, :group] = shift[lanes]
        for number in range(2):
            begin = group + number * words
            record[block, begin : begin + words] = (shares * totals[number, lanes]).reshape(-1)
    gamma, beta = random(2, padded, seed=2)
    p = Program(device)
    parameters, result = p.parameters(gamma, beta), p.new_coefficients(padded)
    p.norm(
        channels=padded, statistics=p.put(record.tobytes()), parameters=parameters,
        coefficients=result, pixels=pixels, **NORM,
    )  # fmt: skip
    p.run()
    mean, factor = y.mean(0), gamma / np.sqrt(y.var(0) + EPSILON)
    expected = np.stack([factor, np.ones(padded), beta - mean * factor, mean])
    found = p.read_records(result, padded, COEFFICIENT_VECTORS)
    assert_close(found, expected, tolerance, "coefficients")


BIAS_CASES = (
    # (batch, channels, size)
    (2, 6, (4, 4)),
    (3, 33, (5, 3)),
)


def check_bias_update(device, batch, channels, size, tolerance=1e-5):
    """Biases that lie as betas: the pass that makes dY sums it, one NORM takes the step."""
    dy, mask = random(batch, channels, *size), random(batch, channels, *size, seed=1)
    old = random(PARAMETER_VECTORS, channels, seed=2)
    p = Program(device)
    sums, parameters = p.new_statistics(channels), p.parameters(*old)
    result = p.new_map(*dy.shape)
    p.layer(
        PASS, [Flag.SIDE_MASK, Flag.SUMS], Conv((1, 1), (1, 1), (0, 0), (1, 2, 2, 2)),
        stream=p.map(dy), side=p.map(mask), output=result, statistics=sums,
    )  # fmt: skip
    p.norm(
        [Flag.GRADIENT, Flag.UPDATE, Flag.MOMENTUM], channels=channels, statistics=sums,
        parameters=parameters, coefficients=p.new_coefficients(channels), **LEARNING,
    )  # fmt: skip
    p.run()
    expected = np.where(mask > 0, dy, 0)
    assert np.array_equal(p.read_map(result), expected)
    gradients = np.zeros(channels), expected.sum((0, 2, 3), dtype=np.float64)
    new = p.read_records(parameters, channels, PARAMETER_VECTORS)
    for row, gradient in enumerate(gradients):
        velocity = gradient + LEARNING["weight_decay"] * old[row]
        velocity += LEARNING["momentum"] * old[4 + row]
        assert_close(new[4 + row], velocity, tolerance, "velocity")
        assert_close(new[row], old[row] - LEARNING["learning_rate"] * velocity, tolerance)


def check_constant_channel(device):
    """A channel without variance, and one whose squares cancel to below zero: 1/sqrt(epsilon)."""
    p = Program(device)
    group = p.group
    record = np.zeros((1, group + 64), np.float32)
    record[0, :group] = 7.0
    record[0, group : group + group] = 1.0  # The sum of squares is 0, below 1/N.
    parameters, result = p.parameters(np.ones(group), np.zeros(group)), p.new_coefficients(group)
    p.norm(
        channels=group, statistics=p.put(record.tobytes()), parameters=parameters,
        coefficients=result, pixels=4, **NORM,
    )  # fmt: skip
    outcome = p.run()
    found = p.read_records(result, group, COEFFICIENT_VECTORS)
    assert_close(found[0], np.full(group, EPSILON**-0.5), 1e-5)
    assert np.array_equal(found[3], np.full(group, 7.25))
    assert not outcome.nonfinite
