"""Drain: reads finished tiles out of the accumulators, a bus beat at a time."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..addressing.loop_nest import LoopNest
from ..addressing.tile import TILE_BITS, tile_layout
from ..control.descriptor import descriptor_layout
from ..isa import Flag, Opcode
from .diagonal import AccumulatorBeat
from .elastic import SkidBuffer

__all__ = ["Drain"]

_LEVELS = 6
_TAPS = 4
"""The level that counts the taps of an out block in WU."""


class Drain(wiring.Component):
    """Walk a finished bank in the order in which it is written to DRAM.

    That order is the accumulators' own, except with POOL, where the four pixels of a window follow
    one another. One beat a cycle when the epilogue keeps up, no pause between out blocks. The first
    beat comes two cycles after the bank is full, through a buffer that keeps ``o.ready`` away from
    the accumulators. A tile needs four cycles from ``i`` to its first read: time that it usually
    spends waiting for its bank. Where the next bank is full already, T = 4 loses two cycles between
    two tiles, and a larger T none.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    descriptor : In(descriptor_layout)
        That of the tile in ``i``.
    i : In(stream of tile_layout)
        Last steps of reductions only. Taken when the last vector of the tile before is due.
    full : In(1)
        The bank to be drained next is complete.
    bank : Out(1)
        That bank.
    turns : Out(1)
        Pulse: the last vector of the bank is read; the other bank is the next to be drained.
    free : Out(1)
        Pulse: the bank is all zero again, and its output needed no more.
    final : Out(1)
        Pulse: the last beat of the descriptor's last tile leaves through ``o``.
    address, read, sums
        Drain side of the accumulators.
    o : Out(stream of AccumulatorBeat)
    """

    def __init__(self, config):
        self.config = config
        super().__init__(
            {
                "descriptor": In(descriptor_layout()),
                "i": In(stream.Signature(tile_layout())),
                "full": In(1),
                "bank": Out(1),
                "turns": Out(1),
                "free": Out(1),
                "final": Out(1),
                "address": Out(ceil_log2(config.accumulator_depth)),
                "read": Out(1),
                "sums": In(32 * config.rows),
                "o": Out(stream.Signature(AccumulatorBeat(config))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.nest = nest = LoopNest(
            levels=_LEVELS, count_bits=TILE_BITS, address_bits=(TILE_BITS,)
        )

        # -- the tile that is read, and the next one -----------------------------------------------
        # At its last vector the nest needs its setup no more, which can be the next tile's then.
        # What descriptor and tile say is there when the tile has been at ``i`` for a cycle.
        seen, holds, prepared, walks = Signal(), Signal(), Signal(), Signal()
        takes = self.i.valid & self.i.ready
        m.d.comb += [
            self.i.ready.eq(seen & ~holds & (~walks | nest.last[0])),
            nest.load.eq(prepared & ~walks),
            nest.advance.eq(self.read),
            self.address.eq(nest.address.a0),
            self.turns.eq(self.read & nest.last[0]),
        ]
        m.d.sync += [seen.eq(self.i.valid & ~takes), prepared.eq(holds & ~nest.load)]
        with m.If(takes):
            m.d.sync += holds.eq(1)
        with m.If(nest.load):
            m.d.sync += [holds.eq(0), walks.eq(1)]
        with m.If(self.turns):
            m.d.sync += [walks.eq(0), self.bank.eq(~self.bank)]
        next_marks = self._take(m, takes, nest.setup)
        marks = Signal.like(next_marks)
        with m.If(nest.load):
            m.d.sync += marks.eq(next_marks)

        # -- what is sent: the vector that was read last -------------------------------------------
        layout = AccumulatorBeat(config)
        m.submodules.buffer = buffer = SkidBuffer(layout.size + 1)
        held = Signal()
        beat = Signal(range(max(config.vector_beats, 2)))
        last_beat = beat == config.vector_beats - 1
        sends = held & buffer.i.ready
        place = Signal(layout)
        last, final = Signal(), Signal()
        whole = Signal(layout)
        m.d.comb += [
            self.read.eq(walks & self.full & (~held | (sends & last_beat))),
            whole.eq(place),
            whole.data.eq(self.sums.word_select(beat, config.data_bits)),
            buffer.i.p.eq(Cat(final & last_beat, whole)),
            buffer.i.valid.eq(held),
            self.o.valid.eq(buffer.o.valid),
            self.o.payload.eq(buffer.o.p[1:]),
            buffer.o.ready.eq(self.o.ready),
            self.free.eq(sends & last_beat & last),
            self.final.eq(buffer.o.p[0] & self.o.valid & self.o.ready),
        ]
        with m.If(sends):
            m.d.sync += beat.eq(beat + 1)
            with m.If(last_beat):
                m.d.sync += [beat.eq(0), held.eq(0)]
        block, lane = Signal.like(place.block), Signal.like(place.lane)
        with m.If(nest.load):
            m.d.sync += [block.eq(0), lane.eq(0)]
        with m.If(self.read):
            m.d.sync += [
                lane.eq(lane + 1),
                block.eq(block + nest.last[1]),
                held.eq(1),
                last.eq(nest.last[0]),
                final.eq(marks.final & nest.last[0]),
                place.block_start.eq(nest.first[1]),
                place.block_end.eq(nest.last[1]),
                place.group_first.eq(marks.group_first),
                place.group_last.eq(marks.group_last),
                place.block.eq(block),
                place.diagonal.eq(marks.bias & nest.at_last[_TAPS]),
                place.lane.eq(lane),
            ]
        return m

    def _take(self, m, takes, setup):
        """Register the tile as the nest wants it, in ``setup``; returns its marks."""
        d, tile = self.descriptor, self.i.payload
        group = self.config.group
        pools, is_wu, has_bias, first_input = Signal(), Signal(), Signal(), Signal()
        m.d.sync += [
            pools.eq(d.flags[Flag.POOL]),
            is_wu.eq(d.opcode == Opcode.CONV_WU),
            has_bias.eq(d.flags[Flag.BIAS] & (d.opcode == Opcode.CONV_WU)),
            first_input.eq(tile.in_block == 0),
        ]
        # The bias vectors of a WU block exist only while the first input block is computed.
        taps = (tile.block_vectors >> ceil_log2(group)) - (has_bias & ~first_input)
        cols = tile.cols.small
        outer = (tile.out_blocks, tile.block_vectors)
        windows = (
            outer,
            (tile.images, tile.small_area),
            (tile.rows.small >> 1, cols << 1),
            (cols >> 1, 2),
            (2, cols),
            (2, 1),
        )
        in_order = (
            outer,
            (1, 0),
            (1, 0),
            (1, 0),
            (Mux(is_wu, taps, 1), group),
            (Mux(is_wu, group, tile.block_vectors), 1),
        )
        names = ("group_first", "group_last", "final")
        marks = Signal(data.StructLayout(dict.fromkeys((*names, "bias"), 1)), name="next_marks")
        with m.If(takes):
            m.d.sync += [
                marks.bias.eq(has_bias & first_input),
                *(marks[name].eq(tile[name]) for name in names),
            ]
            for level, walk in enumerate(zip(windows, in_order, strict=True)):
                (counts, strides), held = zip(*walk, strict=True), setup.level[level]
                m.d.sync += [
                    held.count.eq(Mux(pools, *counts)),
                    held.stride.a0.eq(Mux(pools, *strides)),
                ]
        return marks
