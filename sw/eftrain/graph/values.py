"""Checks of the values that layers are made with, and how layers write themselves."""

import dataclasses

import numpy as np

from ..errors import UserError

LATER = {"later": True}
"""Metadata of fields that layers of earlier versions did not have."""


def pair(value, where):
    """``(rows, columns)`` of an integer or a pair of them."""
    found = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(found) != 2 or not all(isinstance(v, (int, np.integer)) for v in found):
        raise UserError(f"{where} is {value!r}; give an integer or a pair of integers.")
    return tuple(int(v) for v in found)


def positive(value, where):
    """An integer of 1 or more."""
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise UserError(f"{where} is {value!r}; give an integer of 1 or more.")
    return int(value)


def number(value, where, need="", legal=lambda value: True):
    """A finite number in fp32 for which ``legal`` holds; ``need`` says which those are."""
    known = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    with np.errstate(over="ignore"):
        if not known or not (np.isfinite(np.float32(value)) and legal(np.float32(value))):
            raise UserError(f"{where} is {value!r}; give a number{need}.")
    return float(value)


def set_field(layer, name, value):
    """Replace a field of a frozen dataclass while it is being made."""
    object.__setattr__(layer, name, value)


class Layer:
    """Base of layers: their text."""

    def __repr__(self):
        """As the dataclass's own, but without ``LATER`` fields at their default.

        Weight files are marked with this text, and those of earlier versions must still fit.
        """
        fields = dataclasses.fields(self)
        given = {
            field.name: getattr(self, field.name)
            for field in fields
            if "later" not in field.metadata
        }
        plain = type(self)(**given)
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields
            if field.name in given or getattr(self, field.name) != getattr(plain, field.name)
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def no_pictures(shape):
    """What is unsupported about ``shape`` where pictures (C, H, W) are needed, or None."""
    if len(shape) != 3:
        return f"takes pictures (C, H, W) but receives a vector of {shape[0]}"
    return None


def other_channels(shape, channels):
    """As :func:`no_pictures`, for pictures of so many channels."""
    if len(shape) == 3 and shape[0] != channels:
        return f"takes {channels} channels but receives {shape[0]}"
    return no_pictures(shape)
