"""Kernel taps of the first layer laid out as input channels.

Pictures have few channels, so most lanes of the array would multiply zeros. The host lays the
pixels that a row of taps (``columns``), or all taps (``all``), read side by side as channels; what
is left is a convolution with fewer taps over more channels, with the same result.
"""

from dataclasses import dataclass
from math import prod

from ..graph import Conv2d

FOLDS = ("none", "columns", "all")


@dataclass(frozen=True)
class Fold:
    """A convolution whose input the host packs.

    Folded channel ``(kr*Kc + kc)*C + c`` of pixel ``(r, j)`` is channel ``c`` of the picture's
    pixel that tap ``(kr, kc)`` of the output pixel reads (``columns``: ``kr`` is 0, and ``r`` the
    picture's row).

    Parameters
    ----------
    kind : str
        Of ``FOLDS``.
    layer : Conv2d
    grid : tuple
        (rows, columns) of the picture.
    small : tuple
        (rows, columns) of the convolution's output that are computed.
    """

    kind: str
    layer: Conv2d
    grid: tuple
    small: tuple

    @property
    def folded(self):
        """Taps (rows, columns) that become channels."""
        rows, cols = self.layer.kernel_size
        return {"none": (1, 1), "columns": (1, cols), "all": (rows, cols)}[self.kind]

    @property
    def shape(self):
        """(C, H, W) of the packed input."""
        rows = self.small[0] if self.folds(0) else self.grid[0]
        cols = self.small[1] if self.folds(1) else self.grid[1]
        return (self.layer.in_channels * prod(self.folded), rows, cols)

    def folds(self, axis):
        """Whether the taps along ``axis`` (0: rows) are gone, and with them stride and padding."""
        return (self.kind == "all", self.kind != "none")[axis]

    def _left(self, values, gone):
        return tuple(gone if self.folds(axis) else values[axis] for axis in (0, 1))

    @property
    def kernel(self):
        return self._left(self.layer.kernel_size, 1)

    @property
    def stride(self):
        return self._left(self.layer.stride, 1)

    @property
    def pad(self):
        return self._left(self.layer.padding, 0)
