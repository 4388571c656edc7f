"""Gathers the bias gradient from the diagonal of the vectors that hold it."""

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..isa import MAX_STATISTICS_BLOCKS

__all__ = ["AccumulatorBeat", "DiagonalCollector", "VectorBeat"]


class VectorBeat(data.StructLayout):
    """One beat of a vector on its way out, and which vector it is.

    Members
    -------
    data : 128 bits
    block_start, block_end
        On all beats of the first and of the last vector of an out block of the tile.
    group_first, group_last
        The tile is the first, the last, that computes these out blocks.
    block
        Index of the out block in the tile; counts modulo :data:`MAX_STATISTICS_BLOCKS`.

    Parameters
    ----------
    config : CoreConfig
    """

    def __init__(self, config, **more):
        super().__init__(
            {
                "data": config.data_bits,
                "block_start": 1,
                "block_end": 1,
                "group_first": 1,
                "group_last": 1,
                "block": ceil_log2(MAX_STATISTICS_BLOCKS),
                **more,
            }
        )


class AccumulatorBeat(VectorBeat):
    """One beat of a drained accumulator vector.

    Members
    -------
    diagonal
        On all beats of a vector of which only element ``lane`` is wanted.
    lane

    Parameters
    ----------
    config : CoreConfig
    """

    def __init__(self, config):
        super().__init__(config, diagonal=1, lane=ceil_log2(config.group))


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
    o : Out(stream.Signature(VectorBeat(config)))
        With the place of the last of the T vectors.
    idle : Out(1)
        No element is held.
    """

    def __init__(self, config):
        self._beats = config.vector_beats
        layout = VectorBeat(config)
        self._place = [name for name, _ in layout if name != "data"]
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
            *(o.p[name].eq(i.p[name]) for name in self._place),
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
