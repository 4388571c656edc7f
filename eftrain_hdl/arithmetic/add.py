"""fp32 adder."""

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .convert import normalise, pack_model, register, round_float32

__all__ = ["FloatAdd"]


class FloatAdd(wiring.Component):
    """``o = a + b`` in fp32, correctly rounded.

    Takes a pair every cycle and has no handshake; ``o`` belongs to the operands of ``latency``
    cycles before, so a running sum may use its own result again ``latency`` cycles later. Stages:
    order by magnitude and begin to align; align and add; normalise; round and pack.

    Subnormal operands count as zero and results below 2**-126 become zero of their sign.
    ``x + (-x)`` is +0, ``-0 + -0`` is -0, infinities of opposite sign give NaN.

    Members
    -------
    a, b : In(32)
        fp32 operands.
    o : Out(32)
        fp32 sum.
    """

    latency = 4

    a: In(32)
    b: In(32)
    o: Out(32)

    def elaborate(self, platform):
        m = Module()

        # Stage 1: order. All that depends on the order is ready for both when that is known.
        a, b = self.a, self.b
        exponents = a[23:31], b[23:31]
        swap = Signal()
        large, small = Signal(32), Signal(32)
        m.d.comb += [
            swap.eq(a[:31] < b[:31]),
            large.eq(Mux(swap, b, a)),
            small.eq(Mux(swap, a, b)),
        ]
        distances = [(x - y)[:8] for x, y in (reversed(exponents), exponents)]
        deads = [exponent == 0 for exponent in exponents]
        fars = [distance[5:].any() | dead for distance, dead in zip(distances, deads, strict=True)]
        far, places = Mux(swap, *fars), Mux(swap, *(distance[:5] for distance in distances))
        # The largest shift of the alignment has time here. What is lost in it is one bit.
        unaligned = Cat(Const(0, 2), small[:23], Const(1, 1))
        aligned = register(m, Mux(places[4], unaligned >> 16, unaligned), "aligned_16")
        far = register(m, far, "far")
        lost = Mux(
            swap,
            *(
                ~dead & (is_far | (distance[4] & x[:14].any()))
                for x, dead, is_far, distance in zip((a, b), deads, fars, distances, strict=True)
            ),
        )
        lost, places = register(m, lost, "lost"), register(m, places[:4], "places")
        tops = register(m, Cat(exponent == 255 for exponent in exponents), "tops")
        fractions = register(m, Cat(x[:23].any() for x in (a, b)), "fractions")
        large_sign = register(m, large[31], "large_sign")
        large_fraction = register(m, large[:23], "large_fraction")
        exponent = register(m, large[23:31], "exponent_ordered")
        both_dead = register(m, deads[0] & deads[1], "both_dead")
        subtract = register(m, a[31] ^ b[31], "subtract")
        flags = Cat(
            # Two zeros of opposite sign give +0.
            large_sign & ~(both_dead & subtract),
            both_dead,
            tops.any(),
            (tops & fractions).any() | (tops.all() & subtract),
        )

        # Stage 2: the other shifts, and add with a guard, a round and a sticky bit.
        # What is too far away goes before the shifter and the inversion comes after it, where each
        # is another input of a LUT that is there anyway.
        aligned = Mux(far, 0, aligned)
        for level in reversed(range(len(places))):
            lost = lost | (places[level] & aligned[: 1 << level].any())
            shifted = Signal(26, name=f"aligned_{1 << level}")
            m.d.comb += shifted.eq(Mux(places[level], aligned >> (1 << level), aligned))
            aligned = shifted
        total = Signal(29)
        m.d.comb += [
            # The lowest position only makes the carry of a two's complement.
            total.eq(
                Cat(Const(1, 1), Const(0, 3), large_fraction, Const(1, 1))
                + Cat(subtract, Cat(lost, aligned) ^ subtract.as_signed())
            ),
        ]
        total = register(m, total[1:], "total")
        exponent = register(m, exponent, "exponent_added")
        flags = register(m, flags, "flags_added")

        # Stage 3: normalise. The exponent is left to the next stage, where it has time.
        normal, count = normalise(m, total)
        normal = register(m, normal, "normalised")
        count = register(m, count, "count")
        exponent = register(m, exponent, "exponent_normalised")
        sign, zero, inf, nan = register(m, flags, "flags_normalised")

        # Stage 4: round. The top place of the sum stands for twice the larger operand.
        nothing = normal[-2:] == 0
        m.d.sync += self.o.eq(
            round_float32(
                m, sign & ~nothing, exponent - count, normal,
                zero=zero | nothing, inf=inf, nan=nan,
            )
        )  # fmt: skip

        return m

    @staticmethod
    def model(a, b):
        """Bit-exact model: uint32 arrays of fp32 bit patterns (broadcast together) -> uint32."""
        a, b = np.broadcast_arrays(np.asarray(a, np.uint32), np.asarray(b, np.uint32))
        a, b = a.astype(np.int64), b.astype(np.int64)
        swap = (b & 0x7FFFFFFF) > (a & 0x7FFFFFFF)
        large, small = np.where(swap, b, a), np.where(swap, a, b)
        large_exponent, small_exponent = (large >> 23) & 255, (small >> 23) & 255
        large_fraction, small_fraction = large & 0x7FFFFF, small & 0x7FFFFF
        sign, small_sign = large >> 31, small >> 31

        inf = large_exponent == 255
        nan = inf & (
            (large_fraction != 0)
            | ((small_exponent == 255) & ((small_fraction != 0) | (sign != small_sign)))
        )

        x = np.where(large_exponent == 0, 0, large_fraction | 1 << 23) << 3
        y = np.where(small_exponent == 0, 0, small_fraction | 1 << 23) << 3
        places = np.minimum(large_exponent - small_exponent, 31)
        aligned = y >> places
        aligned |= (aligned << places) != y
        total = np.where(sign == small_sign, x + aligned, x - aligned)
        # Of exact integers below 2**53, frexp gives the length in bits.
        length = np.frexp(total.astype(np.float64))[1].astype(np.int64)
        sign = np.where((total == 0) & (sign != small_sign), 0, sign)
        return pack_model(
            sign, large_exponent + length - 27, total << (28 - length), 28, inf=inf, nan=nan
        )
