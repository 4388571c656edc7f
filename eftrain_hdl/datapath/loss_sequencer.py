"""Runs the segments of the loss unit's microprogram."""

from amaranth.hdl import C, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..arithmetic import FloatAdd, FloatMultiply
from .elastic import DelayLine
from .loss_program import (
    CHUNK,
    EXPONENT_TAG,
    MINIMUM,
    PROGRAM,
    RECIPROCAL_GUESS,
    REGISTERS,
    Segment,
    View,
    initial_registers,
)

__all__ = ["LossSequencer"]

ADDRESS_BITS = ceil_log2(REGISTERS)
SLOT_BITS = ceil_log2(CHUNK)

_Address = data.StructLayout({"address": ADDRESS_BITS, "vector": 1, "classes": 1})
_Outcome = data.StructLayout(
    {"valid": 1, "target": _Address, "slot": SLOT_BITS, "clamp": 1, "report": 1}
)
_Word = data.StructLayout(
    {
        "target": _Address,
        "a": _Address,
        "b": _Address,
        "c": _Address,
        "view": View,
        "length": SLOT_BITS + 1,  # 0: as the chunk
        "clamp": 1,
        "one_hot": 1,
        "report": 1,
        "drain": 1,
        "last": 1,
    }
)
"""One step as the control memory holds it."""


def _address(operand):
    return {
        "address": operand.address,
        "vector": int(operand.vector),
        "classes": int(operand.classes),
    }


def _assemble():
    """Control words of the whole program, and the index of the first one of each segment."""
    words, begin = [], {}
    for segment, steps in PROGRAM.items():
        begin[segment] = len(words)
        for k, step in enumerate(steps):
            last = k == len(steps) - 1
            fields = {name: _address(getattr(step, name)) for name in ("target", "a", "b", "c")}
            word = _Word.const(
                fields
                | {
                    "view": step.view,
                    "length": step.length or 0,
                    "clamp": int(step.clamp),
                    "one_hot": int(step.one_hot),
                    "report": int(step.report),
                    "drain": int(step.drain or last),
                    "last": int(last),
                }
            )
            words.append(word.as_bits())
    return words, begin


class LossSequencer(wiring.Component):
    """One multiplier, one adder, the registers and the control memory.

    A step takes a slot for each element, one a cycle, but :attr:`turnaround` cycles at least, so
    that the next step finds the result of its own slot. A step that drains takes its length plus
    :attr:`turnaround` less one.

    Members
    -------
    go, segment : In(1), In(Segment)
        Begin ``segment`` in the next cycle; not while another one runs.
    done : Out(1)
        Last cycle of a segment. Everything is written by its end.
    first, classes, label : In(16)
        First class of the chunk (a multiple of :data:`CHUNK`), number of classes, the image's
        label. Stable while a segment runs.
    put, put_register, put_word : In(1), In(7), In(32)
        Write a register; not while a segment runs.
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

    def __init__(self):
        super().__init__(
            {
                "go": In(1),
                "segment": In(Segment),
                "done": Out(1),
                "first": In(16),
                "classes": In(16),
                "label": In(16),
                "put": In(1),
                "put_register": In(ADDRESS_BITS),
                "put_word": In(32),
                "read_class": Out(16),
                "read_word": In(32),
                "write": Out(1),
                "write_class": Out(16),
                "word": Out(32),
                "report": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        words, begin = _assemble()
        m.submodules.program = program = memory.Memory(
            shape=_Word.size, depth=len(words), init=words
        )
        m.submodules.registers = registers = memory.Memory(
            shape=32, depth=REGISTERS, init=initial_registers()
        )
        m.submodules.multiply = multiply = FloatMultiply()
        m.submodules.add = add = FloatAdd()
        m.submodules.c_delay = c_delay = DelayLine(32, FloatMultiply.latency)

        # Where the program is.
        control = program.read_port(domain="comb")
        counter = Signal(range(len(words)))
        running = Signal()
        cycle = Signal(range(CHUNK + self.turnaround))
        m.d.comb += control.addr.eq(counter)
        step = _Word(control.data)
        slot = cycle[:SLOT_BITS]

        remaining = Signal(16)
        length, duration = Signal(SLOT_BITS + 1), Signal(range(CHUNK + self.turnaround))
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
            ports["a"].addr.eq(place(step.a)),
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
            with m.Case(View.RECIPROCAL):
                m.d.comb += seen.eq(RECIPROCAL_GUESS - b)
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
        outcome = Signal(_Outcome)
        m.d.comb += [
            outcome.valid.eq(running & (cycle < length)),
            outcome.target.eq(step.target),
            outcome.slot.eq(slot),
            outcome.clamp.eq(step.clamp),
            outcome.report.eq(step.report),
        ]
        for stage in range(self.turnaround - 1):
            delayed = Signal(_Outcome, name=f"outcome{stage}")
            m.d.sync += delayed.eq(outcome)
            outcome = delayed

        # The adder's NaN is positive, so that every bit pattern above the minimum's is below it.
        target = outcome.target
        write = registers.write_port()
        m.d.comb += [
            self.word.eq(Mux(outcome.clamp & (add.o > MINIMUM), Const(MINIMUM, 32), add.o)),
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
