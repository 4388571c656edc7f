"""Gather walk: where in the stationary buffer the vectors of one load record are."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..addressing.sweep import LoadOp, load_layout
from ..addressing.tile import TILE_BITS

__all__ = ["GatherWalk"]


class GatherWalk(wiring.Component):
    """Step through the vectors of a record, one a cycle.

    GATHER goes from column to column, from image to image, and back to the first pixel of the next
    row. What it does not find in the buffer is zero: columns that the tap cannot use, and all that
    comes after the last image. BLOCK counts its vectors. The other ops read nothing.

    All outputs come from registers, which are set one step ahead.

    Parameters
    ----------
    depth_bits : int
        Of an address in the buffer.

    Members
    -------
    head : In(load_layout)
        The record to be taken.
    advance : In(1)
        Go to the next vector in the next cycle.
    row_ends : In(1), take : In(1)
        This vector is the last of its row; the next one is the first of ``head``.
    available : In
        Vectors in the buffer, fewer from the next cycle on only if this one takes ``head``.
    remaining : In
        Of these, how many are still there when ``head`` has been taken.
    address : Out
        Offset of the vector in the buffer.
    used : Out(1)
        The vector comes from the buffer.
    there : Out(1)
        The buffer holds what is at this offset; a cycle late.
    """

    def __init__(self, *, depth_bits):
        self._depth_bits = depth_bits
        super().__init__(
            {
                "head": In(load_layout()),
                "advance": In(1),
                "row_ends": In(1),
                "take": In(1),
                "available": In(depth_bits + 1),
                "remaining": In(depth_bits + 1),
                "address": Out(depth_bits),
                "used": Out(1),
                "there": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        head, address = self.head, self.address
        head_gathers = head.op == LoadOp.GATHER
        head_reads = head_gathers | (head.op == LoadOp.BLOCK)

        # -- of the record -------------------------------------------------------------------------
        record = Signal.like(head, name="record")
        gathers, reads = Signal(), Signal()
        one_col, one_image, starts_inside = Signal(), Signal(), Signal()
        final_col, col_end = Signal(TILE_BITS), Signal(TILE_BITS)

        # -- of the vector -------------------------------------------------------------------------
        row_base, image_base = Signal(self._depth_bits), Signal(self._depth_bits)
        last_col, last_image = Signal(), Signal()
        # The images have not ended yet; the tap can use the column.
        exists, inside = Signal(), Signal()
        # Numbers of the next ones: images count from one.
        next_col, next_image = Signal(TILE_BITS), Signal(TILE_BITS)
        # Where the next vector may be, and whether that is there: all before it is known which.
        start = Mux(head_gathers, head.offset, 0)[: self._depth_bits]
        next_row, image_start, beside = (
            (base + stride)[: self._depth_bits]
            for base, stride in (
                (row_base, record.row_stride),
                (image_base, record.image_stride),
                (address, Mux(gathers, record.col_stride, 1)),
            )
        )
        m.d.comb += self.used.eq(exists & inside)
        m.d.sync += self.there.eq(address < self.available)

        with m.If(self.advance & self.take):
            m.d.sync += [
                self.there.eq(start < self.remaining),
                record.eq(head),
                gathers.eq(head_gathers),
                reads.eq(head_reads),
                exists.eq(head_reads),
                col_end.eq(head.col_first + head.col_count),
                final_col.eq(head.cols - 1),
                next_col.eq(1),
                next_image.eq(2),
                *(place.eq(start) for place in (row_base, image_base, address)),
                *(flag.eq(head_gathers & (head.cols == 1)) for flag in (one_col, last_col)),
                *(flag.eq(head.images == 1) for flag in (one_image, last_image)),
                *(
                    flag.eq(~head_gathers | (head.col_first == 0))
                    for flag in (starts_inside, inside)
                ),
            ]
        with m.Elif(self.advance):
            with m.If(self.row_ends | last_col):
                m.d.sync += [next_col.eq(1), last_col.eq(one_col), inside.eq(starts_inside)]
            with m.Else():
                m.d.sync += [
                    next_col.eq(next_col + 1),
                    last_col.eq(gathers & (next_col == final_col)),
                ]
                with m.If(gathers & (next_col == record.col_first)):
                    m.d.sync += inside.eq(1)
                with m.If(gathers & (next_col == col_end)):
                    m.d.sync += inside.eq(0)
            with m.If(self.row_ends):
                m.d.sync += [
                    self.there.eq(next_row < self.available),
                    *(place.eq(next_row) for place in (row_base, image_base, address)),
                    next_image.eq(2),
                    last_image.eq(one_image),
                    exists.eq(reads),
                ]
            with m.Elif(last_col):
                m.d.sync += [
                    self.there.eq(image_start < self.available),
                    *(place.eq(image_start) for place in (image_base, address)),
                    next_image.eq(next_image + 1),
                    last_image.eq(next_image == record.images),
                    exists.eq(exists & ~last_image),
                ]
            with m.Elif(inside):
                m.d.sync += [self.there.eq(beside < self.available), address.eq(beside)]
        return m
