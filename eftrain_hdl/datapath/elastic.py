"""Glue between fixed-latency pipelines and streams."""

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["DelayLine", "LandingFifo", "SkidBuffer", "count_beats"]


def count_beats(m, beats, step, name):
    """The number of a beat within its vector, which counts at ``step``, and whether it is the last.

    The number has one bit at least: a zero-width address has no place in RTLIL. Of vectors of one
    beat both are constants.
    """
    if beats == 1:
        return Const(0, 1), Const(1)
    beat = Signal(ceil_log2(beats), name=name)
    last = beat == beats - 1
    with m.If(step):
        m.d.sync += beat.eq(Mux(last, 0, beat + 1))
    return beat, last


class DelayLine(wiring.Component):
    """``o`` is ``i`` of ``cycles`` cycles before. No reset: data only, never valid bits.

    Parameters
    ----------
    width : int
    cycles : int
        Up to :attr:`register_limit` it is a chain of registers, above a small circular memory,
        which devices without shift registers in their LUTs hold in far fewer cells.
    """

    register_limit = 4

    def __init__(self, width, cycles):
        self._width = width
        self._cycles = cycles
        super().__init__({"i": In(width), "o": Out(width)})

    def elaborate(self, platform):
        m = Module()

        if self._cycles <= self.register_limit:
            value = self.i
            for stage in range(self._cycles):
                delayed = Signal(self._width, name=f"stage{stage}", reset_less=True)
                m.d.sync += delayed.eq(value)
                value = delayed
            m.d.comb += self.o.eq(value)
        else:
            # The output register is the last cycle of the delay.
            depth = self._cycles - 1
            m.submodules.memory = cells = memory.Memory(shape=self._width, depth=depth, init=[])
            read, write = cells.read_port(domain="comb"), cells.write_port()
            place = Signal(range(depth))
            output = Signal(self._width, reset_less=True)
            with m.If(place == depth - 1):
                m.d.sync += place.eq(0)
            with m.Else():
                m.d.sync += place.eq(place + 1)
            m.d.comb += [
                read.addr.eq(place),
                write.addr.eq(place),
                write.data.eq(self.i),
                write.en.eq(1),
                self.o.eq(output),
            ]
            m.d.sync += output.eq(read.data)

        return m


class LandingFifo(wiring.Component):
    """Catches what a fixed-latency pipeline delivers, so that the pipeline never has to stall.

    A place is claimed when a value enters the pipeline and is free again when the value left ``o``.
    A value may enter only while ``room`` is high; every claim must be followed by exactly one
    ``write``, in order.

    ``room`` is a register, set without a look at what is claimed and freed in the same cycle. So
    for a value every cycle, also after a standstill, the depth must be at least the cycles from a
    claim to its write plus four.

    Parameters
    ----------
    width, depth : int

    Members
    -------
    claim : In(1)
        A value enters the pipeline in this cycle.
    room : Out(1)
        A place is free.
    write, data : In(1), In(width)
        The value that left the pipeline.
    o : Out(stream.Signature(width))
    idle : Out(1)
        No place is claimed.
    """

    def __init__(self, width, depth):
        self._width = width
        self._depth = depth
        super().__init__(
            {
                "claim": In(1),
                "room": Out(1),
                "write": In(1),
                "data": In(width),
                "o": Out(stream.Signature(width)),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        m.submodules.fifo = places = fifo.SyncFIFO(width=self._width, depth=self._depth)
        claimed = Signal(range(self._depth + 1))
        room = Signal(init=1)
        m.d.comb += [
            self.room.eq(room),
            self.idle.eq(claimed == 0),
            places.w_en.eq(self.write),
            places.w_data.eq(self.data),
            self.o.valid.eq(places.r_rdy),
            self.o.payload.eq(places.r_data),
            places.r_en.eq(self.o.ready),
        ]
        leaves = self.o.valid & self.o.ready
        with m.If(self.claim != leaves):
            m.d.sync += claimed.eq(Mux(leaves, claimed - 1, claimed + 1))
        # There may be a claim in this cycle.
        m.d.sync += room.eq(claimed < self._depth - 1)

        return m


class SkidBuffer(wiring.Component):
    """Two places between two streams, so that no path goes through: neither forth nor back.

    ``o.valid``, ``o.payload`` and ``i.ready`` are registers. *Latency*: one cycle. *Throughput*: a
    value a cycle. Holds nothing while ``o.valid`` is low; ``i.ready`` is low only when both places
    are taken.

    Parameters
    ----------
    shape : ShapeLike
        Of the payload; an int is a width.

    Members
    -------
    i : In(stream.Signature(shape))
    o : Out(stream.Signature(shape))
    """

    def __init__(self, shape):
        signature = stream.Signature(shape)
        super().__init__({"i": In(signature), "o": Out(signature)})

    def elaborate(self, platform):
        m = Module()

        i, o = self.i, self.o
        arrives = Value.cast(i.payload)
        front, behind = (
            Signal(len(arrives), name=name, reset_less=True) for name in ("front", "behind")
        )
        valid, empty_behind = Signal(), Signal(init=1)
        m.d.comb += [o.payload.eq(front), o.valid.eq(valid), i.ready.eq(empty_behind)]
        # Without a condition on ``i.valid``: what it would keep out is never looked at.
        with m.If(empty_behind):
            m.d.sync += behind.eq(arrives)
        with m.If(~valid | o.ready):
            m.d.sync += [
                front.eq(Mux(empty_behind, arrives, behind)),
                valid.eq(i.valid | ~empty_behind),
                empty_behind.eq(1),
            ]
        with m.Elif(i.valid):
            m.d.sync += empty_behind.eq(0)

        return m
