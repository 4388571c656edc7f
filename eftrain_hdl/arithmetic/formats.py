"""Number formats of the array's operands. Needs neither Amaranth nor numpy.

Rules that hold in every block of this package (``docs/numerics.md`` has the full text):

* every rounding is to nearest, ties to even (RNE);
* a subnormal input is read as zero of the same sign;
* a result whose magnitude is below 2**-126 *after* it was rounded to 24 significant bits, with the
  exponent taken as unbounded, becomes zero of the same sign;
* infinities and NaNs propagate, overflow gives infinity, and every NaN result is ``0x7FC00000``.
"""

import difflib
from dataclasses import dataclass

__all__ = ["BF16", "FORMATS", "FP32", "NumberFormat", "get_format"]


@dataclass(frozen=True)
class NumberFormat:
    """An IEEE 754-style binary format: sign, biased exponent, fraction.

    The all-ones exponent holds infinity and NaN, exponent zero holds (flushed) zeros.

    Parameters
    ----------
    name : str
        Key of the format in :data:`FORMATS`.
    exponent_bits : int
        Width of the exponent field.
    mantissa_bits : int
        Width of the fraction field; significands have one more bit, the implied leading one.
    window : int
        Bits a product keeps when :class:`~eftrain_hdl.arithmetic.DotProduct` aligns it to the
        largest product exponent of the vector. 24 at least, so that one sum has a rounding bit.
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    window: int

    @property
    def bits(self):
        """Width of a number in bits."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def bias(self):
        """Value of the exponent field that stands for 2**0."""
        return (1 << (self.exponent_bits - 1)) - 1


FP32 = NumberFormat("fp32", exponent_bits=8, mantissa_bits=23, window=28)
BF16 = NumberFormat("bf16", exponent_bits=8, mantissa_bits=7, window=24)

FORMATS = {fmt.name: fmt for fmt in (FP32, BF16)}


def get_format(name):
    """The format called ``name``.

    Raises
    ------
    ValueError
        If there is no such format; the text names the nearest one.
    """
    try:
        return FORMATS[name]
    except (KeyError, TypeError):
        nearest = difflib.get_close_matches(str(name).lower(), FORMATS, n=1, cutoff=0)[0]
        known = " and ".join(repr(known) for known in FORMATS)
        raise ValueError(
            f"Number format {name!r} does not exist; use {nearest!r} (there are {known})"
        ) from None
