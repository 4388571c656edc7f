"""Rounding: the shared last steps of every block, and conversion between operand formats.

Hardware functions add combinational logic to a module and return a value; the functions whose
names end in ``_model``, :func:`round_to_format` and :func:`format_to_float32` are their numpy
counterparts.
"""

import numpy as np
from amaranth.hdl import Cat, Const, Mux, Signal, signed

from .formats import FP32

__all__ = [
    "float32_to_format",
    "format_to_float32",
    "normalise",
    "pack_model",
    "register",
    "round_float32",
    "round_to_format",
]

CANONICAL_NAN = 0x7FC00000
INFINITY = 0x7F800000


def register(m, value, name, *, stages=1):
    """``value`` delayed by ``stages`` cycles.

    No reset: a pipeline without valid bits holds garbage until it has filled, and its user
    counts cycles.
    """
    for _ in range(stages):
        stage = Signal.like(value, name=name, reset_less=True)
        m.d.sync += stage.eq(value)
        value = stage
    return value


def normalise(m, value, name="normal"):
    """Shift ``value`` left until one of its two top bits is one.

    The last place is left to :func:`round_float32`, which has time for it.

    Returns
    -------
    (Signal, Value)
        The shifted value, as wide as the input, and the number of places, unsigned. Both top bits
        of the shifted value are clear only if the input is zero.
    """
    bits = len(value)
    # The large shifts are known from which groups of four bits are clear, without waiting for the
    # shifts before them: ``clear[k]`` says so of the group that k groups higher ones hide.
    digits = [value[max(bits - 4 * k - 4, 0) : bits - 4 * k] for k in range((bits + 3) // 4)]
    clear = [digit == 0 for digit in digits]
    count = [Const(0, 1)]
    for level in reversed(range(1, (bits - 1).bit_length())):
        places = 1 << level
        high_clear = Signal(name=f"{name}_by_{places}")
        shifted = Signal(bits, name=f"{name}_{places}")
        groups = places // 4
        if groups:
            m.d.comb += high_clear.eq(Cat(clear[:groups]).all())
            moved = [*clear[groups:], *[Const(1)] * groups]
            clear = [Mux(high_clear, *pair) for pair in zip(moved, clear, strict=True)]
        else:
            m.d.comb += high_clear.eq(value[bits - places :] == 0)
        m.d.comb += shifted.eq(Mux(high_clear, value << places, value))
        value = shifted
        count.insert(1, high_clear)
    return value, Cat(*count)


def round_float32(m, sign, exponent, significand, *, zero, inf, nan):
    """fp32 of a result: round to 24 bits, ties to even; overflow to infinity, underflow to zero.

    Parameters
    ----------
    sign : Value
        Sign of the result, also of a zero or infinite one.
    exponent : Value
        Biased exponent that a leading one in the second place would have, signed, 10 bits or more:
        it and the next one must fit 10.
    significand : Value
        At least 27 bits, leading one in one of the two top places.
    zero, inf, nan : Value
        The result is exactly zero, infinite, not a number: override the number; ``nan`` wins over
        ``inf``, ``inf`` over ``zero``.

    Returns
    -------
    Signal
        32 bits.
    """
    bits = len(significand)
    upper = significand[-1]
    normal = Signal(bits)
    second = Signal(signed(10))
    up = Signal()
    rounded = Signal(32)
    m.d.comb += [
        normal.eq(Mux(upper, significand, significand << 1)),
        second.eq(exponent),
        up.eq(normal[bits - 25] & (normal[bits - 24] | normal[: bits - 25].any())),
        # The carry of the fraction runs into the exponent, so that a significand rounded up to the
        # next power of two is right as it is.
        rounded.eq(Cat(normal[bits - 24 : bits - 1], (second + upper)[:9]) + up),
    ]
    # That goes for the largest significand too, which becomes infinity, and for what becomes the
    # smallest normal number. So both ends of the range are told from the exponent before rounding,
    # beside the additions: 255 and above is the top, 0 and below is the bottom.
    top, bottom, negative = Signal(), Signal(), Signal()
    packed = Signal(32)
    above = second[8] | (second[1:8].all() & (second[0] | upper))
    m.d.comb += [
        top.eq(nan | inf | (~zero & ~second[9] & above)),
        bottom.eq(zero | second[9] | (~upper & ~second[:9].any())),
        negative.eq(zero | (second[9] & ~(upper & second[:9].all()))),
        packed.eq(
            Cat(
                Mux(top | bottom, 0, rounded[:22]),
                Mux(top | bottom, nan, rounded[22]),
                Mux(top, 255, Mux(negative, 0, rounded[23:31])),
                sign & ~nan,
            )
        ),
    ]
    return packed


def pack_model(sign, exponent, significand, bits, *, inf, nan):
    """:func:`round_float32` in numpy, of a significand that is normalised.

    Parameters
    ----------
    sign, exponent, significand : int64 array
        A significand of ``bits`` bits with its leading one on top, or zero.
    bits : int
        Width of the significand, 25 at least.
    inf, nan : bool array
        The result is infinite, not a number.

    Returns
    -------
    uint32 array
    """
    drop = bits - 24
    half = (1 << (drop - 1)) - 1
    odd = (significand >> drop) & 1
    rounded = ((significand + half + odd) >> drop) + ((exponent - 1) << 23)
    top = inf | ((significand != 0) & (rounded >= INFINITY))
    out = np.where(rounded < (1 << 23), 0, rounded)
    out = np.where(significand == 0, 0, out)
    out = np.where(top, INFINITY, out) | (sign << 31)
    return np.where(nan, CANONICAL_NAN, out).astype(np.uint32)


def float32_to_format(m, fmt, value):
    """Round an fp32 number to the operand format ``fmt``, combinationally.

    Parameters
    ----------
    m : Module
    fmt : NumberFormat
    value : Value
        32 bits.

    Returns
    -------
    Value
        ``fmt.bits`` bits. fp32: ``value`` itself, unchanged. bf16: RNE; overflow gives infinity,
        a subnormal input gives zero of its sign, a NaN gives ``0x7FC0``.
    """
    _check(fmt)
    if fmt.mantissa_bits == FP32.mantissa_bits:
        return value
    drop = FP32.mantissa_bits - fmt.mantissa_bits
    flush, nan = Signal(), Signal()
    result = Signal(fmt.bits)
    up = value[drop - 1] & (value[drop] | value[: drop - 1].any())
    m.d.comb += [
        flush.eq(value[23:31] == 0),
        nan.eq((value[23:31] == 255) & value[:23].any()),
        # Sign, exponent and fraction lie in one integer, so a carry of the fraction runs into the
        # exponent and the largest finite values round up to infinity by themselves.
        result.eq(value[drop:] + up),
    ]
    with m.If(nan):
        m.d.comb += result.eq(CANONICAL_NAN >> drop)
    with m.Elif(flush):
        m.d.comb += result.eq(Cat(Const(0, fmt.bits - 1), value[31]))
    return result


def round_to_format(fmt, values):
    """Numpy model of :func:`float32_to_format`.

    Parameters
    ----------
    fmt : NumberFormat
    values : uint32 array
        Bit patterns of fp32 numbers, any shape.

    Returns
    -------
    uint32 or uint16 array
        Bit patterns in ``fmt``, same shape.
    """
    _check(fmt)
    values = np.asarray(values, dtype=np.uint32)
    if fmt.mantissa_bits == FP32.mantissa_bits:
        return values.copy()
    drop = FP32.mantissa_bits - fmt.mantissa_bits
    half = np.uint32((1 << (drop - 1)) - 1)
    magnitude = values & np.uint32(0x7FFFFFFF)
    sign = values & np.uint32(0x80000000)
    # Up to 0x7F800000 + 0x7FFF: no overflow of 32 bits once NaNs are taken out.
    rounded = np.where(magnitude > INFINITY, np.uint32(CANONICAL_NAN), magnitude)
    rounded = rounded + half + ((rounded >> np.uint32(drop)) & np.uint32(1))
    rounded = np.where(magnitude < 1 << 23, np.uint32(0), rounded)
    rounded = np.where(magnitude > INFINITY, np.uint32(CANONICAL_NAN), rounded | sign)
    return (rounded >> np.uint32(drop)).astype(np.uint16)


def format_to_float32(fmt, values):
    """Widen bit patterns in ``fmt`` to fp32, exactly: zeros are appended to the fraction.

    Parameters
    ----------
    fmt : NumberFormat
    values : integer array
        Bit patterns in ``fmt``, any shape.

    Returns
    -------
    uint32 array
        Bit patterns of fp32 numbers, same shape. Subnormals and NaNs stay what they are.
    """
    _check(fmt)
    places = np.uint32(FP32.mantissa_bits - fmt.mantissa_bits)
    return np.asarray(values).astype(np.uint32) << places


def _check(fmt):
    if fmt.exponent_bits != FP32.exponent_bits or fmt.mantissa_bits > FP32.mantissa_bits:
        raise ValueError(
            f"Format {fmt.name!r} does not share fp32's 8 exponent bits, so its numbers are not "
            "the upper bits of fp32 numbers; use 'fp32' or 'bf16'"
        )
