"""Division by a convolution stride, which is 1 to 4: a multiplication, or a table for few bits."""

from amaranth.hdl import Array, Const, Mux

from ..isa import MAX_STRIDE

__all__ = ["RECIPROCAL_BITS", "reciprocal", "small_ceil_divide", "small_product"]

RECIPROCAL_BITS = 17


def reciprocal(stride):
    """``ceil(2**17 / stride)``, 18 bits, which one DSP block multiplies by 18 bits.

    ``x * reciprocal(stride) >> RECIPROCAL_BITS`` is ``floor(x / stride)``, exactly, for every
    unsigned ``x`` below 2**17. Add ``stride - 1`` to ``x`` for the quotient rounded up.
    """
    factors = [-(-(1 << RECIPROCAL_BITS) // number) for number in range(1, MAX_STRIDE + 1)]
    # A stride of zero is none.
    return Array(Const(factor, RECIPROCAL_BITS + 1) for factor in factors[:1] + factors)[stride]


def small_ceil_divide(value, stride):
    """``ceil(value / stride)`` of a value of few bits, as wide as that."""
    bits = len(value)
    quotients = [
        Array(Const(-(-number // divisor), bits) for number in range(1 << bits))[value]
        for divisor in range(1, MAX_STRIDE + 1)
    ]
    return Array([quotients[0], *quotients])[stride]


def small_product(value, stride):
    """``value * stride`` of few bits, where a multiplication would take a DSP block."""
    doubled = Mux(stride[1], value << 1, 0)
    return Mux(stride[2], value << 2, Mux(stride[0], value, 0) + doubled)
