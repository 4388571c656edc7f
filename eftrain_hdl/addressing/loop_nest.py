"""Affine loop nest: the counter behind every address generator of the core."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["LoopNest", "loop_layout"]


def loop_layout(*, levels, count_bits, address_bits):
    """Parameters of a nest. Level 0 is the outermost; ``count`` is at least 1.

    ``start`` and each level's ``stride`` hold one value for every generated address.
    """
    level = data.StructLayout(
        {
            "count": unsigned(count_bits),
            "stride": data.StructLayout({f"a{i}": b for i, b in enumerate(address_bits)}),
        }
    )
    return data.StructLayout(
        {
            "start": data.StructLayout({f"a{i}": b for i, b in enumerate(address_bits)}),
            "level": data.ArrayLayout(level, levels),
        }
    )


class LoopNest(wiring.Component):
    """Walk ``for i0 .. for i1 .. : start + i0*stride0 + i1*stride1 + ...`` one point a cycle.

    Several addresses can share the counters, each with its own start and strides (the stream buffer
    and the accumulators of one sweep). No multiplier: every level remembers its own address.

    Parameters
    ----------
    levels : int
    count_bits : int
    address_bits : sequence of int
        Width of each generated address; arithmetic wraps.

    Members
    -------
    setup : In(loop_layout)
        Must be stable from ``load`` to the last point: counts and strides are not copied.
    load : In(1)
        Go to the first point in the next cycle.
    advance : In(1)
        Go to the next point in the next cycle.
    address : Out(struct)
        Addresses of the current point.
    first, last : Out(levels)
        Bit l: the counters of level l and of all inside it are at their first (last) value. Bit 0
        of ``last`` marks the last point of the nest.
    """

    def __init__(self, *, levels, count_bits, address_bits):
        self.levels = levels
        self.count_bits = count_bits
        self.address_bits = tuple(address_bits)
        layout = loop_layout(levels=levels, count_bits=count_bits, address_bits=self.address_bits)
        super().__init__(
            {
                "setup": In(layout),
                "load": In(1),
                "advance": In(1),
                "address": Out(
                    data.StructLayout({f"a{i}": b for i, b in enumerate(self.address_bits)})
                ),
                "first": Out(levels),
                "last": Out(levels),
            }
        )

    def elaborate(self, platform):
        m = Module()
        levels = range(self.levels)
        counters = [Signal(self.count_bits, name=f"counter{i}") for i in levels]
        at_last = [counters[i] == self.setup.level[i].count - 1 for i in levels]
        at_first = [counters[i] == 0 for i in levels]
        for i in levels:
            m.d.comb += self.last[i].eq(Cat(at_last[i:]).all())
            m.d.comb += self.first[i].eq(Cat(at_first[i:]).all())

        # Level i steps when everything inside it is at its last value.
        steps = [
            self.last[i + 1] & ~at_last[i] if i + 1 < self.levels else ~at_last[i] for i in levels
        ]
        for i in levels:
            with m.If(self.load):
                m.d.sync += counters[i].eq(0)
            with m.Elif(self.advance):
                inner_done = self.last[i + 1] if i + 1 < self.levels else 1
                with m.If(inner_done):
                    m.d.sync += counters[i].eq(Mux(at_last[i], 0, counters[i] + 1))

        for a, bits in enumerate(self.address_bits):
            name = f"a{a}"
            bases = [Signal(bits, name=f"base{a}_{i}") for i in levels]
            m.d.comb += self.address[name].eq(bases[-1])
            stepped = Signal(bits, name=f"stepped{a}")
            for i in levels:
                with m.If(steps[i]):
                    m.d.comb += stepped.eq(bases[i] + self.setup.level[i].stride[name])
            for i in levels:
                with m.If(self.load):
                    m.d.sync += bases[i].eq(self.setup.start[name])
                with m.Elif(self.advance & Cat(steps[: i + 1]).any()):
                    # An outer step restarts every level inside it at the new address.
                    m.d.sync += bases[i].eq(stepped)
        return m
