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
    copies : bool
        Keep counts and strides from ``load`` on, so that ``setup`` may change to the next nest.

    Members
    -------
    setup : In(loop_layout)
        Must be stable from the cycle before ``load``: to the last point, or with ``copies`` to
        ``load``. ``start`` counts in the cycle of the load only.
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

    def __init__(self, *, levels, count_bits, address_bits, copies=False):
        self.levels = levels
        self.count_bits = count_bits
        self.address_bits = tuple(address_bits)
        self.copies = copies
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
        level = self.setup.level
        # Levels that have one point only are at their last value from the first point on.
        prepared = Signal(self.levels)
        m.d.sync += prepared.eq(Cat(level[i].count == 1 for i in levels))
        single = prepared
        if self.copies:
            level = Signal.like(self.setup.level, name="held")
            single = Signal(self.levels)
            with m.If(self.load):
                m.d.sync += [level.eq(self.setup.level), single.eq(prepared)]

        # All that is asked about the counters lies in registers, which are set one step ahead.
        at_first, at_last = Signal(self.levels), Signal(self.levels)
        for i in levels:
            inner_done = at_last[i + 1 :].all()
            m.d.comb += [self.first[i].eq(at_first[i:].all()), self.last[i].eq(at_last[i:].all())]
            # The next point's number, counted from one.
            following = Signal(self.count_bits, name=f"following{i}", init=2)
            with m.If(self.load):
                m.d.sync += [following.eq(2), at_first[i].eq(1), at_last[i].eq(prepared[i])]
            with m.Elif(self.advance & inner_done):
                m.d.sync += at_first[i].eq(at_last[i])
                with m.If(at_last[i]):
                    m.d.sync += [following.eq(2), at_last[i].eq(single[i])]
                with m.Else():
                    m.d.sync += [
                        following.eq(following + 1),
                        at_last[i].eq(following == level[i].count),
                    ]

        # The innermost level that is not at its last value steps. Every level has its own adder:
        # the sums are there before it is known which one is needed.
        for a, bits in enumerate(self.address_bits):
            name = f"a{a}"
            bases = [Signal(bits, name=f"base{a}_{i}") for i in levels]
            m.d.comb += self.address[name].eq(bases[-1])
            stepped = bases[0] + level[0].stride[name]
            for i in levels[1:]:
                stepped = Mux(at_last[i:].all(), stepped, bases[i] + level[i].stride[name])
            for i in levels:
                with m.If(self.load):
                    m.d.sync += bases[i].eq(self.setup.start[name])
                with m.Elif(self.advance & at_last[i + 1 :].all() & ~self.last[0]):
                    # An outer step restarts every level inside it at the new address.
                    m.d.sync += bases[i].eq(stepped)
        return m
