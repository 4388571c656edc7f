"""Runs the segments of the vector unit's microprograms."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..arithmetic import FloatAdd, FloatMultiply
from . import softmax_program
from .elastic import DelayLine
from .norm_program import NormProgram
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

    A step takes a slot for each element, one a cycle, but :attr:`turnaround` cycles at least, so
    that the next step finds the result of its own slot. A step that drains takes its length plus
    :attr:`turnaround` less one.

    Parameters
    ----------
    group : int
        Channels of a block in NORM.

    Members
    -------
    go, segment : In(1), In(Segment)
        Begin ``segment`` in the next cycle; not while another one runs.
    done : Out(1)
        Last cycle of a segment. Everything is written by its end.
    first, classes, label : In(16)
        First class of the chunk (a multiple of :data:`CHUNK`), number of classes, the image's
        label. Stable while a segment runs.
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

    turnaround = FloatMultiply.latency + FloatAdd.latency + 3
    """Cycles from a slot to the first that can read its result: the memory and the operand
    registers come before the arithmetic, the write after it."""

    def __init__(self, group):
        self.program = NormProgram(group)
        members = SequencerSignature(self.program.registers).members
        super().__init__({name: member.flip() for name, member in members.items()})

    @staticmethod
    def _control_layout(registers, slot_bits):
        """One step as the control memory holds it."""
        address = data.StructLayout({"address": ceil_log2(registers), "vector": 1, "classes": 1})
        return data.StructLayout(
            {
                "target": address,
                "a": address,
                "b": address,
                "c": address,
                "view": View,
                "length": slot_bits + 1,  # 0: as the chunk
                "clamp": Clamp,
                "one_hot": 1,
                "report": 1,
                "drain": 1,
                "last": 1,
            }
        )

    def _assemble(self, layout):
        """Control words of both programs, and the index of the first one of each segment."""
        words, begin = [], {}
        for segment, steps in (softmax_program.PROGRAM | self.program.segments).items():
            begin[segment] = len(words)
            for k, step in enumerate(steps):
                last = k == len(steps) - 1
                fields = {
                    name: {
                        "address": operand.address,
                        "vector": int(operand.vector),
                        "classes": int(operand.classes),
                    }
                    for name in ("target", "a", "b", "c")
                    for operand in [getattr(step, name)]
                }
                word = layout.const(
                    fields
                    | {
                        "view": step.view,
                        "length": step.length or 0,
                        "clamp": step.clamp,
                        "one_hot": int(step.one_hot),
                        "report": int(step.report),
                        "drain": int(step.drain or last),
                        "last": int(last),
                    }
                )
                words.append(word.as_bits())
        return words, begin

    def elaborate(self, platform):
        m = Module()

        depth = self.program.registers
        slot_bits = ceil_log2(max(CHUNK, self.program.group))
        layout = self._control_layout(depth, slot_bits)
        words, begin = self._assemble(layout)
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

        # Where the program is.
        control = program.read_port(domain="comb")
        counter = Signal(range(len(words)))
        running = Signal()
        cycle = Signal(range((1 << slot_bits) + self.turnaround))
        m.d.comb += control.addr.eq(counter)
        step = layout(control.data)
        slot = cycle[:slot_bits]

        remaining = Signal(16)
        length, duration = Signal(slot_bits + 1), Signal.like(cycle)
        m.d.comb += [
            remaining.eq(self.classes - self.first),
            length.eq(Mux(step.length != 0, step.length, Mux(remaining > CHUNK, CHUNK, remaining))),
            duration.eq(
                Mux(
                    step.drain,
                    length + (self.turnaround - 1),
                    Mux(length > self.turnaround, length, self.turnaround),
                )
            ),
        ]
        step_end = cycle == duration - 1
        m.d.comb += self.done.eq(running & step_end & step.last)
        with m.If(running):
            m.d.sync += cycle.eq(Mux(step_end, 0, cycle + 1))
            with m.If(step_end):
                m.d.sync += counter.eq(counter + 1)
        with m.If(self.done):
            m.d.sync += running.eq(0)
        with m.If(self.go):
            m.d.sync += running.eq(1)
            with m.Switch(self.segment):
                for segment, place in begin.items():
                    with m.Case(segment):
                        m.d.sync += counter.eq(place)

        # Slot: addresses. Vectors are aligned, so that the slot only needs to be or-ed in.
        def place(operand):
            return operand.address | Mux(operand.vector, slot, 0)

        ports = {name: registers.read_port() for name in "abc"}
        here = Signal(16)
        m.d.comb += [
            here.eq(self.first | slot),
            self.read_class.eq(here),
            ports["a"].addr.eq(Mux(running, place(step.a), self.get_register)),
            self.get_word.eq(ports["a"].data),
            ports["b"].addr.eq(place(step.b)),
            ports["c"].addr.eq(place(step.c) + (step.one_hot & (here == self.label))),
        ]

        # One cycle later: the words, as the step looks at them.
        a_from_classes = Signal()
        view = Signal(View)
        m.d.sync += [a_from_classes.eq(step.a.classes), view.eq(step.view)]
        b = ports["b"].data
        seen = Signal(32)
        with m.Switch(view):
            with m.Case(View.POWER):
                m.d.comb += seen.eq(Cat(C(0, 23), b[:8]))
            with m.Case(View.FRACTION):
                m.d.comb += seen.eq(Cat(b[:23], C(127, 8)))
            with m.Case(View.EXPONENT):
                m.d.comb += seen.eq(EXPONENT_TAG | b[23:31])
            with m.Case(View.RECIPROCAL, View.RSQRT):
                rsqrt = view == View.RSQRT
                guess = Mux(rsqrt, C(RSQRT_GUESS, 32), C(RECIPROCAL_GUESS, 32))
                m.d.comb += seen.eq(guess - Mux(rsqrt, b >> 1, b))
            with m.Default():
                m.d.comb += seen.eq(b)
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
        for stage in range(self.turnaround - 1):
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
