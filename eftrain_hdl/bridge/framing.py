"""HDLC-like framing of bytes with a CRC-32 (RFC 1662, sections 3.1, 4 and C.3).

A frame is a flag, the bytes of the frame and their CRC-32 with flags and escapes among them
escaped, and a flag. Bytes that are lost, added or changed are found by the CRC: one in 2**32
damaged frames goes unnoticed.
"""

from functools import reduce
from operator import xor

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..serial_protocol import FCS_BYTES, Framing

__all__ = ["Deframer", "FrameItem", "Framer", "FramerByte", "crc32_next"]

CRC_INIT = 0xFFFF_FFFF
CRC_RESIDUE = 0xDEBB_20E3
"""State after a frame with its CRC, if both are right (RFC 1662, C.3)."""

_POLYNOMIAL = 0xEDB8_8320


def crc32_next(state, byte):
    """State of the CRC-32 after one more byte, as the exclusive-or of the bits it depends on.

    The CRC is that of ``zlib.crc32``: the state starts as ones, and the CRC is its complement.
    """
    known = [*state, *byte]
    # Each bit as the set of positions in `known` whose exclusive-or it is.
    bits = [{index} for index in range(32)]
    for position in range(8):
        low = bits[0] ^ {32 + position}
        bits = [*bits[1:], set()]
        bits = [
            terms ^ low if _POLYNOMIAL >> index & 1 else terms for index, terms in enumerate(bits)
        ]
    return Cat(reduce(xor, (known[index] for index in sorted(terms))) for terms in bits)


class FrameItem(data.StructLayout):
    """A byte of a frame, or its end.

    Members
    -------
    data : unsigned(8)
        The byte; those of the CRC come too.
    end : unsigned(1)
        Not a byte: the frame is over.
    good : unsigned(1)
        With ``end``: frame and CRC arrived as they were sent.
    """

    def __init__(self):
        super().__init__({"data": 8, "end": 1, "good": 1})


class Deframer(wiring.Component):
    """Takes frames out of a stream of bytes.

    Frames of no bytes, as between the flags at the end of a frame and at the start of the next, are
    left out. Bytes before the first flag count as a damaged frame.

    *Latency*: one cycle. *Backpressure*: none; an item is there for one cycle.

    Members
    -------
    i : In(stream.Signature(8, always_ready=True))
        Bytes from the line.
    error : In(1)
        A byte was lost here: the frame is damaged.
    o : Out(stream.Signature(FrameItem(), always_ready=True))
        Bytes and ends of frames.
    """

    i: In(stream.Signature(8, always_ready=True))
    error: In(1)
    o: Out(stream.Signature(FrameItem(), always_ready=True))

    def elaborate(self, platform):
        m = Module()
        crc = Signal(32, init=CRC_INIT)
        escaped, damaged, begun = Signal(), Signal(), Signal()
        item, valid = Signal(FrameItem()), Signal()
        m.d.sync += [self.o.p.eq(item), self.o.valid.eq(valid)]
        m.d.comb += [
            item.data.eq(self.i.payload ^ Mux(escaped, int(Framing.FLIP), 0)),
            item.good.eq((crc == CRC_RESIDUE) & ~damaged & ~escaped),
        ]
        with m.If(self.i.valid):
            with m.If(self.i.payload == Framing.FLAG):
                m.d.comb += [item.end.eq(1), valid.eq(begun)]
                m.d.sync += [crc.eq(CRC_INIT), escaped.eq(0), damaged.eq(0), begun.eq(0)]
            with m.Elif(self.i.payload == Framing.ESCAPE):
                m.d.sync += [escaped.eq(1), begun.eq(1)]
                with m.If(escaped):
                    m.d.sync += damaged.eq(1)
            with m.Else():
                m.d.comb += valid.eq(1)
                m.d.sync += [crc.eq(crc32_next(crc, item.data)), escaped.eq(0), begun.eq(1)]
        with m.If(self.error):
            m.d.sync += [damaged.eq(1), begun.eq(1)]
        return m


class FramerByte(data.StructLayout):
    """A byte of a frame to be sent: ``data``, and ``last`` of the frame (without the CRC)."""

    def __init__(self):
        super().__init__({"data": 8, "last": 1})


class Framer(wiring.Component):
    """Puts frames around bytes.

    *Latency*: the first flag is offered the cycle in which the first byte is there.
    *Throughput*: a byte every two cycles, three for an escaped one.
    *Backpressure*: that of the line.

    Members
    -------
    i : In(stream.Signature(FramerByte()))
        Bytes of frames, at least one each.
    o : Out(stream.Signature(8))
        Bytes for the line.
    """

    i: In(stream.Signature(FramerByte()))
    o: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        crc = Signal(32, init=CRC_INIT)
        escaped = Signal()
        byte = Signal(8)
        taken = Signal()
        special = (byte == Framing.FLAG) | (byte == Framing.ESCAPE)

        def send_byte():
            m.d.comb += self.o.valid.eq(1)
            with m.If(special & ~escaped):
                m.d.comb += self.o.payload.eq(Framing.ESCAPE)
                with m.If(self.o.ready):
                    m.d.sync += escaped.eq(1)
            with m.Else():
                m.d.comb += [
                    self.o.payload.eq(byte ^ Mux(escaped, int(Framing.FLIP), 0)),
                    taken.eq(self.o.ready),
                ]
                with m.If(taken):
                    m.d.sync += escaped.eq(0)

        last = Signal()
        count = Signal(range(FCS_BYTES))
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.o.payload.eq(Framing.FLAG), self.o.valid.eq(self.i.valid)]
                with m.If(self.i.valid & self.o.ready):
                    m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [byte.eq(self.i.p.data), last.eq(self.i.p.last)]
                with m.If(self.i.valid):
                    m.next = "BYTE"
            with m.State("BYTE"):
                send_byte()
                with m.If(taken):
                    m.d.sync += crc.eq(crc32_next(crc, byte))
                    m.next = "TAKE"
                    with m.If(last):
                        m.next = "TAKE CRC"
            with m.State("TAKE CRC"):
                # After four bytes the state is all ones again, its initial value.
                m.d.sync += [byte.eq(~crc[:8]), crc.eq(Cat(crc[8:], Const(0xFF, 8)))]
                m.next = "CRC"
            with m.State("CRC"):
                send_byte()
                with m.If(taken):
                    m.d.sync += count.eq(count + 1)
                    m.next = "TAKE CRC"
                    with m.If(count == FCS_BYTES - 1):
                        m.next = "FLAG"
            with m.State("FLAG"):
                m.d.comb += [self.o.payload.eq(Framing.FLAG), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    m.next = "IDLE"
        return m
