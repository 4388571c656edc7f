"""Records that the sweep sequencer hands to the two ends of the array."""

import enum

from amaranth.hdl import unsigned
from amaranth.lib import data

from .loop_nest import loop_layout
from .tile import TILE_BITS

__all__ = ["LoadOp", "STEP_BITS", "SWEEP_LEVELS", "end_layout", "load_layout", "sweep_layout"]

SWEEP_LEVELS = 4
STEP_BITS = 3
"""Steps are numbered modulo 8, more of them than the queues hold."""


class LoadOp(enum.IntEnum):
    """What the stationary loader does with one record."""

    BLOCK = 0
    """Load the block at the front of the stationary buffer, release it."""
    SKIP = 1
    """Release that block unused: no pixel of the tile meets this tap."""
    IDENTITY = 2
    """Load ``scale`` times the identity (PASS, PASS_BP)."""
    ONES = 3
    """Load ones, once for every group of pixels (WU, bias gradient)."""
    GATHER = 4
    """Load a column a pixel from the stationary buffer, group by group (WU)."""


def load_layout():
    """Record for the stationary loader; sizes and offsets in vectors.

    rows, groups
        Blocks to load: ``rows * groups`` (ONES, GATHER), else one.
    images, cols
        Pixels of a row: ``cols`` of each image in turn; the last group is filled up with zeros.
    col_first, col_count
        The columns the tap can use; the others become zero columns.
    offset
        GATHER: the vector of row 0, image 0, column ``col_first``.
    row_stride, image_stride, col_stride
        Distances in the buffer.
    columns
        BLOCK: the vectors are columns of S (BP) instead of rows (FP).
    scale
        IDENTITY: the factor, fp32.
    step
        Number of the tile step.
    """
    number = unsigned(TILE_BITS)
    return data.StructLayout(
        {
            "op": unsigned(3),
            "step": unsigned(STEP_BITS),
            "columns": 1,
            "scale": 32,
            "rows": number,
            "groups": number,
            "images": number,
            "cols": number,
            "col_first": number,
            "col_count": number,
            "offset": number,
            "row_stride": number,
            "image_stride": number,
            "col_stride": unsigned(3),
        }
    )


def sweep_layout():
    """Record for the sweep issuer.

    nest
        Address ``a0`` counts stream vectors from the front of the stream buffer, ``a1``
        accumulators.
    swap_inner
        Take a new S whenever the two innermost loops start over (WU); else once, at the start.
    step
        Number of the tile step.
    slot
        Which of the two descriptors in flight it belongs to.
    """
    return data.StructLayout(
        {
            "nest": loop_layout(
                levels=SWEEP_LEVELS, count_bits=TILE_BITS, address_bits=(TILE_BITS, TILE_BITS)
            ),
            "swap_inner": 1,
            "step": unsigned(STEP_BITS),
            "slot": 1,
        }
    )


def end_layout():
    """Record of the end of a tile step, which comes behind all its load and sweep records.

    release
        Vectors that the step leaves behind in the buffer. (FP, BP: none in the stationary buffer.)
    commit
        For the sweep issuer: hand the accumulator bank to the drain.
    """
    return data.StructLayout({"release": unsigned(TILE_BITS), "commit": 1})
