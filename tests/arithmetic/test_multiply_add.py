"""FloatMultiply and FloatAdd: model against SoftFloat, hardware against model."""

import numpy as np
import pytest
import softfloatpy as softfloat
from amaranth.hdl import Cat
from amaranth.sim import Simulator

from eftrain_hdl.arithmetic import FloatAdd, FloatMultiply

SEED = 20220510
PAIRS = 26_000
"""Random pairs of each of the four kinds."""

SIGN, INFINITY, NAN, SMALLEST = 0x80000000, 0x7F800000, 0x7FC00000, 0x00800000

BLOCKS = pytest.mark.parametrize(
    "block, oracle",
    [(FloatMultiply, softfloat.f32_mul), (FloatAdd, softfloat.f32_add)],
    ids=["multiply", "add"],
)


def bits_of(*values):
    return [int(np.float32(value).view(np.uint32)) for value in values]


def corners():
    """Every pair of these, with both signs: (a, b)."""
    values = [
        # Zero, subnormals, the smallest normal numbers and their neighbours.
        *(0, 1, 2, 0x00400000, 0x007FFFFF, 0x00800000, 0x00800001, 0x00800002, 0x00FFFFFF),
        *(0x01000000, 0x01000001, 0x01800000, 0x0C000000, 0x0C800000, 0x0CFFFFFF),
        # One and its neighbours, ties of the 24-bit significand.
        *bits_of(1, 2, 3, 0.5, 1.5, 0.1, 10, 2**23, 2**24, 2**25, 2**24 - 1, 2**23 + 1, 2**-24),
        *(0x3F7FFFFF, 0x3F7FFFFE, 0x3F800001, 0x3F800002, 0x3FFFFFFF, 0x3F000001, 0x33000001),
        # Square roots of the exponent limits: products lie just beside them.
        *bits_of(2**-63, 2**-64, 2**-62, 2**63, 2**64),
        *(0x1FFFFFFF, 0x20000001, 0x1FB504F3, 0x1FB504F4, 0x5F7FFFFF, 0x5F800001, 0x5F3504F3),
        # The upper end, infinity, quiet and signalling NaN.
        *(0x7E800000, 0x7EFFFFFF, 0x7F000000, 0x7F000001, 0x7F7FFFFE, 0x7F7FFFFF, 0x73000000),
        *(INFINITY, NAN, 0x7F800001, 0x7FFFFFFF, 0x7FA00000),
    ]
    values = np.array(values, np.uint32)
    values = np.concatenate([values, values | np.uint32(SIGN)])
    a, b = np.meshgrid(values, values)
    return a.ravel(), b.ravel()


def random_pairs(block, count):
    """``count`` pairs of each of four kinds: (a, b)."""
    print("seed", SEED)
    rng = np.random.default_rng(SEED)

    def uniform():
        return rng.integers(0, 1 << 32, count, dtype=np.uint32)

    def near(exponent, spread):
        exponent = exponent + rng.integers(-spread, spread + 1, count)
        exponent = np.clip(exponent, 0, 255).astype(np.uint32)
        return (uniform() & np.uint32(0x807FFFFF)) | (exponent << np.uint32(23))

    if block is FloatAdd:
        exponent = rng.integers(1, 255, count)
        close = near(exponent, 2), near(exponent, 2)
        # Fractions that differ in a few low bits: long cancellation.
        few = rng.integers(0, 24, count)
        twin = close[0] ^ (rng.integers(0, 1 << 24, count) >> few).astype(np.uint32)
        edge = np.where(rng.integers(0, 2, count) == 1, twin ^ np.uint32(SIGN), twin)
        # Differences beside 2**-126.
        a = near(4, 3)
        rest = 2.0**-126 - a.view(np.float32).astype(np.float64)
        b = rest.astype(np.float32).view(np.uint32) + rng.integers(-2, 3, count)
        low = np.where(rng.integers(0, 2, count) == 1, b.astype(np.uint32), near(13, 13))
        pairs = [(uniform(), uniform()), close, (close[0], edge), (a, low)]
    else:
        exponent = rng.integers(1, 127, count)
        # Products beside 2**-126, and operands whose product is just below it.
        low = near(exponent, 0), near(127 - exponent, 1)
        a = near(exponent, 0)
        quotient = 2.0**-126 / (a & np.uint32(0x7FFFFFFF)).view(np.float32).astype(np.float64)
        b = quotient.astype(np.float32).view(np.uint32)
        b = (b.astype(np.int64) + rng.integers(-2, 3, count)).astype(np.uint32)
        high = near(254 - exponent, 0), near(127 + exponent, 1)
        pairs = [(uniform(), uniform()), low, (a, b), high]
    a, b = zip(*pairs, strict=True)
    return np.concatenate(a), np.concatenate(b)


