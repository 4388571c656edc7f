"""The drain of a layer pass: from the sums of a tile to memory, with everything that rides along.

Order of operations: bias, ADD, mask, statistics, RELU, KEEP, POOL or UNPOOL.
"""

import numpy as np
from interpreter_checks import SUMMING

from eftrain_hdl.isa import COEFFICIENT_VECTORS, PARTIAL_BEATS, Flag, Opcode


def statistics_record(config, shift, first, second):
    """Words of one block's record: all sums in partial 0, the other partials zero."""
    words = PARTIAL_BEATS * config.beat_words
    sums = np.zeros((2, words), np.float32)
    sums[:, : config.group] = first, second
    return np.concatenate([np.float32(shift), sums.reshape(-1)])


def split_record(config, words):
    """``(shift, sums 1, sums 2)`` of one record, each ``[T]`` in float64."""
    group = config.group
    sums = np.asarray(words[group:], np.float64).reshape(2, -1, group).sum(axis=1)
    return np.asarray(words[:group], np.float64), *sums


def record_bytes(config):
    return 4 * config.group + 2 * PARTIAL_BEATS * config.beat_bytes


class Drain:
    """The drain of one FP, BP, PASS or PASS_BP descriptor.

    Parameters
    ----------
    device : InterpretedDevice
    opcode, flags
    v : dict
        Fields, bases with pointers added.
    where : callable
        (port, block, images, rows, cols) to the byte addresses ``[images, rows, cols, T]``.
    """

    def __init__(self, device, opcode, flags, v, where):
        self.memory, self.config, self.device = device.memory, device.config, device
        self.flags, self.v, self.where = flags, v, where
        self.forward = opcode is Opcode.CONV_FP
        self.sums = {}
        self.shift = {}

    def vectors(self, port, base, count):
        group = self.config.group
        return self.memory.read(port, base + 4 * np.arange(count * group)).reshape(count, group)

    def tile(self, result, ob, images, rows, cols):
        """Drain ``result`` ``[images, rows, cols, T]``, one block of one tile."""
        v, flags, memory = self.v, self.flags, self.memory
        region = (ob, images, rows, cols)
        record = None
        if Flag.STATISTICS in flags and (not self.forward or Flag.POOL in flags):
            count = 1 if self.forward else COEFFICIENT_VECTORS
            record = self.vectors("side", v["bias_base"] + ob * v["bias_block_stride"], count)
        if Flag.BIAS in flags:
            base = v["bias_base"] + ob * v["bias_block_stride"]
            result = result + self.vectors("side", base, 1)[0]
        if Flag.ADD in flags:
            result = result + memory.read("auxiliary", self.where("auxiliary", *region))
        if Flag.SIDE_MASK in flags:
            side = memory.read("side", self.where("side", *region))
            result = np.where(side > 0, result, np.float32(0))
        if flags & SUMMING:
            result = self.statistics(result, record, region)
        if Flag.RELU in flags:
            result = np.maximum(result, 0)
        if Flag.KEEP in flags:
            memory.write("second", self.where("second", *region), result)
        # Negative gamma or k0: what is least before the normalisation is largest after it.
        falling = record[0] < 0 if record is not None else np.zeros(self.config.group, bool)
        if Flag.UNPOOL in flags:
            rows, cols = tuple(2 * r for r in rows), tuple(2 * c for c in cols)
            windows = memory.read("auxiliary", self.where("auxiliary", ob, images, rows, cols))
            result = _unpool(result, np.where(falling, -windows, windows))
        if Flag.POOL in flags:
            rows, cols = tuple(r // 2 for r in rows), tuple(c // 2 for c in cols)
            n, r, c, lanes = result.shape
            windows = result.reshape(n, r // 2, 2, c // 2, 2, lanes)
            result = np.where(falling, windows.min(axis=(2, 4)), windows.max(axis=(2, 4)))
        self.device.saw(result)
        memory.write("output", self.where("output", ob, images, rows, cols), result)

    def statistics(self, z, record, region):
        """Add a tile to the sums of its block; the tile after NORM_MASK."""
        ob, (images, rows, cols) = region[0], region[1:]
        if self.forward:
            shift = self.shift.setdefault(ob, z[0, 0, 0])
            first = z - shift
            second = first * first
        else:
            self.shift[ob] = np.zeros(self.config.group, np.float32)
            second = np.zeros_like(z)
            if Flag.STATISTICS in self.flags:
                y = self.memory.read("side", self.where("norm", ob, images, rows, cols))
                if Flag.NORM_MASK in self.flags:
                    z = np.where(record[0] * y + record[2] > 0, z, np.float32(0))
                second = z * (y - record[3])
            first = z
        terms = np.stack([first, second]).astype(np.float64)
        self.device.bound(np.abs(terms).sum(axis=(1, 2, 3)).max())
        self.sums[ob] = self.sums.get(ob, 0) + terms.sum(axis=(1, 2, 3))
        return z

    def finish(self, obs):
        """The last tile of these blocks is drained: write their records."""
        if not self.flags & SUMMING:
            return
        for ob in obs:
            record = statistics_record(self.config, self.shift[ob], *self.sums[ob])
            base = self.v["statistics_base"] + ob * record_bytes(self.config)
            self.memory.write("output", base + 4 * np.arange(len(record)), record)


def _unpool(result, windows):
    """Each value to the first maximum of its 2x2 window, zeros elsewhere."""
    n, rows, cols, lanes = result.shape
    windows = windows.reshape(n, rows, 2, cols, 2, lanes).transpose(0, 1, 3, 5, 2, 4)
    first = windows.reshape(n, rows, cols, lanes, 4).argmax(axis=-1)
    spread = np.where(np.arange(4) == first[..., None], result[..., None], 0)
    spread = spread.reshape(n, rows, cols, lanes, 2, 2).transpose(0, 1, 4, 2, 5, 3)
    return spread.reshape(n, 2 * rows, 2 * cols, lanes)
