"""The tile steps of a layer pass as the gateware walks them: counts of vectors, beats and runs.

Nothing here is an estimate: the numbers are those of ``docs/architecture.md``, *One descriptor,
one layer pass*, and of the port maps. Steps that do the same work are one :class:`Step`, so a pass
has as many as it has kinds of tiles (interior and edges), not as many as it has tiles.
"""

from dataclasses import dataclass
from functools import cached_property

from eftrain_hdl.isa import (
    COEFFICIENT_VECTORS,
    PARTIAL_BEATS,
    Flag,
    Opcode,
)

from .layout import ceil_div
from .model_machine import BURST_BEATS
from .passes import BACKWARD_GRID

PROLOGUE_VECTORS = COEFFICIENT_VECTORS - 1
"""Vectors of a coefficient record that the prologue reads: k0, k1, k2."""

IDENTITY = (Opcode.PASS, Opcode.PASS_BP)
"""Passes whose S is a constant."""


@dataclass(frozen=True)
class AxisTile:
    """One axis of a tile: extents on both grids, and for each tap what it covers.

    ``taps`` holds (pixels, first on the small grid, first on the big grid) within the tile.
    """

    big: int
    small: int
    taps: tuple


@dataclass(frozen=True)
class Box:
    """What a run generator gets at once: ``runs`` of ``beats`` beats each.

    Page boundaries cost no bandwidth and are left out. ``data``: no coefficients.
    """

    runs: int
    beats: int
    data: bool = True


@dataclass(frozen=True)
class Chain:
    """What one memory chain moves, box by box."""

    boxes: tuple = ()

    def __add__(self, other):
        return Chain(self.boxes + other.boxes)

    def __mul__(self, times):
        return Chain(self.boxes * times)

    @cached_property
    def beats(self):
        return sum(box.runs * box.beats for box in self.boxes)

    @cached_property
    def bursts(self):
        return sum(box.runs * ceil_div(box.beats, BURST_BEATS) for box in self.boxes)


NOTHING = Chain()


def runs(count, beats, data=True):
    """A chain of one box of ``count`` runs of ``beats`` beats."""
    return Chain((Box(count, beats, data),)) if count and beats else NOTHING


