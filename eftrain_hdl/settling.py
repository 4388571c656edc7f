"""When nothing is left of a descriptor, from the flags of all units."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Settling"]


class Settling(wiring.Component):
    """Pulses ``done`` when no unit has been busy for :attr:`cycles` cycles, one after the other.

    All flags are sampled in the same cycle, so the samples show what the flags showed. An item that
    moves from one unit to the next is seen in the one or in the other, or on its way between two
    of them: that lasts a cycle, two where a flag comes from a register. So an item that moves on
    never looks like none for :attr:`cycles` samples.

    *Latency*: ``done`` comes ``cycles`` + 1 cycles after the first cycle without a busy unit. After
    ``done`` there are two cycles whose flags are still those of the descriptor that is done; they
    are too few for another ``done``.

    Parameters
    ----------
    units : int

    Members
    -------
    busy : In(units)
        By the second cycle after ``done``, of the next descriptor.
    done : Out(1)
        Pulse.
    """

    cycles = 3

    def __init__(self, units):
        super().__init__({"busy": In(units), "done": Out(1)})

    def elaborate(self, platform):
        m = Module()
        # A unit is busy until the contrary is seen.
        samples = Signal(len(self.busy), init=-1)
        quiet = Signal()
        quiet_before = Signal(self.cycles - 1)
        m.d.comb += quiet.eq(samples == 0)
        m.d.sync += [
            samples.eq(self.busy),
            quiet_before.eq(Mux(self.done, 0, (quiet_before << 1) | quiet)),
            self.done.eq(quiet & quiet_before.all() & ~self.done),
        ]
        return m
