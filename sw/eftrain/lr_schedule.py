"""Learning-rate schedules: the rate of each epoch, as PyTorch's schedulers of the same names."""

import math
from dataclasses import dataclass

from .checks import check_count
from .errors import UserError

__all__ = ["Constant", "Cosine", "StepDecay", "parse_schedule"]

FORMS = "constant, step:EPOCHS, step:EPOCHS:FACTOR or cosine"


@dataclass(frozen=True)
class Constant:
    """The same rate in every epoch."""

    def rate(self, base, epoch, epochs):
        """Learning rate of epoch number ``epoch``, counted from 0, of ``epochs``."""
        return base

    def __str__(self):
        return "constant"


@dataclass(frozen=True)
class StepDecay:
    """Multiply the rate by ``factor`` after every ``every`` epochs, as ``StepLR``.

    Parameters
    ----------
    every : int
    factor : float
        Above 0, at most 1.

    Raises
    ------
    UserError
        If one is not in its range.
    """

    every: int
    factor: float = 0.1

    def __post_init__(self):
        check_count(self.every, "The step of the learning-rate schedule")
        if not 0 < self.factor <= 1:
            raise UserError(
                f"The factor of the learning-rate schedule is {self.factor:g}; give a number above "
                "0 and at most 1, for example 0.1."
            )

    def rate(self, base, epoch, epochs):
        """As ``Constant.rate``."""
        return base * self.factor ** (epoch // self.every)

    def __str__(self):
        return f"step:{self.every}:{self.factor:g}"


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the base rate towards 0, as ``CosineAnnealingLR`` over all epochs.

    Zero itself would be the rate of the epoch after the last.
    """

    def rate(self, base, epoch, epochs):
        """As ``Constant.rate``."""
        return base * (1 + math.cos(math.pi * epoch / epochs)) / 2

    def __str__(self):
        return "cosine"


def parse_schedule(text):
    """The schedule that a text such as ``constant``, ``step:10:0.5`` or ``cosine`` stands for.

    Raises
    ------
    UserError
        If it stands for none.
    """
    name, *values = text.split(":")
    if text in ("constant", "cosine"):
        return Constant() if text == "constant" else Cosine()
    try:
        if name != "step" or len(values) not in (1, 2):
            raise ValueError
        every, *factor = int(values[0]), *map(float, values[1:])
    except ValueError:
        raise UserError(f"The learning-rate schedule {text!r} is unknown; give {FORMS}.") from None
    return StepDecay(every, *factor)
