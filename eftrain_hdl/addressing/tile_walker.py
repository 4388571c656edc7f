"""Tile walker: cuts one descriptor into tile steps."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..control.descriptor import descriptor_layout
from ..isa import ErrorCode, Opcode
from .tile import TILE_BITS, tile_layout
from .tile_sizes import COMPUTED, TileSizes

__all__ = ["TileWalker"]


class TileWalker(wiring.Component):
    """Emit the steps of a descriptor in the order of ``docs/architecture.md``, one record a step.

    The rectangle of a tile on both grids and its sizes are computed here and nowhere else (by
    :class:`TileSizes`). The first record comes ``TileSizes.latency + 3`` cycles after ``start``,
    that of a new tile ``TileSizes.latency + 4`` after the one before, a further step of the same
    tile one cycle after.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    descriptor : In(descriptor_layout)
        Stable from ``start`` to the last record taken.
    slot : In(1)
        Goes into every record, likewise.
    start : In(1)
        Pulse, while not ``busy``.
    o : Out(stream of tile_layout)
    busy : Out(1)
        High until the last record has been taken.
    error : Out(8)
        ``TILE_OVERFLOW`` when a tile does not fit a buffer; no record of that tile is emitted.
        Sticky until reset.
    """

    def __init__(self, config):
        self.config = config
        super().__init__(
            {
                "descriptor": In(descriptor_layout()),
                "slot": In(1),
                "start": In(1),
                "o": Out(stream.Signature(tile_layout())),
                "busy": Out(1),
                "error": Out(8),
            }
        )

    def elaborate(self, platform):
        m = Module()
        d = self.descriptor
        is_bp, is_wu = Signal(), Signal()
        m.d.sync += [
            is_bp.eq(d.opcode.matches(Opcode.CONV_BP, Opcode.PASS_BP)),
            is_wu.eq(d.opcode == Opcode.CONV_WU),
        ]

        # -- the counters, outermost first ---------------------------------------------------------
        # What follows from them is known two cycles later, and they change only where that is
        # waited for.
        out_block0 = Signal(TILE_BITS)
        image0 = Signal(TILE_BITS)
        row0 = Signal(TILE_BITS)
        col0 = Signal(TILE_BITS)
        loops = {
            "out_blocks": (out_block0, d.tile_out_blocks, d.out_blocks),
            "images": (image0, d.tile_images, d.images),
            "rows": (row0, d.tile_rows, Mux(is_bp, d.big_rows, d.small_rows)),
            "cols": (col0, d.tile_cols, Mux(is_bp, d.big_cols, d.small_cols)),
        }
        following, done = {}, {}
        for name, (counter, step, end) in loops.items():
            following[name] = Signal(TILE_BITS + 1, name=f"following_{name}")
            done[name] = Signal(name=f"done_{name}")
            m.d.sync += [
                following[name].eq(counter + step),
                done[name].eq(following[name] >= end),
            ]
        pixels = ("images", "rows", "cols")
        pixels_done, pixels_start = Signal(), Signal()
        m.d.sync += pixels_start.eq(Cat(loops[name][0] for name in pixels) == 0)
        m.d.comb += pixels_done.eq(Cat(done[name] for name in pixels).all())

        # FP, BP: the innermost loop, a step a cycle; PASS and PASS_BP run it once. WU: the second
        # outermost one. Its flags hold for the cycle they are in.
        in_block = Signal(TILE_BITS)
        in_first, in_last = Signal(), Signal()
        reduces = Signal()
        m.d.sync += [
            in_first.eq((in_block == 0) & ~reduces),
            in_last.eq(Mux(reduces, in_block + 2 == d.in_blocks, in_block + 1 == d.in_blocks)),
        ]
        with m.If(reduces):
            m.d.sync += in_block.eq(in_block + 1)

        # -- one tile ------------------------------------------------------------------------------
        m.submodules.sizes = sizes = TileSizes(self.config)
        m.d.comb += [
            sizes.descriptor.eq(d),
            sizes.is_bp.eq(is_bp),
            sizes.is_wu.eq(is_wu),
        ]
        for name in ("rows", "cols"):
            counter, _, end = loops[name]
            m.d.comb += [
                getattr(sizes, name).begin.eq(counter),
                getattr(sizes, name).end.eq(Mux(done[name], end, following[name])),
            ]
        for name in ("images", "out_blocks"):
            counter, step, end = loops[name]
            m.d.sync += getattr(sizes, name).eq(Mux(done[name], end - counter, step))

        final = Signal()
        record = self.o.payload
        m.d.comb += [
            *(record[name].eq(sizes.o[name]) for name in COMPUTED),
            record.image0.eq(image0),
            record.images.eq(sizes.images),
            record.out_block0.eq(out_block0),
            record.out_blocks.eq(sizes.out_blocks),
            record.in_block.eq(in_block),
            record.first.eq(Mux(is_wu, pixels_start, in_first)),
            record.last.eq(Mux(is_wu, pixels_done, in_last)),
            final.eq(done["out_blocks"] & pixels_done & in_last),
            record.final.eq(final),
            record.slot.eq(self.slot),
            record.group_first.eq(pixels_start),
            record.group_last.eq(pixels_done),
        ]

        m.d.comb += self.busy.eq(1)
        settled = Signal()
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                m.d.sync += [counter.eq(0) for counter, _, _ in loops.values()]
                m.d.sync += in_block.eq(0)
                with m.If(self.start):
                    m.next = "COUNTED"
            with m.State("COUNTED"):
                m.d.sync += settled.eq(~settled)
                with m.If(settled):
                    m.d.comb += sizes.start.eq(1)
                    m.next = "SIZES"
            with m.State("SIZES"):
                with m.If(sizes.done):
                    m.next = "EMIT"
                    with m.If(sizes.overflow):
                        m.d.sync += self.error.eq(ErrorCode.TILE_OVERFLOW)
                        m.next = "FAILED"
            with m.State("EMIT"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    with m.If(final):
                        m.next = "IDLE"
                    with m.Elif(is_wu | in_last):
                        m.next = "COUNT"
                    with m.Else():
                        m.d.comb += reduces.eq(1)
            with m.State("COUNT"):
                # Step the innermost unfinished counter; everything inside it starts over.
                m.next = "COUNTED"
                inner_done = Const(1)
                for name in ("cols", "rows", "images"):
                    counter = loops[name][0]
                    with m.If(inner_done):
                        m.d.sync += counter.eq(Mux(done[name], 0, following[name]))
                    inner_done = inner_done & done[name]
                with m.If(~is_wu | pixels_done):
                    m.d.sync += in_block.eq(Mux(in_last, 0, in_block + 1))
                    with m.If(pixels_done & in_last):
                        m.d.sync += out_block0.eq(following["out_blocks"])
            with m.State("FAILED"):
                pass
        return m
