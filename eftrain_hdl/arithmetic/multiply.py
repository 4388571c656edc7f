"""fp32 multiplier."""

import numpy as np
from amaranth.hdl import Cat, Const, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .convert import pack_model, register, round_float32

__all__ = ["FloatMultiply"]


class FloatMultiply(wiring.Component):
    """``o = a * b`` in fp32, correctly rounded.

    Takes a pair every cycle and has no handshake; ``o`` belongs to the operands of ``latency``
    cycles before. Stages: operand registers; product; normalise, round and pack.

    Subnormal operands count as zero and results that stay below 2**-126 after rounding become zero
    of their sign. Infinity times zero is NaN.

    Members
    -------
    a, b : In(32)
        fp32 operands.
    o : Out(32)
        fp32 product.
    """

    latency = 3

    a: In(32)
    b: In(32)
    o: Out(32)

    def elaborate(self, platform):
        m = Module()

        a, b = self.a, self.b
        a_dead, b_dead = a[23:31] == 0, b[23:31] == 0
        a_top, b_top = a[23:31] == 255, b[23:31] == 255
        nan = (a_top & (a[:23].any() | b_dead)) | (b_top & (b[:23].any() | a_dead))
        flags = Cat(a[31] ^ b[31], a_dead | b_dead, a_top | b_top, nan)

        a_significand = Cat(register(m, a[:23], "a_fraction"), Const(1, 1))
        b_significand = Cat(register(m, b[:23], "b_fraction"), Const(1, 1))
        exponent = register(m, a[23:31] + b[23:31], "exponent")
        sign, zero, inf, nan = register(m, flags, "flags", stages=2)

        # One expression of 24 x 24 bits: two DSP48E2. Split in 18-bit parts it would take five.
        product = register(m, a_significand * b_significand, "product")
        # A product of significands lies in [1, 4): its second bit stands for 1.
        exponent = register(m, (exponent - 127).as_signed(), "exponent_product")
        m.d.sync += self.o.eq(
            round_float32(m, sign, exponent, product, zero=zero, inf=inf, nan=nan)
        )

        return m

    @staticmethod
    def model(a, b):
        """Bit-exact model: uint32 arrays of fp32 bit patterns (broadcast together) -> uint32."""
        a, b = np.asarray(a).astype(np.int64), np.asarray(b).astype(np.int64)
        a_exponent, b_exponent = (a >> 23) & 255, (b >> 23) & 255
        a_fraction, b_fraction = a & 0x7FFFFF, b & 0x7FFFFF
        zero = (a_exponent == 0) | (b_exponent == 0)
        inf = (a_exponent == 255) | (b_exponent == 255)
        nan = (
            (inf & zero)
            | ((a_exponent == 255) & (a_fraction != 0))
            | ((b_exponent == 255) & (b_fraction != 0))
        )
        product = (a_fraction | 1 << 23) * (b_fraction | 1 << 23)
        product = np.where(zero, 0, product)
        low = product < 1 << 47
        return pack_model(
            (a ^ b) >> 31,
            a_exponent + b_exponent - 126 - low,
            product << low,
            48,
            inf=inf,
            nan=nan,
        )
