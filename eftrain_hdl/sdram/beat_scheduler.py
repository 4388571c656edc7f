"""Decides whether the SDRAM reads or writes next."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .burst_cursor import BeatRequest

__all__ = ["BeatScheduler", "DirectedBeat"]


class DirectedBeat(data.StructLayout):
    """A :class:`BeatRequest`, and whether it is to be written."""

    def __init__(self, address_bits):
        super().__init__({"request": BeatRequest(address_bits), "write": 1})


class BeatScheduler(wiring.Component):
    """Joins the beats to be read and those to be written, changing over seldom.

    A change of direction costs the data pins some five cycles, and often a row. So one direction
    goes on while it has beats, up to the end of the burst in which it has had ``quantum`` of them
    while the other waited.

    *Latency*: one cycle. *Throughput*: a beat every other cycle, several times what the SDRAM can
    do. *Backpressure*: ``o`` comes from registers, and no path leads from ``o.ready`` to an input.

    Parameters
    ----------
    address_bits : :class:`int`
        Width of an address in beats.
    quantum : :class:`int`
        A power of two.

    Members
    -------
    read, write : :py:`In(stream.Signature(BeatRequest(address_bits)))`
    pressing : :py:`In(1)`
        Writes are worth a change of direction.
    o : :py:`Out(stream.Signature(DirectedBeat(address_bits)))`
    """

    def __init__(self, address_bits, *, quantum=32):
        self._quantum = quantum
        request = In(stream.Signature(BeatRequest(address_bits)))
        super().__init__(
            {
                "read": request,
                "write": request,
                "pressing": In(1),
                "o": Out(stream.Signature(DirectedBeat(address_bits))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        writing = Signal()
        between_bursts = Signal(init=1)
        streak = Signal(range(self._quantum + 1))
        same = Mux(writing, self.write.valid, self.read.valid)
        other = Mux(writing, self.read.valid, self.write.valid & self.pressing)
        turn = Signal()
        write = Signal()
        free = ~self.o.valid
        m.d.comb += [
            turn.eq(other & (~same | (streak[-1] & between_bursts))),
            write.eq(writing ^ turn),
            self.read.ready.eq(free & ~write),
            self.write.ready.eq(free & write),
        ]
        chosen = self.read.p.shape()(Mux(write, self.write.p.as_value(), self.read.p.as_value()))
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(free):
            m.d.sync += [self.o.p.write.eq(write), self.o.p.request.eq(chosen)]
            with m.If(same | other):
                m.d.sync += [
                    self.o.valid.eq(1),
                    writing.eq(write),
                    between_bursts.eq(chosen.last),
                ]
                with m.If(turn):
                    m.d.sync += streak.eq(1)
                with m.Elif(~streak[-1]):
                    m.d.sync += streak.eq(streak + 1)
        return m
