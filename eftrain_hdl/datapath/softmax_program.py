"""The microprogram of LOSS, declared once: the gateware and its model both run it.

*exp* (of arguments up to 0): ``x = n ln 2 + r`` with the nearest integer n, ln 2 split in two parts
(Cody and Waite, *Software Manual for the Elementary Functions*, 1980, ch. 6), then a polynomial of
degree 6 in r and a product with 2**n. Results below 2**-126 become zero.

*log* (of 1 and above): ``k ln 2 + (f - 1) q(f)`` for a number ``2**k f`` with f in [1, 2); q is a
polynomial of degree 8 in ``f - 1.5``.

*reciprocal*: a first guess by an integer subtraction from the number's bits, 12 % off at most, then
three Newton steps.

The polynomials are minimax fits of the relative error: 3e-9 for exp, 3e-8 for log.
"""

import numpy as np

from .pooling import order_model
from .vector_program import CHUNK, Clamp, Constants, Machine, Operand, Segment, Step, View

__all__ = [
    "CONSTANTS", "INVERSE", "NEGATIVE_MAXIMUM", "PROGRAM", "REGISTERS", "SCALE", "SUM", "X_LABEL",
    "machine", "softmax_model",
]  # fmt: skip

CLASSES = Operand(vector=True, classes=True)
X, POWERS, WORK, SUMS = (Operand(CHUNK * k, vector=True) for k in range(4))
(
    SCALE, NEGATIVE_MAXIMUM, X_LABEL, TOTAL, NEGATIVE_SUM, INVERSE, ERROR, OFFSET, MIDDLE, LOG,
    LOSS,
) = (Operand(4 * CHUNK + k) for k in range(11))  # fmt: skip
SUM = Operand(SUMS.address)
CONSTANTS = Constants(LOSS.address + 2)
REGISTERS = 8 * CHUNK
"""The program takes the registers below this."""

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

# Neighbours but for the lowest bit: a step that is one_hot picks the second at the label.
NONE, MINUS_ONE = CONSTANTS(-0.0), CONSTANTS(-1.0)
ONE, ZERO = CONSTANTS(1.0), CONSTANTS(0.0)


def _polynomial(target, argument, coefficients, length):
    """Horner's rule, from the highest power down."""
    value = CONSTANTS(coefficients[0])
    for coefficient in coefficients[1:]:
        yield Step(target, argument, value, CONSTANTS(coefficient), length)
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
        Step(X, CLASSES, ONE, NEGATIVE_MAXIMUM, None, clamp=Clamp.EXPONENT),
        Step(POWERS, X, CONSTANTS(1 / LN2), CONSTANTS(ROUNDER), None),
        Step(WORK, POWERS, ONE, CONSTANTS(-ROUNDER), None),
        Step(X, WORK, CONSTANTS(-LN2_HIGH), X, None),
        Step(X, WORK, CONSTANTS(-LN2_LOW), X, None),
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
        Step(MIDDLE, OFFSET, ONE, CONSTANTS(-0.5)),
        *_polynomial(LOG, MIDDLE, LN, 1),
        Step(LOG, LOG, OFFSET, NONE),
        Step(LOSS, ONE, SUM, CONSTANTS(-(2**23 + 127)), view=View.EXPONENT),
        Step(LOG, LOSS, CONSTANTS(LN2), LOG),
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
assert MINUS_ONE.address == NONE.address | 1 != NONE.address
assert CONSTANTS.end <= REGISTERS


def machine(classes):
    """A :class:`Machine` that runs this program."""
    return Machine(PROGRAM, CONSTANTS, REGISTERS, classes)


def softmax_model(logits, labels, scale, group):
    """Bit-exact model of a batch whose labels are all legal.

    Parameters
    ----------
    logits : uint32 array of shape (images, classes)
        fp32 bits.
    labels : sequence of int
    scale : int
        fp32 bits.
    group : int
        Classes are padded to a multiple of it.

    Returns
    -------
    gradient : uint32 array of shape (images, padded classes)
    mean : int
        fp32 bits of the mean loss.
    correct : int
    losses : list of int
        fp32 bits of the loss of each image.
    """
    logits = np.asarray(logits, np.uint32)
    images, classes = logits.shape
    gradient = np.zeros((images, -(-classes // group) * group), np.uint32)
    unit = machine(classes)
    unit.registers[SCALE.address] = scale
    unit.run(Segment.START)
    correct = 0
    for image, (row, label) in enumerate(zip(logits, labels, strict=True)):
        best = order_model(row).argmax()
        correct += int(best == label)
        unit.label = label
        unit.classes[:] = row
        unit.registers[NEGATIVE_MAXIMUM.address] = row[best] ^ np.uint32(1 << 31)
        unit.registers[X_LABEL.address] = row[label]
        unit.run(Segment.CLEAR)
        unit.run_chunks(Segment.EXPONENTIALS)
        unit.run(Segment.LOSS)
        unit.run_chunks(Segment.GRADIENT)
        gradient[image, :classes] = unit.classes
    unit.run(Segment.END)
    *losses, mean = unit.reports
    return gradient, mean, correct, losses
