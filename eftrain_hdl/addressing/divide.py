"""Division by a convolution stride: a multiplication."""

from amaranth.hdl import Array, Const

__all__ = ["RECIPROCAL_BITS", "reciprocal", "scaled_reciprocal"]

RECIPROCAL_BITS = 17


def scaled_reciprocal(stride):
    """``ceil(2**17 / stride)`` of an integer from 1 to 4.

    ``x * scaled_reciprocal(stride) >> RECIPROCAL_BITS`` is ``floor(x / stride)``, exactly, for every
    unsigned ``x`` below 2**17. Add ``stride - 1`` to ``x`` for the quotient rounded up.
    """
    return -(-(1 << RECIPROCAL_BITS) // stride)


def reciprocal(stride):
    """The same of a signal: 18 bits, which one DSP block multiplies by 18 bits."""
    table = [scaled_reciprocal(max(1, number)) for number in range(5)]
    return Array(Const(value, RECIPROCAL_BITS + 1) for value in table)[stride]
