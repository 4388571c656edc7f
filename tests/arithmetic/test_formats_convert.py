# amaranth: UnusedElaboratable=no
"""Formats and conversions between them, against ml_dtypes."""

import ml_dtypes
import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from eftrain_hdl.arithmetic import (
    BF16,
    FORMATS,
    FP32,
    NumberFormat,
    float32_to_format,
    format_to_float32,
    get_format,
    round_to_format,
)

SEED = 20220512


def patterns(count):
    """fp32 bit patterns: any, close to a tie of bf16, and the corners."""
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    uniform = rng.integers(0, 1 << 32, count, dtype=np.uint32)
    ties = (uniform & np.uint32(0xFFFF0000)) + np.uint32(0x8000)
    ties = ties + rng.integers(-1, 2, count).astype(np.uint32)
    corners = [0, 1, 0x7FFFFF, 0x800000, 0x807FFF, 0x808000, 0x808001, 0x3F800000, 0x3F808000]
    corners += [0x3F818000, 0x7F7F7FFF, 0x7F7F8000, 0x7F7FFFFF, 0x7F800000, 0x7F800001]
    corners += [0x7FC00000, 0x7FFFFFFF, 0x7FFF8000]
    corners = np.array(corners, np.uint32)
    return np.concatenate([uniform, ties, corners, corners | np.uint32(1 << 31)])


def bf16_of(values):
    """ml_dtypes under the rules of docs/numerics.md."""
    with np.errstate(invalid="ignore"):
        expected = values.view(np.float32).astype(ml_dtypes.bfloat16).view(np.uint16)
    magnitude = values & np.uint32(0x7FFFFFFF)
    expected = np.where(magnitude < 0x00800000, expected & np.uint16(0x8000), expected)
    return np.where(magnitude > 0x7F800000, np.uint16(0x7FC0), expected)


def test_bf16_rounding_model():
    values = patterns(200_000)
    got = round_to_format(BF16, values)
    assert got.dtype == np.uint16
    assert np.array_equal(got, bf16_of(values))


def test_bf16_rounding_hardware():
    values = patterns(3000)
    m = Module()
    value, result = Signal(32), Signal(BF16.bits)
    m.d.comb += result.eq(float32_to_format(m, BF16, value))
    got = []

    async def testbench(ctx):
        for pattern in values.tolist():
            ctx.set(value, pattern)
            got.append(ctx.get(result))

    simulator = Simulator(m)
    simulator.add_testbench(testbench)
    simulator.run()
    assert np.array_equal(got, round_to_format(BF16, values))


def test_bf16_widening():
    values = np.arange(1 << 16, dtype=np.uint16)
    wide = format_to_float32(BF16, values)
    assert wide.dtype == np.uint32
    expected = values.view(ml_dtypes.bfloat16).astype(np.float32).view(np.uint32)
    number = values & 0x7FFF <= 0x7F80
    assert np.array_equal(wide[number], expected[number])
    normal = number & (values & 0x7F80 != 0)
    assert np.array_equal(round_to_format(BF16, wide)[normal], values[normal])


def test_fp32_is_left_alone():
    values = patterns(100)
    assert np.array_equal(round_to_format(FP32, values), values)
    assert np.array_equal(format_to_float32(FP32, values), values)
    value = Signal(32)
    assert float32_to_format(Module(), FP32, value) is value


def test_format_fields():
    assert (FP32.bits, FP32.bias) == (32, 127)
    assert (BF16.bits, BF16.bias) == (16, 127)
    assert get_format("bf16") is BF16
    assert set(FORMATS) == {"fp32", "bf16"}


@pytest.mark.parametrize(
    "name, nearest", [("bf-16", "bf16"), ("FP32", "fp32"), ("fp16", "bf16"), (32, "fp32")]
)
def test_unknown_format(name, nearest):
    with pytest.raises(
        ValueError,
        match=rf"^Number format {name!r} does not exist; use '{nearest}' "
        r"\(there are 'fp32' and 'bf16'\)$",
    ):
        get_format(name)


def test_conversion_needs_the_exponent_of_fp32():
    fmt = NumberFormat("fp16", exponent_bits=5, mantissa_bits=10, window=24)
    with pytest.raises(ValueError, match=r"^Format 'fp16' does not share fp32's 8 exponent bits"):
        round_to_format(fmt, np.zeros(1, np.uint32))
