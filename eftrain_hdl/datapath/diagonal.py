"""Gathers the bias gradient from the diagonal of the vectors that hold it."""

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["AccumulatorBeat", "DiagonalCollector"]


class AccumulatorBeat(data.StructLayout):
    """One beat of a drained accumulator vector.

    ``block_start`` marks all beats of the first vector of an out block, ``diagonal`` those of a
    vector of which only element ``lane`` is wanted.

    Parameters
    ----------
    config : CoreConfig
    """

    def __init__(self, config):
        super().__init__(
            {
                "data": config.data_bits,
                "block_start": 1,
                "diagonal": 1,
                "lane": ceil_log2(config.group),
            }
        )


class DiagonalCollector(wiring.Component):
    """Turns T diagonal vectors into one: element ``m`` of vector ``m``. Other vectors pass.

    Combinational; a beat a cycle. A beat leaves with the last of its four elements.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    i : In(stream.Signature(AccumulatorBeat(config)))
        Diagonal vectors come as T in a row, ``lane`` counting 0 to T - 1.
    o : Out(stream.Signature(StructLayout(data, block_start)))
    idle : Out(1)
        No element is held.
    """

    def __init__(self, config):
        self._beats = config.vector_beats
        layout = data.StructLayout({"data": config.data_bits, "block_start": 1})
        super().__init__(
            {
                "i": In(stream.Signature(AccumulatorBeat(config))),
                "o": Out(stream.Signature(layout)),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        i, o = self.i, self.o
        beat = Signal(max(1, ceil_log2(self._beats)))
        held = Signal(96)
        holds = Signal()
        word = i.p.lane[:2]
        wanted, complete = Signal(), Signal()
        element = Signal(32)
        m.d.comb += [
            wanted.eq(i.p.diagonal & (beat == i.p.lane[2:])),
            complete.eq(wanted & (word == 3)),
            element.eq(i.p.data.word_select(word, 32)),
            o.p.data.eq(Mux(i.p.diagonal, Cat(held, element), i.p.data)),
            o.p.block_start.eq(i.p.block_start),
            o.valid.eq(i.valid & (~i.p.diagonal | complete)),
            i.ready.eq(o.ready | (i.p.diagonal & ~complete)),
            self.idle.eq(~holds & (beat == 0)),
        ]
        with m.If(i.valid & i.ready & i.p.diagonal):
            m.d.sync += beat.eq(Mux(beat == self._beats - 1, 0, beat + 1))
            with m.If(wanted):
                m.d.sync += holds.eq(~complete)
                with m.If(~complete):
                    m.d.sync += held.word_select(word, 32).eq(element)

        return m

    @staticmethod
    def model(vectors, diagonal):
        """Bit-exact model: uint32 (n, T) and n flags -> (fewer, T)."""
        vectors = np.asarray(vectors, np.uint32)
        group = vectors.shape[1]
        result, k = [], 0
        while k < len(vectors):
            if diagonal[k]:
                result.append(np.diagonal(vectors[k : k + group]))
                k += group
            else:
                result.append(vectors[k])
                k += 1
        return np.array(result, np.uint32).reshape(-1, group)
