"""DotProduct: hardware against model, model against exact arithmetic."""

import math

import numpy as np
import pytest
from amaranth.sim import Simulator

from eftrain_hdl.arithmetic import (
    BF16,
    FP32,
    DotProduct,
    FloatAdd,
    dot_product_model,
    format_to_float32,
    round_to_format,
)

SEED = 20220511
VECTORS = 500
"""Random vectors of each kind that the hardware is tried on."""

INFINITY, NAN = 0x7F800000, 0x7FC00000

FORMATS = pytest.mark.parametrize("fmt", [FP32, BF16], ids=lambda fmt: fmt.name)
LANES = pytest.mark.parametrize("lanes", [4, 8, 16])


def encode(fmt, values):
    return round_to_format(fmt, np.asarray(values, np.float32).view(np.uint32))


def decode(fmt, patterns):
    return format_to_float32(fmt, patterns).view(np.float32).astype(np.float64)


def finite_vectors(fmt, lanes, count):
    """``count`` pairs of vectors of each of several kinds, no infinity, no NaN: (s, v)."""
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    shape = (count, lanes)

    def near(exponent, spread):
        """Random significands, exponents up to ``spread`` beside ``exponent``."""
        exponent = np.clip(exponent + rng.integers(-spread, spread + 1, shape), 0, 254)
        bits = rng.integers(0, 1 << 32, shape, dtype=np.uint32) & np.uint32(0x807FFFFF)
        return round_to_format(fmt, bits & np.uint32(0x807F0000) if fmt is BF16 else bits) | (
            exponent << fmt.mantissa_bits
        ).astype(np.uint16 if fmt is BF16 else np.uint32)

    normal = encode(fmt, rng.standard_normal(shape)), encode(fmt, rng.standard_normal(shape))
    close = near(127, 2), near(127, 2)
    wide = near(127, 40), near(127, 10)
    low = near(64, 12), near(58, 12)
    high = near(190, 3), near(188, 3)
    # The second half takes the first half away again, but for some low bits.
    s, v = near(127, 8), near(127, 8)
    half = lanes // 2
    flip = (rng.integers(0, 4, (count, half)) == 0).astype(s.dtype)
    s[:, half:] = s[:, :half] ^ s.dtype.type(1 << (fmt.bits - 1)) ^ flip
    v[:, half:] = v[:, :half]
    cancelling = s, v
    # Zeros, subnormals and few other values.
    s, v = near(127, 3), near(127, 3)
    s[rng.integers(0, 2, shape) == 1] = 0
    v[rng.integers(0, 3, shape) == 1] &= s.dtype.type((1 << fmt.mantissa_bits) - 1)
    sparse = s, v
    s, v = zip(normal, close, wide, low, high, cancelling, sparse, strict=True)
    return np.concatenate(s), np.concatenate(v)


def special_vectors(fmt, lanes, count):
    """``count`` pairs of any bit patterns, and of corner values with few specials: (s, v)."""
    rng = np.random.default_rng(SEED + 1)
    shape = (count, lanes)
    dtype = np.uint16 if fmt is BF16 else np.uint32
    corners = np.array(
        [0, 1, 0x007FFFFF, 0x00800000, 0x00810000, 0x00FF0000, 0x20000000, 0x1F800000, 0x3F7F0000]
        + [0x3F800000] * 3
        + [0x3F810000, 0x40000000, 0x40400000, 0x33800000, 0x33000000, 0x5F800000, 0x7F000000]
        + [0x7F7FFFFF, INFINITY, NAN, 0x7F810000],
        np.uint32,
    )
    corners >>= np.uint32(32 - fmt.bits)
    corners = corners.astype(dtype)

    def pick(values):
        sign = rng.integers(0, 2, shape).astype(dtype) << dtype(fmt.bits - 1)
        return values[rng.integers(0, len(values), shape)] | sign

    def uniform():
        return rng.integers(0, 1 << fmt.bits, shape, dtype=dtype)

    kinds = [(uniform(), uniform()), (pick(corners), pick(corners))]
    kinds.append((pick(corners[:-3]), pick(corners[:-3])))
    s, v = pick(corners[9:12]), pick(corners[9:12])
    s[np.arange(count), rng.integers(0, lanes, count)] = dtype(INFINITY >> (32 - fmt.bits))
    kinds.append((s, v))
    s, v = zip(*kinds, strict=True)
    return np.concatenate(s), np.concatenate(v)


