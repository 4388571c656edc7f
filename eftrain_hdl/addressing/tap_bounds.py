"""The loop bounds of all taps of a tile."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .tap_range import TAP_BITS, TapRange, tap_layout
from .tile import axis_layout

__all__ = ["TapBounds"]


class TapBounds(wiring.Component):
    """Find the bounds of each tap along both axes once and keep them by tap.

    A column and a row in turn, one a cycle. ``found`` is high ``TapRange.latency + 1`` cycles after
    ``start``; from the next cycle on column k may be asked for 2k cycles later, and row k, too.

    Members
    -------
    rows, cols : In(axis_layout)
        Of the tile; like all other numbers stable from ``start`` until its last tap was asked for.
    stride_rows, stride_cols, pad_rows, pad_cols : In
    last_row, last_col : In
        The last tap along each axis. May come a cycle later than ``start``.
    start : In(1)
        Pulse.
    found : Out(1)
        Pulse: those of column 0 and row 0 are there from the next cycle on.
    row, col : In
        The tap.
    row_range, col_range : Out(tap_layout)
        Its bounds, in the same cycle.
    """

    def __init__(self):
        axes = ("rows", "cols")
        super().__init__(
            {
                **{axis: In(axis_layout()) for axis in axes},
                **{f"stride_{axis}": In(3) for axis in axes},
                **{f"pad_{axis}": In(TAP_BITS) for axis in axes},
                "last_row": In(TAP_BITS),
                "last_col": In(TAP_BITS),
                "start": In(1),
                "found": Out(1),
                "row": In(TAP_BITS),
                "col": In(TAP_BITS),
                "row_range": Out(tap_layout()),
                "col_range": Out(tap_layout()),
            }
        )

    def elaborate(self, platform):
        m = Module()

        # Along the axis with fewer taps some are looked at that nobody asks for.
        tap = Signal(TAP_BITS)
        on_rows = Signal()
        finding = Signal()
        last = Mux(self.last_row > self.last_col, self.last_row, self.last_col)
        with m.If(self.start):
            m.d.sync += [finding.eq(1), on_rows.eq(1)]
        with m.Elif(finding):
            m.d.sync += on_rows.eq(~on_rows)
            with m.If(on_rows):
                m.d.sync += tap.eq(tap + 1)
                with m.If(tap == last):
                    m.d.sync += [tap.eq(0), finding.eq(0)]
        m.submodules.tap_range = tap_range = TapRange()
        m.d.comb += [
            tap_range.axis.eq(Mux(on_rows, self.rows, self.cols)),
            tap_range.stride.eq(Mux(on_rows, self.stride_rows, self.stride_cols)),
            tap_range.pad.eq(Mux(on_rows, self.pad_rows, self.pad_cols)),
            tap_range.tap.eq(tap),
        ]

        found = Cat(tap, self.start | (finding & ~on_rows), finding & on_rows)
        for stage in range(TapRange.latency):
            later = Signal(len(found), name=f"found{stage}")
            m.d.sync += later.eq(found)
            found = later
        found_tap, found_col, found_row = found[:TAP_BITS], found[TAP_BITS], found[TAP_BITS + 1]
        m.d.comb += self.found.eq(found_row & (found_tap == 0))
        for name, valid in (("row", found_row), ("col", found_col)):
            bounds = memory.Memory(shape=tap_layout(), depth=1 << TAP_BITS, init=[])
            m.submodules[f"{name}_bounds"] = bounds
            write, read = bounds.write_port(), bounds.read_port(domain="comb")
            m.d.comb += [
                write.addr.eq(found_tap),
                write.data.eq(tap_range.o),
                write.en.eq(valid),
                read.addr.eq(getattr(self, name)),
                getattr(self, f"{name}_range").eq(read.data),
            ]
        return m
