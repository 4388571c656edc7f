"""What a descriptor's flags ask of the epilogue, as registers."""

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..isa import COEFFICIENT_VECTORS, Flag, Opcode

__all__ = ["EpilogueMode"]


class EpilogueMode(wiring.Component):
    """Decodes opcode and flags once a descriptor, so that no beat has to wait for it.

    *Latency*: one cycle, which a beat spends in the buffer behind the diagonal collector.

    Members
    -------
    opcode, flags : In(8), In(24)
        Of the descriptor.
    relu, adds, pool, unpool, side_mask : Out(1)
        The flags RELU, ADD, POOL, UNPOOL and SIDE_MASK.
    adds_nothing, no_unpool : Out(1)
        No ADD, no UNPOOL. For control, as the data's multiplexers make ``adds`` and ``unpool``
        slow.
    keeps : Out(1)
        POOL with KEEP.
    keeps_nothing : Out(1)
        The contrary, for control.
    is_update, with_momentum : Out(1)
        The SGD step of CONV_WU.
    biased : Out(1)
        A bias is added here; that of CONV_WU is a gradient.
    gradient : Out(1)
        Any opcode but CONV_FP.
    sums, single : Out(1)
        Something is summed; one sum only.
    reads_y, norm_mask : Out(1)
        Sums of a gradient need y; so does its mask.
    parameters : Out(range(5))
        Parameter vectors of a block on the side stream.
    no_parameters : Out(1)
        There are none. For control, as the data's multiplexers make ``biased`` slow.
    with_operand, with_mask : Out(1)
        For each vector one on the side stream; a mask ahead of it.
    """

    opcode: In(8)
    flags: In(24)
    relu: Out(1)
    adds: Out(1)
    pool: Out(1)
    unpool: Out(1)
    side_mask: Out(1)
    adds_nothing: Out(1, init=1)
    no_unpool: Out(1, init=1)
    keeps: Out(1)
    keeps_nothing: Out(1, init=1)
    is_update: Out(1)
    with_momentum: Out(1)
    biased: Out(1)
    gradient: Out(1)
    sums: Out(1)
    single: Out(1)
    reads_y: Out(1)
    norm_mask: Out(1)
    parameters: Out(range(COEFFICIENT_VECTORS + 1))
    no_parameters: Out(1, init=1)
    with_operand: Out(1)
    with_mask: Out(1)

    def elaborate(self, platform):
        m = Module()

        flags = self.flags
        is_wu, is_forward = self.opcode == Opcode.CONV_WU, self.opcode == Opcode.CONV_FP
        side_mask, two_sums = flags[Flag.SIDE_MASK], flags[Flag.STATISTICS]
        pool, biased = flags[Flag.POOL], ~is_wu & flags[Flag.BIAS]
        is_update, reads_y = is_wu & flags[Flag.UPDATE], two_sums & ~is_forward
        parameters = Mux(reads_y, COEFFICIENT_VECTORS, biased | (two_sums & is_forward & pool))
        m.d.sync += [
            self.relu.eq(flags[Flag.RELU]),
            self.adds.eq(flags[Flag.ADD]),
            self.adds_nothing.eq(~flags[Flag.ADD]),
            self.no_unpool.eq(~flags[Flag.UNPOOL]),
            self.pool.eq(pool),
            self.unpool.eq(flags[Flag.UNPOOL]),
            self.side_mask.eq(side_mask),
            self.keeps.eq(pool & flags[Flag.KEEP]),
            self.keeps_nothing.eq(~(pool & flags[Flag.KEEP])),
            self.is_update.eq(is_update),
            self.with_momentum.eq(is_update & flags[Flag.MOMENTUM]),
            self.biased.eq(biased),
            self.gradient.eq(~is_forward),
            self.sums.eq(two_sums | flags[Flag.SUMS]),
            self.single.eq(flags[Flag.SUMS]),
            self.reads_y.eq(reads_y),
            self.norm_mask.eq(reads_y & flags[Flag.NORM_MASK]),
            self.parameters.eq(parameters),
            self.no_parameters.eq(parameters == 0),
            self.with_operand.eq(side_mask | reads_y | is_update),
            self.with_mask.eq(side_mask & reads_y),
        ]
        return m
