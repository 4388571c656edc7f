"""Tile shapes: the buffer limits of architecture.md and the choice within them."""

from dataclasses import replace

from eftrain_hdl.isa import Flag, Opcode

from ..errors import UserError
from .layout import align, ceil_div
from .passes import Tile

WEIGHT_UPDATE_BLOCKS = 4
"""Out blocks a weight-gradient tile holds at most; more saves little once loads are hidden."""

ADDER_LATENCY = 8
"""Cycles between two sums of one accumulator; shorter sweeps wait. Only ranks the candidates."""


def buffer_use(layer_pass, tile, config):
    """Vectors that the fullest tile needs of each buffer: ``{buffer: (needed, limit)}``."""
    geometry, pixels = layer_pass.geometry, tile.images * tile.rows * tile.cols

    def touched(span):
        return tile.images * (
            geometry.widest(span, 0, layer_pass.grid[0], tile.rows)
            * geometry.widest(span, 1, layer_pass.grid[1], tile.cols)
        )

    if layer_pass.opcode is Opcode.CONV_WU:
        sums = geometry.taps + (Flag.BIAS in layer_pass.flags)
        groups = ceil_div(tile.images * tile.cols, config.group)
        return {
            "accumulator": (tile.out_blocks * sums * config.group, config.accumulator_depth),
            "stream": (tile.out_blocks * tile.rows * groups * config.group, config.stream_depth),
            "stationary": (touched(geometry.big_span), config.stationary_depth),
        }
    span = geometry.small_span if layer_pass.opcode is Opcode.CONV_BP else geometry.big_span
    return {
        "accumulator": (tile.out_blocks * pixels, config.accumulator_depth),
        "stream": (touched(span), config.stream_depth),
    }


def _exceeded(layer_pass, tile, config, ring_share):
    """``(buffer, needed, limit)`` of the first buffer the tile exceeds, or None."""
    for name, (needed, limit) in buffer_use(layer_pass, tile, config).items():
        # Only the rings are shared with the next tile; accumulators have a bank of their own.
        allowed = limit if name == "accumulator" else limit // ring_share
        if needed > allowed:
            return name, needed, limit
    return None


def estimated_cycles(layer_pass, tile, config):
    """Cycles of the pass: the slowest of array, stream port and stationary port.

    Ranks candidates only; halo rows and fill times are left out.
    """
    geometry, group = layer_pass.geometry, config.group
    rows, cols = layer_pass.grid
    out_tiles = ceil_div(layer_pass.out_blocks, tile.out_blocks)
    tiles = (
        out_tiles
        * ceil_div(geometry.images, tile.images)
        * ceil_div(rows, tile.rows)
        * ceil_div(cols, tile.cols)
    )
    use = buffer_use(layer_pass, tile, config)
    steps = tiles * layer_pass.in_blocks
    stream = use["stream"][0] * steps * config.vector_beats
    if layer_pass.opcode is Opcode.CONV_WU:
        sweeps = tile.rows * ceil_div(tile.images * tile.cols, group) * geometry.taps
        sweep = max(group, tile.out_blocks * group, ADDER_LATENCY)
        stationary = use["stationary"][0] * steps * config.vector_beats
    else:
        sweeps = geometry.taps * tile.out_blocks
        density = geometry.small[0] * geometry.small[1] / (rows * cols)
        sweep = max(group, ADDER_LATENCY, density * tile.images * tile.rows * tile.cols)
        weight_vectors = geometry.taps * tile.out_blocks * group
        stationary = weight_vectors * steps * config.vector_beats
    return max(steps * sweeps * sweep, stream, stationary), stream + stationary


def _even_parts(total, largest, unit=1):
    """The smallest part that still covers ``total`` in as few parts as ``largest`` does."""
    part = ceil_div(total, ceil_div(total, largest))
    return min(align(part, unit), largest)


