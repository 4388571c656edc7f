"""What each memory port moves for one tile step: the address patterns of the four ports.

Every map takes tile records and emits boxes for a :class:`RunGenerator`. The tables below are the
whole difference between FP, BP, WU and PASS as far as DRAM is concerned.
"""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..control.descriptor import descriptor_layout
from ..isa import Flag, Opcode
from .run_generator import LEVELS, TERMS, request_layout
from .tile import TILE_BITS, tile_layout

__all__ = ["OutputMap", "StationaryMap", "StreamMap"]


class _PortMap(wiring.Component):
    """Common shape: descriptor and tile stream in, request stream out."""

    def __init__(self, config):
        self.config = config
        self.vector_beats_bits = ceil_log2(config.vector_beats)
        request = request_layout(address_bits=config.address_bits)
        super().__init__(
            {
                "descriptor": In(descriptor_layout()),
                "i": In(stream.Signature(tile_layout())),
                "o": Out(stream.Signature(request)),
            }
        )

    def vectors(self, count):
        """Beats of ``count`` vectors."""
        return count << self.vector_beats_bits

    def fill(self, m, *, base, terms, levels, beats, mark=0):
        """Drive the request; missing terms are zero, missing outer levels run once."""
        o = self.o.payload
        terms = [*terms, *[(0, 0)] * (TERMS - len(terms))]
        levels = [*[(1, 0)] * (LEVELS - len(levels)), *levels]
        m.d.comb += [o.base.eq(base), o.beats.eq(beats), o.mark.eq(mark)]
        for index, (number, stride) in enumerate(terms):
            m.d.comb += [o.term[index].index.eq(number), o.term[index].stride.eq(stride)]
        for index, (count, stride) in enumerate(levels):
            m.d.comb += [o.level[index].count.eq(count), o.level[index].stride.eq(stride)]

    def passes(self, opcode):
        return self.descriptor.opcode == opcode


class StreamMap(_PortMap):
    """The streamed operand: X (FP, PASS) or dY (BP, WU).

    WU orders pixels (row, image, column), so that the rows a tap cannot use are whole groups, and
    marks the end of each row, where the transposer pads the last group with zeros.
    """

    def elaborate(self, platform):
        m = Module()
        d, tile = self.descriptor, self.i.payload
        vector = self.config.vector_bytes
        image, block, row = d.stream_image_stride, d.stream_block_stride, d.stream_row_stride
        m.d.comb += [self.o.valid.eq(self.i.valid), self.i.ready.eq(self.o.ready)]
        with m.If(self.passes(Opcode.CONV_WU)):
            self.fill(
                m,
                base=d.stream_base,
                terms=[
                    (tile.image0, image),
                    (tile.out_block0, block),
                    (tile.rows.small0, row),
                    (tile.cols.small0, vector),
                ],
                levels=[(tile.out_blocks, block), (tile.rows.small, row), (tile.images, image)],
                beats=self.vectors(tile.cols.small),
                mark=1,
            )
        with m.Else():
            is_bp = self.passes(Opcode.CONV_BP)
            rows, cols = (
                (
                    Mux(is_bp, axis.small0, axis.big0),
                    Mux(is_bp, axis.small, axis.big),
                )
                for axis in (tile.rows, tile.cols)
            )
            channel = Mux(self.passes(Opcode.PASS), tile.out_block0, tile.in_block)
            self.fill(
                m,
                base=d.stream_base,
                terms=[(tile.image0, image), (channel, block), (rows[0], row), (cols[0], vector)],
                levels=[(tile.images, image), (rows[1], row)],
                beats=self.vectors(cols[1]),
            )
        return m


class StationaryMap(_PortMap):
    """The stationary operand: weight blocks in the order of use (FP, BP) or X (WU); PASS has
    none."""

    def elaborate(self, platform):
        m = Module()
        d, tile = self.descriptor, self.i.payload
        config = self.config
        outer, block, row = (
            d.stationary_image_stride,
            d.stationary_block_stride,
            d.stationary_row_stride,
        )
        is_pass = self.passes(Opcode.PASS)
        m.d.comb += [
            self.o.valid.eq(self.i.valid & ~is_pass),
            self.i.ready.eq(self.o.ready | is_pass),
        ]
        with m.If(self.passes(Opcode.CONV_WU)):
            self.fill(
                m,
                base=d.stationary_base,
                terms=[
                    (tile.image0, outer),
                    (tile.in_block, block),
                    (tile.rows.big0, row),
                    (tile.cols.big0, config.vector_bytes),
                ],
                levels=[(tile.images, outer), (tile.rows.big, row)],
                beats=self.vectors(tile.cols.big),
            )
        with m.Else():
            self.fill(
                m,
                base=d.stationary_base,
                terms=[(tile.out_block0, outer), (tile.in_block, block)],
                levels=[
                    (d.kernel_rows, d.kernel_cols * config.block_bytes),
                    (d.kernel_cols, config.block_bytes),
                    (tile.out_blocks, outer),
                ],
                beats=self.vectors(Const(config.group, 6)),
            )
        return m


