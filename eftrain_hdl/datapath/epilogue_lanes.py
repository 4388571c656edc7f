"""The arithmetic of the epilogue: two multiply-and-add stages in each of four fp32 lanes."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arithmetic import FloatAdd, FloatMultiply
from .elastic import DelayLine

__all__ = ["NEGATIVE_ZERO", "ONE", "EpilogueLanes"]

ONE = 0x3F800000
NEGATIVE_ZERO = 0x80000000
"""The neutral element of fp32 addition: ``x + -0`` is ``x`` for both zeros too."""


class EpilogueLanes(wiring.Component):
    """``inner = a + inner_factor * inner_side``, then ``o = outer_side + outer_factor * inner``.

    With ``apart`` the second stage multiplies ``outer_value`` instead of ``inner``, so that the two
    compute side by side. Every product and every sum is rounded by itself. A factor of :data:`ONE`
    and a side operand of :data:`NEGATIVE_ZERO` make a stage pass its operand through (subnormals
    become zero, NaN becomes the canonical one), which is how one pair of stages serves biases,
    residuals, masks and SGD alike.

    A beat every cycle, no handshake. All operands are given in the same cycle and first of all go
    into registers, for what chooses them takes its time; ``inner`` comes :attr:`inner_latency` and
    ``o`` :attr:`latency` cycles later.

    Members
    -------
    a, inner_factor, inner_side, outer_side, outer_value : In(128)
        fp32 words, lane 0 in the low bits.
    outer_factor : In(32)
        Factor of all lanes. Stable while beats are in flight.
    apart : In(1)
        Stable while beats are in flight.
    inner, o : Out(128)
    """

    lanes = 4
    inner_latency = 1 + FloatMultiply.latency + FloatAdd.latency
    latency = inner_latency + FloatMultiply.latency + FloatAdd.latency

    a: In(128)
    inner_factor: In(128)
    inner_side: In(128)
    outer_factor: In(32)
    outer_side: In(128)
    outer_value: In(128)
    apart: In(1)
    inner: Out(128)
    o: Out(128)

    def elaborate(self, platform):
        m = Module()

        m.submodules.a_delay = a_delay = DelayLine(128, 1 + FloatMultiply.latency)
        m.submodules.side_delay = side_delay = DelayLine(
            128, self.inner_latency + FloatMultiply.latency
        )
        m.submodules.value_delay = value_delay = DelayLine(128, self.inner_latency)
        m.d.comb += [
            a_delay.i.eq(self.a),
            side_delay.i.eq(self.outer_side),
            value_delay.i.eq(self.outer_value),
        ]

        inner_factor, inner_side = (
            Signal(128, name=name, reset_less=True) for name in ("inner_factor", "inner_side")
        )
        outer_factor = Signal(32, reset_less=True)
        m.d.sync += [
            inner_factor.eq(self.inner_factor),
            inner_side.eq(self.inner_side),
            outer_factor.eq(self.outer_factor),
        ]

        inner, outer = [], []
        for lane in range(self.lanes):
            word = slice(32 * lane, 32 * lane + 32)
            result = self._stage(
                m, f"inner{lane}", inner_factor[word], inner_side[word], a_delay.o[word]
            )
            inner.append(result)
            value = Mux(self.apart, value_delay.o[word], result)
            outer.append(self._stage(m, f"outer{lane}", outer_factor, value, side_delay.o[word]))
        m.d.comb += [self.inner.eq(Cat(inner)), self.o.eq(Cat(outer))]

        return m

    @staticmethod
    def _stage(m, name, factor, value, addend):
        """``addend + factor * value``; the addend is given when the product is ready."""
        m.submodules[f"{name}_multiply"] = multiply = FloatMultiply()
        m.submodules[f"{name}_add"] = add = FloatAdd()
        result = Signal(32, name=f"{name}_result")
        m.d.comb += [
            multiply.a.eq(factor),
            multiply.b.eq(value),
            add.a.eq(addend),
            add.b.eq(multiply.o),
            result.eq(add.o),
        ]
        return result

    @staticmethod
    def model(a, inner_factor, inner_side, outer_factor, outer_side):
        """Bit-exact model on uint32 arrays, without ``apart``: ``(inner, o)``."""
        inner = FloatAdd.model(a, FloatMultiply.model(inner_factor, inner_side))
        return inner, FloatAdd.model(outer_side, FloatMultiply.model(outer_factor, inner))
