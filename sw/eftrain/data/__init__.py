"""Pictures to train on: the bundled digits and every kind of the user's own, and their batches.

:func:`open_dataset` reads them, :class:`Batches` hands them out, normalised and augmented.
"""

from .augmentation import Augmentation
from .batches import Batches, Position
from .dataset import Dataset, Split
from .normalisation import Normalisation, find_normalisation
from .open import open_dataset

__all__ = [
    "Augmentation",
    "Batches",
    "Dataset",
    "Normalisation",
    "Position",
    "Split",
    "find_normalisation",
    "open_dataset",
]
