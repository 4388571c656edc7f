"""Reference of the tile walk: the steps of one layer pass, found by trying every pixel and tap.

Written from ``docs/architecture.md``. Ranges come from sets of pixels that meet, not from the
formulas of the hardware, so that a mistake in a formula is not repeated here. Numbers that have no
meaning in a step are None.
"""

from math import prod

from eftrain_hdl import isa
from eftrain_hdl.isa import Flag, Opcode

__all__ = ["LayerPass", "TileOverflow", "TileWalk", "random_layer", "split", "tap_pairs"]

PORTS = ("stream", "stationary", "output", "side", "second", "auxiliary")
BASES = (
    "bias", "bias_momentum", "stream_coefficients", "stationary_coefficients", "companion", "norm",
    "statistics",
)  # fmt: skip
BIG_GRID = (Opcode.CONV_BP, Opcode.PASS_BP)
ONE_BLOCK = (Opcode.PASS, Opcode.PASS_BP)


class TileOverflow(Exception):
    """A tile does not fit a buffer."""


class LayerPass:
    """One descriptor: ``layer["kernel_rows"]`` reads a field; fields never given are 0.

    Parameters
    ----------
    opcode : Opcode
    flags : iterable of Flag
    fields : int or float
        As :func:`eftrain_hdl.isa.encode` takes them.
    """

    def __init__(self, opcode, flags=(), **fields):
        self.opcode = Opcode(opcode)
        self.flags = frozenset(flags)
        self.fields = fields

    def __getitem__(self, name):
        return self.fields.get(name, 0)

    def __repr__(self):
        flags = ", ".join(flag.name for flag in sorted(self.flags))
        fields = ", ".join(f"{name}={value}" for name, value in self.fields.items())
        return f"LayerPass({self.opcode.name}, [{flags}], {fields})"

    @property
    def bits(self):
        """The descriptor as one integer, word 0 lowest."""
        return int.from_bytes(isa.encode(self.opcode, self.flags, **self.fields), "little")

    @property
    def grid(self):
        """The iteration grid: ``"big"`` or ``"small"``."""
        return "big" if self.opcode in BIG_GRID else "small"

    @property
    def taps(self):
        return [
            (row, col) for row in range(self["kernel_rows"]) for col in range(self["kernel_cols"])
        ]


def split(size, step):
    """``range(size)`` in ranges of ``step``, the last one clipped."""
    return [range(low, min(low + step, size)) for low in range(0, size, step)]


def tap_pairs(layer, axis, tap, small, big):
    """Pixels that one tap joins, counted from the starts of the ranges ``small`` and ``big``."""
    pairs = []
    for p in small:
        i = p * layer[f"stride_{axis}"] + tap - layer[f"pad_{axis}"]
        if i in big:
            pairs.append((p - small.start, i - big.start))
    return pairs


def _axis(layer, axis, pixels):
    """Both ranges of one axis, of which ``pixels`` is the one on the iteration grid."""
    small, big = range(layer[f"small_{axis}"]), range(layer[f"big_{axis}"])
    taps = range(layer[f"kernel_{axis}"])
    met = set()
    for tap in taps:
        if layer.opcode in BIG_GRID:
            met |= {p for p, _ in tap_pairs(layer, axis, tap, small, pixels)}
        else:
            # Big pixels are counted from 0 here, hence from the start of the whole range.
            met |= {i for _, i in tap_pairs(layer, axis, tap, pixels, big)}
    other = range(min(met), max(met) + 1) if met else None
    small, big = (other, pixels) if layer.opcode in BIG_GRID else (pixels, other)
    record = {}
    for name, found in (("small", small), ("big", big)):
        record[name] = len(found) if found else 0
        record[f"{name}0"] = found.start if found else None
        record[f"{name}1"] = found.stop if found else None
    return record


