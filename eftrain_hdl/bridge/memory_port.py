"""One AXI4 burst at a time, between memory and the bridge's payload buffers."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..memory.axi import AXI_BURST_INCR, AXI_CACHE, AxiReadSignature, AxiWriteSignature
from ..serial_protocol import MAX_PAYLOAD
from .request import BUFFER_WORDS

__all__ = ["MAX_BEATS", "MemoryAccess", "MemoryPort"]

DATA_BITS = 128
BEAT_WORDS = DATA_BITS // 32
MAX_BEATS = MAX_PAYLOAD // (DATA_BITS // 8)


class MemoryAccess(data.StructLayout):
    """A burst: ``address`` (32) of the first byte, a multiple of 16, ``last_beat`` (beats less
    one) and ``write`` (1). It must not cross a multiple of 4 KiB.
    """

    def __init__(self):
        super().__init__({"address": 32, "last_beat": range(MAX_BEATS), "write": 1})


class MemoryPort(wiring.Component):
    """Reads a burst into the reply's buffer, or writes one from the request's.

    *Latency*: the bus sees a burst the cycle after it was accepted; ``done`` pulses the cycle after
    the bus's last answer. *Throughput*: a beat in four cycles read, in six written: less than a
    byte takes on the fastest serial line.
    *Backpressure*: ``i.ready`` is low from an access until its last answer.

    *Errors*: ``response`` is the first answer that was not OKAY. Memory may never answer:
    ``orphan`` detaches a burst. It still runs to its end, as AXI demands, but changes no buffer,
    and beats of a write that have not been put on the bus yet have all strobes off. Only a reset
    ends a burst that memory never completes.

    Parameters
    ----------
    id_bits : int
        Width of the bus's ids; all are zero.

    Members
    -------
    i : In(stream.Signature(MemoryAccess()))
        What to do.
    orphan : In(1)
        Pulse: nobody waits any more.
    done : Out(1)
        Pulse; not of an orphan.
    response : Out(2)
        With ``done``.
    write_enable, write_address, write_word : Out(1), Out(range(BUFFER_WORDS)), Out(32)
        To the reply's buffer.
    read_address, read_word : Out(range(BUFFER_WORDS)), In(32)
        To the request's buffer, whose word is there the cycle after its address.
    read, write : Out(AxiReadSignature(32, 128, id_bits)), Out(AxiWriteSignature(32, 128, id_bits))
        To memory.
    """

    def __init__(self, *, id_bits):
        super().__init__(
            {
                "i": In(stream.Signature(MemoryAccess())),
                "orphan": In(1),
                "done": Out(1),
                "response": Out(2),
                "write_enable": Out(1),
                "write_address": Out(range(BUFFER_WORDS)),
                "write_word": Out(32),
                "read_address": Out(range(BUFFER_WORDS)),
                "read_word": In(32),
                "read": Out(AxiReadSignature(32, DATA_BITS, id_bits)),
                "write": Out(AxiWriteSignature(32, DATA_BITS, id_bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        read, write = self.read, self.write
        address = Signal(32)
        last_beat = Signal(range(MAX_BEATS))
        beat = Signal(range(MAX_BEATS))
        word = Signal(range(BEAT_WORDS))
        orphaned, ended = Signal(), Signal()
        answer, answered = Signal(2), Signal()
        for prefix, bus in (("ar", read), ("aw", write)):
            for name, value in {
                "addr": address,
                "len": last_beat,
                "size": exact_log2(DATA_BITS // 8),
                "burst": AXI_BURST_INCR,
                "cache": AXI_CACHE,
            }.items():
                m.d.comb += getattr(bus, prefix + name).eq(value)
            with m.If(getattr(bus, prefix + "ready")):
                m.d.sync += getattr(bus, prefix + "valid").eq(0)
        m.d.comb += [
            self.write_address.eq(Cat(word, beat)),
            self.write_word.eq(read.rdata.word_select(word, 32)),
            self.read_address.eq(Cat(word, beat)),
        ]
        with m.If(answered & (self.response == 0)):
            m.d.sync += self.response.eq(answer)
        m.d.sync += self.done.eq(ended & ~orphaned & ~self.orphan)
        with m.If(self.orphan):
            m.d.sync += orphaned.eq(1)

        # A word of the request's buffer arrives the cycle after `fetch`.
        fetch, arrives = Signal(), Signal()
        m.d.sync += arrives.eq(fetch)
        with m.If(arrives):
            m.d.sync += write.wdata.eq(Cat(write.wdata[32:], self.read_word))

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [beat.eq(0), word.eq(0)]
                with m.If(self.i.valid):
                    m.d.sync += [
                        address.eq(self.i.p.address),
                        last_beat.eq(self.i.p.last_beat),
                        self.response.eq(0),
                        orphaned.eq(0),
                        read.arvalid.eq(~self.i.p.write),
                        write.awvalid.eq(self.i.p.write),
                    ]
                    m.next = "READ"
                    with m.If(self.i.p.write):
                        m.next = "FETCH"
            with m.State("READ"):
                m.d.comb += [
                    read.rready.eq(word == BEAT_WORDS - 1),
                    self.write_enable.eq(read.rvalid & ~orphaned),
                    answer.eq(read.rresp),
                ]
                with m.If(read.rvalid):
                    m.d.sync += word.eq(word + 1)
                    with m.If(read.rready):
                        m.d.comb += answered.eq(1)
                        m.d.sync += beat.eq(beat + 1)
                        with m.If(beat == last_beat):
                            m.d.comb += ended.eq(1)
                            m.next = "IDLE"
            with m.State("FETCH"):
                m.d.comb += fetch.eq(1)
                m.d.sync += word.eq(word + 1)
                with m.If(word == BEAT_WORDS - 1):
                    m.next = "ARRIVE"
            with m.State("ARRIVE"):
                m.d.sync += [
                    write.wvalid.eq(1),
                    write.wlast.eq(beat == last_beat),
                    write.wstrb.eq(Mux(orphaned | self.orphan, 0, ~0)),
                ]
                m.next = "BEAT"
            with m.State("BEAT"), m.If(write.wready):
                m.d.sync += [write.wvalid.eq(0), beat.eq(beat + 1)]
                m.next = "FETCH"
                with m.If(write.wlast):
                    m.next = "RESPONSE"
            with m.State("RESPONSE"):
                m.d.comb += [write.bready.eq(1), answer.eq(write.bresp)]
                with m.If(write.bvalid):
                    m.d.comb += [answered.eq(1), ended.eq(1)]
                    m.next = "IDLE"
        return m
