"""The two pixel grids of a convolution and which part of one a tile of the other touches."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Grids, kernel, stride and padding of one pass; every pair is (rows, columns).

    Small pixel ``p`` and tap ``k`` meet big pixel ``p*stride + k - pad``.
    """

    images: int
    big: tuple
    small: tuple
    kernel: tuple = (1, 1)
    stride: tuple = (1, 1)
    pad: tuple = (0, 0)

    @classmethod
    def pointwise(cls, images, grid):
        """Both grids equal and one tap: element-wise passes and fully connected layers."""
        return cls(images=images, big=tuple(grid), small=tuple(grid))

    @property
    def taps(self):
        return self.kernel[0] * self.kernel[1]

    def big_span(self, axis, start, stop):
        """Big rows or columns (``axis`` 0 or 1) that small ``[start, stop)`` touches."""
        stride, pad, kernel = self.stride[axis], self.pad[axis], self.kernel[axis]
        low = max(0, start * stride - pad)
        return low, max(low, min(self.big[axis], (stop - 1) * stride - pad + kernel))

    def small_span(self, axis, start, stop):
        """Small rows or columns that big ``[start, stop)`` touches; may be empty."""
        stride, pad, kernel = self.stride[axis], self.pad[axis], self.kernel[axis]
        low = max(0, -((kernel - 1 - start - pad) // stride))
        return low, max(low, min(self.small[axis], -((-stop - pad) // stride)))

    def widest(self, span, axis, grid, step):
        """Largest extent ``span`` gives over the tiles of ``step`` along ``grid``."""
        return max(
            high - low
            for low, high in (
                span(axis, start, min(start + step, grid)) for start in range(0, grid, step)
            )
        )
