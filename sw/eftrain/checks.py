"""Checks of the user's data, before anything is planned or written."""

import numpy as np

from .errors import UserError


def _array(value, what):
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise UserError(f"{what} is ragged; give all samples the same shape.") from error
    except (TypeError, RuntimeError) as error:
        # A PyTorch tensor that requires a gradient, lies on a GPU, or has a format of its own.
        raise UserError(
            f"{what} is a {type(value).__name__} that cannot be read as an array; give a numpy "
            "array."
        ) from error
    if array.dtype == object:
        raise UserError(f"{what} is ragged or not numeric; give one array of numbers.")
    if array.ndim == 0:
        raise UserError(f"{what} is a single value; give an array with one entry a sample.")
    if array.size == 0:
        raise UserError(f"{what} is empty; give at least one sample.")
    return array


def _times(shape):
    return "x".join(str(size) for size in shape)


def check_pictures(x, input_shape=None, what="x"):
    """``x`` as fp32 ``[N, C, H, W]``, or ``[N, F]`` for networks on vectors.

    An array that is fp32 already is not copied.

    Parameters
    ----------
    x : array-like
    input_shape : tuple, optional
        What the network takes; one sample's shape must be equal to it.

    Raises
    ------
    UserError
        If the data is empty, ragged, not numeric, holds NaN or Inf, or has another size.
    """
    array = _array(x, what)
    if array.dtype.kind not in "fiub":
        raise UserError(f"{what} holds {array.dtype}; give numbers.")
    if input_shape is not None and array.shape[1:] != tuple(input_shape):
        raise UserError(
            f"{what} has samples of {_times(array.shape[1:]) or 'one number'} but the network "
            f"takes {_times(input_shape)}; resize or reshape them."
        )
    if array.ndim not in (2, 4):
        raise UserError(
            f"{what} has shape {array.shape}; give pictures as (samples, channels, rows, columns)."
        )
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    with np.errstate(invalid="ignore"):
        # NaN wins both; unlike a mask of all values, two numbers take no memory.
        extremes = array.min(), array.max()
    if not np.isfinite(extremes).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise UserError(
            f"{what} holds {array[place]} at sample {place[0]}, position {place[1:]}; replace or "
            "leave out values that are not finite in fp32."
        )
    return array


def check_labels(y, samples, classes, what="y"):
    """``y`` as uint32 ``[N]``.

    Raises
    ------
    UserError
        If it is not one integer from 0 to ``classes - 1`` a sample.
    """
    labels = _array(y, what)
    if labels.dtype.kind not in "iu":
        raise UserError(f"{what} holds {labels.dtype}; give integer class numbers.")
    if labels.shape != (samples,):
        raise UserError(
            f"{what} has shape {labels.shape} for {samples} samples; give one label a sample."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise UserError(
            f"{what} holds label {labels[wrong[0]]} at sample {wrong[0]}; the network has classes "
            f"0 to {classes - 1}."
        )
    return labels.astype(np.uint32)


def check_count(value, what, least=1):
    """``value`` as an int of ``least`` or more, or ``UserError``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise UserError(f"{what} is {value!r}; give an integer of {least} or more.")
    return int(value)


def permutation(samples, seed):
    """The order in which ``fit`` with ``shuffle`` visits the samples, in every epoch."""
    return np.random.default_rng(seed).permutation(samples)
