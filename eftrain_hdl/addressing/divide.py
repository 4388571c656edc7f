"""Division by a convolution stride."""

from amaranth.hdl import Signal

__all__ = ["ceil_divide"]

_RECIPROCAL_3 = 43691
"""ceil(2**17 / 3): ``x * 43691 >> 17`` is floor(x / 3) for every x below 2**17."""


def ceil_divide(m, value, stride, *, bits, name):
    """Return a ``bits`` wide signal holding ``ceil(value / stride)``, combinational.

    ``value`` is unsigned and below 2**17 - 3; ``stride`` is 1, 2, 3 or 4. Division by three is a
    multiplication, which is exact over this range, so a stride costs one DSP block and no cycles.
    """
    rounded = Signal(bits + 1, name=f"{name}_rounded")
    quotient = Signal(bits, name=f"{name}_quotient")
    m.d.comb += rounded.eq(value + stride - 1)
    with m.Switch(stride):
        with m.Case(1):
            m.d.comb += quotient.eq(value)
        with m.Case(2):
            m.d.comb += quotient.eq(rounded >> 1)
        with m.Case(3):
            m.d.comb += quotient.eq((rounded * _RECIPROCAL_3) >> 17)
        with m.Default():
            m.d.comb += quotient.eq(rounded >> 2)
    return quotient
