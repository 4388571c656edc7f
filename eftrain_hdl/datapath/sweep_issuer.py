"""Sweep issuer: sends one vector a cycle into the array, never too early."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..addressing.loop_nest import LoopNest
from ..addressing.sweep import STEP_BITS, SWEEP_LEVELS, end_layout, sweep_layout
from ..addressing.tile import TILE_BITS

__all__ = ["SweepIssuer"]


class SweepIssuer(wiring.Component):
    """Walk each sweep's two addresses and issue a vector whenever nothing stands in its way.

    A vector waits for its operand in the stream buffer, for a new S where one is due, for a free
    accumulator bank, and while the sum it adds to is still in the adder (``hazard`` cycles). The
    last check compares addresses, so no order of sweeps can give a wrong sum. Sweeps, steps and
    tiles follow one another without an idle cycle.

    Parameters
    ----------
    config : CoreConfig
    hazard : int
        Two vectors of one accumulator address are issued more than this many cycles apart.

    Members
    -------
    i : In(stream of sweep_layout)
    end : In(stream of end_layout)
        An end shows no earlier than the sweeps of its step.
    offset, available, release, count
        Read side of the stream ring buffer.
    stationary_ready : In(1), swap : Out(1)
        Handshake with the stationary loader; ``swap`` comes with the first vector that uses the
        new S.
    bank, bank_free : In(1)
        The accumulator bank of the current tile, and whether it may be written.
    valid : Out(1), address : Out
        A vector is issued for this accumulator.
    commit : Out(1)
        The current bank holds a finished tile; the next vector uses the other bank.
    stall_stream, stall_stationary, stall_bank, stall_hazard : Out(1)
        Why no vector was issued; at most one is high, none if there is no work.
    """

    def __init__(self, config, *, hazard):
        self.config = config
        self.hazard = hazard
        depth_bits = ceil_log2(config.stream_depth)
        super().__init__(
            {
                "i": In(stream.Signature(sweep_layout())),
                "end": In(stream.Signature(end_layout())),
                "offset": Out(depth_bits),
                "available": In(depth_bits + 1),
                "release": Out(1),
                "count": Out(depth_bits + 1),
                "stationary_ready": In(1),
                "swap": Out(1),
                "bank": In(1),
                "bank_free": In(1),
                "valid": Out(1),
                "address": Out(ceil_log2(config.accumulator_depth)),
                "commit": Out(1),
                "stall_stream": Out(1),
                "stall_stationary": Out(1),
                "stall_bank": Out(1),
                "stall_hazard": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.nest = nest = LoopNest(
            levels=SWEEP_LEVELS, count_bits=TILE_BITS, address_bits=(TILE_BITS, TILE_BITS)
        )
        current = Signal(sweep_layout())
        active = Signal()
        head = self.i.payload
        m.d.comb += [
            nest.setup.level.eq(current.nest.level),
            nest.setup.start.eq(head.nest.start),
            self.offset.eq(nest.address.a0),
            self.address.eq(nest.address.a1),
        ]

        place = Cat(self.address, self.bank)
        recent = [Signal(len(place), name=f"recent{i}") for i in range(self.hazard)]
        recent_valid = Signal(self.hazard)
        in_adder = 0
        for i, older in enumerate(recent):
            in_adder = in_adder | (recent_valid[i] & (older == place))
        m.d.sync += recent_valid.eq((recent_valid << 1) | self.valid)
        for older, newer in zip(recent, [place, *recent[:-1]], strict=True):
            m.d.sync += older.eq(newer)

        # The step whose sweeps are issued, and whether another of them is at the head.
        step = Signal(STEP_BITS)
        more = Signal()
        at_end = Signal()
        m.d.comb += [
            more.eq(self.i.valid & (head.step == step)),
            at_end.eq(self.end.valid & ~more),
        ]
        arrived = self.available >= self.end.payload.release

        new_stationary = nest.first[0] | (current.swap_inner & nest.first[2])
        with m.If(active):
            with m.If(~self.bank_free):
                m.d.comb += self.stall_bank.eq(1)
            with m.Elif(new_stationary & ~self.stationary_ready):
                m.d.comb += self.stall_stationary.eq(1)
            with m.Elif(nest.address.a0 >= self.available):
                m.d.comb += self.stall_stream.eq(1)
            with m.Elif(in_adder):
                m.d.comb += self.stall_hazard.eq(1)
            with m.Else():
                m.d.comb += [self.valid.eq(1), self.swap.eq(new_stationary)]
        with m.Elif(at_end & ~self.bank_free):
            m.d.comb += self.stall_bank.eq(1)
        with m.Elif(at_end & ~arrived):
            m.d.comb += self.stall_stream.eq(1)
        m.d.comb += nest.advance.eq(self.valid)

        # The cycle of a sweep's last vector also takes the end of its step, and the next sweep. A
        # tile that no sweep touched still waits for its bank, and for its unused vectors.
        finishing = Signal()
        ends = Signal()
        m.d.comb += [
            finishing.eq(~active | (self.valid & nest.last[0])),
            ends.eq(finishing & at_end & arrived & (self.bank_free | ~self.end.payload.commit)),
            self.end.ready.eq(ends),
            self.release.eq(ends),
            self.count.eq(self.end.payload.release),
            self.commit.eq(ends & self.end.payload.commit),
            self.i.ready.eq(finishing & (head.step == (step + ends)[:STEP_BITS])),
            nest.load.eq(self.i.valid & self.i.ready),
        ]
        m.d.sync += step.eq(step + ends)
        with m.If(finishing):
            m.d.sync += active.eq(self.i.valid & self.i.ready)
        with m.If(nest.load):
            m.d.sync += current.eq(head)
        return m
