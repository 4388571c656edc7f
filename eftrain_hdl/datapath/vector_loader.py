"""Vector loader: bus beats of fp32 words to vectors in the array's operand format."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..arithmetic import float32_to_format, get_format
from ..memory.axi import BeatLayout

__all__ = ["VectorLoader", "vector_layout"]


def vector_layout(width):
    """``data`` holds T elements, element 0 lowest; ``end`` marks the end of an array row (WU),
    ``transpose`` a vector of a group to be transposed."""
    return data.StructLayout({"data": width, "end": 1, "transpose": 1})


class VectorLoader(wiring.Component):
    """Round each word to the operand format and collect ``vector_beats`` beats into one vector.

    Takes a beat a cycle; a vector appears one cycle after its last beat.

    Members
    -------
    i : In(stream of BeatLayout)
        ``tag.mark`` and ``last`` together mark the last beat of an array row.
    o : Out(stream of vector_layout)
    """

    def __init__(self, config):
        self.config = config
        self.fmt = get_format(config.format)
        super().__init__(
            {
                "i": In(stream.Signature(BeatLayout(config.data_bits))),
                "o": Out(stream.Signature(vector_layout(config.group * self.fmt.bits))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, fmt = self.config, self.fmt
        words = [self.i.payload.data.word_select(w, 32) for w in range(config.beat_words)]
        converted = Cat(*(float32_to_format(m, fmt, word) for word in words))
        beat = Signal(range(max(config.vector_beats, 2)))
        vector = Signal(config.group * fmt.bits)
        end = Signal()
        transpose = Signal()
        valid = Signal()
        m.d.comb += [
            self.o.valid.eq(valid),
            self.o.payload.data.eq(vector),
            self.o.payload.end.eq(end),
            self.o.payload.transpose.eq(transpose),
            # A full vector must leave before the first beat of the next one overwrites it.
            self.i.ready.eq(~valid | self.o.ready),
        ]
        with m.If(self.o.ready):
            m.d.sync += valid.eq(0)
        with m.If(self.i.valid & self.i.ready):
            # Beats enter at the top; after vector_beats of them the first lies lowest.
            m.d.sync += vector.eq(Cat(vector, converted)[-len(vector) :])
            m.d.sync += beat.eq(beat + 1)
            with m.If(beat == config.vector_beats - 1):
                m.d.sync += [
                    beat.eq(0),
                    valid.eq(1),
                    end.eq(self.i.payload.tag.mark & self.i.payload.last),
                    transpose.eq(self.i.payload.tag.transpose),
                ]
        return m
