"""Optimisers the device applies while it drains a weight gradient."""

from dataclasses import dataclass

import numpy as np

from .errors import UserError


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent as in ``torch.optim.SGD``.

    ``g' = g + weight_decay*w``; ``v = momentum*v + g'``; ``w = w - lr*v``, in fp32, for weights and
    biases alike.

    Parameters
    ----------
    lr : float
        Learning rate, above zero.
    momentum : float
        From 0 to below 1. Zero needs no momentum buffers on the device.
    weight_decay : float
        Zero or above.

    Raises
    ------
    UserError
        If a value, rounded to fp32 as the device uses it, is not a finite number in its range.
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self):
        checks = (
            ("lr", lambda v: v > 0, "above 0, for example 0.01"),
            ("momentum", lambda v: 0 <= v < 1, "from 0 to below 1, for example 0.9"),
            ("weight_decay", lambda v: v >= 0, "0 or above, for example 0"),
        )
        for name, legal, help_text in checks:
            value = getattr(self, name)
            try:
                number = float(value)
            except (TypeError, ValueError):
                number = np.nan
            except OverflowError:  # An integer of hundreds of digits.
                number = value = np.inf if value > 0 else -np.inf
            with np.errstate(over="ignore", under="ignore"):
                rounded = np.float32(number)
            if not (np.isfinite(rounded) and legal(rounded)):
                why = ""
                if rounded == np.inf:
                    why = ", too large for fp32"
                elif legal(number):
                    why = f", which is {rounded:g} in fp32"
                raise UserError(f"SGD {name} is {value!r}{why}; choose a number {help_text}.")
            object.__setattr__(self, name, number)
