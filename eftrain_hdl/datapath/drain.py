"""Drain: reads finished tiles out of the accumulators, a bus beat at a time."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..addressing.loop_nest import LoopNest
from ..addressing.tile import TILE_BITS, tile_layout
from ..control.descriptor import descriptor_layout
from ..isa import Flag, Opcode
from .diagonal import AccumulatorBeat

__all__ = ["Drain"]

_LEVELS = 5


class Drain(wiring.Component):
    """Walk a finished bank in the order in which it is written to DRAM.

    That order is the accumulators' own, except with POOL, where the four pixels of a window follow
    one another. One beat a cycle when the epilogue keeps up: the first beat in the cycle after the
    bank is full, no pause between out blocks, one cycle without a beat between two tiles.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    descriptor : In(descriptor_layout)
        That of the tile in ``i``.
    i : In(stream of tile_layout)
        Last steps of reductions only. A tile stays until its last beat has left.
    full : In(1)
        The bank to be drained next is complete.
    bank : Out(1)
        That bank.
    free : Out(1)
        Pulse: the bank is empty again, and all zero.
    final : Out(1)
        With ``free``: it was the last tile of the descriptor.
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
        config, d, tile = self.config, self.descriptor, self.i.payload
        group = config.group
        is_wu = d.opcode == Opcode.CONV_WU
        has_bias = d.flags[Flag.BIAS] & is_wu
        pool = d.flags[Flag.POOL]

        # The nest stands at the first vector of the next block before its turn comes: at reset, and
        # whenever the last vector of a block is read.
        m.submodules.nest = nest = LoopNest(
            levels=_LEVELS, count_bits=TILE_BITS, address_bits=(TILE_BITS,)
        )
        # The bias vectors of a WU block exist only while the first input block is computed.
        count = tile.block_vectors - Mux(has_bias & (tile.in_block != 0), group, 0)
        level = nest.setup.level
        cols = tile.cols.small
        with m.If(pool):
            for index, (times, stride) in enumerate(
                [
                    (tile.images, tile.small_area),
                    (tile.rows.small >> 1, cols << 1),
                    (cols >> 1, 2),
                    (2, cols),
                    (2, 1),
                ]
            ):
                m.d.comb += [level[index].count.eq(times), level[index].stride.a0.eq(stride)]
        with m.Else():
            for index in range(_LEVELS - 1):
                m.d.comb += level[index].count.eq(1)
            m.d.comb += [level[-1].count.eq(count), level[-1].stride.a0.eq(1)]

        # Where the drain is: the block and vector that are read next.
        block, position = Signal(TILE_BITS), Signal(TILE_BITS)
        block_start, next_start = Signal(TILE_BITS), Signal(TILE_BITS)
        last_vector = nest.last[0]
        last_block = block == tile.out_blocks - 1
        all_read = Signal()

        # What is sent: the vector that was read last.
        held = Signal()
        beat = Signal(range(max(config.vector_beats, 2)))
        last_beat = beat == config.vector_beats - 1
        taken = self.o.valid & self.o.ready & last_beat
        place = Signal(AccumulatorBeat(config))
        m.d.comb += [
            self.read.eq(self.i.valid & self.full & ~all_read & (~held | taken)),
            next_start.eq(Mux(last_block, 0, block_start + tile.block_vectors)),
            nest.setup.start.a0.eq(next_start),
            nest.load.eq(self.read & last_vector),
            nest.advance.eq(self.read),
            self.address.eq(nest.address.a0),
            self.o.valid.eq(held),
            self.o.payload.eq(place),
            self.o.payload.data.eq(self.sums.word_select(beat, config.data_bits)),
            # Every entry has been cleared by then, and the output of the bank is not needed again.
            self.free.eq(all_read & taken),
            self.i.ready.eq(self.free),
            self.final.eq(tile.final),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += beat.eq(Mux(last_beat, 0, beat + 1))
        with m.If(taken):
            m.d.sync += held.eq(0)
        with m.If(self.read):
            m.d.sync += [
                held.eq(1),
                position.eq(Mux(last_vector, 0, position + 1)),
                place.block_start.eq(position == 0),
                place.block_end.eq(last_vector),
                place.group_first.eq(tile.group_first),
                place.group_last.eq(tile.group_last),
                place.block.eq(block),
                place.diagonal.eq(has_bias & (tile.in_block == 0) & (position >= count - group)),
                place.lane.eq(position),
            ]
            with m.If(last_vector):
                m.d.sync += [
                    block.eq(Mux(last_block, 0, block + 1)),
                    block_start.eq(next_start),
                    all_read.eq(last_block),
                ]
        with m.If(self.free):
            m.d.sync += [self.bank.eq(~self.bank), all_read.eq(0)]
        return m
