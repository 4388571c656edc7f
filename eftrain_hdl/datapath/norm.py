"""Batch-norm between two layers: from the sums of a channel to its coefficients."""

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..isa import COEFFICIENT_VECTORS, PARAMETER_VECTORS, Flag
from .norm_program import NormProgram
from .vector_program import Segment
from .vector_sequencer import SequencerSignature

__all__ = ["Norm"]

SEGMENTS = {
    # segment: (flags that must be set, flags that must not)
    Segment.IDENTITY: ((), (Flag.GRADIENT, Flag.X_PAIR)),
    Segment.REDUCE: ((), (Flag.FROZEN,)),
    Segment.BATCH: ((), (Flag.GRADIENT, Flag.FROZEN)),
    Segment.FROZEN: ((Flag.FROZEN,), ()),
    Segment.FORWARD: ((), (Flag.GRADIENT,)),
    Segment.BACKWARD: ((Flag.GRADIENT,), ()),
    Segment.DECAY: ((Flag.UPDATE,), ()),
    Segment.VELOCITY: ((Flag.MOMENTUM,), ()),
    Segment.DESCENT: ((Flag.UPDATE,), ()),
}
"""When a segment runs, in order."""


def _mask(flags):
    return sum(1 << flag for flag in flags)


class Norm(wiring.Component):
    """The opcode NORM: statistics records in, parameter and coefficient records out.

    :class:`VectorSequencer` does the arithmetic, ``norm_program.py`` says what; this block moves
    the words and picks the segments.

    *Throughput*: channel blocks one after the other: a cycle for each word that is read or written,
    and 20 to 30 steps of T cycles (10 at least) between. With T = 16 a block takes 588 to 988
    cycles, 964 forward and 812 backward with UPDATE and MOMENTUM; with T = 8 634 at most.
    *Backpressure*: any stall on any stream.

    Parameters
    ----------
    program : NormProgram

    Members
    -------
    sequencer : Out(SequencerSignature)
    start : In(1)
        One cycle while not busy. Flags, ``out_blocks`` and the numbers must keep their values while
        busy.
    flags : In(24)
        Of the descriptor: GRADIENT, UPDATE, MOMENTUM, FROZEN and X_PAIR count.
    out_blocks : In(16)
        At least 1.
    scale, unbias, epsilon, statistics_momentum, learning_rate, momentum, weight_decay : In(32)
        fp32, as in the descriptor.
    busy : Out(1)
        From the cycle after ``start`` until the last beat was taken.
    i : In(stream.Signature(128))
        Of each block its statistics record (not with FROZEN), its parameter record, with X_PAIR
        the coefficient record of the pair.
    o : Out(stream.Signature(128))
        Of each block its parameter record (not with FROZEN), then its coefficient record.
    nonfinite : Out(1)
        High for one cycle when a word that is written is infinite or NaN.
    """

    def __init__(self, program):
        self._program = program
        beat = stream.Signature(128)
        super().__init__(
            {
                "sequencer": Out(SequencerSignature(program.registers)),
                "start": In(1),
                "flags": In(24),
                "out_blocks": In(16),
                **{name: In(32) for name in program.scalars},
                "busy": Out(1),
                "i": In(beat),
                "o": Out(beat),
                "nonfinite": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        program, sequencer = self._program, self.sequencer
        frozen = self.flags[Flag.FROZEN]
        pair = self.flags[Flag.X_PAIR] & ~self.flags[Flag.GRADIENT]

        block = Signal(16)
        scalar = Signal(range(len(program.scalars)))
        segment = Signal(range(len(SEGMENTS)))
        # The register that is written, or whose word is here.
        place = Signal(range(program.registers))
        beat, words = Signal(128), Signal(3)
        wanted = Cat(
            (self.flags & _mask(needed + not_with)) == _mask(needed)
            for needed, not_with in SEGMENTS.values()
        )
        first_read = Mux(frozen, program.parameters, program.shift)
        last_read = Mux(pair, program.end, program.coefficients) - 1
        first_written = Mux(frozen, program.coefficients, program.parameters)

        full = words == 4
        word = sequencer.get_word
        m.d.comb += [
            self.o.payload.eq(beat),
            sequencer.get_register.eq(place),
            sequencer.segment.eq(segment + Segment.IDENTITY),
        ]
        m.d.sync += self.nonfinite.eq(0)

        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))

            with m.State("IDLE"):
                m.d.sync += [block.eq(0), scalar.eq(0)]
                with m.If(self.start):
                    m.next = "SCALARS"

            with m.State("SCALARS"):
                m.d.comb += sequencer.put.eq(1)
                with m.Switch(scalar):
                    for k, (name, register) in enumerate(program.scalars.items()):
                        with m.Case(k):
                            sign = (name == "learning_rate") << 31
                            m.d.comb += [
                                sequencer.put_register.eq(register.address),
                                sequencer.put_word.eq(getattr(self, name) ^ sign),
                            ]
                m.d.sync += [scalar.eq(scalar + 1), place.eq(first_read)]
                with m.If(scalar == len(program.scalars) - 1):
                    m.next = "READ"

            with m.State("READ"):
                m.d.comb += [
                    sequencer.put.eq(self.i.valid),
                    sequencer.put_register.eq(place),
                    sequencer.put_word.eq(self.i.payload.word_select(place[:2], 32)),
                    self.i.ready.eq(place[:2] == 3),
                ]
                m.d.sync += segment.eq(0)
                with m.If(self.i.valid):
                    m.d.sync += place.eq(place + 1)
                    with m.If(place == last_read):
                        m.next = "SEGMENT"

            with m.State("SEGMENT"):
                m.d.comb += sequencer.go.eq(wanted.bit_select(segment, 1))
                m.d.sync += place.eq(first_written)
                m.next = "RUN"

            with m.State("RUN"):
                with m.If(sequencer.done | ~wanted.bit_select(segment, 1)):
                    m.d.sync += segment.eq(segment + 1)
                    m.next = "SEGMENT"
                    with m.If(segment == len(SEGMENTS) - 1):
                        m.next = "FETCH"

            with m.State("FETCH"):
                m.d.sync += words.eq(0)
                m.next = "WRITE"

            with m.State("WRITE"):
                m.d.comb += self.o.valid.eq(full)
                with m.If(~full | self.o.ready):
                    # The address is already that of the next word.
                    m.d.comb += sequencer.get_register.eq(place + 1)
                    m.d.sync += [
                        beat.eq(Cat(beat[32:], word)),
                        words.eq(Mux(full, 1, words + 1)),
                        place.eq(place + 1),
                    ]
                    with m.If(place == program.end):
                        # Of this word nothing is taken: the beat before it was the last.
                        m.d.sync += [block.eq(block + 1), place.eq(first_read)]
                        m.next = "READ"
                        with m.If(block + 1 == self.out_blocks):
                            m.next = "IDLE"
                    with m.Else():
                        m.d.sync += self.nonfinite.eq(word[23:31].all())
        return m

    @staticmethod
    def model(group, flags, numbers, statistics, parameters, pair=None):
        """Bit-exact model of one channel block.

        Parameters
        ----------
        group : int
        flags : set of Flag
        numbers : dict
            fp32 bits of each number of the descriptor, by field name.
        statistics : uint32 array of T + 64 words, or None with FROZEN
            The record that the drain left: shift, two sets of partial sums.
        parameters : uint32 array of shape (8, T)
        pair : uint32 array of shape (4, T), with X_PAIR only

        Returns
        -------
        parameters : uint32 array of shape (8, T)
        coefficients : uint32 array of shape (4, T)
        """
        program = NormProgram(group)
        unit = program.machine()
        for name, register in program.scalars.items():
            word = numbers.get(name, 0)
            unit.registers[register.address] = word ^ (name == "learning_rate") << 31
        pieces = [] if Flag.FROZEN in flags else [statistics]
        pieces += [parameters] if pair is None else [parameters, pair]
        words = np.concatenate([np.ravel(piece) for piece in pieces])
        first = program.parameters if Flag.FROZEN in flags else program.shift
        unit.registers[first : first + len(words)] = words
        for segment, (needed, not_with) in SEGMENTS.items():
            if flags.issuperset(needed) and flags.isdisjoint(not_with):
                unit.run(segment)
        written = unit.registers[program.parameters : program.end].reshape(-1, group)
        return written[:PARAMETER_VECTORS], written[-COEFFICIENT_VECTORS:]
