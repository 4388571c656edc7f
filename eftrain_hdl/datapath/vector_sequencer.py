"""Runs the segments of the vector unit's microprograms."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..arithmetic import FloatAdd, FloatMultiply
from . import softmax_program
from .elastic import DelayLine
from .norm_program import NormProgram
from .vector_control import TURNAROUND, assemble, control_layout, duration
from .vector_program import (
    CHUNK,
    EXPONENT_TAG,
    MINIMUM,
    RECIPROCAL_GUESS,
    RSQRT_GUESS,
    Clamp,
    Segment,
    View,
)

__all__ = ["SequencerSignature", "VectorSequencer"]


class SequencerSignature(wiring.Signature):
    """What ``SoftmaxLoss`` and ``Norm`` see of the sequencer they share; members as its own.

    Parameters
    ----------
    registers : int
        Size of the register file.
    """

    def __init__(self, registers):
        address_bits = ceil_log2(registers)
        super().__init__(
            {
                "go": Out(1),
                "segment": Out(Segment),
                "done": In(1),
                "first": Out(16),
                "classes": Out(16),
                "label": Out(16),
                "put": Out(1),
                "put_register": Out(address_bits),
                "put_word": Out(32),
                "get_register": Out(address_bits),
                "get_word": In(32),
                "read_class": In(16),
                "read_word": Out(32),
                "write": In(1),
                "write_class": In(16),
                "word": In(32),
                "report": In(1),
            }
        )


class VectorSequencer(wiring.Component):
    """One multiplier, one adder, the registers and the control memory.

    A step takes a slot for each element, one a cycle, but :data:`TURNAROUND` cycles at least, so
    that the next step finds the result of its own slot. A step that drains takes its length plus
    :data:`TURNAROUND` less one. A segment takes one cycle more than its steps: each step is fetched
    into registers, while the one before it runs.

    Parameters
    ----------
    group : int
        Channels of a block in NORM.

    Members
    -------
    go, segment : In(1), In(Segment)
        Begin ``segment``; not while another one runs.
    done : Out(1)
        Last cycle of a segment. Everything is written by its end.
    first, classes, label : In(16)
        First class of the chunk (a multiple of :data:`CHUNK`), number of classes, the image's
        label. Stable from the cycle of ``go`` to the end of the segment.
    put, put_register, put_word : In(1), In(), In(32)
        Write a register; not while a segment runs.
    get_register, get_word : In(), Out(32)
        Register whose word ``get_word`` brings in the next cycle; not while a segment runs.
    read_class, read_word : Out(16), In(32)
        Class whose word ``read_word`` brings in the next cycle.
    write, write_class, word : Out(1), Out(16), Out(32)
        Write a word of the class memory.
    report : Out(1)
        ``word`` is the loss of an image or the mean.
    """

    def __init__(self, group):
        self.program = NormProgram(group)
        members = SequencerSignature(self.program.registers).members
        super().__init__({name: member.flip() for name, member in members.items()})

    def elaborate(self, platform):
        m = Module()

        depth = self.program.registers
        chunk_bits, slot_bits = ceil_log2(CHUNK), ceil_log2(max(CHUNK, self.program.group))
        layout = control_layout(depth, slot_bits)
        words, begin = assemble(softmax_program.PROGRAM | self.program.segments, layout)
        init = [0] * depth
        for constants in (softmax_program.CONSTANTS, self.program.constants):
            init[constants.first : constants.end] = constants.words
        m.submodules.program = program = memory.Memory(
            shape=layout.size, depth=len(words), init=words
        )
        m.submodules.registers = registers = memory.Memory(shape=32, depth=depth, init=init)
        m.submodules.multiply = multiply = FloatMultiply()
        m.submodules.add = add = FloatAdd()
        m.submodules.c_delay = c_delay = DelayLine(32, FloatMultiply.latency)

        # Where the program is: the step that runs, and the place of the next one.
        control = program.read_port(domain="comb")
        counter = Signal(range(len(words)))
        begins, running = Signal(), Signal()
        cycle = Signal(range((1 << slot_bits) + TURNAROUND))
        slot = cycle[:slot_bits]
        step = Signal(layout)
        fetched = layout(control.data)
        m.d.comb += control.addr.eq(counter)

        # Slots and cycles of a chunk, there when the first step is fetched.
        left, chunk = Signal(16), Signal(slot_bits + 1)
        chunk_length, chunk_rest, chunk_drain_rest = (
            Signal.like(cycle, name=f"chunk_{name}") for name in ("length", "rest", "drain_rest")
        )
        m.d.comb += [
            left.eq(self.classes - self.first),
            chunk.eq(Mux(left[chunk_bits:].any(), CHUNK, left)),
        ]
        m.d.sync += [
            chunk_length.eq(chunk),
            chunk_rest.eq(Mux(chunk < TURNAROUND, TURNAROUND, chunk) - 2),
            chunk_drain_rest.eq(chunk + (duration(0, True) - 2)),
        ]

        # ``ends``: the last cycle of the step.
        length, rest, ends = Signal(slot_bits + 1), Signal.like(cycle), Signal()
        m.d.comb += self.done.eq(ends & step.last)
        m.d.sync += [begins.eq(self.go), ends.eq(running & (cycle == rest))]
        with m.If(running):
            m.d.sync += cycle.eq(cycle + 1)
        with m.If(begins | ends):
            m.d.sync += [
                running.eq(~self.done),
                cycle.eq(0),
                counter.eq(counter + 1),
                step.eq(fetched),
                length.eq(Mux(fetched.chunk, chunk_length, fetched.length)),
                rest.eq(
                    Mux(
                        fetched.chunk,
                        Mux(fetched.drain, chunk_drain_rest, chunk_rest),
                        fetched.rest,
                    )
                ),
            ]
        with m.If(self.go):
            with m.Switch(self.segment):
                for segment, place in begin.items():
                    with m.Case(segment):
                        m.d.sync += counter.eq(place)

        # Slot: addresses. Vectors are aligned, so that the slot only needs to be or-ed in.
        def place(operand):
            return operand.address | Mux(operand.vector, slot, 0)

        ports = {name: registers.read_port() for name in "abc"}
        here = Signal(16)
        # The label's slot, if it is one of this chunk.
        has_label, here_is_label = Signal(), Signal()
        m.d.sync += has_label.eq(self.first[chunk_bits:] == self.label[chunk_bits:])
        m.d.comb += [
            here.eq(self.first | slot),
            here_is_label.eq(has_label & (slot == self.label[:chunk_bits])),
            self.read_class.eq(here),
            ports["a"].addr.eq(Mux(running, place(step.a), self.get_register)),
            self.get_word.eq(ports["a"].data),
            ports["b"].addr.eq(place(step.b)),
            ports["c"].addr.eq(place(step.c) | (step.one_hot & here_is_label)),
        ]

        # One cycle later: the words, as the step looks at them.
        a_from_classes = Signal()
        view, guesses = Signal(View), Signal()
        m.d.sync += [
            a_from_classes.eq(step.a.classes),
            view.eq(step.view),
            guesses.eq((step.view == View.RECIPROCAL) | (step.view == View.RSQRT)),
        ]
        b = ports["b"].data
        rsqrt = view == View.RSQRT
        guess = Mux(rsqrt, C(RSQRT_GUESS, 32), C(RECIPROCAL_GUESS, 32)) - Mux(rsqrt, b >> 1, b)
        looked_at = Signal(32)
        with m.Switch(view):
            with m.Case(View.POWER):
                m.d.comb += looked_at.eq(Cat(C(0, 23), b[:8]))
            with m.Case(View.FRACTION):
                m.d.comb += looked_at.eq(Cat(b[:23], C(127, 8)))
            with m.Case(View.EXPONENT):
                m.d.comb += looked_at.eq(EXPONENT_TAG | b[23:31])
            with m.Default():
                m.d.comb += looked_at.eq(b)
        # The guess last: the words come late and the subtraction takes long.
        seen = Mux(guesses, guess, looked_at)
        operands = [
            Mux(a_from_classes, self.read_word, ports["a"].data),
            seen,
            ports["c"].data,
        ]
        for target, value in zip((multiply.a, multiply.b, c_delay.i), operands, strict=True):
            operand = Signal(32, name="operand", reset_less=True)
            m.d.sync += operand.eq(value)
            m.d.comb += target.eq(operand)
        m.d.comb += [add.a.eq(c_delay.o), add.b.eq(multiply.o)]

        # What becomes of the result travels along.
        outcome_layout = data.StructLayout(
            {
                "valid": 1,
                "target": layout.members["target"],
                "slot": slot_bits,
                "clamp": Clamp,
                "report": 1,
            }
        )
        outcome = Signal(outcome_layout)
        m.d.comb += [
            outcome.valid.eq(running & (cycle < length)),
            outcome.target.eq(step.target),
            outcome.slot.eq(slot),
            outcome.clamp.eq(step.clamp),
            outcome.report.eq(step.report),
        ]
        for stage in range(TURNAROUND - 1):
            delayed = Signal(outcome_layout, name=f"outcome{stage}")
            m.d.sync += delayed.eq(outcome)
            outcome = delayed

        # The adder's NaN is positive, so that every bit pattern above the minimum's is below it.
        target = outcome.target
        write = registers.write_port()
        m.d.comb += self.word.eq(add.o)
        with m.If((outcome.clamp == Clamp.EXPONENT) & (add.o > MINIMUM)):
            m.d.comb += self.word.eq(MINIMUM)
        with m.If((outcome.clamp == Clamp.ZERO) & add.o[31]):
            m.d.comb += self.word.eq(0)
        m.d.comb += [
            self.write.eq(outcome.valid & target.classes),
            self.write_class.eq(self.first | outcome.slot),
            self.report.eq(outcome.valid & outcome.report),
            write.en.eq(self.put | (outcome.valid & ~target.classes)),
            write.addr.eq(target.address | Mux(target.vector, outcome.slot, 0)),
            write.data.eq(self.word),
        ]
        with m.If(self.put):
            m.d.comb += [write.addr.eq(self.put_register), write.data.eq(self.put_word)]

        return m
