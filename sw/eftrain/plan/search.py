"""Tile shapes: the buffer limits of architecture.md and the best choice within them."""

import math
from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from eftrain_hdl.isa import MAX_STATISTICS_BLOCKS, Flag, Opcode

from ..errors import UserError
from .layout import align, ceil_div
from .model import BENCHMARK_MEMORY, MACHINE, predict
from .model_steps import IDENTITY, PROLOGUE_VECTORS, axis_tiles
from .passes import BACKWARD_GRID, LayerPass, Tile

EVALUATED = 3
"""Tiles that are predicted to begin with; the bound ranks the others well enough to drop them."""

CLOSE = 1.004
"""A tile that can gain no more than this is not worth a prediction."""

FAR = 1.02
"""Nor is one whose likely cycles are so many times those of the fastest."""

RUN = 2e-3
"""Cycles that a run of DRAM counts for when tiles are ranked. The benchmark memory does not mind
short runs, but others do."""

_LOOKED_AT = ("opcode", "geometry", "out_blocks", "in_blocks", "flags")
"""What the model knows of a pass besides its tile."""

LARGEST_DEPTH = 32768
"""Deepest buffer a ``CoreConfig`` allows, in vectors and in beats."""


def choose(layer_pass, config, forced=None, memory=BENCHMARK_MEMORY, machine=MACHINE):
    """Return the pass with its tile.

    Every shape that divides the layer evenly and fits the buffers is ranked by a bound on its
    cycles; the model predicts the best few, then those around the fastest until little is gained.

    Parameters
    ----------
    layer_pass : LayerPass
        LOSS and NORM have no tile and are returned as they are.
    config : CoreConfig
    forced : Tile, optional
        A given shape (clipped to the layer) instead of the best; checked against the buffers.

    Raises
    ------
    UserError
        If no tile, or not the forced one, fits; names the layer, the buffer and what would do.
    """
    if layer_pass.geometry is None:
        return layer_pass
    if forced:
        tile = clip(layer_pass, forced)
        if not _fits(buffer_use(layer_pass, tile, config)):
            raise UserError(_too_large(layer_pass, tile, config))
        return replace(layer_pass, tile=tile)
    key = tuple(getattr(layer_pass, name) for name in _LOOKED_AT)
    tile = _best(key, config, memory, machine)
    if tile is None:
        unit = _unit(layer_pass)
        raise UserError(_too_large(layer_pass, Tile(1, 1, unit, unit), config))
    return replace(layer_pass, tile=tile)


@lru_cache(maxsize=1024)
def _best(key, config, memory, machine):
    """The fastest tile found for the pass that ``key`` describes; None if none fits.

    The key holds what the model looks at, so layers of equal shape are searched once.
    """
    layer_pass = LayerPass(layer="", **dict(zip(_LOOKED_AT, key, strict=True)))
    shapes = _Shapes(layer_pass, config, memory, machine)
    best, fewest, seen = None, math.inf, set()
    places = shapes.most_promising()
    while places:
        before = fewest
        for place in places:
            if place in seen or shapes.least[place] * CLOSE >= fewest:
                continue
            seen.add(place)
            tile = shapes.tile(place)
            cycles = predict(replace(layer_pass, tile=tile), config, memory, machine).cycles
            if cycles < fewest:
                best, fewest = place, cycles
        places = shapes.around(best) if fewest * CLOSE < before else []
    return best and shapes.tile(best)


def clear():
    """Forget what was searched before."""
    _best.cache_clear()


def buffer_use(layer_pass, tile, config):
    """Vectors that the fullest tile needs of each buffer: ``{buffer: (needed, limit)}``."""
    rows, cols = (_Axis(layer_pass, axis) for axis in (0, 1))
    uses = _uses(
        layer_pass,
        config,
        tile.out_blocks,
        tile.images,
        rows.part(tile.rows),
        cols.part(tile.cols),
    )
    return {name: (int(needed), limit) for name, (needed, limit) in uses.items()}


def clip(layer_pass, tile):
    """``tile`` made no larger than its layer, one out block for a PASS, even for POOL."""
    unit = _unit(layer_pass)
    return Tile(
        min(tile.out_blocks, _most_blocks(layer_pass)),
        min(tile.images, layer_pass.geometry.images),
        align(min(tile.rows, layer_pass.grid[0]), unit),
        align(min(tile.cols, layer_pass.grid[1]), unit),
    )


