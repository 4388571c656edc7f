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
        Must be stable from the cycle before it is loaded: to the last point, or with ``copies`` to
        the load. ``start`` counts in the cycle of the load only.
    load : In(1)
        Go to the first point in the next cycle.
    advance : In(1)
        Go to the next point in the next cycle.
    restart : In(1)
        With ``advance``: the next point is the first one of ``setup``, as after a load. For users
        that know early that a point is the last, and late that they leave it.
    address : Out(struct)
        Addresses of the current point.
    first, last : Out(levels)
        Bit l: the counters of level l and of all inside it are at their first (last) value. Bit 0
        of ``last`` marks the last point of the nest.
    at_last : Out(levels)
        Bit l: the counter of level l alone is at its last value.
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
                "restart": In(1),
                "address": Out(
                    data.StructLayout({f"a{i}": b for i, b in enumerate(self.address_bits)})
                ),
                "first": Out(levels),
                "last": Out(levels),
                "at_last": Out(levels),
            }
        )

    def elaborate(self, platform):
        m = Module()
        levels = range(self.levels)
        level = self.setup.level
        loads = self.load | self.restart
        steps = self.load | self.advance
        # Levels that have one point only are at their last value from the first point on.
        prepared = Signal(self.levels)
        m.d.sync += prepared.eq(Cat(level[i].count == 1 for i in levels))
        single = prepared
        if self.copies:
            level = Signal.like(self.setup.level, name="held")
            single = Signal(self.levels)
            with m.If(steps & loads):
                m.d.sync += [level.eq(self.setup.level), single.eq(prepared)]

        # All that is asked about the counters lies in registers, which are set one step ahead.
        at_first, at_last, then_last = (Signal(self.levels) for _ in range(3))
        m.d.comb += [self.at_last.eq(at_last), self.first.eq(_suffixes(at_first))]
        with m.If(steps):
            m.d.sync += [
                at_last.eq(Mux(loads, prepared, then_last)),
                self.last.eq(Mux(loads, _suffixes(prepared), _suffixes(then_last))),
            ]
        for i in levels:
            inner_done = self.last[i + 1] if i + 1 < self.levels else 1
            # The next point's number, counted from one.
            following = Signal(self.count_bits, name=f"following{i}", init=2)
            m.d.comb += then_last[i].eq(at_last[i])
            with m.If(inner_done):
                ends = Mux(at_last[i], single[i], following == level[i].count)
                m.d.comb += then_last[i].eq(ends)
            with m.If(steps & (loads | inner_done)):
                m.d.sync += [
                    at_first[i].eq(loads | at_last[i]),
                    following.eq(Mux(loads | at_last[i], 2, following + 1)),
                ]

        # The innermost level that is not at its last value steps. Every level has its own adder:
        # the sums are there before it is known which one is needed.
        for a, bits in enumerate(self.address_bits):
            name = f"a{a}"
            bases = [Signal(bits, name=f"base{a}_{i}") for i in levels]
            m.d.comb += self.address[name].eq(bases[-1])
            stepped = bases[0] + level[0].stride[name]
            for i in levels[1:]:
                stepped = Mux(self.last[i], stepped, bases[i] + level[i].stride[name])
            for i in levels:
                inner_done = self.last[i + 1] if i + 1 < self.levels else 1
                # An outer step restarts every level inside it at the new address.
                with m.If(steps & (loads | (inner_done & ~self.last[0]))):
                    m.d.sync += bases[i].eq(Mux(loads, self.setup.start[name], stepped))
        return m


def _suffixes(flags):
    """Bit l: all flags from l on are set."""
    return Cat(flags[level:].all() for level in range(len(flags)))
