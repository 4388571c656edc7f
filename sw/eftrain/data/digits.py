"""The handwritten digits of scikit-learn, split into the world's and the new user's.

1,797 real pictures of 8x8 pixels with 17 grey levels come with scikit-learn, so nothing is
downloaded. They are put in one fixed order, then cut:

======= ======= =================================================================
part    count   use
======= ======= =================================================================
base    900     trains the base network, once, before it is shipped
adapt   400     the new user's: slanted and rotated; the device trains on them
test    497     the new user's: slanted and rotated; never trained on
======= ======= =================================================================
"""

import functools
from pathlib import Path

import numpy as np

from ..errors import UserError
from .dataset import Split

BASE_WEIGHTS = Path(__file__).parent / "weights" / "digits_base.safetensors"
"""Written by ``train_digits_base``."""

BASE, ADAPT = 900, 400
"""Pictures for the base network, and of the new user to adapt on; the other 497 test."""
SIDE = 8
LEVELS = 16
CLASSES = 10

SLANT = 0.2
"""Columns that a stroke leans to the right for each row that it rises."""
ROTATION = 20.0
"""Degrees clockwise, about the centre of the picture, after the slant."""


def base():
    """The pictures that the base network was trained on, as they come."""
    x, y = _ordered()
    return Split(x[:BASE], y[:BASE])


def new_user():
    """The new user's pictures: a pair of ``Split``, to adapt on and to test on."""
    x, y = _ordered()
    x, y = slant_and_rotate(x[BASE:]), y[BASE:]
    return Split(x[:ADAPT], y[:ADAPT]), Split(x[ADAPT:], y[ADAPT:])


def slant_and_rotate(x, slant=SLANT, rotation=ROTATION):
    """Write the same digits in another hand.

    Each pixel of the result is sampled bilinearly at the point that the affine map moves onto it;
    what lies outside is background. The result is rounded to the grey levels of the originals, so
    that it is the same to the bit on every machine.

    Parameters
    ----------
    x : array ``[images, 1, 8, 8]``
    slant : float
        Columns to the right for each row upwards.
    rotation : float
        Degrees clockwise.

    Returns
    -------
    Array of the same shape, fp32.
    """
    angle = np.deg2rad(rotation)
    # Both act on (row, column), rows counted downwards.
    rotate = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, 0.0], [-slant, 1.0]])
    rows, cols = x.shape[-2:]
    centre = np.array([(rows - 1) / 2, (cols - 1) / 2])
    pixels = np.stack(np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij"), axis=-1)
    source = (pixels - centre) @ np.linalg.inv(rotate @ shear).T + centre

    corner = np.floor(source).astype(int)
    part = source - corner
    padded = np.pad(x.astype(np.float64), [(0, 0)] * (x.ndim - 2) + [(1, 1), (1, 1)])
    result = np.zeros(x.shape)
    for down in (0, 1):
        for right in (0, 1):
            weight = np.abs(1 - down - part[..., 0]) * np.abs(1 - right - part[..., 1])
            # Row and column 0 of the padded picture are the background on every side.
            r = np.clip(corner[..., 0] + down, -1, rows) + 1
            c = np.clip(corner[..., 1] + right, -1, cols) + 1
            result += padded[..., r, c] * weight
    return (np.rint(result * LEVELS) / LEVELS).astype(np.float32)


@functools.cache
def _ordered():
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UserError(
            "The bundled digits come with scikit-learn, which is not installed: run "
            "`pip install 'eftrain[demo]'`, or give your own pictures with --data."
        ) from None
    digits = load_digits()
    # The legacy generator: its stream is frozen, whatever the version of numpy.
    order = np.random.RandomState(0).permutation(len(digits.target))
    x = (digits.images[order] / LEVELS).astype(np.float32)[:, None]
    y = digits.target[order].astype(np.int64)
    x.setflags(write=False)
    y.setflags(write=False)
    return x, y
