"""The interpreter and the bit-exact model of the epilogue, written apart from each other, agree."""

import itertools

import numpy as np
import pytest
from comparison import integers
from drain_interpreter import split_record
from raw_program import ONE, Program

from eftrain_hdl import isa
from eftrain_hdl.datapath.epilogue_model import epilogue_model
from eftrain_hdl.isa import Flag, Opcode

DRAIN = (
    Flag.RELU, Flag.BIAS, Flag.ADD, Flag.SIDE_MASK, Flag.POOL, Flag.KEEP, Flag.UNPOOL,
    Flag.STATISTICS, Flag.SUMS, Flag.NORM_MASK,
)  # fmt: skip
IMAGES, SIZE = 2, (4, 6)


def legal_drains(opcode):
    flags = [flag for flag in isa.LEGAL_FLAGS[opcode] if flag in DRAIN]
    for count in range(len(flags) + 1):
        for chosen in map(set, itertools.combinations(flags, count)):
            if (
                not any(set(pair) <= chosen for pair in isa.EXCLUSIVE_FLAGS)
                and not any(a in chosen and b not in chosen for a, b in isa.REQUIRED_FLAGS)
                and not (opcode is Opcode.PASS and {Flag.POOL, Flag.STATISTICS} <= chosen)
            ):
                yield chosen


def bits(vectors, group):
    return np.asarray(vectors, np.float32).reshape(-1, group).view(np.uint32)


def by_pixel(values):
    """``[B, T, H, W]`` to vectors ``[B*H*W, T]``."""
    return values.transpose(0, 2, 3, 1).reshape(-1, values.shape[1])


def by_window(values):
    """The same in the order of 2x2 windows."""
    b, t, h, w = values.shape
    windows = values.reshape(b, t, h // 2, 2, w // 2, 2)
    return windows.transpose(0, 2, 4, 3, 5, 1).reshape(-1, t)


@pytest.mark.parametrize("array", ["4x4", "16x16"])
@pytest.mark.parametrize("opcode", [Opcode.CONV_FP, Opcode.CONV_BP, Opcode.PASS])
def test_every_drain(make_device, opcode, array):
    device = make_device(array)
    for flags in legal_drains(opcode):
        check_drain(Program(device), opcode, flags)


def check_drain(p, opcode, flags):
    """One block through a kernel that is the identity."""
    group, (rows, cols) = p.group, SIZE
    x, mask, y, addend = (integers(IMAGES, group, *SIZE, seed=seed) for seed in range(4))
    windows = integers(IMAGES, group, 2 * rows, 2 * cols)
    record = integers(4, group)
    sums = flags & {Flag.STATISTICS, Flag.SUMS}
    sums_gradient = Flag.STATISTICS in flags and opcode is not Opcode.CONV_FP
    in_order = by_window if Flag.POOL in flags else by_pixel

    fields = {"bias": p.coefficients(*record)}
    side, beside, auxiliary, result = [], [], [], SIZE
    if opcode is not Opcode.PASS:
        fields["stationary"] = p.weights(np.eye(group)[:, :, None, None])
    if Flag.ADD in flags:
        fields["auxiliary"], auxiliary = p.map(addend), by_pixel(addend)
    if Flag.SIDE_MASK in flags:
        fields["side"] = p.map(mask)
        beside.append(in_order(mask))
    if sums:
        fields["statistics"] = p.new_statistics(group)
    if sums_gradient:
        fields["norm"] = p.map(y)
        side.append(record)
        beside.append(in_order(y))
    elif Flag.BIAS in flags or (sums and Flag.POOL in flags):
        side.append(record[:1])
    if Flag.KEEP in flags:
        fields["second"] = p.new_map(*x.shape)
    if Flag.UNPOOL in flags:
        fields["auxiliary"], auxiliary = p.map(windows), by_window(windows)
        result = (2 * rows, 2 * cols)
    if Flag.POOL in flags:
        result = (rows // 2, cols // 2)
    output = p.new_map(IMAGES, group, *result)
    p.layer(opcode, flags, ONE, stream=p.map(x), output=output, grid=SIZE, **fields)
    p.run()

    if beside:
        side.append(np.stack(beside, axis=1).reshape(-1, group))
    side = np.concatenate(side) if side else side
    first, second = (
        words.view(np.float32)
        for words in epilogue_model(
            *(bits(vectors, group) for vectors in (in_order(x), side, auxiliary)),
            opcode=opcode,
            flags=flags,
        )
    )
    found = p.read_map(output)
    found = by_window(found) if Flag.UNPOOL in flags else by_pixel(found)
    assert np.array_equal(first[: found.size].reshape(-1, group), found), flags
    if sums:
        modelled = split_record(p.config, first[found.size :])
        interpreted = p.read_statistics(fields["statistics"], group)
        assert np.array_equal(modelled, interpreted), flags
    if Flag.KEEP in flags:
        kept = by_window(p.read_map(fields["second"]))
        assert np.array_equal(second.reshape(-1, group), kept), flags
