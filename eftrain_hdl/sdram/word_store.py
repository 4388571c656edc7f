"""Block memory between AXI beats and SDRAM words."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["STORE_BEATS", "WordStore"]

STORE_BEATS = 128
"""Beats of 8 words: with 18 bits a word exactly one block memory of an ECP5."""

_BEAT_WORDS = 8


class WordStore(wiring.Component):
    """First in, first out queue of words that is counted in beats of eight words.

    *Latency*: the word that was taken in a cycle shows in the next one.

    Parameters
    ----------
    width : :class:`int`
        Bits of a word, at most 18.

    Members
    -------
    i, i_en : :py:`In(width)`, :py:`In(1)`
        A word is put in. Whoever does it knows that there is room.
    o, o_en : :py:`Out(width)`, :py:`In(1)`
        The next word is taken; it shows on ``o`` in the next cycle.
    i_index, o_index : :py:`Out(3)`
        Place in its beat of the next word put in, and of the next word taken.
    """

    def __init__(self, width):
        super().__init__(
            {
                "i": In(width),
                "i_en": In(1),
                "o": Out(width),
                "o_en": In(1),
                "i_index": Out(3),
                "o_index": Out(3),
            }
        )

    def elaborate(self, platform):
        m = Module()
        depth = STORE_BEATS * _BEAT_WORDS
        m.submodules.memory = memory = Memory(shape=len(self.i), depth=depth, init=[])
        write = memory.write_port()
        read = memory.read_port()
        put = Signal(range(depth))
        got = Signal(range(depth))
        m.d.comb += [
            write.addr.eq(put),
            write.data.eq(self.i),
            write.en.eq(self.i_en),
            read.addr.eq(got),
            read.en.eq(1),
            self.o.eq(read.data),
            self.i_index.eq(put),
            self.o_index.eq(got),
        ]
        with m.If(self.i_en):
            m.d.sync += put.eq(put + 1)
        with m.If(self.o_en):
            m.d.sync += got.eq(got + 1)
        return m
