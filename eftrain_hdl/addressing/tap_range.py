"""Which pixels of a tile one kernel tap connects."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .divide import ceil_divide
from .tile import TILE_BITS, axis_layout

__all__ = ["TapRange", "tap_layout"]


def tap_layout():
    """Valid pixels of one tap along one axis.

    ``count`` pixels, the first at ``small`` and ``big``, both counted from the tile's own edge.
    """
    return data.StructLayout(
        {"count": unsigned(TILE_BITS), "small": unsigned(TILE_BITS), "big": unsigned(TILE_BITS)}
    )


class TapRange(wiring.Component):
    """Per-tap loop bounds: small pixels p in the tile for which p*stride + tap - pad is in it too.

    Padding and stride zeros never reach the array because these bounds leave them out.

    Members
    -------
    axis : In(axis_layout), stride, pad, tap : In
    o : Out(tap_layout)
        Valid once the inputs have been held for :attr:`latency` cycles.
    """

    latency = 2

    def __init__(self):
        super().__init__(
            {
                "axis": In(axis_layout()),
                "stride": In(3),
                "pad": In(4),
                "tap": In(4),
                "o": Out(tap_layout()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        axis = self.axis
        begin = Signal(TILE_BITS + 1)
        end = Signal(TILE_BITS + 1)
        offset_begin = axis.big0 + self.pad
        offset_end = axis.big1 + self.pad
        m.d.comb += [
            begin.eq(Mux(offset_begin > self.tap, offset_begin - self.tap, 0)),
            end.eq(Mux(offset_end > self.tap, offset_end - self.tap, 0)),
        ]
        first = ceil_divide(m, begin, self.stride, bits=TILE_BITS + 1, name="first")
        limit = ceil_divide(m, end, self.stride, bits=TILE_BITS + 1, name="limit")
        low = Signal(TILE_BITS + 1)
        high = Signal(TILE_BITS + 1)
        m.d.sync += [
            low.eq(Mux(first > axis.small0, first, axis.small0)),
            high.eq(Mux(limit < axis.small1, limit, axis.small1)),
        ]
        m.d.sync += [
            self.o.count.eq(Mux(high > low, high - low, 0)),
            self.o.small.eq(low - axis.small0),
            self.o.big.eq(low * self.stride + self.tap - self.pad - axis.big0),
        ]
        return m