def softfloat_flushed(oracle, a, b):
    """SoftFloat's result under the flush rule of docs/numerics.md."""

    def flushed(value):
        return value & SIGN if value & INFINITY == 0 else value

    def number(value):
        return softfloat.Float32.from_bytes(flushed(value).to_bytes(4, "big"))

    softfloat.set_rounding_mode(softfloat.RoundingMode.NEAR_EVEN)
    softfloat.set_tininess_mode(softfloat.TininessMode.AFTER_ROUNDING)
    result = []
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        softfloat.set_exception_flags(0)
        value = int.from_bytes(oracle(number(x), number(y)).to_bytes(), "big")
        if value & ~SIGN > INFINITY:
            value = NAN
        elif value & ~SIGN == SMALLEST and softfloat.test_exception_flags(
            softfloat.ExceptionFlag.UNDERFLOW
        ):
            # Below 2**-126 with 24 bits, but rounded up to it on the coarser subnormal grid.
            value &= SIGN
        result.append(flushed(value))
    return np.array(result, np.uint32)


def simulate(dut, a, b):
    """Results of one pair a cycle."""
    result = []

    async def testbench(ctx):
        operands = Cat(dut.a, dut.b)
        for packed in ((b.astype(np.uint64) << np.uint64(32)) | a).tolist() + [0] * dut.latency:
            ctx.set(operands, packed)
            await ctx.tick()
            result.append(ctx.get(dut.o))

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()
    # Sampled after the edge that takes the pair: the first register is already past.
    return np.array(result[dut.latency - 1 : -1], np.uint32)


def check(got, expected, a, b):
    assert got.shape == expected.shape
    wrong = np.flatnonzero(got != expected)
    assert not len(wrong), f"{len(wrong)} wrong, first: " + ", ".join(
        f"{name} {values[wrong[0]]:#010x}"
        for name, values in {"a": a, "b": b, "got": got, "expected": expected}.items()
    )


@BLOCKS
def test_model_against_softfloat_corners(block, oracle):
    a, b = corners()
    check(block.model(a, b), softfloat_flushed(oracle, a, b), a, b)


@BLOCKS
def test_model_against_softfloat_random(block, oracle):
    a, b = random_pairs(block, PAIRS)
    assert len(a) >= 100_000
    check(block.model(a, b), softfloat_flushed(oracle, a, b), a, b)


@BLOCKS
def test_random_pairs_reach_every_case(block, oracle):
    a, b = random_pairs(block, PAIRS)
    result = block.model(a, b) & np.uint32(0x7FFFFFFF)
    for case in (result == 0, result == INFINITY, result == NAN, result == SMALLEST):
        assert np.count_nonzero(case) >= 10


@BLOCKS
def test_hardware_against_model(block, oracle):
    vectors = zip(corners(), random_pairs(block, PAIRS), strict=True)
    a, b = (np.concatenate(pair) for pair in vectors)
    check(simulate(block(), a, b), block.model(a, b), a, b)


def test_multiply_flushes_what_only_the_subnormal_grid_rounds_up():
    # 2**-126 * (1 - 2**-24) fits 24 bits, so nothing lifts it to 2**-126.
    a, b = np.uint32(0x3F7FFFFF), np.uint32(0x00800000)
    assert FloatMultiply.model(a, b) == 0
    assert softfloat_flushed(softfloat.f32_mul, a.reshape(1), b.reshape(1)) == 0
    # 2**-126 * (1 + 2**-23) * (1 - 2**-23) = 2**-126 * (1 - 2**-46) rounds to 2**-126.
    a, b = np.uint32(0x00800001), np.uint32(0x3F7FFFFE)
    assert FloatMultiply.model(a, b) == SMALLEST
    assert softfloat_flushed(softfloat.f32_mul, a.reshape(1), b.reshape(1)) == SMALLEST


def test_add_of_zeros():
    zero, minus = np.uint32(0), np.uint32(SIGN)
    assert FloatAdd.model(minus, minus) == SIGN
    assert FloatAdd.model(minus, zero) == 0
    assert FloatAdd.model(zero, minus) == 0
    # Subnormals are zeros too.
    assert FloatAdd.model(minus | np.uint32(5), minus | np.uint32(9)) == SIGN
    assert FloatAdd.model(minus | np.uint32(5), np.uint32(9)) == 0


@BLOCKS
def test_model_broadcasts(block, oracle):
    a = np.arange(6, dtype=np.uint32).reshape(2, 3) + np.uint32(0x3F800000)
    assert block.model(a, np.uint32(0x40000000)).shape == (2, 3)