def _largest(limit, fits, unit=1):
    """Largest multiple of ``unit`` up to ``limit`` that fits, 0 if none; ``fits`` is monotone."""
    low, high = 0, limit // unit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle * unit) else (low, middle - 1)
    return low * unit


def _candidates(layer_pass, config, ring_share):
    """Tiles that fit: for every number of out blocks the largest full-width one."""
    rows, cols = layer_pass.grid
    images = layer_pass.geometry.images
    unit = 2 if Flag.POOL in layer_pass.flags else 1
    most = {Opcode.PASS: 1, Opcode.CONV_WU: WEIGHT_UPDATE_BLOCKS}.get(
        layer_pass.opcode, config.accumulator_depth
    )

    def fits(tile):
        return _exceeded(layer_pass, tile, config, ring_share) is None

    for out_blocks in range(1, min(most, layer_pass.out_blocks) + 1):
        if fits(Tile(out_blocks, 1, rows, cols)):
            # Small maps: whole images joined in one tile.
            largest = _largest(images, lambda n, b=out_blocks: fits(Tile(b, n, rows, cols)))
            for count in {largest, _even_parts(images, largest)}:
                yield Tile(out_blocks, count, rows, cols)
            continue
        for parts in range(1, cols // unit + 1):
            width = min(cols, align(ceil_div(cols, parts), unit))
            height = _largest(rows, lambda n, b=out_blocks, w=width: fits(Tile(b, 1, n, w)), unit)
            if height:
                yield Tile(out_blocks, 1, _even_parts(rows, height, unit), width)
                break
        else:
            return  # More out blocks need more of every buffer.


def choose(layer_pass, config, forced=None):
    """Return the pass with its tile.

    Tiles use up to half of the ring buffers so that the next one can be prefetched; the full depth
    only where half holds none. Among those, the least estimated cycles win, then the least traffic.

    Parameters
    ----------
    layer_pass : LayerPass
        LOSS has no tile and is returned as it is.
    config : CoreConfig
    forced : Tile, optional
        A given shape (clipped to the layer) instead of the best; checked against the buffers.

    Raises
    ------
    UserError
        If no tile, or not the forced one, fits; names the layer and the buffer.
    """
    if layer_pass.opcode is Opcode.LOSS:
        return layer_pass
    if forced:
        tile = clip(layer_pass, forced)
        exceeded = _exceeded(layer_pass, tile, config, 1)
        if exceeded:
            raise UserError(_too_large(layer_pass, exceeded))
        return replace(layer_pass, tile=tile)
    for ring_share in (2, 1):
        tiles = list(_candidates(layer_pass, config, ring_share))
        if tiles:
            best = min(tiles, key=lambda tile: estimated_cycles(layer_pass, tile, config))
            return replace(layer_pass, tile=best)
    smallest = 2 if Flag.POOL in layer_pass.flags else 1
    exceeded = _exceeded(layer_pass, Tile(1, 1, smallest, smallest), config, 1)
    raise UserError(_too_large(layer_pass, exceeded))


def clip(layer_pass, tile):
    """``tile`` made no larger than its layer, one out block for PASS, even for POOL."""
    rows, cols = min(tile.rows, layer_pass.grid[0]), min(tile.cols, layer_pass.grid[1])
    if Flag.POOL in layer_pass.flags:
        rows, cols = rows + rows % 2, cols + cols % 2
    out_blocks = 1 if layer_pass.opcode is Opcode.PASS else tile.out_blocks
    return Tile(
        min(out_blocks, layer_pass.out_blocks),
        min(tile.images, layer_pass.geometry.images),
        rows,
        cols,
    )


def _too_large(layer_pass, exceeded):
    name, needed, limit = exceeded
    return (
        f"{layer_pass.layer}: its {layer_pass.opcode.name} pass needs {needed} vectors of the "
        f"{name} buffer, which holds {limit}; use a smaller kernel or a device with a larger one."
    )
