"""Run generator: turns a tile's place in a tensor into contiguous runs of DRAM."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..memory.axi import RunLayout, RunTag
from .loop_nest import LoopNest
from .tile import TILE_BITS

__all__ = ["LEVELS", "TERMS", "RunGenerator", "request_layout"]

LEVELS = 4
TERMS = 4


def request_layout(*, address_bits):
    """One box of a tensor.

    base, term
        The first byte is ``base + sum of index * stride`` over the four terms.
    level
        Four nested loops (outermost first) of ``count`` runs ``stride`` bytes apart.
    beats
        Bus beats of one run. 0, or a zero count on any level, makes an empty request.
    tag
        Tag of the runs; ``mark`` only on the last run of the innermost loop (an array row of the
        WU stream ends there).
    """
    address = unsigned(address_bits)
    pair = data.StructLayout({"index": unsigned(TILE_BITS), "stride": address})
    level = data.StructLayout({"count": unsigned(TILE_BITS), "stride": address})
    return data.StructLayout(
        {
            "base": address,
            "term": data.ArrayLayout(pair, TERMS),
            "level": data.ArrayLayout(level, LEVELS),
            "beats": unsigned(TILE_BITS),
            "tag": RunTag(),
        }
    )


class RunGenerator(wiring.Component):
    """Emit the runs of each request, one a cycle after ``TERMS + 2`` cycles of address arithmetic.

    Used by every port of the core, readers and writer alike.

    Members
    -------
    i : In(stream of request_layout)
    o : Out(stream of RunLayout)
    idle : Out(1)
        No request is held.
    """

    def __init__(self, *, address_bits):
        self.address_bits = address_bits
        super().__init__(
            {
                "i": In(stream.Signature(request_layout(address_bits=address_bits))),
                "o": Out(stream.Signature(RunLayout(address_bits))),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.nest = nest = LoopNest(
            levels=LEVELS, count_bits=TILE_BITS, address_bits=(self.address_bits,)
        )
        request = Signal(request_layout(address_bits=self.address_bits))
        address = Signal(self.address_bits)
        operands = Signal(request.term[0].shape())
        product = Signal(self.address_bits)
        term = Signal(range(TERMS + 2))
        empty = Signal()
        nothing = request.beats == 0
        for level in range(LEVELS):
            nothing = nothing | (request.level[level].count == 0)
            m.d.comb += [
                nest.setup.level[level].count.eq(request.level[level].count),
                nest.setup.level[level].stride.a0.eq(request.level[level].stride),
            ]
        # One term is chosen while that before it is multiplied and that before it is added.
        total = address + product
        # The nest is loaded after all else, so until then it may go where it wants.
        m.d.comb += [nest.setup.start.a0.eq(total), nest.advance.eq(self.o.ready)]
        m.d.sync += [product.eq(operands.index * operands.stride), nest.load.eq(0)]

        # The state IDLE, as a register: the state itself is busy loading the request.
        idle = Signal(init=1)
        m.d.comb += [self.idle.eq(idle), self.i.ready.eq(idle)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [
                    request.eq(self.i.payload),
                    address.eq(self.i.payload.base),
                    term.eq(0),
                ]
                with m.If(self.i.valid):
                    m.d.sync += idle.eq(0)
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.sync += [
                    operands.eq(request.term[term[:2]]),
                    term.eq(term + 1),
                    empty.eq(nothing),
                ]
                with m.If(term >= 2):
                    m.d.sync += address.eq(total)
                m.d.sync += nest.load.eq(term == TERMS)
                with m.If(nest.load):
                    m.d.sync += idle.eq(empty)
                    m.next = "IDLE"
                    with m.If(~empty):
                        m.next = "RUNS"
            with m.State("RUNS"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.payload.address.eq(nest.address.a0),
                    self.o.payload.beats.eq(request.beats),
                    self.o.payload.tag.eq(request.tag),
                    self.o.payload.tag.mark.eq(request.tag.mark & nest.last[LEVELS - 1]),
                ]
                with m.If(self.o.ready & nest.last[0]):
                    m.d.sync += idle.eq(1)
                    m.next = "IDLE"
        return m
