"""AXI4 write side of the SDRAM controller."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from ..memory.axi import AxiWriteSignature
from .burst_cursor import BEAT_BYTES_LOG2, AxiResponse, BeatRequest, BurstCursor
from .word_store import STORE_BEATS, WordStore

__all__ = ["WriteChannel"]

_RESPONSES = 16
_PRESSING_BEATS_LOG2 = 6


class WriteChannel(wiring.Component):
    """Takes AXI write bursts and their data, and requests the writing of one beat after the other.

    A beat is requested only when its data is in the store, so the SDRAM never waits for a word.
    The response is given when the last beat of the burst has been taken: whoever takes beats keeps
    their order, so a read that follows the response sees what was written.

    *Throughput*: a beat in 8 cycles, what the SDRAM can do. *Backpressure*: the store holds 128
    beats; data may come before its address. ``wready`` depends on ``wvalid`` by registers only.

    Parameters
    ----------
    base, size : :class:`int`
        Bytes of the memory.
    id_bits : :class:`int`
        Width of ``awid`` and ``bid``.

    Members
    -------
    bus : :py:`In(AxiWriteSignature(32, 128, id_bits))`
    beat : :py:`Out(stream.Signature(BeatRequest(...)))`
        Beats to be written.
    pressing : :py:`Out(1)`
        A burst is complete, or half of the store is full: it pays to turn to writing. From a
        register.
    next : :py:`In(1)`
        The next word is wanted; it shows on ``word`` and ``strobe`` a cycle later.
    word, strobe : :py:`Out(16)`, :py:`Out(2)`
    """

    def __init__(self, *, base, size, id_bits):
        self._cursor = BurstCursor(base=base, size=size)
        self._id_bits = id_bits
        beat = BeatRequest((size - 1).bit_length() - BEAT_BYTES_LOG2)
        super().__init__(
            {
                "bus": In(AxiWriteSignature(32, 128, id_bits)),
                "beat": Out(stream.Signature(beat)),
                "pressing": Out(1),
                "next": In(1),
                "word": Out(16),
                "strobe": Out(2),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus

        m.submodules.cursor = cursor = self._cursor
        axi_id = Signal(self._id_bits)
        response = Signal(AxiResponse)
        m.d.comb += [
            bus.awready.eq(~cursor.present),
            cursor.take.eq(bus.awvalid & ~cursor.present),
            cursor.addr.eq(bus.awaddr),
            cursor.len.eq(bus.awlen),
            cursor.axi_size.eq(bus.awsize),
            cursor.burst.eq(bus.awburst),
        ]
        with m.If(cursor.take):
            m.d.sync += [axi_id.eq(bus.awid), response.eq(cursor.response)]

        # Data: AXI keeps the beat on the bus until it is taken, which is when its last word is.
        m.submodules.store = store = WordStore(18)
        index = Signal(3)
        step = Signal()
        used = Signal(range(STORE_BEATS + 1))
        begun = Signal()
        left_store = Signal()
        m.d.comb += [
            step.eq(bus.wvalid & ((index != 0) | ~used[-1])),
            begun.eq(step & (index == 0)),
            bus.wready.eq(index == 7),
            left_store.eq(self.next & (store.o_index == 0)),
        ]
        # Its place is free a cycle later: the SDRAM's timing decides when a word leaves.
        left = Signal()
        m.d.sync += [
            left.eq(left_store),
            used.eq(used + begun - left),
            store.i.eq(
                Cat(bus.wdata.word_select(index, 16), bus.wstrb.word_select(index, 2)),
            ),
            store.i_en.eq(step),
        ]
        with m.If(step):
            m.d.sync += index.eq(index + 1)

        # What is complete in the store and not yet requested.
        beats = Signal(range(STORE_BEATS + 1))
        bursts = Signal(range(STORE_BEATS + 1))
        beat_came = Signal()
        burst_came = Signal()
        requested = Signal()
        # Some are waiting: a register, for it decides on the next beat.
        waiting = Signal()
        m.d.sync += [
            waiting.eq(beat_came | Mux(requested, beats > 1, beats != 0)),
            beat_came.eq(step & (index == 7)),
            burst_came.eq(step & (index == 7) & bus.wlast),
            beats.eq(beats + beat_came - requested),
            bursts.eq(bursts + burst_came - (requested & cursor.beat.last)),
        ]

        m.d.sync += self.pressing.eq((bursts != 0) | beats[_PRESSING_BEATS_LOG2:].any())

        layout = data.StructLayout({"id": self._id_bits, "response": AxiResponse})
        m.submodules.responses = responses = fifo.SyncFIFO(width=layout.size, depth=_RESPONSES)
        done = data.View(layout, responses.w_data)
        answer = data.View(layout, responses.r_data)
        # A cycle late, in which one response may have come.
        room = Signal()
        m.d.sync += room.eq(responses.w_level < _RESPONSES - 1)
        m.d.comb += [
            self.beat.p.eq(cursor.beat),
            self.beat.valid.eq(cursor.present & waiting & room),
            requested.eq(self.beat.valid & self.beat.ready),
            cursor.next.eq(requested),
            done.id.eq(axi_id),
            done.response.eq(response),
            responses.w_en.eq(requested & cursor.beat.last),
            bus.bvalid.eq(responses.r_rdy),
            bus.bid.eq(answer.id),
            bus.bresp.eq(answer.response),
            responses.r_en.eq(bus.bready),
        ]

        m.d.comb += [
            store.o_en.eq(self.next),
            self.word.eq(store.o[:16]),
            self.strobe.eq(store.o[16:]),
        ]
        return m
