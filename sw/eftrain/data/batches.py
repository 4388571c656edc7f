"""Batches of a set in a random order, from any place on: a resumed run gets what it would have got.

The order of an epoch is a function of (seed, epoch), and so is all augmentation; see
:mod:`.augmentation`.
"""

from dataclasses import dataclass

import numpy as np

from ..checks import check_count
from ..errors import UserError
from .augmentation import Augmentation
from .philox import MAX_SEED, random_words

__all__ = ["PURPOSE", "Batches", "Position"]

PURPOSE = 0
"""Of ``random_words``: apart from augmentation."""


@dataclass(frozen=True, order=True)
class Position:
    """A place in a run: finished epochs, and finished steps of the epoch that follows."""

    epoch: int = 0
    step: int = 0


class Batches:
    """The batches of a run.

    ``for x, y in batches`` gives the rest of one epoch; the next loop gives the next epoch. While a
    batch is being used, ``position`` already is that of the batch after it, so it can be saved
    together with what the batch has changed.

    Parameters
    ----------
    split : Split
        Neither copied nor changed.
    batch_size : int
    seed : int
    shuffle : bool
        A new order in every epoch, instead of the set's own.
    augment : Augmentation, optional
    normalisation : Normalisation, optional
        Applied last.
    drop_last : bool
        Leave out the last batch of an epoch if it is smaller than the others.
    position : Position
        Where to begin.

    Raises
    ------
    UserError
        If an argument is of the wrong kind, does not fit the pictures, or leaves no batch.
    """

    def __init__(
        self,
        split,
        batch_size,
        seed=0,
        *,
        shuffle=True,
        augment=None,
        normalisation=None,
        drop_last=False,
        position=None,
    ):
        self.split = split
        self.batch_size = check_count(batch_size, "batch_size")
        self.seed = check_count(seed, "seed", least=0)
        if self.seed > MAX_SEED:
            raise UserError(f"seed is {seed}; give at most {MAX_SEED}.")
        self.shuffle = bool(shuffle)
        self.augment = augment or Augmentation()
        self.normalisation = normalisation
        self.drop_last = bool(drop_last)
        shape = split.x.shape[1:]
        self.augment.check(shape)
        if normalisation is not None:
            normalisation.check(shape)
        if self.steps == 0:
            raise UserError(
                f"batch_size is {batch_size}, but the set has {len(split.y)} pictures and smaller "
                f"batches are left out; give {len(split.y)} or less."
            )
        self._order = None, None
        self.position = position or Position()

    def __len__(self):
        return self.steps

    @property
    def images(self):
        """Pictures of an epoch."""
        left_out = len(self.split.y) % self.batch_size if self.drop_last else 0
        return len(self.split.y) - left_out

    @property
    def steps(self):
        """Batches of an epoch."""
        return -(-self.images // self.batch_size)

    @property
    def position(self):
        """The place of the next batch; set it to go on from there."""
        return self._position

    @position.setter
    def position(self, value):
        self._position = self._checked(value)

    def _checked(self, position):
        if not isinstance(position, Position):
            raise UserError(f"The position is a {type(position).__name__}; give a Position.")
        epoch = check_count(position.epoch, "epoch", least=0)
        step = check_count(position.step, "step", least=0)
        if step >= self.steps:
            raise UserError(
                f"The position is step {step} of an epoch of {self.steps} steps; give the batch "
                "size and data of the run that it comes from."
            )
        return Position(epoch, step)

    def __iter__(self):
        epoch = self.position.epoch
        for step in range(self.position.step, self.steps):
            last = step + 1 == self.steps
            batch = self.batch(Position(epoch, step))
            self._position = Position(epoch + 1, 0) if last else Position(epoch, step + 1)
            yield batch

    def order(self, epoch):
        """Numbers of the pictures in the order of this epoch: int64 ``[images]``."""
        if self._order[0] != epoch:
            order = np.arange(len(self.split.y))
            if self.shuffle:
                words = random_words(self.seed, epoch, order, PURPOSE).astype(np.uint64)
                # Sorted by a random number each; equal ones, if any, stay in order.
                order = np.argsort(words[:, 0] << np.uint64(32) | words[:, 1], kind="stable")
            self._order = epoch, order[: self.images]
        return self._order[1]

    def batch(self, position):
        """The batch at a place, whatever was asked for before: ``(x, y)``."""
        position = self._checked(position)
        first = position.step * self.batch_size
        index = self.order(position.epoch)[first : first + self.batch_size]
        x = self.split.x[index]
        if self.augment != Augmentation():
            x = self.augment.apply(x, index, self.seed, position.epoch)
        if self.normalisation is not None:
            x = self.normalisation.apply(x, out=x)
        return x, self.split.y[index]

    def epoch(self, epoch):
        """All batches of an epoch in one: the pictures in its order, and their labels.

        For a device that walks pictures where they lie. Takes the memory of another set.
        """
        x = np.empty((self.images, *self.split.x.shape[1:]), np.float32)
        for step in range(self.steps):
            part, _ = self.batch(Position(epoch, step))
            x[step * self.batch_size :][: len(part)] = part
        return x, self.split.y[self.order(epoch)]
