"""Transposer: T pixels of T channels in, T channels of T pixels out."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .vector_loader import vector_layout

__all__ = ["Transposer"]


class Transposer(wiring.Component):
    """Transpose groups of ``lanes`` vectors, or pass vectors through.

    A square of registers is filled by shifting rows down and emptied by shifting lanes sideways,
    so no wide multiplexer is needed. The end of an array row fills the group up with zero vectors.
    Filling and emptying take turns: a group costs ``lanes`` cycles beyond those of its vectors.

    Parameters
    ----------
    lanes, element_bits : int

    Members
    -------
    enable : In(1)
        Transpose (WU); else pass through with no delay. Change it only when empty.
    i : In(stream of vector_layout)
    o : Out(stream of lanes*element_bits)
    """

    def __init__(self, *, lanes, element_bits):
        self.lanes = lanes
        self.element_bits = element_bits
        width = lanes * element_bits
        super().__init__(
            {
                "enable": In(1),
                "i": In(stream.Signature(vector_layout(width))),
                "o": Out(stream.Signature(width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.lanes
        square = Signal(data.ArrayLayout(data.ArrayLayout(self.element_bits, lanes), lanes))
        filled = Signal(range(lanes + 1))
        padding = Signal()
        emptying = Signal()

        with m.If(~self.enable):
            m.d.comb += [
                self.o.valid.eq(self.i.valid),
                self.o.payload.eq(self.i.payload.data),
                self.i.ready.eq(self.o.ready),
            ]
        with m.Elif(~emptying):
            shift = Signal()
            m.d.comb += [
                self.i.ready.eq(~padding),
                shift.eq(padding | self.i.valid),
            ]
            with m.If(shift):
                for row in range(lanes - 1):
                    m.d.sync += square[row].eq(square[row + 1])
                m.d.sync += square[lanes - 1].eq(Mux(padding, 0, self.i.payload.data))
                m.d.sync += filled.eq(filled + 1)
                with m.If(~padding & self.i.payload.end):
                    m.d.sync += padding.eq(1)
                with m.If(filled == lanes - 1):
                    m.d.sync += [filled.eq(0), padding.eq(0), emptying.eq(1)]
        with m.Else():
            m.d.comb += self.o.valid.eq(1)
            for row in range(lanes):
                m.d.comb += self.o.payload.word_select(row, self.element_bits).eq(square[row][0])
            with m.If(self.o.ready):
                for row in range(lanes):
                    for lane in range(lanes - 1):
                        m.d.sync += square[row][lane].eq(square[row][lane + 1])
                m.d.sync += filled.eq(filled + 1)
                with m.If(filled == lanes - 1):
                    m.d.sync += [filled.eq(0), emptying.eq(0)]
        return m
