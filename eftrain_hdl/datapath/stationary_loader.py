"""Stationary loader: fills the array's next S while the current one computes."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..addressing.sweep import STEP_BITS, LoadOp, end_layout, load_layout
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
    i : In(stream of load_layout)
    end : In(stream of end_layout)
        An end shows no earlier than the loads of its step.
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
                "i": In(stream.Signature(load_layout())),
                "end": In(stream.Signature(end_layout())),
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
        head = self.i.payload
        record = Signal(load_layout())
        active = Signal()
        op = record.op
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
        skips = op == LoadOp.SKIP
        m.d.comb += request.eq(active & ~skips & free & (arrived | ~from_buffer))
        last_group = (group == record.groups - 1) | ~repeats
        last_row = (row == record.rows - 1) | ~repeats

        finished = Signal()
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
                    m.d.comb += finished.eq(last_row)
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

        # -- what the buffer no longer needs to keep, and the next record -------------------------
        # The cycle of a record's last vector also takes the end of its step, and the next record.
        with m.If(active & skips & (self.available >= lanes)):
            m.d.comb += finished.eq(1)
        step = Signal(STEP_BITS)
        finishing = Signal()
        ends = Signal()
        more = self.i.valid & (head.step == step)
        left_behind = self.end.payload.release
        m.d.comb += [
            finishing.eq(~active | finished),
            ends.eq(finishing & self.end.valid & ~more & (self.available >= left_behind)),
            self.end.ready.eq(ends),
            self.i.ready.eq(finishing & (head.step == (step + ends)[:STEP_BITS])),
        ]
        m.d.sync += step.eq(step + ends)
        with m.If(finishing):
            m.d.sync += active.eq(self.i.valid & self.i.ready)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += record.eq(head)
        with m.If(finished & (is_block | skips)):
            m.d.comb += [self.release.eq(1), self.count.eq(lanes)]
        with m.Else():
            m.d.comb += [self.release.eq(ends), self.count.eq(left_behind)]

        # -- the buffer answers one cycle later ----------------------------------------------------
        use_data = Signal()
        identity = Signal()
        ones = Signal()
        m.d.sync += [
            self.shadow.valid.eq(request),
            self.shadow.index.eq(index),
            self.shadow.column.eq(~is_block | record.columns),
            use_data.eq(from_buffer),
            identity.eq(op == LoadOp.IDENTITY),
            ones.eq(op == LoadOp.ONES),
        ]
        scale = Signal(bits)
        m.d.sync += scale.eq(float32_to_format(m, self.fmt, record.scale))
        one = float32_to_format(m, self.fmt, Const(_ONE, 32))
        diagonal = Cat(*(Mux(self.shadow.index == lane, scale, 0)[:bits] for lane in range(lanes)))
        with m.If(use_data):
            m.d.comb += self.shadow.data.eq(self.data)
        with m.Elif(identity):
            m.d.comb += self.shadow.data.eq(diagonal)
        with m.Elif(ones):
            m.d.comb += self.shadow.data.eq(Cat(*(one for _ in range(lanes))))
        return m
