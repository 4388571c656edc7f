"""Single descriptors with everything that can ride along, against PyTorch in float64.

Every check takes any ``Device``; the same cases run on the interpreter and on the simulated core.
``program`` is ``Program`` or ``OverlappedProgram``.
Values are small integers, so comparisons are exact where nothing else is said.
"""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from comparison import assert_close, integers
from raw_program import ONE, Conv, Program

from eftrain_hdl.isa import Flag, Opcode

FP, BP, PASS, PASS_BP = Opcode.CONV_FP, Opcode.CONV_BP, Opcode.PASS, Opcode.PASS_BP


def tensor(values):
    return torch.tensor(values.astype(np.float64))


def per_channel(values):
    return np.asarray(values)[:, None, None]


def windows(values):
    """``[B, C, H, W]`` to ``[B, C, H/2, W/2, 4]``, each window row-major."""
    b, c, h, w = values.shape
    split = values.reshape(b, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5)
    return split.reshape(b, c, h // 2, w // 2, 4)


def unpooled(values, where, falling=None):
    """``values`` at the first maximum of each window of ``where`` (minimum where falling)."""
    if falling is not None:
        where = np.where(per_channel(falling), -where, where)
    chosen = windows(where).argmax(axis=-1)
    spread = np.where(np.arange(4) == chosen[..., None], values[..., None], 0)
    b, c, h, w = values.shape
    spread = spread.reshape(b, c, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5)
    return spread.reshape(b, c, 2 * h, 2 * w)


def check_sums(p, address, channels, expected):
    """A gradient's statistics record against ``(sum z, sum z*(y - mean))``."""
    shift, *sums = p.read_statistics(address, channels)
    assert not shift.any()
    for found, wanted in zip(sums, expected, strict=True):
        assert np.array_equal(found, np.asarray(wanted, np.float64))


KEEP_CASES = (
    # (batch, channels, size, conv)
    (1, (1, 1), (2, 2), Conv()),
    (2, (3, 5), (6, 4), Conv()),
    (2, (5, 9), (4, 8), Conv((3, 3), (1, 1), (1, 1), (1, 1, 2, 2))),
    (3, (9, 10), (8, 8), Conv((2, 2), (2, 2), (0, 0), (2, 2, 2, 4))),
)


def check_keep(device, batch, channels, size, conv, program=Program):
    """POOL with KEEP, with bias and ReLU, and with STATISTICS (minimum where gamma < 0)."""
    n, m = channels
    x, w, b = integers(batch, n, *size), integers(m, n, *conv.kernel, seed=1), integers(m, seed=2)
    y = F.conv2d(tensor(x), tensor(w), None, conv.stride, conv.pad).numpy()
    biased = np.maximum(y + per_channel(b), 0)
    halved = (batch, m, y.shape[2] // 2, y.shape[3] // 2)

    p = program(device)
    operands = {"stream": p.map(x), "stationary": p.weights(w), "bias": p.vector(b)}
    kept, small = p.new_map(*y.shape), p.new_map(*halved)
    p.layer(
        FP, [Flag.POOL, Flag.KEEP, Flag.BIAS, Flag.RELU], conv, **operands, output=small,
        second=kept,
    )  # fmt: skip
    raw, least = p.new_map(*y.shape), p.new_map(*halved)
    statistics = p.new_statistics(m)
    p.layer(
        FP, [Flag.POOL, Flag.KEEP, Flag.STATISTICS], conv, **operands, output=least, second=raw,
        statistics=statistics,
    )  # fmt: skip
    alone = p.new_map(*halved)
    p.layer(FP, [Flag.POOL, Flag.STATISTICS], conv, **operands, output=alone, statistics=statistics)
    p.run()
    assert np.array_equal(p.read_map(kept), biased)
    assert np.array_equal(p.read_map(small), windows(biased).max(-1))
    assert np.array_equal(p.read_map(raw), y)
    expected = np.where(per_channel(b < 0), windows(y).min(-1), windows(y).max(-1))
    assert np.array_equal(p.read_map(least), expected)
    assert np.array_equal(p.read_map(alone), expected)
    check_forward_sums(p, statistics, y)


def check_forward_sums(p, address, y):
    """A forward record: its shift is the first vector, its sums those of the distances from it."""
    shift, first, second = p.read_statistics(address, y.shape[1])
    assert np.array_equal(shift, y[0, :, 0, 0])
    distance = y - per_channel(shift)
    assert np.array_equal(first, distance.sum((0, 2, 3)))
    assert_close(second, (distance**2).sum((0, 2, 3)), 1e-6, "squares")


STATISTICS_CASES = (
    # (batch, channels, size, conv)
    (1, (1, 1), (1, 1), ONE),
    (2, (4, 8), (4, 4), Conv()),
    (3, (5, 9), (5, 7), Conv((3, 3), (2, 2), (1, 1))),
    (3, (9, 17), (5, 4), Conv((3, 3), (1, 1), (1, 1), (1, 1, 2, 3))),
    (5, (4, 33), (3, 3), Conv((1, 1), (1, 1), (0, 0), (3, 2, 1, 2))),
    (2, (2, 64), (1, 1), ONE),
)


def check_forward_statistics(device, batch, channels, size, conv, program=Program):
    """FP with STATISTICS, alone and after ADD."""
    n, m = channels
    x, w = integers(batch, n, *size), integers(m, n, *conv.kernel, seed=1)
    y = F.conv2d(tensor(x), tensor(w), None, conv.stride, conv.pad).numpy()
    addend = integers(*y.shape, seed=2)
    p = program(device)
    operands = {"stream": p.map(x), "stationary": p.weights(w)}
    for total, flags, more in (
        (y, [Flag.STATISTICS], {}),
        (y + addend, [Flag.STATISTICS, Flag.ADD], {"auxiliary": p.map(addend)}),
    ):
        output, statistics = p.new_map(*y.shape), p.new_statistics(m)
        p.layer(FP, flags, conv, **operands, **more, output=output, statistics=statistics)
        p.run()
        assert np.array_equal(p.read_map(output), total)
        check_forward_sums(p, statistics, total)


DRAIN_FLAGS = tuple(
    flags
    for count in range(6)
    for flags in itertools.combinations(
        (Flag.ADD, Flag.SIDE_MASK, Flag.STATISTICS, Flag.SUMS, Flag.NORM_MASK, Flag.UNPOOL), count
    )
    if not {Flag.ADD, Flag.UNPOOL} <= set(flags)
    and not {Flag.SIDE_MASK, Flag.NORM_MASK} <= set(flags)
    and not {Flag.STATISTICS, Flag.SUMS} <= set(flags)
    and (Flag.NORM_MASK not in flags or Flag.STATISTICS in flags)
)
"""Every legal drain of a gradient."""

DRAIN_CASES = (
    # (opcode, batch, blocks of T and channels past them, size of the result, conv)
    (BP, 2, (0, 3), (4, 4), Conv()),
    (BP, 2, (1, 1), (5, 6), Conv((3, 3), (2, 2), (1, 1), (1, 2, 2, 5))),
    (BP, 1, (2, 2), (3, 2), Conv((2, 2), (1, 1), (0, 0), (2, 1, 3, 1))),
    (PASS, 2, (1, 2), (3, 5), ONE),
    (PASS, 3, (0, 4), (4, 3), Conv((2, 2), (1, 1), (1, 0), (1, 2, 2, 2))),
    (PASS_BP, 2, (1, 2), (6, 4), Conv((2, 2), (2, 2), (0, 0))),
    (PASS_BP, 2, (0, 3), (5, 5), Conv((3, 3), (2, 2), (1, 1), (1, 1, 3, 2))),
    # A stride past the kernel: tiles that no pixel of the gradient reaches.
    (PASS_BP, 1, (0, 1), (7, 7), Conv((1, 1), (4, 4), (0, 0), (1, 1, 2, 2))),
)


def check_drain(device, opcode, batch, channels, size, conv, program=Program):
    """A gradient with every legal set of flags."""
    p = program(device)
    blocks, rest = channels
    n = blocks * p.group + rest
    shape = (batch, n, *size)
    small = size if opcode is PASS else conv.small(size)
    operands, scale = {}, 0.5
    if opcode is BP:
        m = p.group + 1
        dy, w = integers(batch, m, *small, seed=1), integers(m, n, *conv.kernel, seed=2)
        operands["stationary"] = p.weights(w)
        zero = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        F.conv2d(zero, tensor(w), None, conv.stride, conv.pad).backward(tensor(dy))
        gradient = zero.grad.numpy()
    else:
        operands["scale"] = scale
        window = scale * torch.ones(n, 1, *conv.kernel, dtype=torch.float64)
        if opcode is PASS:
            big = [
                (p_ - 1) * s - 2 * q + k
                for p_, s, q, k in zip(small, conv.stride, conv.pad, conv.kernel, strict=True)
            ]
            dy = integers(batch, n, *big, seed=1)
            gradient = F.conv2d(tensor(dy), window, None, conv.stride, conv.pad, 1, n).numpy()
        else:
            dy = integers(batch, n, *small, seed=1)
            zero = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
            F.conv2d(zero, window, None, conv.stride, conv.pad, 1, n).backward(tensor(dy))
            gradient = zero.grad.numpy()
    doubled = (batch, n, 2 * size[0], 2 * size[1])
    addend, side, y = (integers(*shape, seed=seed) for seed in (3, 4, 5))
    full = integers(*doubled, seed=6)
    k0, k2, mean = integers(3, n, seed=7)
    operands["stream"], records = p.map(dy), p.coefficients(k0, np.full(n, np.nan), k2, mean)
    sides, norms, addends, fulls = p.map(side), p.map(y), p.map(addend), p.map(full)
    expectations = []
    for chosen in DRAIN_FLAGS:
        expected, more = gradient, {}
        if Flag.ADD in chosen:
            expected, more["auxiliary"] = expected + addend, addends
        if Flag.SIDE_MASK in chosen:
            expected, more["side"] = np.where(side > 0, expected, 0), sides
        if Flag.NORM_MASK in chosen:
            expected = np.where(per_channel(k0) * y + per_channel(k2) > 0, expected, 0)
        if Flag.STATISTICS in chosen:
            more |= {"norm": norms, "bias": records, "statistics": p.new_statistics(n)}
            moments = expected, expected * (y - per_channel(mean))
            sums = [moment.sum((0, 2, 3)) for moment in moments]
            expectations.append((chosen, more["statistics"], sums))
        if Flag.SUMS in chosen:
            more["statistics"] = p.new_statistics(n)
            sums = expected.sum((0, 2, 3)), np.zeros(n)
            expectations.append((chosen, more["statistics"], sums))
        if Flag.UNPOOL in chosen:
            more["auxiliary"] = fulls
            expected = unpooled(expected, full, k0 < 0 if Flag.STATISTICS in chosen else None)
        output = p.new_map(*expected.shape)
        grid = {"grid": size}
        p.layer(opcode, chosen, conv, **operands, **more, **grid, output=output)
        expectations.append((chosen, output, expected))
    p.run()
    for chosen, where, expected in expectations:
        if isinstance(where, int):
            check_sums(p, where, n, expected)
        else:
            assert np.array_equal(p.read_map(where), expected), chosen


LOAD_CASES = (
    # (batch, channels, size, conv)
    (2, (4, 5), (4, 4), Conv()),
    (2, (9, 6), (5, 7), Conv((3, 3), (2, 2), (1, 1), (1, 1, 2, 2))),
    (3, (5, 9), (6, 5), Conv((2, 3), (1, 2), (0, 2), (1, 2, 5, 1))),
)


def check_load(device, batch, channels, size, conv, program=Program):
    """Every prologue: of FP and PASS, of both operands of WU, and of BP."""
    n, m = channels
    x, c = integers(batch, n, *size), integers(batch, n, *size, seed=1)
    w = integers(m, n, *conv.kernel, seed=2)
    small = conv.small(size)
    z, y = integers(batch, m, *small, seed=3), integers(batch, m, *small, seed=4)
    of_x, of_dy = integers(4, n, seed=5, limit=2), integers(4, m, seed=6, limit=2)
    p = program(device)
    xs, cs, ws, zs, ys = p.map(x), p.map(c), p.weights(w), p.map(z), p.map(y)
    x_records, dy_records = p.coefficients(*of_x), p.coefficients(*of_dy)
    checks = []

    for pair, relu, tee in itertools.product((False, True), repeat=3):
        flags = [Flag.NORM_X]
        more = {"stream_coefficients": x_records}
        k0, k1, k2 = (per_channel(k) for k in of_x[:3])
        loaded = k0 * x + (k1 * c + k2 if pair else k2)
        if relu:
            flags.append(Flag.X_RELU)
            loaded = np.maximum(loaded, 0)
        if pair:
            flags.append(Flag.X_PAIR)
            more["companion"] = cs
        for opcode in (FP, PASS):
            chosen, places = list(flags), dict(more)
            if tee:
                chosen.append(Flag.TEE)
                places["second"] = p.new_map(*x.shape, zero=True)
                checks.append((places["second"], _touched(loaded, conv), ("tee", *chosen)))
            if opcode is FP:
                places["stationary"] = ws
                kernel, groups = tensor(w), 1
            else:
                kernel, groups = torch.ones(n, 1, *conv.kernel, dtype=torch.float64), n
            expected = F.conv2d(tensor(loaded), kernel, None, conv.stride, conv.pad, 1, groups)
            output = p.new_map(*expected.shape)
            p.layer(opcode, chosen, conv, stream=xs, output=output, **places)
            checks.append((output, expected.numpy(), (opcode, *chosen)))

    k0, k1, k2 = (per_channel(k) for k in of_dy[:3])
    dy = k0 * z + (k1 * y + k2)
    zero = torch.zeros(x.shape, dtype=torch.float64, requires_grad=True)
    F.conv2d(zero, tensor(w), None, conv.stride, conv.pad).backward(tensor(dy))
    dx = p.new_map(*x.shape)
    of_dy_fields = {"companion": ys, "stream_coefficients": dy_records}
    p.layer(BP, [Flag.NORM_DY], conv, stream=zs, stationary=ws, output=dx, **of_dy_fields)
    checks.append((dx, zero.grad.numpy(), "BP"))

    for on_x, relu, on_dy in itertools.product((False, True), repeat=3):
        flags, loaded = [Flag.BIAS], x
        if on_x:
            loaded = per_channel(of_x[0]) * x + per_channel(of_x[2])
            flags.append(Flag.NORM_X)
            if relu:
                loaded = np.maximum(loaded, 0)
                flags.append(Flag.X_RELU)
        gradient = dy if on_dy else z
        flags += [Flag.NORM_DY] * on_dy
        kernel = torch.zeros(w.shape, dtype=torch.float64, requires_grad=True)
        F.conv2d(tensor(loaded), kernel, None, conv.stride, conv.pad).backward(tensor(gradient))
        dw, db = p.new_weights(*w.shape), p.vector(np.full(m, np.nan))
        p.update(
            flags, conv, x=xs, dy=zs, output=dw, bias=db, stationary_coefficients=x_records,
            **of_dy_fields,
        )  # fmt: skip
        checks.append((dw, kernel.grad.numpy(), ("WU", *flags)))
        checks.append((db, gradient.sum((0, 2, 3)), ("bias", *flags)))
    p.run()
    for where, expected, what in checks:
        if isinstance(where, int):
            found = p.read_vector(where, m)
        elif where.shape == w.shape:
            found = p.read_weights(where)
        else:
            found = p.read_map(where)
        assert np.array_equal(found, expected), what


def _touched(values, conv):
    """What a pass reads of a map: rows and columns past the last window stay zero."""
    size = values.shape[2:]
    ends = [
        (small - 1) * s - q + k
        for small, s, q, k in zip(conv.small(size), conv.stride, conv.pad, conv.kernel, strict=True)
    ]
    result = np.zeros_like(values)
    result[:, :, : ends[0], : ends[1]] = values[:, :, : ends[0], : ends[1]]
    return result


AVERAGE_CASES = (
    # (batch, channels, size, kernel, stride, padding)
    (2, 5, (6, 6), (2, 2), (2, 2), (0, 0)),
    (1, 9, (7, 5), (3, 3), (2, 2), (1, 1)),
    (2, 4, (4, 4), (4, 4), (1, 1), (0, 0)),
    (1, 3, (8, 9), (3, 2), (1, 3), (0, 1)),
    (1, 2, (11, 11), (11, 11), (1, 1), (5, 5)),
)


def check_average_pool(device, batch, channels, size, *geometry, tolerance=1e-6, program=Program):
    """PASS and PASS_BP as average pooling."""
    conv = Conv(*geometry)
    x = torch.tensor(integers(batch, channels, *size), requires_grad=True)
    y = F.avg_pool2d(x, *geometry)
    dy = integers(*y.shape, seed=1)
    y.backward(torch.tensor(dy))
    p = program(device)
    scale = 1 / (conv.kernel[0] * conv.kernel[1])
    result, dx = p.new_map(*y.shape), p.new_map(*x.shape)
    p.layer(PASS, [], conv, stream=p.map(x.detach().numpy()), output=result, scale=scale)
    p.layer(PASS_BP, [], conv, stream=p.map(dy), output=dx, scale=scale)
    p.run()
    assert_close(p.read_map(result), y.detach(), tolerance)
    assert_close(p.read_map(dx), x.grad, tolerance)