def candidates(layer_pass, config, memory=BENCHMARK_MEMORY, machine=MACHINE):
    """The most promising tiles that fit, best first."""
    shapes = _Shapes(layer_pass, config, memory, machine)
    return [shapes.tile(place) for place in shapes.most_promising()]


class _Shapes:
    """All tiles that divide a pass evenly.

    A place is a tuple of indices into the sizes of ``Tile``'s four axes. ``least`` and ``likely``
    hold the bound on the cycles at each place, infinite where the tile does not fit.
    """

    def __init__(self, layer_pass, config, memory, machine):
        unit = _unit(layer_pass)
        axes = [_Axis(layer_pass, axis) for axis in (0, 1)]
        blocks = [1]
        if layer_pass.opcode not in IDENTITY:
            blocks = _even_parts(layer_pass.out_blocks, most=_most_blocks(layer_pass))
        images = _even_parts(layer_pass.geometry.images)
        grids = [[axis.part(size) for size in _even_parts(axis.grid, unit)] for axis in axes]
        self._sizes = [blocks, images, *([part.size for part in parts] for parts in grids)]
        shape = tuple(map(len, self._sizes))

        def along(axis, values):
            return np.expand_dims(
                np.array(values, np.float64), [other for other in range(4) if other != axis]
            )

        sizes = [along(axis, self._sizes[axis]) for axis in (0, 1)]
        sizes += [
            _Part(*(along(axis, column) for column in zip(*parts, strict=True)))
            for axis, parts in zip((2, 3), grids, strict=True)
        ]
        fits = True
        for needed, limit in _uses(layer_pass, config, *sizes).values():
            fits = fits & (needed <= limit)
        where = self._where = np.nonzero(np.broadcast_to(fits, shape))
        self.least, self.likely = np.full(shape, np.inf), np.full(shape, np.inf)
        if len(where[0]):
            chosen = [np.array(self._sizes[axis], np.float64)[where[axis]] for axis in (0, 1)]
            chosen += [
                _Part(*np.array(parts, np.float64)[where[axis]].T)
                for axis, parts in zip((2, 3), grids, strict=True)
            ]
            self.least[where], self.likely[where] = _bound(
                layer_pass, config, memory, machine, *chosen
            )

    def tile(self, place):
        return Tile(*(sizes[index] for sizes, index in zip(self._sizes, place, strict=True)))

    def most_promising(self):
        """The few places with the fewest likely cycles, best first."""
        places = list(zip(*self._where, strict=True))
        order = np.argsort(self.likely[self._where], kind="stable")[:EVALUATED]
        return [tuple(map(int, places[index])) for index in order]

    def around(self, place):
        """Places one step away along one axis, the most likely first."""
        found = []
        for axis, index in enumerate(place):
            for other in (index - 1, index + 1):
                if 0 <= other < len(self._sizes[axis]):
                    near = (*place[:axis], other, *place[axis + 1 :])
                    if self.likely[near] < FAR * self.likely[place]:
                        found.append(near)
        return sorted(found, key=lambda near: self.likely[near])


def _unit(layer_pass):
    """Rows and columns of a tile are multiples of it."""
    return 2 if Flag.POOL in layer_pass.flags else 1


def _most_blocks(layer_pass):
    """Out blocks a tile may hold."""
    if layer_pass.opcode in IDENTITY:
        return 1
    if layer_pass.flags & {Flag.STATISTICS, Flag.SUMS}:
        return min(layer_pass.out_blocks, MAX_STATISTICS_BLOCKS)
    return layer_pass.out_blocks