class OutputMap(_PortMap):
    """The result, as the writer stores it; with ``side`` the operand the epilogue needs beside it.

    Both walk the out blocks of a finished tile in the order of the drain, so one component with two
    sets of base addresses serves both ports and they cannot disagree.

    Parameters
    ----------
    config : CoreConfig
    side : bool
        Generate the side reads instead of the writes: the bias vector ahead of a block (FP), the
        side tensor (SIDE_MASK, SIDE_ADD, UNPOOL), weights and momentum (UPDATE).
    """

    def __init__(self, config, *, side):
        self.side = side
        super().__init__(config)

    def elaborate(self, platform):
        m = Module()
        d, tile, config = self.descriptor, self.i.payload, self.config
        flags = d.flags
        vector = config.vector_bytes
        is_wu = self.passes(Opcode.CONV_WU)
        is_bp = self.passes(Opcode.CONV_BP)
        update, momentum = flags[Flag.UPDATE], flags[Flag.MOMENTUM]
        base, image, block, row = (
            (d.side_base, d.side_image_stride, d.side_block_stride, d.side_row_stride)
            if self.side
            else (d.output_base, d.output_image_stride, d.output_block_stride, d.output_row_stride)
        )
        if self.side:
            has_tensor = Mux(
                is_wu,
                update,
                flags[Flag.SIDE_MASK] | flags[Flag.SIDE_ADD] | flags[Flag.UNPOOL],
            )
            # FP fetches the bias ahead of the block, WU updates it behind the block's weights.
            bias_first = flags[Flag.BIAS] & ~is_wu
            bias_last = flags[Flag.BIAS] & is_wu & update & (tile.in_block == 0)
        else:
            has_tensor = Const(1)
            bias_first = Const(0)
            bias_last = flags[Flag.BIAS] & is_wu & (tile.in_block == 0)

        offset = Signal(TILE_BITS)
        out_block = Signal(TILE_BITS)
        m.d.comb += out_block.eq(tile.out_block0 + offset)
        # Weights and momentum alternate vector by vector: the second lies a fixed distance away.
        copies = Mux(update & momentum, 2, 1)

        def fill_bias():
            self.fill(
                m,
                base=d.bias_base,
                terms=[(out_block, vector)],
                levels=[(Mux(is_wu, copies, 1), d.bias_momentum_base - d.bias_base)],
                beats=self.vectors(Const(1, 1)),
            )

        def fill_tensor():
            rows, cols = (
                (Mux(is_bp, axis.big0, axis.small0), Mux(is_bp, axis.big, axis.small))
                for axis in (tile.rows, tile.cols)
            )
            with m.If(is_wu):
                self.fill(
                    m,
                    base=d.output_base,
                    terms=[
                        (out_block, d.output_block_stride),
                        (tile.in_block, d.output_image_stride),
                    ],
                    levels=[
                        (Mux(copies == 2, weight_vectors, 1), vector),
                        (copies, d.side_base - d.output_base),
                    ],
                    beats=self.vectors(Mux(copies == 2, 1, weight_vectors)),
                )
            with m.Elif(flags[Flag.UNPOOL]):
                # 2x2 windows: two runs of two vectors, a row apart.
                self.fill(
                    m,
                    base=base,
                    terms=[
                        (tile.image0, image),
                        (out_block, block),
                        (rows[0] << 1, row),
                        (cols[0] << 1, vector),
                    ],
                    levels=[
                        (tile.images, image),
                        (rows[1], row << 1),
                        (cols[1], 2 * vector),
                        (2, row),
                    ],
                    beats=self.vectors(Const(2, 2)),
                )
            with m.Else():
                # Pooled output has half the rows and columns; a side operand never comes with it.
                shift = Const(0) if self.side else flags[Flag.POOL]
                self.fill(
                    m,
                    base=base,
                    terms=[
                        (tile.image0, image),
                        (out_block, block),
                        (rows[0] >> shift, row),
                        (cols[0] >> shift, vector),
                    ],
                    levels=[(tile.images, image), (rows[1] >> shift, row)],
                    beats=self.vectors(cols[1] >> shift),
                )

        weight_vectors = Signal(TILE_BITS)
        taps = Signal(8)
        m.d.comb += [
            taps.eq(d.kernel_rows * d.kernel_cols),
            weight_vectors.eq(taps << ceil_log2(config.group)),
        ]

        def next_block():
            with m.If(offset == tile.out_blocks - 1):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += offset.eq(0)
            with m.Else():
                m.d.sync += offset.eq(offset + 1)

        with m.FSM():
            with m.State("FIRST"):
                with m.If(self.i.valid):
                    with m.If(bias_first):
                        fill_bias()
                        m.d.comb += self.o.valid.eq(1)
                    with m.If(self.o.ready | ~bias_first):
                        m.next = "TENSOR"
            with m.State("TENSOR"):
                fill_tensor()
                m.d.comb += self.o.valid.eq(has_tensor)
                with m.If(self.o.ready | ~has_tensor):
                    m.next = "LAST"
            with m.State("LAST"):
                with m.If(bias_last):
                    fill_bias()
                    m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready | ~bias_last):
                    next_block()
                    m.next = "FIRST"
        return m