def simulate(dut, s, v):
    """(o, special) of one pair of vectors a cycle."""
    result = []

    async def testbench(ctx):
        flush = [bytes(s[0].nbytes)] * dut.latency
        for x, y in zip(
            [row.tobytes() for row in s] + flush, [row.tobytes() for row in v] + flush, strict=True
        ):
            ctx.set(dut.s.as_value(), int.from_bytes(x, "little"))
            ctx.set(dut.v.as_value(), int.from_bytes(y, "little"))
            await ctx.tick()
            result.append((ctx.get(dut.o), ctx.get(dut.special)))

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()
    # Sampled after the edge that takes the pair: the first register is already past.
    return np.array(result[dut.latency - 1 : -1], np.uint32).T


@FORMATS
@LANES
def test_hardware_against_model(fmt, lanes):
    vectors = zip(
        finite_vectors(fmt, lanes, VECTORS), special_vectors(fmt, lanes, VECTORS), strict=True
    )
    s, v = (np.concatenate(both) for both in vectors)
    dut = DotProduct(fmt=fmt, lanes=lanes)
    expected = dut.model(s, v)
    o, special = simulate(dut, s, v)
    assert o.shape == expected.shape
    wrong = np.flatnonzero(o != expected)
    assert not len(wrong), (
        f"{len(wrong)} wrong, first: s {s[wrong[0]]} v {v[wrong[0]]} "
        f"got {o[wrong[0]]:#010x} expected {expected[wrong[0]]:#010x}"
    )
    assert np.array_equal(special, expected & INFINITY == INFINITY)


@FORMATS
def test_hardware_against_model_32_lanes(fmt):
    s, v = finite_vectors(fmt, 32, 50)
    dut = DotProduct(fmt=fmt, lanes=32)
    assert np.array_equal(simulate(dut, s, v)[0], dut.model(s, v))


@FORMATS
@LANES
def test_random_vectors_reach_every_case(fmt, lanes):
    finite = dot_product_model(fmt, *finite_vectors(fmt, lanes, VECTORS)) & np.uint32(0x7FFFFFFF)
    special = dot_product_model(fmt, *special_vectors(fmt, lanes, VECTORS))
    assert np.count_nonzero(finite == 0) >= 10
    assert np.count_nonzero(finite == INFINITY) >= 10
    for case in (INFINITY, INFINITY | 1 << 31, NAN):
        assert np.count_nonzero(special == case) >= 10


@FORMATS
@LANES
def test_error_bound(fmt, lanes):
    """Each product is cut by less than 2**(2-W) of the largest; the sum is rounded to 24 bits."""
    s, v = finite_vectors(fmt, lanes, 3000)
    got = dot_product_model(fmt, s, v).view(np.float32).astype(np.float64)
    x, y = decode(fmt, s), decode(fmt, v)
    x[np.abs(x) < 2.0**-126] = 0
    y[np.abs(y) < 2.0**-126] = 0
    # A product of two 24-bit significands is exact in float64.
    products = x * y
    exact = np.array([math.fsum(row) for row in products])
    largest = np.abs(products).max(axis=-1)
    terms = np.count_nonzero(products, axis=-1)
    bound = terms * 2.0 ** (2 - fmt.window) * largest + 2.0**-24 * np.abs(got)
    finite = np.isfinite(got)
    flushed = (got == 0) & (np.abs(exact) < 2.0**-126 + bound)
    assert np.count_nonzero(finite & ~flushed) > len(s) / 2
    assert np.all((np.abs(got - exact) <= bound)[finite & ~flushed])
    assert np.all(np.abs(exact[~finite]) + bound[np.isfinite(bound)].max() > 2.0**127)


@FORMATS
def test_long_sums_are_better_than_sequential_fp32(fmt):
    """2,304 terms, 16 lanes at a time: well below the error (RMS) of a running fp32 sum."""
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    runs, vectors, lanes = 400, 144, 16
    s = encode(fmt, rng.standard_normal((runs, vectors, lanes)))
    v = encode(fmt, rng.standard_normal((runs, vectors, lanes)))
    partial = dot_product_model(fmt, s, v)
    total = np.zeros(runs, np.uint32)
    for i in range(vectors):
        total = FloatAdd.model(total, partial[:, i])
    products = (decode(fmt, s) * decode(fmt, v)).reshape(runs, -1)
    exact = np.array([math.fsum(row) for row in products])
    sequential = np.cumsum(products.astype(np.float32), axis=-1, dtype=np.float32)[:, -1]
    scale = np.sqrt((products**2).sum(axis=-1))
    error, naive = (
        np.sqrt(np.mean(((got - exact) / scale) ** 2))
        for got in (total.view(np.float32), sequential)
    )
    print(f"RMS error over scale {error:.2e}, running sum {naive:.2e}")
    assert error < 0.7 * naive


