"""Sweep issuer: sends one vector a cycle into the array, never too early."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..addressing.loop_nest import LoopNest
from ..addressing.sweep import SWEEP_LEVELS, sweep_layout
from ..addressing.tile import TILE_BITS

__all__ = ["SweepIssuer"]


class SweepIssuer(wiring.Component):
    """Walk each sweep's two addresses and issue a vector whenever nothing stands in its way.

    A vector waits for its operand in the stream buffer, for a new S where one is due, for a free
    accumulator bank, and while the sum it adds to is still in the adder (``hazard`` cycles). The
    last check compares addresses, so no order of sweeps can give a wrong sum.

    Parameters
    ----------
    config : CoreConfig
    hazard : int
        Two vectors of one accumulator address are issued more than this many cycles apart.

    Members
    -------
    i : In(stream of sweep_layout)
    offset, available, release, count
        Read side of the stream ring buffer.
    stationary_ready : In(1), swap : Out(1)
        Handshake with the stationary loader; ``swap`` comes with the first vector that uses the
        new S.
    bank_free : In(1)
        The accumulator bank of the current tile may be written.
    valid : Out(1), address : Out
        A vector is issued for this accumulator.
    commit : Out(1)
        The current bank holds a finished tile; the next vector uses the other bank.
    stall_stream, stall_stationary, stall_accumulator, stall_hazard : Out(1)
        Why no vector was issued; at most one is high.
    """

    def __init__(self, config, *, hazard):
        self.config = config
        self.hazard = hazard
        depth_bits = ceil_log2(config.stream_depth)
        super().__init__(
            {
                "i": In(stream.Signature(sweep_layout())),
                "offset": Out(depth_bits),
                "available": In(depth_bits + 1),
                "release": Out(1),
                "count": Out(depth_bits + 1),
                "stationary_ready": In(1),
                "swap": Out(1),
                "bank_free": In(1),
                "valid": Out(1),
                "address": Out(ceil_log2(config.accumulator_depth)),
                "commit": Out(1),
                "stall_stream": Out(1),
                "stall_stationary": Out(1),
                "stall_accumulator": Out(1),
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

        recent = [Signal(len(self.address), name=f"recent{i}") for i in range(self.hazard)]
        recent_valid = Signal(self.hazard)
        in_adder = 0
        for i, address in enumerate(recent):
            in_adder = in_adder | (recent_valid[i] & (address == self.address))
        m.d.sync += recent_valid.eq((recent_valid << 1) | self.valid)
        for older, newer in zip(recent, [self.address, *recent[:-1]], strict=True):
            m.d.sync += older.eq(newer)

        new_stationary = nest.first[0] | (current.swap_inner & nest.first[2])
        with m.If(active):
            with m.If(~self.bank_free):
                m.d.comb += self.stall_accumulator.eq(1)
            with m.Elif(new_stationary & ~self.stationary_ready):
                m.d.comb += self.stall_stationary.eq(1)
            with m.Elif(nest.address.a0 >= self.available):
                m.d.comb += self.stall_stream.eq(1)
            with m.Elif(in_adder):
                m.d.comb += self.stall_hazard.eq(1)
            with m.Else():
                m.d.comb += [self.valid.eq(1), self.swap.eq(new_stationary)]
        m.d.comb += nest.advance.eq(self.valid)

        # The next record is taken in the cycle that issues the last vector of this one.
        with m.If(~active | (self.valid & nest.last[0])):
            m.d.sync += active.eq(0)
            with m.If(self.i.valid & ~head.end):
                m.d.comb += [self.i.ready.eq(1), nest.load.eq(1)]
                m.d.sync += [active.eq(1), current.eq(head)]
            # A tile that no sweep touched still waits for its bank, and for its unused vectors.
            with m.Elif(
                self.i.valid & (self.bank_free | ~head.commit) & (self.available >= head.release)
            ):
                m.d.comb += [
                    self.i.ready.eq(1),
                    self.release.eq(1),
                    self.count.eq(head.release),
                    self.commit.eq(head.commit),
                ]
        return m