def axis_tiles(geometry, axis, size, backward):
    """The tiles along one axis, ``backward`` for an iteration over the big grid."""
    kernel, stride, pad = geometry.kernel[axis], geometry.stride[axis], geometry.pad[axis]
    big, small = geometry.big[axis], geometry.small[axis]
    grid = big if backward else small
    result = []
    for start in range(0, grid, size):
        stop = min(start + size, grid)
        if backward:
            big0, big1 = start, stop
            small0, small1 = geometry.small_span(axis, start, stop)
        else:
            big0, big1 = geometry.big_span(axis, start, stop)
            small0, small1 = start, stop
        taps = []
        for tap in range(kernel):
            low = max(small0, -(-(big0 + pad - tap) // stride))
            high = min(small1, -(-(big1 + pad - tap) // stride))
            taps.append((max(0, high - low), low - small0, low * stride + tap - pad - big0))
        result.append(AxisTile(big1 - big0, small1 - small0, tuple(taps)))
    return result


@dataclass(frozen=True)
class Sweep:
    """The sweeps of one tap: pixels of one out block, first and last stream vector, kernel row.

    WU: ``groups`` S for each of ``rows`` small rows; ``pixels`` is then a T a group.
    """

    pixels: int
    first: int
    last: int
    new_row: bool
    rows: int = 0
    first_row: int = 0
    first_big: int = 0
    last_big: int = 0
    load: bool = True


class Step:
    """One kind of tile step.

    Parameters
    ----------
    layer_pass : LayerPass
    config : CoreConfig
    out_blocks, images : int
        Of this tile.
    rows, cols : AxisTile
    first_out, first_in, group_last : bool
        The tile holds the first out block; the step belongs to the first in block; the tile is the
        last one of its out blocks.
    """

    def __init__(
        self, layer_pass, config, out_blocks, images, rows, cols, first_out, first_in, group_last
    ):
        self.config = config
        self.group = config.group
        self.flags = layer_pass.flags
        self.opcode = layer_pass.opcode
        self.geometry = layer_pass.geometry
        self.out_blocks, self.images = out_blocks, images
        self.rows, self.cols = rows, cols
        self.first_out, self.first_in, self.group_last = first_out, first_in, group_last
        self.backward = self.opcode in BACKWARD_GRID
        self.is_update = self.opcode is Opcode.CONV_WU
        self.identity = self.opcode in IDENTITY
        self.groups = ceil_div(images * cols.small, self.group)
        self.has_bias_tap = self.is_update and Flag.BIAS in self.flags and first_in

        # The drain gives a weight and its velocity for each sum.
        self.gives_velocity = self.is_update and {Flag.MOMENTUM, Flag.UPDATE} <= self.flags

    def _vectors(self, count):
        return count * self.config.vector_beats

    # -- the array -------------------------------------------------------------------------------

    @cached_property
    def sweeps(self):
        """A :class:`Sweep` for each tap, in order; WU includes the bias tap."""
        return tuple(self._update_sweeps() if self.is_update else self._pixel_sweeps())

    def _pixel_sweeps(self):
        rows, cols = self.rows, self.cols
        pitch = cols.small if self.backward else cols.big
        area = pitch * (rows.small if self.backward else rows.big)
        row_step, col_step = (1, 1) if self.backward else self.geometry.stride
        for row_count, row_small, row_big in rows.taps:
            new_row = True
            for col_count, col_small, col_big in cols.taps:
                pixels = self.images * row_count * col_count
                row, col = (row_small, col_small) if self.backward else (row_big, col_big)
                first = row * pitch + col
                last = (
                    (self.images - 1) * area
                    + (row + (row_count - 1) * row_step) * pitch
                    + col
                    + (col_count - 1) * col_step
                )
                yield Sweep(pixels, first, last, new_row, load=pixels > 0 or not self.identity)
                new_row = False

    def _update_sweeps(self):
        rows, cols, group = self.rows, self.cols, self.group
        pitch = self.groups * group
        block = rows.small * pitch
        image = (self.images - 1) * rows.big * cols.big
        stride = self.geometry.stride[0]
        for row_count, row_small, row_big in rows.taps:
            new_row = True
            for col_count, _, col_big in cols.taps:
                used = row_count if col_count else 0
                first_big = image + row_big * cols.big + col_big
                yield Sweep(
                    used * self.groups * group,
                    row_small * pitch,
                    (self.out_blocks - 1) * block + (row_small + row_count) * pitch - 1,
                    new_row,
                    rows=used,
                    first_row=row_small,
                    first_big=first_big,
                    last_big=first_big + max(0, row_count - 1) * stride * cols.big,
                    load=used > 0,
                )
                new_row = False
        if self.has_bias_tap:
            yield Sweep(rows.small * pitch, 0, self.out_blocks * block - 1, False, rows=rows.small)

    @cached_property
    def vectors(self):
        """Vectors that enter the array."""
        return self.out_blocks * sum(sweep.pixels for sweep in self.sweeps)

    # -- the buffers -----------------------------------------------------------------------------

    @cached_property
    def stream_pixels(self):
        """Pixels of one image of the streamed operand."""
        if self.backward or self.is_update:
            return self.rows.small * self.cols.small
        return self.rows.big * self.cols.big

    @cached_property
    def stream_vectors(self):
        """Vectors in the stream buffer; WU in whole groups."""
        if self.is_update:
            return self.out_blocks * self.rows.small * self.groups * self.group
        return self.images * self.stream_pixels

    @cached_property
    def stationary_vectors(self):
        """Vectors in the stationary buffer (WU) or through the queue of S blocks."""
        if self.identity:
            return 0
        if self.is_update:
            return self.images * self.rows.big * self.cols.big
        return self.geometry.taps * self.out_blocks * self.group

    @cached_property
    def accumulators(self):
        """Accumulator vectors of one out block."""
        if self.is_update:
            return (self.geometry.taps + (Flag.BIAS in self.flags)) * self.group
        grid = (
            (self.rows.big * self.cols.big)
            if self.backward
            else (self.rows.small * self.cols.small)
        )
        return self.images * grid

    # -- the memory chains -----------------------------------------------------------------------

    @cached_property
    def stream(self):
        """Stream chain: the operand, with coefficients ahead of each block."""
        rows, cols = self.rows, self.cols
        small = self.is_update or self.backward
        side = (rows.small, cols.small) if small else (rows.big, cols.big)
        data = runs(self.images * side[0], self._vectors(side[1]))
        if Flag.NORM_DY in self.flags or (Flag.NORM_X in self.flags and not self.is_update):
            data = self._coefficients + data
        return data * (self.out_blocks if self.is_update else 1)

    @cached_property
    def _coefficients(self):
        return runs(1, self._vectors(PROLOGUE_VECTORS), data=False)

    @cached_property
    def companion(self):
        """Companion chain: a beat for each beat of stream data."""
        if not (Flag.X_PAIR in self.flags or Flag.NORM_DY in self.flags):
            return NOTHING
        small = self.backward or self.is_update
        rows, cols = (a.small if small else a.big for a in (self.rows, self.cols))
        data = runs(self.images * rows, self._vectors(cols))
        return data * (self.out_blocks if self.is_update else 1)

    @cached_property
    def stationary(self):
        """Stationary chain: blocks of weights, or X with its coefficients (WU)."""
        if self.identity:
            return NOTHING
        if self.is_update:
            data = runs(self.images * self.rows.big, self._vectors(self.cols.big))
            if Flag.NORM_X in self.flags:
                data = self._coefficients + data
            return data
        return runs(self.geometry.taps * self.out_blocks, self._vectors(self.group))

    @cached_property
    def tee(self):
        """Second chain with TEE: each vector of X once."""
        if Flag.TEE not in self.flags or not (self.first_out or self.identity):
            return NOTHING
        return runs(self.images * self.rows.big, self._vectors(self.cols.big))

    # -- the drain -------------------------------------------------------------------------------

    @cached_property
    def drained(self):
        """Accumulator vectors read of one out block; the bias of WU only with the first in
        block."""
        if self.is_update and Flag.BIAS in self.flags and not self.first_in:
            return self.accumulators - self.group
        return self.accumulators

    def _box(self, scale_rows=1, scale_cols=1):
        """A box on the result's grid, in runs of one row."""
        rows, cols = (a.big if self.backward else a.small for a in (self.rows, self.cols))
        return runs(int(self.images * rows * scale_rows), self._vectors(int(cols * scale_cols)))

    def _windows(self, rows, cols):
        """2x2 windows: two runs of two vectors each."""
        return runs(self.images * rows * cols * 2, self._vectors(2))

    @cached_property
    def results(self):
        """Output chain of one out block; without the statistics record."""
        if self.is_update:
            copies = 1 + self.gives_velocity
            vectors = self.geometry.taps * self.group
            data = (
                runs(2 * vectors, self._vectors(1))
                if copies == 2
                else runs(1, self._vectors(vectors))
            )
            return data + (runs(copies, self._vectors(1)) if self.has_bias_tap else NOTHING)
        if Flag.UNPOOL in self.flags:
            rows, cols = (a.big if self.backward else a.small for a in (self.rows, self.cols))
            return self._windows(rows, cols)
        if Flag.POOL in self.flags:
            return self._box(0.5, 0.5)
        return self._box()

    @cached_property
    def statistics(self):
        """Output chain: the statistics record of one out block."""
        if not self.group_last or not self.flags & {Flag.STATISTICS, Flag.SUMS}:
            return NOTHING
        return runs(1, self._vectors(1) + 2 * PARTIAL_BEATS)

    @cached_property
    def kept(self):
        """Second chain of one out block, with KEEP."""
        if Flag.KEEP not in self.flags:
            return NOTHING
        return self._windows(self.rows.small // 2, self.cols.small // 2)

    @cached_property
    def parameters(self):
        """Side chain: the vectors that the epilogue takes ahead of a block (FP, gradients)."""
        gradient = self.opcode is not Opcode.CONV_FP
        if self.is_update:
            return NOTHING
        if Flag.STATISTICS in self.flags:
            if gradient:
                return runs(1, self._vectors(COEFFICIENT_VECTORS))
            return runs(1, self._vectors(1)) if Flag.POOL in self.flags else NOTHING
        return runs(1, self._vectors(1)) if Flag.BIAS in self.flags else NOTHING

    @cached_property
    def side(self):
        """Side chain of one out block: mask, y for the statistics, weights and momentum."""
        if self.is_update:
            return self.results if Flag.UPDATE in self.flags else NOTHING
        box = self._box()
        mask = Flag.SIDE_MASK in self.flags
        norm = Flag.STATISTICS in self.flags and self.opcode is not Opcode.CONV_FP
        if mask and norm:
            return runs(2 * box.beats // self._vectors(1), self._vectors(1))
        return box if mask or norm else NOTHING

    @cached_property
    def auxiliary(self):
        """Auxiliary chain of one out block: addend or windows."""
        if Flag.UNPOOL in self.flags:
            return self.results
        return self._box() if Flag.ADD in self.flags else NOTHING
