"""Transposer: T pixels of T channels in, T channels of T pixels out."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .vector_loader import vector_layout

__all__ = ["Transposer"]


class Transposer(wiring.Component):
    """Transpose groups of ``lanes`` vectors, or pass vectors through; each says which.

    Element (row i, lane j) of a group lies in memory bank ``i ^ j`` at address i. The elements of a
    row are in different banks, and so are those of a column, so a vector is written and one is read
    every cycle, in order but for an exchange of lanes before the banks and one behind them. The
    skew by exclusive or keeps the exchanges butterflies and the addresses free of carries. The
    banks have two halves: a group fills one while the group before leaves the other.

    The end of an array row closes its group; rows that are missing are read as zeros and take no
    cycles of the input. A vector that is not transposed is a group of its own.

    *Latency*: two cycles from the last vector of a group to the first one out; the rest follow in
    the next cycles whatever the input does. *Rate*: a vector in and one out every cycle.
    *Backpressure*: any stalls on both streams; two groups fit inside.

    Parameters
    ----------
    lanes : int
        A power of two.
    element_bits : int

    Members
    -------
    i : In(stream of vector_layout)
        Between the first vector of a row that is transposed and its ``end`` all are.
    o : Out(stream of lanes*element_bits)

    Raises
    ------
    ValueError
        If ``lanes`` is not a power of two.
    """

    def __init__(self, *, lanes, element_bits):
        if lanes < 2 or lanes & (lanes - 1):
            raise ValueError(f"The lanes of a transposer must be a power of two, not {lanes}.")
        self.lanes = lanes
        self.element_bits = element_bits
        width = lanes * element_bits
        super().__init__(
            {
                "i": In(stream.Signature(vector_layout(width))),
                "o": Out(stream.Signature(width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes, bits = self.lanes, ceil_log2(self.lanes)

        # Of each half: it holds a whole group, that is transposed, and its last row.
        closed = Signal(2)
        turned = Signal(2)
        last = Array(Signal(bits, name=f"last{half}") for half in range(2))

        # -- in ------------------------------------------------------------------------------------
        filling = Signal()
        row = Signal(bits)
        enters = Signal()
        m.d.comb += [
            self.i.ready.eq(~closed.bit_select(filling, 1)),
            enters.eq(self.i.valid & self.i.ready),
        ]
        with m.If(enters):
            m.d.sync += row.eq(row + 1)
            with m.If((row == lanes - 1) | self.i.p.end | ~self.i.p.transpose):
                m.d.sync += [
                    row.eq(0),
                    closed.bit_select(filling, 1).eq(1),
                    turned.bit_select(filling, 1).eq(self.i.p.transpose),
                    last[filling].eq(row),
                    filling.eq(~filling),
                ]

        # -- out -----------------------------------------------------------------------------------
        emptying = Signal()
        column = Signal(bits)
        by_column = Signal()
        leaves = Signal()
        full = Signal()
        exchange = Signal(bits)
        m.d.comb += [
            by_column.eq(turned.bit_select(emptying, 1)),
            leaves.eq(closed.bit_select(emptying, 1) & (~full | self.o.ready)),
            self.o.valid.eq(full),
        ]
        with m.If(self.o.ready):
            m.d.sync += full.eq(0)
        with m.If(leaves):
            m.d.sync += [full.eq(1), exchange.eq(column), column.eq(column + 1)]
            with m.If((column == lanes - 1) | ~by_column):
                m.d.sync += [
                    column.eq(0),
                    closed.bit_select(emptying, 1).eq(0),
                    emptying.eq(~emptying),
                ]

        # -- banks ---------------------------------------------------------------------------------
        skewed = self._exchanged(m, self.i.p.data, row, name="skewed")
        found = Signal(lanes * self.element_bits, reset_less=True)
        for bank in range(lanes):
            m.submodules[f"bank{bank}"] = cells = memory.Memory(
                shape=self.element_bits,
                depth=2 * lanes,
                init=[],
                attrs={"ram_style": "distributed"},
            )
            write, read = cells.write_port(), cells.read_port(domain="comb")
            # A column is at another address in each bank, a vector that passes in row 0 of all.
            place = Signal(bits, name=f"place{bank}")
            m.d.comb += [
                write.en.eq(enters),
                write.addr.eq(Cat(row, filling)),
                write.data.eq(skewed.word_select(bank, self.element_bits)),
                place.eq(column ^ Mux(by_column, bank, 0)),
                read.addr.eq(Cat(place, emptying)),
            ]
            missing = by_column & (place > last[emptying])
            with m.If(leaves):
                m.d.sync += found.word_select(bank, self.element_bits).eq(
                    Mux(missing, 0, read.data)
                )
        m.d.comb += self.o.p.eq(self._exchanged(m, found, exchange, name="turned"))
        return m

    def _exchanged(self, m, vector, distance, *, name):
        """Element ``k ^ distance`` of ``vector`` at each place k."""
        size = self.element_bits
        for stage, bit in enumerate(distance):
            elements = [vector[size * k : size * (k + 1)] for k in range(self.lanes)]
            exchanged = Cat(elements[k ^ 1 << stage] for k in range(self.lanes))
            moved = Signal(len(vector), name=f"{name}{stage}")
            m.d.comb += moved.eq(Mux(bit, exchanged, vector))
            vector = moved
        return vector
