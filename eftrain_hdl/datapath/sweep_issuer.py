"""Sweep issuer: sends one vector a cycle into the array, never too early."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
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

    The address generator runs one vector ahead, so that all is known about a vector when its turn
    comes: a sweep that was waited for is issued three cycles after it appears at ``i``. Sweeps and
    ends are taken at most every third cycle, which is no limit as each S takes T cycles to load.

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
    bank_free : In(1)
        The accumulator bank of the current tile may be written.
    valid : Out(1), address : Out
        A vector is issued for this accumulator.
    begins : Out(1), slot : Out(1)
        Pulse: the first vector of a sweep of that descriptor was next, in the cycle before.
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
                "bank_free": In(1),
                "valid": Out(1),
                "address": Out(ceil_log2(config.accumulator_depth)),
                "begins": Out(1),
                "slot": Out(1),
                "commit": Out(1),
                "stall_stream": Out(1),
                "stall_stationary": Out(1),
                "stall_bank": Out(1),
                "stall_hazard": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        head, end = self.i.payload, self.end.payload
        m.submodules.nest = nest = LoopNest(
            levels=SWEEP_LEVELS,
            count_bits=TILE_BITS,
            address_bits=(TILE_BITS, TILE_BITS),
            copies=True,
        )

        # The vector after the next one: where the nest stands, in a sweep of step ``ahead``, which
        # is the current step or a later one.
        follows = Signal()
        ahead = Signal(STEP_BITS)
        same_step = Signal()
        swap_inner, slot = Signal(), Signal()
        # The next vector, issued as soon as nothing stands in its way. Its step is ``step``.
        waits = Signal()
        step = Signal(STEP_BITS)
        new_stationary = Signal()
        moves = Signal()

        # -- may the next vector be issued? --------------------------------------------------------
        there, in_adder = Signal(), Signal()
        with m.If(waits):
            with m.If(~self.bank_free):
                m.d.comb += self.stall_bank.eq(1)
            with m.Elif(new_stationary & ~self.stationary_ready):
                m.d.comb += self.stall_stationary.eq(1)
            with m.Elif(~there):
                m.d.comb += self.stall_stream.eq(1)
            with m.Elif(in_adder):
                m.d.comb += self.stall_hazard.eq(1)
            with m.Else():
                m.d.comb += [self.valid.eq(1), self.swap.eq(new_stationary)]

        # -- the end of a step ---------------------------------------------------------------------
        # With the last vector of the step, or whenever the end comes after that. A tile that no
        # sweep touched still waits for its bank, and for its unused vectors.
        seen, takes, taken = Signal(), Signal(), Signal()
        arrived, may_end = Signal(), Signal()
        at_end, ends, ended = Signal(), Signal(), Signal()
        # Both queues move on one cycle late, so that their levels are not in the path. Vectors and
        # banks that are there stay there until the end.
        here = self.end.valid & ~ends & ~ended
        # What remains after the end, below zero if not all of the step is there.
        remaining = Signal(signed(len(self.available) + 1))
        allowed = Signal()
        m.d.sync += [
            ended.eq(ends),
            arrived.eq(here),
            remaining.eq(self.available - end.release[: len(self.available)]),
            allowed.eq(here & (self.bank_free | ~end.commit)),
        ]
        m.d.comb += [
            may_end.eq(allowed & (remaining >= 0)),
            # No vector of the step is left but the next one. What is at ``i`` comes to the nest
            # first, whatever its step.
            at_end.eq(Mux(follows, ~same_step, ~self.i.valid)),
            ends.eq((~waits | self.valid) & at_end & may_end),
            self.end.ready.eq(ended),
            self.release.eq(ends),
            self.count.eq(end.release),
            self.commit.eq(ends & end.commit),
        ]
        following_step = Signal(STEP_BITS, init=1)
        with m.If(ends):
            m.d.sync += [step.eq(following_step), following_step.eq(following_step + 1)]
        with m.If(~waits & at_end & self.end.valid & ~ended):
            m.d.comb += [
                self.stall_stream.eq(~arrived | (remaining < 0)),
                self.stall_bank.eq(arrived & (remaining >= 0) & ~allowed),
            ]

        # -- one vector on -------------------------------------------------------------------------
        follows_end = may_end & (ahead == following_step)
        m.d.comb += [
            moves.eq((~waits | self.valid) & follows & (same_step | follows_end)),
            # What is at ``i`` goes into the nest whenever that is empty, or left at its last point.
            # Whether it was a sweep to be taken is known later.
            nest.setup.eq(head.nest),
            nest.advance.eq(~follows | moves),
            nest.restart.eq(~follows | nest.last[0]),
            takes.eq(seen & (~follows | (moves & nest.last[0]))),
            self.i.ready.eq(taken),
        ]
        # The nest wants to see a setup one cycle before it is loaded.
        m.d.sync += [taken.eq(takes), seen.eq(self.i.valid & ~takes & ~taken)]
        with m.If(takes):
            m.d.sync += [
                follows.eq(1),
                ahead.eq(head.step),
                same_step.eq(Mux(ends, head.step == following_step, head.step == step)),
                swap_inner.eq(head.swap_inner),
                slot.eq(head.slot),
            ]
        with m.Elif(moves & nest.last[0]):
            m.d.sync += follows.eq(0)
        with m.Elif(ends):
            m.d.sync += same_step.eq(ahead == following_step)
        m.d.sync += [self.begins.eq(moves & nest.first[0]), self.slot.eq(slot)]
        # Whether the operand is there is compared a cycle ahead. The first vector of a step moves
        # with the end of the one before.
        m.d.sync += there.eq(self.offset < self.available)
        following = nest.address.a0[: len(self.offset)]
        with m.If(moves):
            m.d.sync += [
                waits.eq(1),
                there.eq(Mux(same_step, following < self.available, following < remaining)),
                self.offset.eq(following),
                self.address.eq(nest.address.a1),
                new_stationary.eq(nest.first[0] | (swap_inner & nest.first[2])),
            ]
        with m.Elif(self.valid):
            m.d.sync += waits.eq(0)

        # -- sums in the adder ---------------------------------------------------------------------
        # Bit k of ``pending``: the sum that the next vector adds to was issued k + 1 cycles ago. A
        # committed tile cannot meet the vectors of the next one, which are in the other bank.
        place = nest.address.a1[: len(self.address)]
        recent = [Signal(len(place), name=f"recent{k}") for k in range(1, self.hazard)]
        recent_valid = Signal(self.hazard - 1)
        pending, met = Signal(self.hazard), Signal(self.hazard)
        m.d.comb += met.eq(
            Cat(
                self.valid & (self.address == place),
                *(recent_valid[k] & (older == place) for k, older in enumerate(recent)),
            )
        )
        for older, newer in zip(recent, [self.address, *recent[:-1]], strict=True):
            m.d.sync += older.eq(newer)
        with m.If(self.commit):
            m.d.sync += [recent_valid.eq(0), pending.eq(0), in_adder.eq(0)]
        with m.Else():
            still = Mux(moves, met, pending << 1)[: self.hazard]
            m.d.sync += [
                recent_valid.eq(Cat(self.valid, recent_valid)),
                pending.eq(still),
                in_adder.eq(still.any()),
            ]
        return m
