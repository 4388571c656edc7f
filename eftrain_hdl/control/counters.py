"""Counts what happens while a program runs."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["EventCounters"]


class EventCounters(wiring.Component):
    """One counter an event; each counts the cycles in which its event is high.

    *Latency*: a count shows two cycles after its event. Counters wrap around.

    Parameters
    ----------
    widths : dict from str to int
        Name of each event and width of its counter.

    Members
    -------
    clear : In(1)
        Set all counts to zero; events of the same cycle are not counted.
    events : In(signature of one bit an event)
    counts : Out(signature of one value an event)
    """

    def __init__(self, widths):
        self._widths = dict(widths)
        super().__init__(
            {
                "clear": In(1),
                "events": In(wiring.Signature({name: Out(1) for name in self._widths})),
                "counts": Out(wiring.Signature({n: Out(w) for n, w in self._widths.items()})),
            }
        )

    def elaborate(self, platform):
        m = Module()
        for name in self._widths:
            # The register keeps the paths from all over the core out of the carry chain.
            happened = Signal(name=f"{name}_happened")
            count = getattr(self.counts, name)
            m.d.sync += happened.eq(getattr(self.events, name) & ~self.clear)
            with m.If(self.clear):
                m.d.sync += count.eq(0)
            with m.Elif(happened):
                m.d.sync += count.eq(count + 1)
        return m
