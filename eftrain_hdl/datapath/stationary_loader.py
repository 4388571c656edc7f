"""Stationary loader: fills the array's next S while the current one computes."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..addressing.sweep import LoadOp, load_layout
from ..addressing.tile import TILE_BITS
from ..arithmetic import float32_to_format, get_format
from .mac_array import shadow_layout

__all__ = ["StationaryLoader"]

_ONE = 0x3F800000


class StationaryLoader(wiring.Component):
    """Load one vector a cycle; a T-cycle load keeps up with T-vector sweeps without a bubble.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    columns : In(1)
        BLOCK loads go to columns (BP) instead of rows (FP).
    scale : In(32)
        fp32 factor of IDENTITY.
    i : In(stream of load_layout)
    offset, data, available, release, count
        Read side of the stationary ring buffer (latency 1).
    shadow : Out(shadow_layout)
    ready : Out(1)
        The next S is complete and may be swapped in.
    swap : In(1)
        The issuer takes it. The first vector of the S after it may be requested in the same cycle.
    """

    def __init__(self, config):
        self.config = config
        self.fmt = get_format(config.format)
        self.depth_bits = ceil_log2(config.stationary_depth)
        width = config.lanes * self.fmt.bits
        super().__init__(
            {
                "columns": In(1),
                "scale": In(32),
                "i": In(stream.Signature(load_layout())),
                "offset": Out(self.depth_bits),
                "data": In(width),
                "available": In(self.depth_bits + 1),
                "release": Out(1),
                "count": Out(self.depth_bits + 1),
                "shadow": Out(shadow_layout(lanes=config.lanes, element_bits=self.fmt.bits)),
                "ready": Out(1),
                "swap": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes, bits = self.config.lanes, self.fmt.bits
        record, op = self.i.payload, self.i.payload.op
        is_block = op == LoadOp.BLOCK
        is_gather = op == LoadOp.GATHER
        repeats = is_gather | (op == LoadOp.ONES)

        index = Signal(range(lanes))
        last_index = index == lanes - 1
        group = Signal(TILE_BITS)
        row = Signal(TILE_BITS)

        # -- the pixel of the current column (GATHER) ----------------------------------------------
        image = Signal(TILE_BITS)
        col = Signal(TILE_BITS)
        row_base = Signal(TILE_BITS)
        image_base = Signal(TILE_BITS)
        address = Signal(TILE_BITS)
        exists = image < record.images
        inside = (col >= record.col_first) & (col - record.col_first < record.col_count)
        used = exists & inside
        fresh = Signal(init=1)
        start_of_row = Mux(row == 0, record.offset, row_base)
        current = Mux(fresh, start_of_row, address)

        # -- may a vector be requested now? --------------------------------------------------------
        offset = Signal(TILE_BITS)
        m.d.comb += offset.eq(Mux(is_gather, current, index))
        from_buffer = is_block | (is_gather & used)
        arrived = offset < self.available
        free = (index != 0) | ~self.ready | self.swap
        request = Signal()
        loads = is_block | (op == LoadOp.IDENTITY) | repeats
        m.d.comb += request.eq(self.i.valid & loads & free & (arrived | ~from_buffer))
        last_group = (group == record.groups - 1) | ~repeats
        last_row = (row == record.rows - 1) | ~repeats

        m.d.comb += self.offset.eq(offset)
        with m.If(self.swap):
            m.d.sync += self.ready.eq(0)
        with m.If(request):
            m.d.sync += index.eq(Mux(last_index, 0, index + 1))
            with m.If(last_index):
                m.d.sync += self.ready.eq(1)
                m.d.sync += group.eq(Mux(last_group, 0, group + 1))
                with m.If(last_group):
                    m.d.sync += row.eq(Mux(last_row, 0, row + 1))
                    m.d.comb += self.i.ready.eq(last_row)
            with m.If(last_index & last_group):
                # The next row starts over at its first image and column.
                m.d.sync += [
                    fresh.eq(1),
                    image.eq(0),
                    col.eq(0),
                    image_base.eq(0),
                    row_base.eq(start_of_row + record.row_stride),
                ]
            with m.Else():
                base = Mux(fresh, start_of_row, image_base)
                m.d.sync += [fresh.eq(0), image_base.eq(base), col.eq(col + 1)]
                m.d.sync += address.eq(Mux(inside, current + record.col_stride, current))
                with m.If(col == record.cols - 1):
                    m.d.sync += [
                        col.eq(0),
                        image.eq(image + 1),
                        image_base.eq(base + record.image_stride),
                        address.eq(base + record.image_stride),
                    ]

        # -- what the buffer no longer needs to keep -----------------------------------------------
        with m.If(is_block & request & last_index):
            m.d.comb += [self.release.eq(1), self.count.eq(lanes)]
        with m.If(self.i.valid & (op == LoadOp.SKIP) & (self.available >= lanes)):
            m.d.comb += [self.release.eq(1), self.count.eq(lanes), self.i.ready.eq(1)]
        with m.If(self.i.valid & (op == LoadOp.RELEASE) & (self.available >= record.offset)):
            m.d.comb += [self.release.eq(1), self.count.eq(record.offset), self.i.ready.eq(1)]

        # -- the buffer answers one cycle later ----------------------------------------------------
        use_data = Signal()
        identity = Signal()
        ones = Signal()
        m.d.sync += [
            self.shadow.valid.eq(request),
            self.shadow.index.eq(index),
            self.shadow.column.eq(~is_block | self.columns),
            use_data.eq(from_buffer),
            identity.eq(op == LoadOp.IDENTITY),
            ones.eq(op == LoadOp.ONES),
        ]
        scale = float32_to_format(m, self.fmt, self.scale)
        one = float32_to_format(m, self.fmt, Const(_ONE, 32))
        diagonal = Cat(*(Mux(self.shadow.index == lane, scale, 0)[:bits] for lane in range(lanes)))
        with m.If(use_data):
            m.d.comb += self.shadow.data.eq(self.data)
        with m.Elif(identity):
            m.d.comb += self.shadow.data.eq(diagonal)
        with m.Elif(ones):
            m.d.comb += self.shadow.data.eq(Cat(*(one for _ in range(lanes))))
        return m
