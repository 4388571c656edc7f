"""Receives requests: the header into a register, the payload into a buffer."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..serial_protocol import FCS_BYTES, MAX_PAYLOAD, REQUEST_HEADER_BYTES, Op
from .framing import FrameItem

__all__ = ["BUFFER_WORDS", "RequestLayout", "RequestReceiver"]

BUFFER_WORDS = MAX_PAYLOAD // 4
_LEAST = REQUEST_HEADER_BYTES + FCS_BYTES


class RequestLayout(data.StructLayout):
    """A request whose frame arrived whole.

    Members
    -------
    seq, op : unsigned(8)
    address : unsigned(32)
    length : unsigned(16)
    sized : unsigned(1)
        The frame has as many bytes as ``op`` and ``length`` say.
    """

    def __init__(self):
        super().__init__({"seq": 8, "op": 8, "address": 32, "length": 16, "sized": 1})


class RequestReceiver(wiring.Component):
    """Puts the header of a frame into a register and its payload into a buffer.

    One request is held at a time. What arrives while it is held is dropped up to the end of its
    frame, so neither header nor buffer change under whoever uses them.

    *Latency*: ``o.valid`` rises the cycle after the end of the frame; a word of the buffer is there
    the cycle after its address. *Backpressure*: ``i`` none.
    *Errors*: a frame that is damaged or shorter than a header gives ``nak``, one cycle.

    Members
    -------
    i : In(stream.Signature(FrameItem(), always_ready=True))
        From the :class:`Deframer`.
    o : Out(stream.Signature(RequestLayout()))
        The request; taken when it has been dealt with.
    nak : Out(1)
        Pulse.
    dropped : Out(1)
        Pulse: a byte was dropped.
    word_address : In(range(BUFFER_WORDS))
    word : Out(32)
        Reads the payload, first byte lowest.
    """

    i: In(stream.Signature(FrameItem(), always_ready=True))
    o: Out(stream.Signature(RequestLayout()))
    nak: Out(1)
    dropped: Out(1)
    word_address: In(range(BUFFER_WORDS))
    word: Out(32)

    def elaborate(self, platform):
        m = Module()
        m.submodules.buffer = buffer = Memory(shape=32, depth=BUFFER_WORDS, init=[])
        write = buffer.write_port(granularity=8)
        read = buffer.read_port()
        m.d.comb += [read.addr.eq(self.word_address), self.word.eq(read.data), read.en.eq(1)]

        # All bytes of the frame, its CRC too; one past the longest means: too long.
        longest = _LEAST + MAX_PAYLOAD
        count = Signal(range(longest + 2))
        header = Signal(8 * REQUEST_HEADER_BYTES)
        index = Signal(range(MAX_PAYLOAD))
        held, dropping, sized = Signal(), Signal(), Signal()
        item = self.i.p
        request = self.o.p
        m.d.comb += [
            Cat(request.seq, request.op, request.address, request.length).eq(header),
            request.sized.eq(sized),
            self.o.valid.eq(held),
            self.dropped.eq(self.i.valid & held),
            index.eq(count - REQUEST_HEADER_BYTES),
            write.addr.eq(index[2:]),
            write.data.eq(item.data.replicate(4)),
        ]
        has_payload = (request.op == Op.WRITE_REGISTER) | (request.op == Op.WRITE_MEMORY)

        with m.If(self.o.ready):
            m.d.sync += held.eq(0)
        with m.If(self.i.valid):
            with m.If(item.end):
                m.d.sync += [count.eq(0), dropping.eq(0)]
                with m.If(~held & ~dropping):
                    m.d.sync += sized.eq(count - _LEAST == Mux(has_payload, request.length, 0))
                    with m.If(item.good & (count >= _LEAST)):
                        m.d.sync += held.eq(1)
                    with m.Else():
                        m.d.comb += self.nak.eq(1)
            with m.Elif(held | dropping):
                m.d.sync += dropping.eq(1)
            with m.Else():
                with m.If(count != longest + 1):
                    m.d.sync += count.eq(count + 1)
                with m.If(count < REQUEST_HEADER_BYTES):
                    m.d.sync += header.eq(Cat(header[8:], item.data))
                # Not the CRC of the longest frame: it would wrap to the start of the buffer.
                with m.Elif(count < REQUEST_HEADER_BYTES + MAX_PAYLOAD):
                    m.d.comb += write.en.eq(1 << index[:2])
        return m
