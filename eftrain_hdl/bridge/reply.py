"""Sends replies: header from the bridge, payload from a buffer that keeps it for repeats."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..serial_protocol import MAX_PAYLOAD, REPLY_HEADER_BYTES
from .framing import FramerByte
from .request import BUFFER_WORDS

__all__ = ["REPLY_WORDS", "ReplyLayout", "ReplySender"]

REPLY_WORDS = 2 * BUFFER_WORDS
"""A block RAM has room for a second buffer, whose contents are given at configuration."""


class ReplyLayout(data.StructLayout):
    """Header of a reply, and how much of the buffer follows it.

    Members
    -------
    seq, op, status : unsigned(8)
    length : unsigned(11)
        Bytes of payload.
    upper : unsigned(1)
        The payload begins in the middle of the buffer, not at its start.
    """

    def __init__(self):
        super().__init__(
            {"seq": 8, "op": 8, "status": 8, "length": range(MAX_PAYLOAD + 1), "upper": 1}
        )


class ReplySender(wiring.Component):
    """Hands the bytes of a reply to the :class:`Framer`.

    *Latency*: the first byte is offered the cycle after a reply was accepted.
    *Throughput*: a byte every three cycles. *Backpressure*: ``i.ready`` is low until the reply has
    been handed on; neither the buffer nor anything else that belongs to it may change until then.

    Parameters
    ----------
    upper_words : iterable of int
        What the upper half of the buffer holds at first.

    Members
    -------
    i : In(stream.Signature(ReplyLayout()))
        What to send.
    o : Out(stream.Signature(FramerByte()))
        Its bytes.
    write_enable : In(1)
    write_address : In(range(REPLY_WORDS))
    write_word : In(32)
        Fills the payload buffer, first byte lowest.
    """

    i: In(stream.Signature(ReplyLayout()))
    o: Out(stream.Signature(FramerByte()))
    write_enable: In(1)
    write_address: In(range(REPLY_WORDS))
    write_word: In(32)

    def __init__(self, *, upper_words):
        self._upper_words = list(upper_words)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        init = [0] * BUFFER_WORDS + self._upper_words
        m.submodules.buffer = buffer = Memory(shape=32, depth=REPLY_WORDS, init=init)
        write, read = buffer.write_port(), buffer.read_port()
        reply = Signal(ReplyLayout())
        header = Signal(range(REPLY_HEADER_BYTES))
        # Of the payload; the word of the last byte is read before it is counted.
        sent = Signal(range(MAX_PAYLOAD + 1))
        # The byte that is offered: block RAM is too slow for what the framer does with it.
        payload = Signal(8)
        m.d.comb += [
            write.en.eq(self.write_enable),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_word),
            read.addr.eq(Cat(sent[2:-1], reply.upper)),
        ]
        with m.FSM() as fsm:
            m.d.comb += read.en.eq(fsm.ongoing("FETCH"))
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [header.eq(0), sent.eq(0), reply.eq(self.i.p)]
                with m.If(self.i.valid):
                    m.next = "HEADER"
            with m.State("HEADER"):
                with m.Switch(header):
                    with m.Case(0):
                        m.d.comb += self.o.p.data.eq(reply.seq)
                    with m.Case(1):
                        m.d.comb += self.o.p.data.eq(reply.op)
                    with m.Default():
                        m.d.comb += self.o.p.data.eq(reply.status)
                end = header == REPLY_HEADER_BYTES - 1
                m.d.comb += [self.o.valid.eq(1), self.o.p.last.eq(end & (reply.length == 0))]
                with m.If(self.o.ready):
                    m.d.sync += header.eq(header + 1)
                    with m.If(end):
                        m.next = "FETCH"
                    with m.If(self.o.p.last):
                        m.next = "IDLE"
            with m.State("FETCH"):
                m.next = "SELECT"
            with m.State("SELECT"):
                m.d.sync += [payload.eq(read.data.word_select(sent[:2], 8)), sent.eq(sent + 1)]
                m.next = "PAYLOAD"
            with m.State("PAYLOAD"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.p.data.eq(payload),
                    self.o.p.last.eq(sent == reply.length),
                ]
                with m.If(self.o.ready):
                    m.next = "FETCH"
                    with m.If(self.o.p.last):
                        m.next = "IDLE"
        return m
