"""How much has passed a point by when."""

from bisect import bisect_left

from .model_machine import LONG_AGO

_SLACK = 1e-6
"""Counts may be sums of fractions."""


class Curve:
    """Pieces of constant rate, in the order of time.

    Attributes
    ----------
    total : int or float
        What has passed as far as is known.
    """

    __slots__ = ("_ends", "_pieces", "total")

    def __init__(self):
        self.total = 0
        self._ends, self._pieces = [], []

    def add(self, count, start, end):
        """``count`` more pass from ``start`` to ``end``."""
        self.total += count
        self._ends.append(self.total)
        self._pieces.append((count, start, end))

    def at(self, count):
        """When so many have passed in all; None while that is not known.

        Of pieces that were forgotten: long ago.
        """
        if count > self.total + _SLACK:
            return None
        index = bisect_left(self._ends, count - _SLACK)
        if index == len(self._ends):
            return LONG_AGO
        size, start, end = self._pieces[index]
        missing = self._ends[index] - count
        if missing >= size:
            return LONG_AGO
        return end - missing / size * (end - start) if missing > 0 else end

    def forget(self, count):
        """Nobody will ask for ``count`` or less any more."""
        index = bisect_left(self._ends, count + _SLACK)
        if index > 32:
            del self._ends[:index], self._pieces[:index]
