"""The steps of the vector unit's programs as its control memory holds them."""

from amaranth.lib import data
from amaranth.utils import ceil_log2

from ..arithmetic import FloatAdd, FloatMultiply
from .vector_program import Clamp, View

__all__ = ["TURNAROUND", "assemble", "control_layout", "duration"]

TURNAROUND = FloatMultiply.latency + FloatAdd.latency + 3
"""Cycles from a slot to the first that can read its result: the memory and the operand registers
come before the arithmetic, the write after it."""


def control_layout(registers, slot_bits):
    """One step as the control memory holds it."""
    address = data.StructLayout({"address": ceil_log2(registers), "vector": 1, "classes": 1})
    return data.StructLayout(
        {
            "target": address,
            "a": address,
            "b": address,
            "c": address,
            "view": View,
            # Slots, and cycles less 2; without meaning with ``chunk``.
            "length": slot_bits + 1,
            "rest": ceil_log2((1 << slot_bits) + TURNAROUND),
            "chunk": 1,  # as many slots as the chunk has classes
            "clamp": Clamp,
            "one_hot": 1,
            "report": 1,
            "drain": 1,
            "last": 1,
        }
    )


def assemble(program, layout):
    """Control words of the steps of each segment, and the index of the first one of each."""
    words, begin = [], {}
    for segment, steps in program.items():
        begin[segment] = len(words)
        for k, step in enumerate(steps):
            last = k == len(steps) - 1
            drain, length = step.drain or last, step.length or 0
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
                    "length": length,
                    "rest": duration(length, drain) - 2,
                    "chunk": int(step.length is None),
                    "clamp": step.clamp,
                    "one_hot": int(step.one_hot),
                    "report": int(step.report),
                    "drain": int(drain),
                    "last": int(last),
                }
            )
            words.append(word.as_bits())
    return words, begin


def duration(length, drain):
    """Cycles of a step of ``length`` slots."""
    return length + TURNAROUND - 1 if drain else max(length, TURNAROUND)