@FORMATS
@LANES
def test_order_of_lanes_does_not_matter(fmt, lanes):
    for s, v in (finite_vectors(fmt, lanes, 1000), special_vectors(fmt, lanes, 1000)):
        order = np.random.default_rng(SEED).permuted(np.tile(np.arange(lanes), (len(s), 1)), axis=1)
        shuffled = (np.take_along_axis(x, order, axis=1) for x in (s, v))
        assert np.array_equal(dot_product_model(fmt, s, v), dot_product_model(fmt, *shuffled))


@FORMATS
def test_negated_vector_negates_the_result(fmt):
    s, v = finite_vectors(fmt, 8, 1000)
    one, other = (
        dot_product_model(fmt, s, v),
        dot_product_model(fmt, s ^ s.dtype.type(1 << (fmt.bits - 1)), v),
    )
    number = (one != 0) & (one != NAN)
    assert np.array_equal(one[number] ^ np.uint32(1 << 31), other[number])


@FORMATS
def test_small_integers_are_exact(fmt):
    rng = np.random.default_rng(SEED)
    x, y = rng.integers(-100, 101, (2, 2000, 16))
    got = dot_product_model(fmt, encode(fmt, x), encode(fmt, y))
    assert np.array_equal(got.view(np.float32), (x * y).sum(axis=-1))
    assert not np.any(got == 1 << 31)


@FORMATS
def test_zero_sums_are_positive(fmt):
    minus = encode(fmt, [-0.0] * 4)
    assert dot_product_model(fmt, minus, encode(fmt, [1, 2, 3, 4])) == 0
    assert dot_product_model(fmt, encode(fmt, [-3, 1, 1, 1]), encode(fmt, [1, 1, 1, 1])) == 0


@FORMATS
@pytest.mark.parametrize(
    "s, v, expected",
    [
        ([np.inf, 1, 1, 1], [1, 1, 1, 1], INFINITY),
        ([np.inf, 1, 1, 1], [-1, 1, 1, 1], INFINITY | 1 << 31),
        ([np.inf, 1, np.inf, 1], [1, 1, 2, 1], INFINITY),
        ([np.inf, 1, np.inf, 1], [1, 1, -2, 1], NAN),
        ([np.inf, 1, 1, 1], [0, 1, 1, 1], NAN),
        ([1, 1, 0, 1], [1, 1, -np.inf, 1], NAN),
        ([1, np.nan, 0, 1], [1, 0, 1, 1], NAN),
        ([np.inf, np.nan, 0, 1], [1, 0, 1, 1], NAN),
        # Products may leave the range of fp32 as long as the sum comes back to it.
        ([2.0**100] * 4, [2.0**100, -(2.0**100), 2.0**-100, 0], 0),
        ([2.0**100, -(2.0**100), 2.0**100, 0], [2.0**100, 2.0**100, 2.0**80, 0], 0x7F800000),
        ([2.0**126, 2.0**126, -(2.0**126), 0], [2, 2, 2, 0], 0x7F000000),
        ([2.0**126, 2.0**126, -(2.0**126), 0], [2, 1, 2, 0], 126 + 127 << 23),
        ([2.0**-100] * 4, [2.0**-28] * 4, 1 << 23),
        ([-(2.0**-100)] * 3 + [0], [2.0**-28] * 4, 1 << 31),
    ],
)
def test_special_values_and_range(fmt, s, v, expected):
    assert dot_product_model(fmt, encode(fmt, s), encode(fmt, v)) == expected


def test_model_takes_any_leading_shape():
    s = encode(FP32, np.ones((3, 1, 4)))
    v = encode(FP32, np.arange(8).reshape(2, 4))
    assert np.array_equal(dot_product_model(FP32, s, v).view(np.float32), [[6, 22]] * 3)
    assert dot_product_model(FP32, s[0, 0], v[0]).shape == ()


def test_lanes_are_checked():
    with pytest.raises(
        ValueError,
        match=r"^A dot product of 12 lanes is not supported; the nearest is 8 lanes",
    ):
        DotProduct(fmt=FP32, lanes=12)