class TileWalk:
    """The steps of ``layer`` on a core of ``config``.

    Iterating gives one dictionary a step, with the fields of
    :func:`eftrain_hdl.addressing.tile.tile_layout`, and raises :exc:`TileOverflow` in place of the
    first step that does not fit.
    """

    def __init__(self, layer, config):
        self._layer = layer
        self._config = config

    def __iter__(self):
        layer = self._layer
        wu = layer.opcode is Opcode.CONV_WU
        reduces = layer.opcode in (Opcode.CONV_FP, Opcode.CONV_BP)
        pixel_tiles = [
            (images, rows, cols)
            for images in split(layer["images"], layer["tile_images"])
            for rows in split(layer[f"{layer.grid}_rows"], layer["tile_rows"])
            for cols in split(layer[f"{layer.grid}_cols"], layer["tile_cols"])
        ]
        # (out blocks, in block, pixels, first, last, first and last of the out blocks)
        steps = []
        for blocks in split(layer["out_blocks"], layer["tile_out_blocks"]):
            for outer in range(layer["in_blocks"]) if wu else [0]:
                for index, pixels in enumerate(pixel_tiles):
                    inner = range(layer["in_blocks"]) if reduces else [0]
                    group = (index == 0, index == len(pixel_tiles) - 1)
                    for reduced in inner:
                        ends = group if wu else (reduced == 0, reduced == inner[-1])
                        steps.append((blocks, outer + reduced, pixels, ends, group))
        for number, step in enumerate(steps):
            yield self._record(*step, final=number == len(steps) - 1)

    def _record(self, blocks, in_block, pixels, ends, group_ends, *, final):
        layer, config, group = self._layer, self._config, self._config.group
        images = pixels[0]
        rows, cols = (_axis(layer, axis, pixels[i]) for i, axis in ((1, "rows"), (2, "cols")))
        small_area, big_area = rows["small"] * cols["small"], rows["big"] * cols["big"]
        groups = pixel_vectors = None
        stationary = 0
        if layer.opcode is Opcode.CONV_WU:
            groups = -(-len(images) * cols["small"] // group)
            pixel_vectors = rows["small"] * groups * group
            stream = len(blocks) * pixel_vectors
            stationary = len(images) * big_area
            block_vectors = (len(layer.taps) + (Flag.BIAS in layer.flags)) * group
            small_area = None
        else:
            backward = layer.opcode in BIG_GRID
            stream = len(images) * (small_area if backward else big_area)
            block_vectors = len(images) * (big_area if backward else small_area)
        if (
            stream > config.stream_depth
            or stationary > config.stationary_depth
            or len(blocks) * block_vectors > config.accumulator_depth
        ):
            raise TileOverflow
        return {
            "rows": rows,
            "cols": cols,
            "image0": images.start,
            "images": len(images),
            "out_block0": blocks.start,
            "out_blocks": len(blocks),
            "in_block": in_block,
            "first": ends[0],
            "last": ends[1],
            "final": final,
            "group_first": group_ends[0],
            "group_last": group_ends[1],
            "small_area": small_area,
            "big_area": big_area,
            "groups": groups,
            "stream_vectors": stream,
            "stationary_vectors": stationary,
            "pixel_vectors": pixel_vectors,
            "block_vectors": block_vectors,
        }


def _random_axis(rng, *, max_kernel, max_pixels, even):
    """Kernel, stride, padding and both sizes of one axis: any that the device accepts."""
    kernel = rng.choice((1, 2, 3, rng.randint(1, max_kernel)))
    kernel = min(kernel, max_kernel)
    stride = rng.randint(1, isa.MAX_STRIDE)
    pad = rng.randrange(kernel)
    big = rng.randint(1, max_pixels)
    # The last window must start inside the big grid.
    most = (big + pad - 1) // stride + 1
    usual = (big + 2 * pad - kernel) // stride + 1
    small = usual if 1 <= usual <= most and rng.random() < 0.6 else rng.randint(1, most)
    if even:
        small -= small % 2
    return {"kernel": kernel, "stride": stride, "pad": pad, "big": big, "small": small}


def _random_flags(rng, opcode):
    chosen = {flag for flag in isa.LEGAL_FLAGS[opcode] if rng.random() < 0.4}
    for one, other in isa.EXCLUSIVE_FLAGS:
        if {one, other} <= chosen:
            chosen.discard(rng.choice((one, other)))
    required = [*isa.REQUIRED_FLAGS, (Flag.X_PAIR, Flag.NORM_X)]
    # Twice, because what a flag requires may itself require one.
    for flag, other in [*required, *required]:
        if other not in chosen:
            chosen.discard(flag)
    return chosen


def random_layer(rng, opcode, *, max_kernel=isa.MAX_KERNEL, max_pixels=20, max_steps=16):
    """A legal :class:`LayerPass` with random sizes, ragged tiles, flags, addresses and strides.

    Tensors do not lie where a planner would put them: every stride is an unrelated number, so that
    two of them cannot be confused unnoticed.
    """
    while True:
        flags = _random_flags(rng, opcode)
        even = Flag.POOL in flags
        fields = {}
        for axis in ("rows", "cols"):
            sizes = _random_axis(rng, max_kernel=max_kernel, max_pixels=max_pixels, even=even)
            grid = sizes["big" if opcode in BIG_GRID else "small"]
            if grid:
                sizes["tile"] = 2 * rng.randint(1, grid // 2) if even else rng.randint(1, grid)
            fields.update({f"{name}_{axis}": value for name, value in sizes.items()})
        fields["images"] = rng.randint(1, 4)
        fields["tile_images"] = rng.randint(1, fields["images"])
        fields["out_blocks"] = rng.randint(1, 4)
        fields["tile_out_blocks"] = rng.randint(1, fields["out_blocks"])
        fields["in_blocks"] = rng.randint(1, 3)
        if opcode in ONE_BLOCK:
            fields["tile_out_blocks"] = fields["in_blocks"] = 1
        layer = LayerPass(opcode, flags, **fields)
        if not (layer["small_rows"] and layer["small_cols"]):
            continue
        counts = [
            -(-size // step)
            for size, step in (
                (layer["out_blocks"], layer["tile_out_blocks"]),
                (layer["images"], layer["tile_images"]),
                (layer[f"{layer.grid}_rows"], layer["tile_rows"]),
                (layer[f"{layer.grid}_cols"], layer["tile_cols"]),
            )
        ]
        if prod(counts) * layer["in_blocks"] <= max_steps:
            break
    for port in PORTS:
        fields[f"{port}_base"] = 16 * rng.randrange(2**28)
        for stride in ("image", "block", "row"):
            fields[f"{port}_{stride}_stride"] = 16 * rng.randrange(2**16)
    for base in BASES:
        fields[f"{base}_base"] = 16 * rng.randrange(2**28)
    fields["bias_block_stride"] = 16 * rng.randrange(2**16)
    return LayerPass(opcode, flags, **fields)
