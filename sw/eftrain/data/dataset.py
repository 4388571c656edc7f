"""What every source of pictures is read into."""

from dataclasses import dataclass

import numpy as np

from ..errors import UserError

__all__ = ["Dataset", "Split", "check_class_count", "names_of_numbers"]

_NAMED = 10
"""Pictures left out that a sentence names; ``Dataset.skipped`` has all."""


@dataclass(frozen=True)
class Split:
    """Pictures ``[images, C, H, W]`` in fp32 from 0 to 1, and their labels as int64."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Pictures to train on and, if the source has them, to test on.

    Attributes
    ----------
    train : Split
    test : Split or None
    class_names : tuple of str
        By class number; the numbers themselves if the source has no names.
    skipped : tuple of str
        What was wrong with each picture that was left out.
    normalisation : Normalisation or None
        What the source says about it; it has not been applied.
    """

    train: Split
    test: Split | None = None
    class_names: tuple
    skipped: tuple = ()
    normalisation: object = None

    @property
    def classes(self):
        return len(self.class_names)

    @property
    def skipped_text(self):
        """A sentence that counts and names the pictures left out; empty if there are none."""
        if not self.skipped:
            return ""
        count = len(self.skipped)
        pictures = "1 picture was" if count == 1 else f"{count} pictures were"
        more = [f"and {count - _NAMED} more"] if count > _NAMED else []
        return f"{pictures} left out: {'; '.join([*self.skipped[:_NAMED], *more])}."


def names_of_numbers(classes):
    """Class names of sources that have none: ``("0", "1", ...)``."""
    return tuple(str(number) for number in range(classes))


def check_class_count(found, classes, where):
    """Raise ``UserError`` if a network of so many classes does not fit the data's.

    Parameters
    ----------
    found : int
        Classes of the data.
    classes : int or None
        Classes of the network; None if any number will do.
    where : str
        Begins the message.
    """
    if classes is not None and found != classes:
        raise UserError(
            f"{where} has {found} classes but the network has {classes}; give --classes {found} "
            "for a new last layer, or other data."
        )
