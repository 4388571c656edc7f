"""Augmentation: random crops and horizontal flips that a resumed run repeats exactly.

What happens to a picture is a function of (seed, epoch, the picture's number in its set), so
neither the batch size nor where a run was begun matters. Pictures are augmented before they are
normalised; what a crop adds at the edges is 0, black.
"""

from dataclasses import dataclass

import numpy as np

from ..checks import check_count
from ..errors import UserError
from .philox import random_words

__all__ = ["PURPOSE", "Augmentation"]

PURPOSE = 1
"""Of ``random_words``: apart from the order of the pictures."""

_FLIP, _DOWN, _RIGHT = range(3)
"""Which of a picture's random words decides what."""


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a picture; crops come first.

    Parameters
    ----------
    flip : bool
        Mirror every other picture, on average, left to right.
    crop : int
        Pad by so many zeros on each side, then cut out the original size at a random place.

    Raises
    ------
    UserError
        If ``crop`` is negative or no integer.
    """

    flip: bool = False
    crop: int = 0

    def __post_init__(self):
        object.__setattr__(self, "flip", bool(self.flip))
        object.__setattr__(self, "crop", check_count(self.crop, "crop", least=0))

    @classmethod
    def parse(cls, text):
        """From text: ``none``, ``flip``, ``crop=4`` or ``flip,crop=4``.

        Raises
        ------
        UserError
            If it is anything else.
        """
        if text == "none":
            return cls()
        found = {}
        for part in text.split(","):
            name, separator, value = part.partition("=")
            if part == "flip" and "flip" not in found:
                found["flip"] = True
            elif name == "crop" and separator and value.isdecimal() and "crop" not in found:
                found["crop"] = int(value)
            else:
                raise UserError(
                    f"The augmentation {text!r} is unknown; give none, flip, crop=PIXELS or "
                    "flip,crop=PIXELS."
                )
        return cls(**found)

    def check(self, shape):
        """Raise ``UserError`` if samples of this shape, (C, H, W), cannot be augmented."""
        if not (self.flip or self.crop):
            return
        if len(shape) != 3:
            raise UserError(
                f"Vectors of {shape[0]} cannot be flipped or cropped; leave augmentation out."
            )
        if self.crop >= min(shape[1:]):
            raise UserError(
                f"crop is {self.crop}, but pictures of {shape[1]}x{shape[2]} would be lost "
                f"altogether; give {min(shape[1:]) - 1} or less."
            )

    def apply(self, x, index, seed, epoch):
        """Augmented copies of some pictures.

        Parameters
        ----------
        x : fp32 array ``[n, C, H, W]``
        index : integer array ``[n]``
            Number of each picture in its set.
        seed, epoch : int

        Returns
        -------
        Array like ``x``.

        Raises
        ------
        UserError
            As ``check``.
        """
        self.check(x.shape[1:])
        words = random_words(seed, epoch, index, PURPOSE)
        x = self._cropped(x, words) if self.crop else x.copy()
        if self.flip:
            chosen = words[:, _FLIP] >> 31 == 1
            x[chosen] = x[chosen, ..., ::-1]
        return x

    def _cropped(self, x, words):
        pad, (rows, cols) = self.crop, x.shape[-2:]
        # The high half of a product: places 0 to 2 * pad, with a bias below 2**-24 for any crop
        # that a picture allows.
        offsets = words[:, [_DOWN, _RIGHT]].astype(np.uint64) * np.uint64(2 * pad + 1)
        offsets = (offsets >> np.uint64(32)).astype(np.int64)
        result = np.empty_like(x)
        padded = np.zeros((x.shape[1], rows + 2 * pad, cols + 2 * pad), x.dtype)
        for picture, (down, right), target in zip(x, offsets, result, strict=True):
            padded[:, pad : pad + rows, pad : pad + cols] = picture
            target[...] = padded[:, down : down + rows, right : right + cols]
        return result
