"""Stationary loader: fills the array's next S while the current one computes."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..addressing.sweep import STEP_BITS, LoadOp, end_layout, load_layout
from ..addressing.tile import TILE_BITS
from ..arithmetic import float32_to_format, get_format
from .gather_walk import GatherWalk
from .mac_array import shadow_layout

__all__ = ["StationaryLoader"]

_ONE = 0x3F800000


class StationaryLoader(wiring.Component):
    """Load one vector a cycle; a T-cycle load keeps up with T-vector sweeps without a bubble.

    The first vector of an S is read from the buffer ahead of its turn and waits in the buffer's
    output until the S before has been swapped in. A block that is skipped takes two cycles.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    i : In(stream of load_layout)
    end : In(stream of end_layout)
        An end shows no earlier than the loads of its step.
    offset, read, data, available, release, count
        Read side of the stationary ring buffer (latency 1).
    shadow : Out(shadow_layout)
    ready : Out(1)
        The next S is complete and may be swapped in.
    swap : In(1)
        The issuer takes it. The first row or column of the S after it may come one cycle later.
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
                "read": Out(1),
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
        is_skip = head.op == LoadOp.SKIP
        is_block = head.op == LoadOp.BLOCK
        one_block = (head.op != LoadOp.GATHER) & (head.op != LoadOp.ONES)
        record = Signal(load_layout())
        takes = Signal()
        loading, skipping, frees = Signal(), Signal(), Signal()
        m.submodules.walk = walk = GatherWalk(depth_bits=self.depth_bits)

        # -- may a vector be requested now? --------------------------------------------------------
        # The vector requested last is held at the output of the buffer. The first one of an S is
        # blocked there until the swap.
        held, blocked = Signal(), Signal()
        request = Signal()
        index = Signal(range(lanes))
        m.d.comb += [
            self.read.eq(~blocked),
            self.offset.eq(walk.address),
            request.eq(loading & ~blocked & (walk.there | ~walk.used)),
        ]
        m.d.sync += blocked.eq(self.ready & ~self.swap & (blocked | (request & (index == 0))))
        with m.If(~blocked):
            m.d.sync += held.eq(request)

        # -- vectors of an S, and one S after another ----------------------------------------------
        last_index, last_group, last_row = Signal(), Signal(), Signal()
        at_end = Signal()
        one_group = Signal()
        # Numbers of the next ones, counted from one. The end of a record sets them back.
        next_group, next_row = Signal(TILE_BITS, init=2), Signal(TILE_BITS, init=2)
        with m.If(self.swap):
            m.d.sync += self.ready.eq(0)
        with m.If(request):
            m.d.sync += [index.eq(index + 1), last_index.eq(index == lanes - 2)]
            with m.If(last_index):
                m.d.sync += [
                    self.ready.eq(1),
                    next_group.eq(Mux(last_group, 2, next_group + 1)),
                    last_group.eq(Mux(last_group, one_group, next_group == record.groups)),
                ]
                with m.If(last_group):
                    m.d.sync += [
                        next_row.eq(Mux(last_row, 2, next_row + 1)),
                        last_row.eq(next_row == record.rows),
                    ]

        # Whether a record is really taken is known late. So that at ``i`` goes into the registers
        # whenever these are not needed: while nothing is loaded, and with the last vector.
        m.d.comb += [
            at_end.eq(last_index & last_group & last_row),
            walk.head.eq(head),
            walk.take.eq(~loading | at_end),
            walk.advance.eq(~loading | request),
            walk.row_ends.eq(last_index & last_group),
            walk.available.eq(self.available),
        ]
        with m.If(walk.advance & walk.take):
            m.d.sync += [
                record.eq(head),
                *(flag.eq(one_block | (head.groups == 1)) for flag in (one_group, last_group)),
                last_row.eq(one_block | (head.rows == 1)),
            ]

        # -- what the buffer no longer needs to keep, and the next record -------------------------
        # The cycle of a record's last vector also takes the end of its step, and the next record.
        finished, finishing = Signal(), Signal()
        step = Signal(STEP_BITS)
        arrived, may_end, ends = Signal(), Signal(), Signal()
        # Both queues move on one cycle late, so that their levels are not in the path.
        taken, ended = Signal(), Signal()
        following_step = Signal(STEP_BITS, init=1)
        more = self.i.valid & (head.step == step)
        follows = self.i.valid & (head.step == following_step)
        left_behind = self.end.payload.release
        # What remains after the end of a step, below zero if not all of it is there.
        remaining = Signal(signed(self.depth_bits + 2))
        m.d.sync += [
            taken.eq(takes),
            ended.eq(ends),
            # What is released now, `remaining` does not know in the next cycle.
            arrived.eq(self.end.valid & ~self.release & ~ended),
            remaining.eq(self.available - left_behind[: self.depth_bits + 1]),
        ]
        m.d.comb += [
            finished.eq((request & at_end) | (skipping & (self.available >= lanes))),
            finishing.eq(~(loading | skipping) | finished),
            may_end.eq(~taken & arrived & (remaining >= 0) & ~more),
            ends.eq(finishing & may_end),
            takes.eq(finishing & ~taken & (more | (may_end & follows))),
            self.end.ready.eq(ended),
            self.i.ready.eq(taken),
            # The end of a step of blocks leaves nothing behind.
            self.release.eq((finished & frees) | ends),
            self.count.eq(Mux(frees, lanes, left_behind)),
        ]
        with m.If(frees):
            m.d.comb += walk.remaining.eq(self.available - lanes)
        with m.Elif(may_end):
            m.d.comb += walk.remaining.eq(remaining)
        with m.Else():
            m.d.comb += walk.remaining.eq(self.available)
        with m.If(ends):
            m.d.sync += [step.eq(following_step), following_step.eq(following_step + 1)]
        with m.If(finishing):
            m.d.sync += [
                loading.eq(takes & ~is_skip),
                skipping.eq(takes & is_skip),
                frees.eq(takes & (is_block | is_skip)),
            ]

        # -- the buffer answers one cycle later ----------------------------------------------------
        use_data, identity, ones = Signal(), Signal(), Signal()
        m.d.comb += self.shadow.valid.eq(held & ~blocked)
        with m.If(request):
            m.d.sync += [
                self.shadow.index.eq(index),
                self.shadow.column.eq(~frees | record.columns),
                use_data.eq(walk.used),
                identity.eq(record.op == LoadOp.IDENTITY),
                ones.eq(record.op == LoadOp.ONES),
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
