"""The microprogram of the loss unit, declared once: the gateware and its model both run it.

Every step is one multiply and one add, ``target = a * view(b) + c``, over a run of elements. Each
of the two rounds to fp32. Registers hold vectors of :data:`CHUNK` elements, single words and
constants.

*exp* (of arguments up to 0): ``x = n ln 2 + r`` with the nearest integer n, ln 2 split in two parts
(Cody and Waite, *Software Manual for the Elementary Functions*, 1980, ch. 6), then a polynomial of
degree 6 in r and a product with 2**n. Results below 2**-126 become zero.

*log* (of 1 and above): ``k ln 2 + (f - 1) q(f)`` for a number ``2**k f`` with f in [1, 2); q is a
polynomial of degree 8 in ``f - 1.5``.

*reciprocal*: a first guess by an integer subtraction from the number's bits, 12 % off at most, then
three Newton steps.

The polynomials are minimax fits of the relative error: 3e-9 for exp, 3e-8 for log.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from ..arithmetic import FloatAdd, FloatMultiply

__all__ = [
    "CHUNK", "MINIMUM", "NEGATIVE_MAXIMUM", "PROGRAM", "RECIPROCAL_GUESS", "REGISTERS", "SCALE",
    "X_LABEL", "Machine", "Operand", "Segment", "Step", "View", "initial_registers",
]  # fmt: skip

CHUNK = 16
"""Classes that one step treats, one a cycle."""

MINIMUM = 0xC2B00000
"""-88, whose exponential is zero in fp32 without subnormals: where arguments of exp are clamped."""

RECIPROCAL_GUESS = 0x7EF311C7
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


class Segment(IntEnum):
    """Parts of the program; the unit decides which one runs next."""

    START = 0
    """Once."""
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
    clamp : bool
        Results below :data:`MINIMUM` become it.
    one_hot : bool
        The element of the label takes the register after ``c`` instead of ``c``.
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
    clamp: bool = False
    one_hot: bool = False
    report: bool = False
    drain: bool = False


def _bits(value):
    return struct.unpack("<I", struct.pack("<f", value))[0]


CLASSES = Operand(vector=True, classes=True)
X, POWERS, WORK, SUMS = (Operand(CHUNK * k, vector=True) for k in range(4))
(
    SCALE, NEGATIVE_MAXIMUM, X_LABEL, TOTAL, NEGATIVE_SUM, INVERSE, ERROR, OFFSET, MIDDLE, LOG,
    LOSS,
) = (Operand(4 * CHUNK + k) for k in range(11))  # fmt: skip
SUM = Operand(SUMS.address)
_FIRST_CONSTANT = LOSS.address + 1
REGISTERS = 8 * CHUNK

EXP = (0.0013814538, 0.0083687454, 0.041668389, 0.16666521, 0.49999994, 1.0, 1.0)
LN = (
    0.0052326242, -0.0085744616, 0.011586512, -0.020228246, 0.036633853, -0.06771145,
    0.13260908, -0.28852665, 0.81093019,
)  # fmt: skip
LN2 = 0.6931471805599453
LN2_HIGH = 0.693359375
"""So short that its product with an exponent is exact."""
LN2_LOW = LN2 - LN2_HIGH
# Added to a small number, its low byte becomes the nearest integer plus 127.
ROUNDER = 1.5 * 2**23 + 127

_constants = []


def _constant(value):
    word = _bits(value)
    if word not in _constants:
        _constants.append(word)
    return Operand(_FIRST_CONSTANT + _constants.index(word))


# These two are neighbours: a step that is one_hot picks the second at the label.
NONE, MINUS_ONE = _constant(-0.0), _constant(-1.0)
ONE, ZERO = _constant(1.0), _constant(0.0)


def _polynomial(target, argument, coefficients, length):
    """Horner's rule, from the highest power down."""
    value = _constant(coefficients[0])
    for coefficient in coefficients[1:]:
        yield Step(target, argument, value, _constant(coefficient), length)
        value = target


