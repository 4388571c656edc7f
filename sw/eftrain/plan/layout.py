"""How tensors lie in DRAM: the strides and sizes of architecture.md, *Data layout*."""

from dataclasses import dataclass, replace
from math import prod

from eftrain_hdl.isa import (
    ALIGNMENT,
    COEFFICIENT_VECTORS,
    PARAMETER_VECTORS,
    PARTIAL_BEATS,
    RESULT_WORDS,
    WORD_BYTES,
)

WORD = WORD_BYTES
RECORD_BYTES = RESULT_WORDS * WORD
GAMMA, BETA, RUNNING_MEAN, RUNNING_VAR, GAMMA_MOMENTUM, BETA_MOMENTUM = range(6)
"""Vectors of a batch-norm parameter record; the last two are the device's own."""


def ceil_div(total, part):
    """How many parts hold ``total``: channel blocks, tiles or batches."""
    return -(-total // part)


def align(value, unit=ALIGNMENT):
    """``value`` rounded up to a multiple of ``unit``."""
    return ceil_div(value, unit) * unit


@dataclass(frozen=True)
class Operand:
    """One port of a pass: which tensor, the byte strides to walk it, and where in it to begin."""

    tensor: str
    image_stride: int = 0
    block_stride: int = 0
    row_stride: int = 0
    offset: int = 0

    def every_row(self, step):
        """The same walk over rows 0, ``step``, 2 ``step``, ..."""
        return replace(self, row_stride=step * self.row_stride)


@dataclass(frozen=True)
class FeatureMap:
    """A map ``[images][C/T][H][W][T]`` of fp32; ``shape`` is (C, H, W) of one image."""

    name: str
    shape: tuple
    group: int

    @property
    def blocks(self):
        return ceil_div(self.shape[0], self.group)

    @property
    def grid(self):
        return self.shape[1:]

    @property
    def vector_bytes(self):
        return self.group * WORD

    @property
    def image_bytes(self):
        return self.blocks * prod(self.grid) * self.vector_bytes

    @property
    def flat_blocks(self):
        """Blocks of the same bytes seen as one vector: every pixel of every block is one."""
        return self.blocks * prod(self.grid)

    def operand(self):
        """Strides that walk the map's pixels."""
        row = self.grid[1] * self.vector_bytes
        return Operand(self.name, self.image_bytes, self.grid[0] * row, row)

    def flat_operand(self):
        """Strides that walk the map as 1x1 pictures of ``flat_blocks`` blocks."""
        return Operand(self.name, self.image_bytes, self.vector_bytes, self.vector_bytes)


@dataclass(frozen=True)
class WeightTensor:
    """Weights ``[M/T][N/T][Kr*Kc][T of m][T of n]``, or their gradient or momentum."""

    name: str
    out_blocks: int
    in_blocks: int
    taps: int
    group: int

    @property
    def in_stride(self):
        """Bytes from one block of n to the next."""
        return self.taps * self.group * self.group * WORD

    @property
    def out_stride(self):
        """Bytes from one block of m to the next."""
        return self.in_blocks * self.in_stride

    @property
    def nbytes(self):
        return self.out_blocks * self.out_stride


def coefficient_bytes(blocks, group):
    """Bytes of the batch-norm coefficient records of ``blocks`` channel blocks."""
    return blocks * COEFFICIENT_VECTORS * group * WORD


def parameter_bytes(blocks, group):
    """Bytes of the batch-norm parameter records of ``blocks`` channel blocks."""
    return blocks * PARAMETER_VECTORS * group * WORD


def statistics_bytes(blocks, group):
    """Bytes of the statistics records of ``blocks`` blocks: shift and two sets of partial sums."""
    return blocks * (group * WORD + 2 * PARTIAL_BEATS * ALIGNMENT)


def label_bytes(images):
    """Bytes of one batch's labels, padded so that the next batch starts aligned."""
    return align(images * WORD)
