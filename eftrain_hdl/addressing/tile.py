"""The tile step: one record that every unit of the core works from."""

from amaranth.hdl import unsigned
from amaranth.lib import data

__all__ = ["axis_layout", "TILE_BITS", "tile_layout"]

TILE_BITS = 16
"""Width of every size and index of a tile."""


def axis_layout():
    """Half-open ranges of one axis on both grids: the rectangle's rows, or its columns."""
    return data.StructLayout(
        {
            "small0": unsigned(TILE_BITS),
            "small1": unsigned(TILE_BITS),
            "big0": unsigned(TILE_BITS),
            "big1": unsigned(TILE_BITS),
            "small": unsigned(TILE_BITS),
            "big": unsigned(TILE_BITS),
        }
    )


def tile_layout():
    """One step of the walk described in ``docs/architecture.md``.

    rows, cols
        Ranges on both grids; ``small`` and ``big`` are their lengths.
    image0, images, out_block0, out_blocks
        First index and count of this tile.
    in_block
        FP, BP: the block being reduced. WU: the other channel block. PASS: 0.
    first, last
        First and last step of a reduction.
    final
        Last step of the descriptor.
    slot
        Which of the two descriptors in flight the step belongs to.
    group_first, group_last
        Not WU: first and last tile that computes these out blocks.
    small_area, big_area
        Vectors of one image of the tile on either grid (WU has no use for ``small_area``).
    groups
        WU: groups of T pixels in one row of the tile, all images behind one another.
    stream_vectors, stationary_vectors
        Vectors this step takes from the buffers (``stationary_vectors``: WU only).
    pixel_vectors
        WU: stream vectors of one out block.
    block_vectors
        Accumulator vectors of one out block of the tile.
    """
    number = unsigned(TILE_BITS)
    return data.StructLayout(
        {
            "rows": axis_layout(),
            "cols": axis_layout(),
            "image0": number,
            "images": number,
            "out_block0": number,
            "out_blocks": number,
            "in_block": number,
            "first": 1,
            "last": 1,
            "final": 1,
            "slot": 1,
            "group_first": 1,
            "group_last": 1,
            "small_area": number,
            "big_area": number,
            "groups": number,
            "stream_vectors": number,
            "stationary_vectors": number,
            "pixel_vectors": number,
            "block_vectors": number,
        }
    )
