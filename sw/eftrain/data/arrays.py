"""From arrays as users have them to a ``Split``: the rules for values, shapes and labels."""

import numpy as np

from ..checks import check_labels, check_pictures
from ..errors import UserError
from .dataset import Split, check_class_count

__all__ = ["MAX_BYTE", "check_values", "to_labels", "to_split"]

MAX_BYTE = 255
"""Pictures in bytes are divided by it."""


def to_split(x, y, shape, classes, names, any_values=False):
    """Pictures and labels, checked.

    Parameters
    ----------
    x, y : array
        Pictures as uint8 from 0 to 255, or as other numbers from 0 to 1.
    shape : tuple
        What the network takes: (C, H, W), or (N,).
    classes : int or None
        Of the network.
    names : pair of str
        How messages name x and y.
    any_values : bool
        Allow numbers outside of 0 to 1. Vectors may always hold them.

    Raises
    ------
    UserError
        If shapes, values or labels do not fit.
    """
    what, what_labels = names
    if len(shape) == 3 and x.shape[1:] == (*shape[1:], shape[0]) != shape:
        raise UserError(
            f"{what} has its channels last ({'x'.join(map(str, x.shape[1:]))}); put them first, "
            "with x.transpose(0, 3, 1, 2)."
        )
    bytes_ = x.dtype == np.uint8
    x = check_pictures(x, shape, what)
    if bytes_:
        np.divide(x, np.float32(MAX_BYTE), out=x)
    elif len(shape) == 3 and not any_values:
        check_values(x, what)
    return Split(x, to_labels(y, len(x), classes, what_labels))


def check_values(x, what):
    """Raise ``UserError`` unless all numbers are from 0 to 1."""
    low, high = x.min(), x.max()
    if low < 0 or high > 1:
        raise UserError(
            f"{what} goes from {low:g} to {high:g}; give pictures from 0 to 1 that are not "
            "normalised yet, or uint8 from 0 to 255."
        )


def to_labels(y, samples, classes, what):
    """Labels as int64 ``[samples]``.

    Raises
    ------
    UserError
        If one is negative, or is no class of the network (``classes``, unless None).
    """
    labels = np.asarray(y)
    found = 1
    if labels.dtype.kind in "iu" and labels.size:
        flat = labels.ravel()
        if flat.min() < 0:
            place = int(np.argmax(flat < 0))
            raise UserError(
                f"{what} holds label {flat[place]} at sample {place}; number the classes from 0."
            )
        found = int(flat.max()) + 1
        if classes is not None and found > classes:
            check_class_count(found, classes, f"{what} goes up to label {found - 1}, so it")
    # What is left: another kind of number, another length.
    return check_labels(labels, samples, classes or found, what).astype(np.int64)
