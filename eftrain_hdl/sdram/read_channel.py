"""AXI4 read side of the SDRAM controller."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from ..memory.axi import AxiReadSignature
from .burst_cursor import BEAT_BYTES_LOG2, AxiResponse, BeatRequest, BurstCursor
from .word_store import STORE_BEATS, WordStore

__all__ = ["ReadChannel"]

_BURSTS = 16


class ReadChannel(wiring.Component):
    """Turns AXI read bursts into requests for beats, and the words that come back into AXI data.

    Answers are in order. A beat is requested only when there is room for it, so the words that
    come from the SDRAM never wait. *Throughput*: a beat in 8 cycles, what the SDRAM can do.
    *Latency*: 10 cycles from the last word of a beat to ``rvalid``, in which the words go through
    the store. *Backpressure*: up to 128 beats and 16 bursts wait for ``rready``, which has no
    combinational path to anything.

    Parameters
    ----------
    base, size : :class:`int`
        Bytes of the memory.
    id_bits : :class:`int`
        Width of ``arid`` and ``rid``.

    Members
    -------
    bus : :py:`In(AxiReadSignature(32, 128, id_bits))`
    beat : :py:`Out(stream.Signature(BeatRequest(...)))`
        Beats to be read.
    word, word_valid : :py:`In(16)`, :py:`In(1)`
        What was read: eight words for each beat, in order.
    """

    def __init__(self, *, base, size, id_bits):
        self._cursor = BurstCursor(base=base, size=size)
        self._id_bits = id_bits
        beat = BeatRequest((size - 1).bit_length() - BEAT_BYTES_LOG2)
        super().__init__(
            {
                "bus": In(AxiReadSignature(32, 128, id_bits)),
                "beat": Out(stream.Signature(beat)),
                "word": In(16),
                "word_valid": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus

        # What R must say of each burst: written when the burst is taken, so ahead of its data.
        layout = data.StructLayout({"id": self._id_bits, "len": 8, "response": AxiResponse})
        m.submodules.bursts = bursts = fifo.SyncFIFO(width=layout.size, depth=_BURSTS)
        asked = data.View(layout, bursts.w_data)
        burst = data.View(layout, bursts.r_data)
        m.submodules.cursor = cursor = self._cursor
        m.d.comb += [
            bus.arready.eq(~cursor.present & bursts.w_rdy),
            bursts.w_en.eq(bus.arvalid & bus.arready),
            asked.id.eq(bus.arid),
            asked.len.eq(bus.arlen),
            asked.response.eq(cursor.response),
            cursor.take.eq(bursts.w_en),
            cursor.addr.eq(bus.araddr),
            cursor.len.eq(bus.arlen),
            cursor.axi_size.eq(bus.arsize),
            cursor.burst.eq(bus.arburst),
        ]

        # Beats that have been requested and not yet left the store; the top bit says "full".
        claimed = Signal(range(STORE_BEATS + 1))
        left_store = Signal()
        requested = Signal()
        m.d.comb += [
            self.beat.p.eq(cursor.beat),
            self.beat.valid.eq(cursor.present & ~claimed[-1]),
            requested.eq(self.beat.valid & self.beat.ready),
            cursor.next.eq(requested),
        ]
        m.d.sync += claimed.eq(claimed + requested - left_store)

        m.submodules.store = store = WordStore(16)
        filled = Signal(range(STORE_BEATS + 1))
        beat_came = Signal()
        m.d.comb += [
            store.i.eq(self.word),
            store.i_en.eq(self.word_valid),
            beat_came.eq(self.word_valid & (store.i_index == 7)),
        ]
        m.d.sync += filled.eq(filled + beat_came - left_store)

        # Out of the store: the last word of a beat waits until the beat before has gone.
        first = store.o_index == 0
        last = store.o_index == 7
        m.d.comb += [
            store.o_en.eq((~first | (filled != 0)) & ~(last & bus.rvalid)),
            left_store.eq(store.o_en & last),
        ]
        came = Signal()
        came_last = Signal()
        m.d.sync += [came.eq(store.o_en), came_last.eq(left_store)]
        words = Signal(112)
        with m.If(came):
            m.d.sync += words.eq(Cat(words[16:], store.o))

        sent = Signal(8)
        ends = sent == burst.len
        with m.If(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        with m.If(came_last):
            m.d.sync += [
                bus.rvalid.eq(1),
                bus.rdata.eq(Cat(words, store.o)),
                bus.rid.eq(burst.id),
                bus.rresp.eq(burst.response),
                bus.rlast.eq(ends),
                sent.eq(sent + 1),
            ]
            with m.If(ends):
                m.d.comb += bursts.r_en.eq(1)
                m.d.sync += sent.eq(0)
        return m
