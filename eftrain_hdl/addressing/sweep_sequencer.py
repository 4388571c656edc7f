"""Sweep sequencer: lists the sweeps of a tile step, tap by tap."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..control.descriptor import descriptor_layout
from ..isa import Flag, Opcode
from ..records import pack
from .sweep import STEP_BITS, LoadOp, end_layout, load_layout, sweep_layout
from .tap_bounds import TapBounds
from .tile import TILE_BITS, tile_layout

__all__ = ["SweepSequencer"]

_QUEUE = 4
"""Records kept ahead of the array, so that short sweeps hide the cycles spent on finding bounds."""


class SweepSequencer(wiring.Component):
    """Walk the taps of each tile step; emit what to load as S and what to stream over it.

    FP and BP emit one sweep for each tap and out block; WU one record a tap, which covers all its
    rows and groups. A step takes eight cycles and one a row of taps, a tap one and one a record,
    spent while earlier sweeps run.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    descriptor : In(descriptor_layout)
        Of the tile at ``i``.
    i : In(stream of tile_layout)
    load : Out(stream of load_layout)
    sweep : Out(stream of sweep_layout)
    load_end, sweep_end : Out(stream of end_layout)
        Ends of steps: an end shows no earlier than the records of its step.
    """

    def __init__(self, config):
        self.config = config
        super().__init__(
            {
                "descriptor": In(descriptor_layout()),
                "i": In(stream.Signature(tile_layout())),
                "load": Out(stream.Signature(load_layout())),
                "sweep": Out(stream.Signature(sweep_layout())),
                "load_end": Out(stream.Signature(end_layout())),
                "sweep_end": Out(stream.Signature(end_layout())),
            }
        )

    def elaborate(self, platform):
        m = Module()
        d, tile = self.descriptor, self.i.payload
        group = self.config.group
        group_bits = ceil_log2(group)
        m.submodules.bounds = bounds = TapBounds()
        is_bp, is_wu, is_pass, wants_bias = Signal(), Signal(), Signal(), Signal()
        m.d.sync += [
            # Of the step at the front since the cycle before.
            is_bp.eq(d.opcode.matches(Opcode.CONV_BP, Opcode.PASS_BP)),
            is_wu.eq(d.opcode == Opcode.CONV_WU),
            is_pass.eq(d.opcode.matches(Opcode.PASS, Opcode.PASS_BP)),
            wants_bias.eq((d.opcode == Opcode.CONV_WU) & d.flags[Flag.BIAS] & (tile.in_block == 0)),
            bounds.last_row.eq(d.kernel_rows - 1),
            bounds.last_col.eq(d.kernel_cols - 1),
        ]

        load = Signal(load_layout())
        load_valid = Signal()
        sweep_valid = Signal()
        end_valid = Signal()
        step = Signal(STEP_BITS)
        room = Signal()
        queues = {}
        for name, layout, valid, port in (
            ("load", load_layout(), load_valid, self.load),
            ("sweep", sweep_layout(), sweep_valid, self.sweep),
            ("load_end", end_layout(), end_valid, self.load_end),
            ("sweep_end", end_layout(), end_valid, self.sweep_end),
        ):
            queues[name] = queue = SyncFIFO(width=layout.size, depth=_QUEUE)
            m.submodules[f"{name}_queue"] = queue
            m.d.comb += [
                queue.w_en.eq(valid),
                port.payload.eq(queue.r_data),
                port.valid.eq(queue.r_rdy),
                queue.r_en.eq(port.ready),
            ]
        m.d.comb += [
            queues["load"].w_data.eq(load),
            room.eq(Cat(queue.w_rdy for queue in queues.values()).all()),
        ]
        for name, release in (
            ("load_end", tile.stationary_vectors),
            ("sweep_end", tile.stream_vectors),
        ):
            end = {"release": release, "commit": tile.last}
            m.d.comb += queues[name].w_data.eq(pack(end_layout(), end))

        # -- bounds of the current tap -------------------------------------------------------------
        tap_row, tap_col = bounds.row, bounds.col
        last_row, last_col = tap_row == bounds.last_row, tap_col == bounds.last_col
        rows, cols = bounds.row_range, bounds.col_range
        m.d.comb += [
            getattr(bounds, f"{name}_{axis}").eq(d[f"{name}_{axis}"])
            for name in ("stride", "pad")
            for axis in ("rows", "cols")
        ]
        m.d.comb += [bounds.rows.eq(tile.rows), bounds.cols.eq(tile.cols)]

        # Offsets of the tap's first row in vectors, on both grids, a cycle after the row changed;
        # WU counts the small grid in groups.
        small_pitch = Signal(TILE_BITS)
        small_row = Signal(TILE_BITS)
        big_row = Signal(TILE_BITS)
        big_step = Signal(TILE_BITS)
        m.d.comb += small_pitch.eq(Mux(is_wu, tile.groups << group_bits, tile.cols.small))
        m.d.sync += [
            small_row.eq(rows.small * small_pitch),
            big_row.eq(rows.big * tile.cols.big),
            big_step.eq(d.stride_rows[:3] * tile.cols.big),
        ]

        # What both records need of the tap, from the cycle before.
        tap_offset = Signal(TILE_BITS)
        bias_tap = Signal()
        empty = Signal()
        small_start, big_start = small_row + cols.small, big_row + cols.big
        offset = Signal(TILE_BITS)
        start = Signal(data.StructLayout({"a0": TILE_BITS, "a1": TILE_BITS}))
        blocks_left = Signal(TILE_BITS)
        last_block = Signal()

        # -- the two records -----------------------------------------------------------------------
        m.d.comb += [
            load.rows.eq(Mux(bias_tap, tile.rows.small, rows.count)),
            load.groups.eq(tile.groups),
            load.images.eq(tile.images),
            load.cols.eq(tile.cols.small),
            load.col_first.eq(cols.small),
            load.col_count.eq(cols.count),
            load.offset.eq(offset),
            load.row_stride.eq(big_step),
            load.image_stride.eq(tile.big_area),
            load.col_stride.eq(d.stride_cols),
            load.step.eq(step),
            load.columns.eq(is_bp),
            load.scale.eq(d.scale),
        ]
        by_groups = [
            {"count": load.rows, "stride": {"a0": small_pitch}},
            {"count": tile.groups, "stride": {"a0": group}},
            {
                "count": tile.out_blocks,
                "stride": {"a0": tile.pixel_vectors, "a1": tile.block_vectors},
            },
            {"count": group, "stride": {"a0": 1, "a1": 1}},
        ]
        counts = (tile.images, rows.count, cols.count)
        big = (tile.big_area, big_step, d.stride_cols[:3])
        small = (tile.small_area, tile.cols.small, 1)
        strides = [(Mux(is_bp, s, b), Mux(is_bp, b, s)) for s, b in zip(small, big, strict=True)]
        by_pixels = [
            {"count": 1},
            *(
                {"count": count, "stride": {"a0": stride[0], "a1": stride[1]}}
                for count, stride in zip(counts, strides, strict=True)
            ),
        ]
        levels = sweep_layout()["nest"].shape["level"].shape
        sweep = pack(
            sweep_layout(),
            {
                "nest": {
                    "start": start,
                    "level": Mux(is_wu, pack(levels, by_groups), pack(levels, by_pixels)),
                },
                "swap_inner": is_wu,
                "step": step,
                "slot": tile.slot,
            },
        )
        m.d.comb += queues["sweep"].w_data.eq(sweep)

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [tap_row.eq(0), tap_col.eq(0), tap_offset.eq(0), bias_tap.eq(0)]
                with m.If(self.i.valid):
                    m.d.comb += bounds.start.eq(1)
                    m.next = "FIND"
            with m.State("FIND"):
                with m.If(bounds.found):
                    m.next = "ROW"
            with m.State("ROW"):
                m.next = "TAP"
            with m.State("TAP"):
                m.d.sync += [
                    offset.eq(big_start),
                    empty.eq((rows.count == 0) | (cols.count == 0)),
                    blocks_left.eq(tile.out_blocks - 1),
                    last_block.eq(is_wu | (tile.out_blocks == 1)),
                ]
                with m.If(is_wu):
                    m.d.sync += [start.a0.eq(Mux(bias_tap, 0, small_row)), start.a1.eq(tap_offset)]
                with m.Else():
                    m.d.sync += [
                        start.a0.eq(Mux(is_bp, small_start, big_start)),
                        start.a1.eq(Mux(is_bp, big_start, small_start)),
                    ]
                m.next = "EMIT"
            with m.State("EMIT"):
                with m.If(is_wu):
                    m.d.comb += load.op.eq(Mux(bias_tap, LoadOp.ONES, LoadOp.GATHER))
                    m.d.comb += [
                        load_valid.eq(room & (~empty | bias_tap)),
                        sweep_valid.eq(room & (~empty | bias_tap)),
                    ]
                with m.Else():
                    m.d.comb += [
                        load.op.eq(
                            Mux(is_pass, LoadOp.IDENTITY, Mux(empty, LoadOp.SKIP, LoadOp.BLOCK))
                        ),
                        load_valid.eq(room & ~(is_pass & empty)),
                        sweep_valid.eq(room & ~empty),
                    ]
                with m.If(room):
                    m.d.sync += [
                        start.a1.eq(start.a1 + tile.block_vectors),
                        blocks_left.eq(blocks_left - 1),
                        last_block.eq(blocks_left == 1),
                    ]
                    with m.If(last_block):
                        m.d.sync += [
                            tap_offset.eq(tap_offset + group),
                            tap_col.eq(Mux(last_col, 0, tap_col + 1)),
                        ]
                        m.next = "TAP"
                        with m.If(last_col):
                            m.d.sync += tap_row.eq(tap_row + 1)
                            m.next = "ROW"
                        with m.If(last_col & last_row):
                            m.d.sync += bias_tap.eq(1)
                            m.next = "TAP"
                        with m.If(bias_tap | (last_col & last_row & ~wants_bias)):
                            m.next = "END"
            with m.State("END"):
                m.d.comb += end_valid.eq(room)
                with m.If(room):
                    m.d.comb += self.i.ready.eq(1)
                    m.d.sync += step.eq(step + 1)
                    m.next = "IDLE"
        return m