_HALVES = [CHUNK >> k for k in range(1, CHUNK.bit_length())]
_NEWTON = [
    Step(ERROR, NEGATIVE_SUM, INVERSE, ONE),
    Step(INVERSE, INVERSE, ERROR, INVERSE),
]

PROGRAM = {
    Segment.START: [Step(TOTAL, ZERO, ZERO, ZERO)],
    Segment.CLEAR: [Step(SUMS, ZERO, ZERO, ZERO, CHUNK)],
    Segment.EXPONENTIALS: [
        Step(X, CLASSES, ONE, NEGATIVE_MAXIMUM, None, clamp=True),
        Step(POWERS, X, _constant(1 / LN2), _constant(ROUNDER), None),
        Step(WORK, POWERS, ONE, _constant(-ROUNDER), None),
        Step(X, WORK, _constant(-LN2_HIGH), X, None),
        Step(X, WORK, _constant(-LN2_LOW), X, None),
        *_polynomial(WORK, X, EXP, None),
        Step(WORK, WORK, POWERS, NONE, None, view=View.POWER),
        Step(SUMS, WORK, ONE, SUMS, None),
        Step(CLASSES, WORK, ONE, NONE, None),
    ],
    Segment.LOSS: [
        *(Step(SUMS, SUMS.upper(half), ONE, SUMS, half, drain=True) for half in _HALVES),
        Step(NEGATIVE_SUM, SUM, MINUS_ONE, NONE),
        Step(INVERSE, ONE, SUM, NONE, view=View.RECIPROCAL),
        *_NEWTON * 3,
        Step(OFFSET, ONE, SUM, MINUS_ONE, view=View.FRACTION),
        Step(MIDDLE, OFFSET, ONE, _constant(-0.5)),
        *_polynomial(LOG, MIDDLE, LN, 1),
        Step(LOG, LOG, OFFSET, NONE),
        Step(LOSS, ONE, SUM, _constant(-(2**23 + 127)), view=View.EXPONENT),
        Step(LOG, LOSS, _constant(LN2), LOG),
        Step(LOSS, X_LABEL, ONE, NEGATIVE_MAXIMUM),
        Step(LOSS, LOSS, MINUS_ONE, LOG),
        # The views hide a NaN of the sum; its product with zero brings it back.
        Step(LOSS, SUM, ZERO, LOSS, report=True),
        Step(TOTAL, LOSS, ONE, TOTAL),
    ],
    Segment.GRADIENT: [
        Step(WORK, CLASSES, INVERSE, NONE, None, one_hot=True),
        Step(CLASSES, WORK, SCALE, NONE, None),
    ],
    Segment.END: [Step(LOSS, TOTAL, SCALE, NONE, report=True)],
}
assert MINUS_ONE.address == NONE.address + 1
assert _FIRST_CONSTANT + len(_constants) <= REGISTERS


def initial_registers():
    """Contents of the registers after configuration: the constants, zero elsewhere."""
    head = [0] * _FIRST_CONSTANT + _constants
    return head + [0] * (REGISTERS - len(head))


class Machine:
    """Bit-exact model of the sequencer: registers, class memory and the steps on them."""

    def __init__(self, classes):
        self.registers = np.array(initial_registers(), np.uint32)
        self.classes = np.zeros(classes, np.uint32)
        self.label = 0
        self.reports = []

    def run(self, segment, first=0):
        """Run a segment; its vectors are the classes from ``first`` on."""
        for step in PROGRAM[segment]:
            length = min(CHUNK, len(self.classes) - first) if step.length is None else step.length
            slots = np.arange(length)
            a, b = (self._read(operand, first, slots) for operand in (step.a, step.b))
            hit = (first + slots == self.label) & step.one_hot
            c = self.registers[step.c.address + step.c.vector * slots + hit]
            result = FloatAdd.model(c, FloatMultiply.model(a, self._view(step.view, b)))
            if step.clamp:
                result = np.where(result > MINIMUM, np.uint32(MINIMUM), result)
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
        return b
