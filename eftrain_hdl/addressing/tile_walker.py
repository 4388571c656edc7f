"""Tile walker: cuts one descriptor into tile steps."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..control.descriptor import descriptor_layout
from ..isa import ErrorCode, Flag, Opcode
from .divide import ceil_divide
from .tile import TILE_BITS, tile_layout

__all__ = ["TileWalker"]


class TileWalker(wiring.Component):
    """Emit the steps of a descriptor in the order of ``docs/architecture.md``, one record a step.

    The rectangle of a tile on both grids and its sizes are computed here and nowhere else. A new
    tile takes about 20 cycles (one shared multiplier); a further step of the same tile takes one.

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
        config, d = self.config, self.descriptor
        tile = Signal(tile_layout())
        group_bits = ceil_log2(config.group)
        is_bp = (d.opcode == Opcode.CONV_BP) | (d.opcode == Opcode.PASS_BP)
        is_wu = d.opcode == Opcode.CONV_WU

        # -- the six counters, outermost first -----------------------------------------------------
        out_block0 = Signal(TILE_BITS)
        other_block = Signal(TILE_BITS)
        image0 = Signal(TILE_BITS)
        row0 = Signal(TILE_BITS)
        col0 = Signal(TILE_BITS)
        in_block = Signal(TILE_BITS)
        grid_rows = Mux(is_bp, d.big_rows, d.small_rows)
        grid_cols = Mux(is_bp, d.big_cols, d.small_cols)
        one = Const(1, TILE_BITS)
        loops = [  # (counter, step, end)
            (out_block0, d.tile_out_blocks, d.out_blocks),
            (other_block, one, Mux(is_wu, d.in_blocks, 1)),
            (image0, d.tile_images, d.images),
            (row0, d.tile_rows, grid_rows),
            (col0, d.tile_cols, grid_cols),
            # PASS and PASS_BP have one.
            (in_block, one, Mux(is_wu, 1, d.in_blocks)),
        ]
        following = [Signal(TILE_BITS + 1, name=f"following{i}") for i in range(6)]
        done = [Signal(name=f"done{i}") for i in range(6)]
        for (counter, step, end), nxt, is_done in zip(loops, following, done, strict=True):
            m.d.comb += nxt.eq(counter + step)
            m.d.comb += is_done.eq(nxt >= end)
        pixels_done = done[2] & done[3] & done[4]
        pixels_start = Signal()
        m.d.comb += pixels_start.eq((image0 == 0) & (row0 == 0) & (col0 == 0))

        # -- one axis at a time: ranges on both grids ----------------------------------------------
        on_cols = Signal()
        t0 = Mux(on_cols, col0, row0)
        t_end = Mux(on_cols, following[4], following[3])
        stride = Signal(3)
        m.d.comb += stride.eq(Mux(on_cols, d.stride_cols, d.stride_rows))
        kernel = Mux(on_cols, d.kernel_cols, d.kernel_rows)
        pad = Mux(on_cols, d.pad_cols, d.pad_rows)
        big = Mux(on_cols, d.big_cols, d.big_rows)
        small = Mux(on_cols, d.small_cols, d.small_rows)
        grid = Mux(is_bp, big, small)
        t1 = Signal(TILE_BITS)
        m.d.comb += t1.eq(Mux(t_end > grid, grid, t_end))
        # Small to big: what the taps of [t0, t1) reach.
        begin = Signal(TILE_BITS + 4)
        finish = Signal(TILE_BITS + 4)
        m.d.comb += [
            begin.eq(t0 * stride),
            finish.eq((t1 - 1)[:TILE_BITS].as_unsigned() * stride + kernel),
        ]
        # Big to small: which pixels reach [t0, t1). Negative quotients are clipped before dividing.
        low = Signal(TILE_BITS + 1)
        high = Signal(TILE_BITS + 1)
        m.d.comb += [
            low.eq(Mux(t0 + pad + 1 > kernel, t0 + pad + 1 - kernel, 0)),
            high.eq(t1 + pad),
        ]
        low_q = ceil_divide(m, low, stride, bits=TILE_BITS + 1, name="low")
        high_q = ceil_divide(m, high, stride, bits=TILE_BITS + 1, name="high")
        axis_regs = Signal(tile.rows.shape())
        with m.If(is_bp):
            m.d.comb += [
                axis_regs.big0.eq(t0),
                axis_regs.big1.eq(t1),
                axis_regs.small1.eq(Mux(high_q > small, small, high_q)),
                # A tile that no small pixel reaches has the empty range [small1, small1).
                axis_regs.small0.eq(Mux(low_q > axis_regs.small1, axis_regs.small1, low_q)),
            ]
        with m.Else():
            m.d.comb += [
                axis_regs.small0.eq(t0),
                axis_regs.small1.eq(t1),
                axis_regs.big0.eq(Mux(begin > pad, begin - pad, 0)),
                axis_regs.big1.eq(Mux(finish - pad > big, big, finish - pad)),
            ]
        m.d.comb += [
            axis_regs.small.eq(axis_regs.small1 - axis_regs.small0),
            axis_regs.big.eq(axis_regs.big1 - axis_regs.big0),
        ]

        # -- sizes: a short program for one multiplier ---------------------------------------------
        # Every result must fit its buffer, hence 16 bits: larger products are TILE_OVERFLOW.
        rows, cols = tile.rows, tile.cols
        taps = Signal(8)
        span = Signal(TILE_BITS)
        has_bias = d.flags[Flag.BIAS]
        row_groups = Signal(TILE_BITS)
        pixel_blocks = Signal(TILE_BITS)
        vectors = Signal(TILE_BITS)
        span_area = Mux(is_bp, tile.big_area, tile.small_area)
        load_area = Mux(is_bp, tile.small_area, tile.big_area)
        weight_vectors = (taps + has_bias) << group_bits
        accumulators = Signal(TILE_BITS)
        program = [  # (destination, left, right, None: every pass, True: WU, False: the others)
            (tile.big_area, rows.big, cols.big, None),
            (tile.small_area, rows.small, cols.small, False),
            (tile.stream_vectors, tile.images, load_area, False),
            (tile.block_vectors, tile.images, span_area, False),
            (accumulators, tile.out_blocks, tile.block_vectors, False),
            (tile.stationary_vectors, tile.images, tile.big_area, True),
            (span, tile.images, cols.small, True),
            (pixel_blocks, rows.small, row_groups, True),
            (vectors, tile.out_blocks, pixel_blocks, True),
            (taps, d.kernel_rows, d.kernel_cols, True),
            (accumulators, tile.out_blocks, weight_vectors, True),
        ]
        pc = Signal(range(len(program) + 1))
        left = Signal(TILE_BITS)
        right = Signal(TILE_BITS)
        product = Signal(2 * TILE_BITS)
        with m.Switch(pc):
            for index, (_, a, b, _) in enumerate(program):
                with m.Case(index):
                    m.d.comb += [left.eq(a), right.eq(b)]
        m.d.comb += row_groups.eq((span + config.group - 1) >> group_bits)

        first = Signal()
        last = Signal()
        with m.If(is_wu):
            m.d.comb += [
                first.eq(pixels_start),
                last.eq(pixels_done),
            ]
        with m.Else():
            m.d.comb += [first.eq(in_block == 0), last.eq(done[5])]
        all_done = Signal()
        m.d.comb += all_done.eq(done[0] & done[1] & pixels_done & done[5])

        m.d.comb += [
            self.o.payload.eq(tile),
            self.o.payload.first.eq(first),
            self.o.payload.last.eq(last),
            self.o.payload.final.eq(all_done),
            self.o.payload.slot.eq(self.slot),
            self.o.payload.group_first.eq(pixels_start),
            self.o.payload.group_last.eq(pixels_done),
            self.o.payload.in_block.eq(Mux(is_wu, other_block, in_block)),
        ]

        overflow = Signal()
        m.d.comb += self.busy.eq(1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                m.d.sync += [counter.eq(0) for counter, _, _ in loops]
                with m.If(self.start):
                    m.next = "ROWS"

            with m.State("ROWS"):
                m.d.sync += rows.eq(axis_regs)
                m.next = "COLS"
            with m.State("COLS"):
                m.d.comb += on_cols.eq(1)
                m.d.sync += [
                    cols.eq(axis_regs),
                    tile.image0.eq(image0),
                    tile.images.eq(Mux(done[2], d.images - image0, d.tile_images)),
                    tile.out_block0.eq(out_block0),
                    tile.out_blocks.eq(Mux(done[0], d.out_blocks - out_block0, d.tile_out_blocks)),
                    pc.eq(0),
                    overflow.eq(0),
                ]
                m.next = "MULTIPLY"

            with m.State("MULTIPLY"):
                m.d.sync += product.eq(left * right)
                m.next = "STORE"
            with m.State("STORE"):
                m.d.sync += pc.eq(pc + 1)
                m.next = "MULTIPLY"
                with m.Switch(pc):
                    for index, (destination, _, _, for_wu) in enumerate(program):
                        with m.Case(index):
                            used = Const(1) if for_wu is None else is_wu if for_wu else ~is_wu
                            with m.If(used):
                                m.d.sync += destination.eq(product)
                                with m.If(product[TILE_BITS:].any()):
                                    m.d.sync += overflow.eq(1)
                with m.If(pc == len(program) - 1):
                    m.next = "SIZES"
            with m.State("SIZES"):
                m.d.sync += tile.groups.eq(row_groups)
                with m.If(is_wu):
                    m.d.sync += [
                        tile.stream_vectors.eq(vectors << group_bits),
                        tile.pixel_vectors.eq(pixel_blocks << group_bits),
                        tile.block_vectors.eq(weight_vectors),
                    ]
                    with m.If((vectors << group_bits) > config.stream_depth):
                        m.d.sync += overflow.eq(1)
                    with m.If(tile.stationary_vectors > config.stationary_depth):
                        m.d.sync += overflow.eq(1)
                with m.Else():
                    m.d.sync += tile.stationary_vectors.eq(0)
                    with m.If(tile.stream_vectors > config.stream_depth):
                        m.d.sync += overflow.eq(1)
                with m.If(accumulators > config.accumulator_depth):
                    m.d.sync += overflow.eq(1)
                m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "EMIT"
                with m.If(overflow):
                    m.d.sync += self.error.eq(ErrorCode.TILE_OVERFLOW)
                    m.next = "FAILED"
            with m.State("EMIT"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    # Step the innermost unfinished counter; everything inside it starts over.
                    for i, (counter, _, _) in enumerate(loops):
                        inner = done[i + 1 :]
                        inner_done = Const(1)
                        for flag in inner:
                            inner_done = inner_done & flag
                        with m.If(inner_done):
                            m.d.sync += counter.eq(Mux(done[i], 0, following[i]))
                    with m.If(all_done):
                        m.next = "IDLE"
                    with m.Elif(~done[5]):
                        m.next = "EMIT"
                    with m.Else():
                        m.next = "ROWS"
            with m.State("FAILED"):
                pass
        return m
