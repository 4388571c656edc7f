"""Sorts the side stream of the epilogue by what its vectors are for."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..isa import COEFFICIENT_VECTORS
from .elastic import count_beats
from .pooling import is_positive

__all__ = ["SideOperands"]


class SideOperands(wiring.Component):
    """Block parameters, masks, operands and velocities, which share one stream.

    Before the first vector of a block come its parameters, which are kept for all of it. Then comes
    for each vector, as far as it is asked for: a mask, of which the signs are kept; an operand,
    whose beats are taken together with those of the vector; a velocity, which goes its own way.

    Parameters
    ----------
    config : CoreConfig
    velocity_depth : int
        Beats of velocities that can be held.

    Members
    -------
    parameters, no_parameters : In(range(5)), In(1)
        Parameter vectors of a block; that there are none. These and the next three may change only
        while idle.
    with_mask, with_operand, with_velocity : In(1)
        Each of the first and last implies the second; not both.
    side : In(stream.Signature(128))
    waiting, block_start, beat : In
        A beat waits, of the first vector of a block, and its number within the vector.
    complete : Out(1)
        All that the waiting beat needs is here.
    lacking : Out(1)
        The waiting beat needs a beat of ``side``, which is not there.
    take : In(1)
        The waiting beat goes, and its operand with it.
    first, third : Out(128)
        Beats of parameter vectors 0 and 2.
    is_fourth : Out(1)
        The beat of ``side`` is taken, and is one of parameter vector 3.
    operand : Out(128)
    positive : Out(4)
        Which words of the mask, without one of the operand, are above zero.
    velocities : Out(stream.Signature(128))
    idle : Out(1)
    """

    def __init__(self, config, *, velocity_depth):
        self._config = config
        self._velocity_depth = velocity_depth
        beat = stream.Signature(config.data_bits)
        super().__init__(
            {
                "parameters": In(range(COEFFICIENT_VECTORS + 1)),
                "no_parameters": In(1),
                "with_mask": In(1),
                "with_operand": In(1),
                "with_velocity": In(1),
                "side": In(beat),
                "waiting": In(1),
                "block_start": In(1),
                "beat": In(max(1, ceil_log2(config.vector_beats))),
                "complete": Out(1),
                "lacking": Out(1),
                "take": In(1),
                "first": Out(config.data_bits),
                "third": Out(config.data_bits),
                "is_fourth": Out(1),
                "operand": Out(config.data_bits),
                "positive": Out(config.beat_words),
                "velocities": Out(beat),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        beats, width = self._config.vector_beats, self._config.data_bits
        depth = max(2, beats)
        side = self.side

        # What the beat in ``side`` is.
        taken = side.valid & side.ready
        side_beat, last_beat = count_beats(m, beats, taken, "side_beat")
        present = Signal()
        parameter = Signal(range(COEFFICIENT_VECTORS))
        # The second of the two vectors that come for each vector.
        turned = Signal()
        is_parameter, is_mask, is_velocity = Signal(), Signal(), Signal()
        m.d.comb += [
            is_parameter.eq(self.waiting & self.block_start & ~self.no_parameters & ~present),
            is_mask.eq(self.waiting & ~is_parameter & self.with_mask & ~turned),
            is_velocity.eq(self.with_velocity & turned),
            # An operand comes behind a mask, but before a velocity; else ``turned`` stays low.
            self.complete.eq(
                ~is_parameter & (turned == self.with_mask) & (~self.with_operand | side.valid)
            ),
        ]
        needed = is_parameter | is_mask | self.with_operand
        m.d.comb += self.lacking.eq(self.waiting & needed & ~side.valid)
        with m.If(is_parameter):
            with m.If(side.valid & last_beat):
                m.d.sync += parameter.eq(parameter + 1)
                with m.If(parameter == self.parameters - 1):
                    m.d.sync += [parameter.eq(0), present.eq(1)]
        with m.Elif(taken & last_beat & (self.with_mask | self.with_velocity)):
            m.d.sync += turned.eq(~turned)
        with m.If(self.take & self.block_start & (self.beat == beats - 1)):
            m.d.sync += present.eq(0)

        def kept(name, wanted, value, width):
            m.submodules[name] = cells = memory.Memory(shape=width, depth=depth, init=[])
            read, write = cells.read_port(domain="comb"), cells.write_port()
            m.d.comb += [
                read.addr.eq(self.beat),
                write.addr.eq(side_beat),
                write.data.eq(value),
                write.en.eq(wanted & side.valid),
            ]
            return read.data

        words = range(self._config.beat_words)
        positive = Signal(len(words))
        m.d.comb += positive.eq(Cat(is_positive(side.payload.word_select(k, 32)) for k in words))
        first = kept("parameter0", is_parameter & (parameter == 0), side.payload, width)
        third = kept("parameter2", is_parameter & (parameter == 2), side.payload, width)
        mask = kept("mask", is_mask, positive, len(words))
        m.submodules.velocity = velocity = fifo.SyncFIFO(width=width, depth=self._velocity_depth)
        m.d.comb += [
            self.first.eq(first),
            self.third.eq(third),
            self.is_fourth.eq(is_parameter & (parameter == 3) & side.valid),
            self.operand.eq(side.payload),
            self.positive.eq(Mux(self.with_mask, mask, positive)),
            velocity.w_data.eq(side.payload),
            velocity.w_en.eq(is_velocity & side.valid),
            self.velocities.payload.eq(velocity.r_data),
            self.velocities.valid.eq(velocity.r_rdy),
            velocity.r_en.eq(self.velocities.ready),
            side.ready.eq(
                Mux(
                    is_velocity,
                    velocity.w_rdy,
                    is_parameter | is_mask | (self.take & self.with_operand),
                )
            ),
            self.idle.eq(
                (side_beat == 0) & (parameter == 0) & ~present & ~turned & ~velocity.r_rdy
            ),
        ]

        return m
