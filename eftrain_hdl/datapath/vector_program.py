"""The steps the vector unit's microprograms are made of, and a model that executes them.

Every step is one multiply and one add, ``target = a * view(b) + c``, over a run of elements. Each
of the two rounds to fp32. Registers hold vectors, single words and constants.

``softmax_program.py`` has the program of LOSS, ``norm_program.py`` that of NORM. They live in
different registers of one file, so that neither has to prepare anything for the other.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from ..arithmetic import FloatAdd, FloatMultiply

__all__ = [
    "CHUNK", "EXPONENT_TAG", "MINIMUM", "RECIPROCAL_GUESS", "RSQRT_GUESS", "Clamp", "Constants",
    "Machine", "Operand", "Segment", "Step", "View",
]  # fmt: skip

CHUNK = 16
"""Classes that one step of LOSS treats, one a cycle."""

MINIMUM = 0xC2B00000
"""-88, whose exponential is zero in fp32 without subnormals: where arguments of exp are clamped."""

RECIPROCAL_GUESS = 0x7EF311C7
RSQRT_GUESS = 0x5F3759DF
EXPONENT_TAG = 0x4B000000
"""2**23. With an integer below 2**23 in the fraction, it is 2**23 plus this integer."""


class View(IntEnum):
    """How a step reads the bits of its operand ``b``."""

    PLAIN = 0
    POWER = 1
    """2 to the power of the low byte less 127, +0 for a zero byte."""
    FRACTION = 2
    """The significand, in [1, 2)."""
    EXPONENT = 3
    """2**23 plus the biased exponent."""
    RECIPROCAL = 4
    """About 1/b."""
    RSQRT = 5
    """About 1/sqrt(b), for b above 0."""


class Clamp(IntEnum):
    """What a step does with its result."""

    NONE = 0
    EXPONENT = 1
    """Below :data:`MINIMUM` it becomes this."""
    ZERO = 2
    """Negative ones become +0. NaN stays NaN."""


class Segment(IntEnum):
    """Parts of the programs; ``SoftmaxLoss`` and ``Norm`` decide which one runs next."""

    START = 0
    """LOSS, once."""
    CLEAR = 1
    """At the beginning of each image."""
    EXPONENTIALS = 2
    """For each chunk of classes: logits become exponentials."""
    LOSS = 3
    """Once an image."""
    GRADIENT = 4
    """For each chunk of classes: exponentials become gradients."""
    END = 5
    """Once."""

    # NORM, each at most once a channel block, in this order.
    IDENTITY = 8
    """In place of a pair's record, the one of a pair that stays as it is."""
    REDUCE = 9
    """Partial sums become sums and means."""
    BATCH = 10
    """Mean, variance and running statistics of the batch."""
    FROZEN = 11
    """Mean and variance from the running statistics."""
    FORWARD = 12
    """Coefficients that normalise."""
    BACKWARD = 13
    """Coefficients of the gradient of the normalisation, gradient of gamma."""
    DECAY = 14
    """Weight decay."""
    VELOCITY = 15
    """Momentum."""
    DESCENT = 16
    """Gamma and beta step along their gradients."""


@dataclass(frozen=True)
class Operand:
    """Register ``address``; of a vector the element of the step's slot, else always the same.

    ``classes`` stands for the memory of the classes instead, at the slot's class.
    """

    address: int = 0
    vector: bool = False
    classes: bool = False

    def upper(self, elements):
        """The vector that begins ``elements`` later."""
        return Operand(self.address + elements, vector=True)


@dataclass(frozen=True)
class Step:
    """``target = a * view(b) + c`` for ``length`` elements (None: as many as the chunk has).

    Parameters
    ----------
    one_hot : bool
        The element of the label takes the register after ``c`` instead of ``c``, whose address is
        even.
    report : bool
        The result is the loss; infinity and NaN raise ``nonfinite``.
    drain : bool
        The next step needs more than the element of its own slot: wait for all results. Always so
        at the end of a segment.
    """

    target: Operand
    a: Operand
    b: Operand
    c: Operand
    length: int | None = 1
    view: View = View.PLAIN
    clamp: Clamp = Clamp.NONE
    one_hot: bool = False
    report: bool = False
    drain: bool = False


class Constants:
    """Registers from ``first`` on that hold numbers; each number once."""

    def __init__(self, first):
        self.first = first
        self.words = []

    def __call__(self, value):
        """The register of ``value``, rounded to fp32."""
        (word,) = struct.unpack("<I", struct.pack("<f", value))
        if word not in self.words:
            self.words.append(word)
        return Operand(self.first + self.words.index(word))

    @property
    def end(self):
        """The first register behind them."""
        return self.first + len(self.words)


class Machine:
    """Bit-exact model of the sequencer: registers, class memory and the steps on them.

    Parameters
    ----------
    program : dict
        Steps of each segment.
    constants : Constants
    registers : int
        How many there are.
    classes : int
        Words of the class memory that count.
    """

    def __init__(self, program, constants, registers, classes=0):
        self.program = program
        self.registers = np.zeros(registers, np.uint32)
        self.registers[constants.first : constants.end] = constants.words
        self.classes = np.zeros(classes, np.uint32)
        self.label = 0
        self.reports = []

    def run(self, segment, first=0):
        """Run a segment; its vectors are the classes from ``first`` on."""
        for step in self.program[segment]:
            length = min(CHUNK, len(self.classes) - first) if step.length is None else step.length
            slots = np.arange(length)
            a, b = (self._read(operand, first, slots) for operand in (step.a, step.b))
            hit = (first + slots == self.label) & step.one_hot
            c = self.registers[step.c.address + step.c.vector * slots + hit]
            result = FloatAdd.model(c, FloatMultiply.model(a, self._view(step.view, b)))
            result = self._clamp(step.clamp, result)
            if step.report:
                self.reports.append(int(result[0]))
            if step.target.classes:
                self.classes[first + slots] = result
            else:
                self.registers[step.target.address + step.target.vector * slots] = result

    def run_chunks(self, segment):
        """Run a segment for all classes."""
        for first in range(0, len(self.classes), CHUNK):
            self.run(segment, first)

    def _read(self, operand, first, slots):
        if operand.classes:
            return self.classes[first + slots]
        return self.registers[operand.address + operand.vector * slots]

    @staticmethod
    def _view(view, b):
        if view == View.POWER:
            return (b & 255) << 23
        if view == View.FRACTION:
            return (b & 0x7FFFFF) | 127 << 23
        if view == View.EXPONENT:
            return (b >> 23 & 255) | EXPONENT_TAG
        if view == View.RECIPROCAL:
            return np.uint32(RECIPROCAL_GUESS) - b
        if view == View.RSQRT:
            return np.uint32(RSQRT_GUESS) - (b >> 1)
        return b

    @staticmethod
    def _clamp(clamp, result):
        if clamp == Clamp.EXPONENT:
            return np.where(result > MINIMUM, np.uint32(MINIMUM), result)
        if clamp == Clamp.ZERO:
            return np.where(result >> 31 != 0, np.uint32(0), result)
        return result
