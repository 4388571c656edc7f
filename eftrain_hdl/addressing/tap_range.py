"""Which pixels of a tile one kernel tap connects."""

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .divide import RECIPROCAL_BITS, reciprocal, small_ceil_divide, small_product
from .tile import TILE_BITS, axis_layout

__all__ = ["TAP_BITS", "TapRange", "tap_layout"]

TAP_BITS = 4
"""Taps of one axis are numbered in so many bits."""


def tap_layout():
    """Valid pixels of one tap along one axis.

    ``count`` pixels, the first at ``small`` and ``big``, both counted from the tile's own edge.
    They are below the kernel's size, because a tile is as large on one grid as it is on the other.
    """
    return data.StructLayout(
        {"count": unsigned(TILE_BITS), "small": unsigned(TAP_BITS), "big": unsigned(TAP_BITS)}
    )


class TapRange(wiring.Component):
    """Per-tap loop bounds: small pixels p in the tile for which p*stride + tap - pad is in it too.

    Padding and stride zeros never reach the array because these bounds leave them out.

    *Latency*: ``o`` belongs to the inputs of :attr:`latency` cycles before, every cycle.

    Members
    -------
    axis : In(axis_layout)
        Of a tile of the tile walker: its range on one grid is what that on the other one meets.
    stride, pad, tap : In
    o : Out(tap_layout)
    """

    latency = 4

    def __init__(self):
        super().__init__(
            {
                "axis": In(axis_layout()),
                "stride": In(3),
                "pad": In(TAP_BITS),
                "tap": In(TAP_BITS),
                "o": Out(tap_layout()),
            }
        )

    def elaborate(self, platform):
        m = Module()

        # Stage 1: operands. Whoever chooses between the axes takes his time.
        axis = Signal(axis_layout())
        stride_1, pad, tap = Signal(3), Signal(TAP_BITS), Signal(TAP_BITS)
        m.d.sync += [
            axis.eq(self.axis),
            stride_1.eq(self.stride),
            pad.eq(self.pad),
            tap.eq(self.tap),
        ]

        # Stage 2: where the tap puts small pixel 0 of the tile, counted from its first big pixel.
        # In a tile that has small pixels that is less than a kernel away, so few bits are exact.
        position = Signal(signed(TAP_BITS + 1))
        bits = len(position)
        stride_2 = Signal(3)
        small_length, big_length = Signal(TILE_BITS), Signal(TILE_BITS)
        m.d.sync += [
            position.eq(
                small_product(axis.small0[:bits], stride_1)[:bits]
                + (tap - pad - axis.big0[:bits])
            ),
            stride_2.eq(stride_1),
            small_length.eq(axis.small),
            big_length.eq(axis.big),
        ]

        # Stage 3: the first small pixel that is not before the edge; how far the other edge is.
        before = Signal(TAP_BITS)
        small, position_3, stride_3 = Signal(TAP_BITS), Signal.like(position), Signal.like(stride_2)
        left = Signal(signed(TILE_BITS + 2))
        dividend = Signal(TILE_BITS + 1)
        small_length_3 = Signal(TILE_BITS)
        m.d.comb += [
            before.eq(Mux(position < 0, -position, 0)),
            left.eq(big_length - position),
        ]
        m.d.sync += [
            small.eq(small_ceil_divide(before, stride_2)),
            dividend.eq(Mux(left < 0, 0, left) + (stride_2 - 1)[:3]),
            position_3.eq(position),
            stride_3.eq(stride_2),
            small_length_3.eq(small_length),
        ]

        # Stage 4: small pixels before the other edge, and before the end of the tile.
        quotient = Signal(TILE_BITS + 1)
        room = Signal(TILE_BITS)
        m.d.sync += [
            quotient.eq((dividend * reciprocal(stride_3)) >> RECIPROCAL_BITS),
            room.eq(Mux(small_length_3 > small, small_length_3 - small, 0)),
            self.o.small.eq(small),
            self.o.big.eq(position_3 + small_product(small, stride_3)),
        ]
        count = Signal(signed(TILE_BITS + 2))
        m.d.comb += [
            count.eq(quotient - self.o.small),
            self.o.count.eq(Mux(count < 0, 0, Mux(count > room, room, count))),
        ]
        return m