def _even_parts(total, unit=1, most=None):
    """Sizes that cut ``total`` into equal parts, smallest first; multiples of ``unit``."""
    sizes = {align(ceil_div(total, count), unit) for count in range(1, total // unit + 1)}
    return sorted(size for size in sizes if most is None or size <= most)


class _Part(NamedTuple):
    """Tiles of ``size`` along one axis: how many, the largest extents on both grids, their sums,
    and for how many pairs of tap and tile there is anything to do.

    Numbers, or arrays that broadcast against those of the other axes.
    """

    size: Any
    count: Any
    big: Any
    small: Any
    big_sum: Any
    small_sum: Any
    met: Any


class _Axis:
    """One axis of a pass."""

    def __init__(self, layer_pass, axis):
        self.geometry, self.axis = layer_pass.geometry, axis
        self.backward = layer_pass.opcode in BACKWARD_GRID
        self.grid = layer_pass.grid[axis]

    def part(self, size):
        geometry = self.geometry
        other = geometry.small_span if self.backward else geometry.big_span
        own, spans = [], []
        for start in range(0, self.grid, size):
            stop = min(start + size, self.grid)
            low, high = other(self.axis, start, stop)
            own.append(stop - start)
            spans.append(high - low)
        big, small = (own, spans) if self.backward else (spans, own)
        tiles = axis_tiles(geometry, self.axis, size, self.backward)
        met = sum(count > 0 for tile in tiles for count, _, _ in tile.taps)
        return _Part(size, len(own), max(big), max(small), sum(big), sum(small), met)


def _uses(layer_pass, config, blocks, images, rows, cols):
    """``{buffer: (vectors needed, vectors it holds)}`` of the fullest tile."""
    geometry = layer_pass.geometry
    if layer_pass.opcode is Opcode.CONV_WU:
        sums = geometry.taps + (Flag.BIAS in layer_pass.flags)
        groups = -(-(images * cols.small) // config.group)
        return {
            "accumulator": (blocks * sums * config.group, config.accumulator_depth),
            "stream": (blocks * rows.small * groups * config.group, config.stream_depth),
            "stationary": (images * rows.big * cols.big, config.stationary_depth),
        }
    touched = rows.small * cols.small if _Axis(layer_pass, 0).backward else rows.big * cols.big
    return {
        "accumulator": (blocks * images * rows.size * cols.size, config.accumulator_depth),
        "stream": (images * touched, config.stream_depth),
    }


def _fits(uses):
    return all(needed <= limit for needed, limit in uses.values())


def _bound(layer_pass, config, memory, machine, blocks, images, rows, cols):
    """``(least, likely)`` cycles of a pass.

    The least are those of the slowest of array, with the last tile's draining, and ports (smaller
    tiles at the edges may make it a little less). What is likely adds the first tile's loading,
    and what of a tile finds no room in a ring while the one before it is used.
    """
    geometry, group, beat = layer_pass.geometry, config.group, memory.beat
    beats = config.vector_beats * beat
    opcode, outs, ins = layer_pass.opcode, layer_pass.out_blocks, layer_pass.in_blocks
    flags = layer_pass.flags
    paired = Flag.NORM_DY in flags or Flag.X_PAIR in flags
    out_tiles = np.ceil(outs / blocks)
    image_tiles = np.ceil(geometry.images / images)
    pixel_tiles = image_tiles * rows.count * cols.count
    small = rows.small_sum * cols.small_sum * geometry.images
    big = rows.big_sum * cols.big_sum * geometry.images
    uses = _uses(layer_pass, config, blocks, images, rows, cols)
    crowded = {name: np.maximum(0, 2 * needed - limit) for name, (needed, limit) in uses.items()}
    if opcode is Opcode.CONV_WU:
        steps = out_tiles * ins * pixel_tiles
        row_groups = image_tiles * np.ceil(images * cols.small / group)
        groups = row_groups * rows.small_sum * cols.count
        # Taps leave out rows outside the picture, but a column only where it is a tile.
        used = geometry.kernel[0] * geometry.small[0] * _density(geometry, 0)
        loads = ins * row_groups * used * cols.met + groups * (Flag.BIAS in flags)
        active = loads * outs * group
        compute = np.maximum(active, loads * out_tiles * machine.hazard)
        written = outs * ins * geometry.taps * group * (1 + (Flag.MOMENTUM in flags))
        records = PROLOGUE_VECTORS * steps
        ports = (
            outs * ins * groups * machine.group_cycles(config) / config.vector_beats
            + (Flag.NORM_DY in flags) * blocks * records,
            out_tiles * ins * big + (Flag.NORM_X in flags) * records,
            paired * outs * ins * small + (Flag.UPDATE in flags) * written,
            written,
        )
        runs = (
            outs * ins * image_tiles * images * rows.small_sum * cols.count * (1 + paired)
            + out_tiles * ins * image_tiles * images * rows.big_sum * cols.count
        )
        first = np.maximum(uses["stationary"][0], uses["stream"][0]) * beats
        waits = np.maximum(crowded["stream"], crowded["stationary"]) * beats
        last = blocks * geometry.taps * group * beats
    else:
        inner = 1 if opcode in IDENTITY else ins
        steps = out_tiles * inner * pixel_tiles
        met = prod(geometry.small) * _density(geometry, 0) * _density(geometry, 1)
        sweeps = outs * inner * pixel_tiles * geometry.taps
        sweep = geometry.images * met / pixel_tiles
        active = sweeps * sweep
        compute = sweeps * np.maximum(sweep, max(group, machine.hazard / 2))
        touched = small if opcode in BACKWARD_GRID else big
        streamed = out_tiles * inner * touched
        normalised = Flag.NORM_DY in flags or Flag.NORM_X in flags
        drained = outs * geometry.images * prod(layer_pass.grid)
        scale = 4 if Flag.UNPOOL in flags else 1 / 4 if Flag.POOL in flags else 1
        auxiliary = 4 if Flag.UNPOOL in flags else Flag.ADD in flags
        side = Flag.SIDE_MASK in flags
        if opcode is not Opcode.CONV_FP:
            side += Flag.STATISTICS in flags
        teed = (outs if opcode in IDENTITY else inner) * touched * (Flag.TEE in flags)
        blocks_read = 0 if opcode in IDENTITY else sweeps * group
        ports = (
            streamed + normalised * PROLOGUE_VECTORS * steps,
            blocks_read + paired * streamed + auxiliary * drained,
            # The drain takes a beat a cycle, with or without operands.
            max(side, 1) * drained,
            (scale + (Flag.KEEP in flags)) * drained + teed,
        )
        streamed_rows = rows.small_sum if opcode in BACKWARD_GRID else rows.big_sum
        read = out_tiles * inner * streamed_rows * (1 + paired)
        drained_rows = outs * layer_pass.grid[0] * (1 + auxiliary + side)
        runs = geometry.images * cols.count * (read + drained_rows)
        first = uses["stream"][0] * beats
        # The first sweep can follow the pixels as they come.
        waits = crowded["stream"] * (beats - 1)
        last = uses["accumulator"][0] * beats
    busiest = ports[0]
    for moved in ports[1:]:
        busiest = np.maximum(busiest, moved)
    traffic = sum(ports)
    # Of equal tiles take the one with less traffic.
    likely = np.maximum(compute + steps * (waits + 4), busiest * beats) + first + last
    least = np.maximum(active + last, busiest * beats) + memory.latency
    return least, likely + RUN * runs + 1e-6 * traffic


def _density(geometry, axis):
    """Share of the pairs of tap and small pixel that lie inside the big grid."""
    tile = axis_tiles(geometry, axis, geometry.small[axis], backward=False)[0]
    return sum(count for count, _, _ in tile.taps) / (geometry.kernel[axis] * geometry.small[axis])


def _too_large(layer_pass, tile, config):
    """One sentence: what the tile exceeds, and the smallest buffers or array that would do."""
    uses = buffer_use(layer_pass, tile, config)
    name, (needed, limit) = next((name, use) for name, use in uses.items() if use[0] > use[1])
    return (
        f"{layer_pass.layer}: its {layer_pass.opcode.name} pass needs {needed} vectors of the "
        f"{name} buffer, which holds {limit}; {_remedy(layer_pass, tile, config)}."
    )


def _remedy(layer_pass, tile, config):
    uses = buffer_use(layer_pass, tile, config)
    deeper = {
        name: 1 << (needed - 1).bit_length()
        for name, (needed, limit) in uses.items()
        if needed > limit
    }
    deepest = LARGEST_DEPTH // config.vector_beats
    if all(depth <= deepest for depth in deeper.values()):
        sizes = " and ".join(f"{name}_depth {depth}" for name, depth in deeper.items())
        return f"use a device with {sizes} or more"
    side = config.group // 2
    while side >= 4:
        smaller = replace(config, rows=side, lanes=side)
        if _fits(buffer_use(layer_pass, tile, smaller)):
            return f"use a {side}x{side} array, or a smaller kernel"
        side //= 2
    return "use a smaller kernel"
