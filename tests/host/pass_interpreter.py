"""Layer passes of the interpreter: tile walk, operands on load, arithmetic of one descriptor."""

import ml_dtypes
import numpy as np
from drain_interpreter import Drain
from interpreter_checks import BLOCK_BY_BLOCK, ON_BIG_GRID, pair
from interpreter_memory import ProgramStop

from eftrain_hdl.isa import COEFFICIENT_VECTORS, ErrorCode, Flag, Opcode

SAME_STRIDES = {"companion": "stream", "tee": "stream", "norm": "side"}
"""Tensors that lie like that of another port."""


class _Spans:
    """Which pixels of one grid a tile of the other touches, along one axis."""

    def __init__(self, v, axis):
        self.kernel, self.stride = v[f"kernel_{axis}"], v[f"stride_{axis}"]
        self.pad, self.big, self.small = v[f"pad_{axis}"], v[f"big_{axis}"], v[f"small_{axis}"]

    def big_of(self, p0, p1):
        low = max(0, p0 * self.stride - self.pad)
        return low, max(low, min(self.big, (p1 - 1) * self.stride - self.pad + self.kernel))

    def small_of(self, i0, i1):
        low = max(0, int(np.ceil((i0 + self.pad - self.kernel + 1) / self.stride)))
        return low, max(low, min(self.small, int(np.ceil((i1 + self.pad) / self.stride))))

    def meet(self, tap, small, big):
        """Pairs (small, big) of this tap inside both ranges, relative to their starts."""
        p = np.arange(*small)
        i = p * self.stride + tap - self.pad
        inside = (i >= big[0]) & (i < big[1])
        return p[inside] - small[0], i[inside] - big[0]


def run_pass(device, opcode, flags, v):
    """Walk the tiles of one descriptor; ``v`` holds its fields, bases with pointers added."""
    _Walk(device, opcode, flags, v).run()


class _Walk:
    def __init__(self, device, opcode, flags, v):
        self.device, self.memory = device, device.memory
        self.config, self.group = device.config, device.config.group
        self.opcode, self.flags, self.v = opcode, flags, v
        self.rows, self.cols = _Spans(v, "rows"), _Spans(v, "cols")
        self.taps = [(r, c) for r in range(v["kernel_rows"]) for c in range(v["kernel_cols"])]
        self.backward = opcode in ON_BIG_GRID
        self.by_block = opcode in BLOCK_BY_BLOCK
        self.out = Drain(device, opcode, flags, v, self.where)

    def run(self):
        v, wu = self.v, self.opcode is Opcode.CONV_WU
        grid = pair(v, "big" if self.backward else "small")
        for ob0 in range(0, v["out_blocks"], v["tile_out_blocks"]):
            obs = range(ob0, min(ob0 + v["tile_out_blocks"], v["out_blocks"]))
            for nb in range(v["in_blocks"] if wu else 1):
                sums = None
                for image0 in range(0, v["images"], v["tile_images"]):
                    images = (image0, min(image0 + v["tile_images"], v["images"]))
                    for row0 in range(0, grid[0], v["tile_rows"]):
                        rows = (row0, min(row0 + v["tile_rows"], grid[0]))
                        for col0 in range(0, grid[1], v["tile_cols"]):
                            cols = (col0, min(col0 + v["tile_cols"], grid[1]))
                            if wu:
                                sums = self.update_step(sums, obs, nb, images, rows, cols)
                            else:
                                self.pixel_tile(obs, images, rows, cols)
                if wu:
                    self.update_drain(sums, obs, nb)
            self.out.finish(obs)

    def fits(self, vectors, limit):
        if vectors > limit:
            raise ProgramStop(ErrorCode.TILE_OVERFLOW)

    def bound(self, left, right, terms):
        """Note how large a sum of so many products can become."""
        if left.size and right.size:
            self.device.bound(float(np.abs(left).max()) * float(np.abs(right).max()) * terms)

    # -- addresses ---------------------------------------------------------------------------------

    def where(self, tensor, block, images, rows, cols):
        """Byte addresses [images, rows, cols, T] of a region of one block of a tensor."""
        v, lies = self.v, SAME_STRIDES.get(tensor, tensor)
        base = v["second_base" if tensor == "tee" else f"{tensor}_base"]
        return (
            base + block * v[f"{lies}_block_stride"]
            + np.arange(*images)[:, None, None, None] * v[f"{lies}_image_stride"]
            + np.arange(*rows)[:, None, None] * v[f"{lies}_row_stride"]
            + np.arange(*cols)[:, None] * 4 * self.group + 4 * np.arange(self.group)
        )  # fmt: skip

    def block(self, base):
        """Byte addresses [T, T] of one block of weights."""
        return base + 4 * np.arange(self.group**2).reshape(self.group, self.group)

    # -- operands on load --------------------------------------------------------------------------

    def rounded(self, values):
        """Operands as the array multiplies them."""
        if self.config.format == "bf16":
            return values.astype(ml_dtypes.bfloat16).astype(np.float32)
        return values

    def load(self, port, block, *region):
        """A box of the stream, or of X (WU), normalised as the flags ask."""
        flags = self.flags
        x = self.memory.read(port, self.where(port, block, *region))
        is_x = port == "stationary" or self.opcode in (Opcode.CONV_FP, Opcode.PASS)
        if (Flag.NORM_X if is_x else Flag.NORM_DY) not in flags:
            return x
        vector = 4 * self.group
        base = self.v[f"{port}_coefficients_base"] + block * COEFFICIENT_VECTORS * vector
        k0, k1, k2 = self.memory.read(port, base + 4 * np.arange(3 * self.group)).reshape(3, -1)
        inner = k2
        if not is_x or Flag.X_PAIR in flags:
            companion = self.memory.read("companion", self.where("companion", block, *region))
            inner = k1 * companion + k2
        x = k0 * x + inner
        if is_x and Flag.X_RELU in flags:
            x = np.maximum(x, 0)
        return x

    def weight(self, ob, rb, tap):
        """The T x T factor of one tap, [reduction channel, result channel]."""
        v, group = self.v, self.group
        if self.by_block:
            return self.rounded(np.float32(v["scale"]) * np.eye(group, dtype=np.float32))
        base = (
            v["stationary_base"] + ob * v["stationary_image_stride"]
            + rb * v["stationary_block_stride"] + tap * 4 * group * group
        )  # fmt: skip
        stored = self.rounded(self.memory.read("stationary", self.block(base)))  # [m, n]
        return stored if self.backward else stored.T

    # -- FP, BP, PASS, PASS_BP ---------------------------------------------------------------------

    def pixel_tile(self, obs, images, rows, cols):
        """The reduction of one tile and its drain."""
        v = self.v
        if self.backward:
            touched = self.rows.small_of(*rows), self.cols.small_of(*cols)
        else:
            touched = self.rows.big_of(*rows), self.cols.big_of(*cols)
        shape = tuple(high - low for low, high in (images, rows, cols))
        extent = [high - low for low, high in touched]
        self.fits(shape[0] * extent[0] * extent[1], self.config.stream_depth)
        self.fits(len(obs) * shape[0] * shape[1] * shape[2], self.config.accumulator_depth)
        sums = np.zeros((len(obs), *shape, self.group), np.float32)
        for rb in range(1 if self.by_block else v["in_blocks"]):
            source = obs[0] if self.by_block else rb
            x = self.load("stream", source, images, *touched)
            if Flag.TEE in self.flags and (self.by_block or obs[0] == 0):
                self.memory.write("second", self.where("tee", source, images, *touched), x)
            x = self.rounded(x)
            for tap, (kr, kc) in enumerate(self.taps):
                small = touched if self.backward else (rows, cols)
                big = (rows, cols) if self.backward else touched
                pr, ir = self.rows.meet(kr, small[0], big[0])
                pc, ic = self.cols.meet(kc, small[1], big[1])
                from_, to = ((pr, pc), (ir, ic)) if self.backward else ((ir, ic), (pr, pc))
                gathered = x[:, from_[0][:, None], from_[1][None, :]]
                for position, ob in enumerate(obs):
                    weight = self.weight(ob, rb, tap)
                    self.bound(gathered, weight, len(self.taps) * v["in_blocks"] * self.group)
                    sums[position][:, to[0][:, None], to[1][None, :]] += gathered @ weight
        for position, ob in enumerate(obs):
            self.out.tile(sums[position], ob, images, rows, cols)

    # -- WU ----------------------------------------------------------------------------------------

    def update_step(self, sums, obs, nb, images, rows, cols):
        """WU: add one tile to the sums ``(weights [ob, tap, m, n], bias [ob, m])``."""
        v, group = self.v, self.group
        if sums is None:
            sums = (
                np.zeros((len(obs), len(self.taps), group, group), np.float32),
                np.zeros((len(obs), group), np.float32),
            )
        big = self.rows.big_of(*rows), self.cols.big_of(*cols)
        count, height, width = (high - low for low, high in (images, rows, cols))
        padded = -(-count * width // group) * group
        self.fits(len(obs) * height * padded, self.config.stream_depth)
        extent = [high - low for low, high in big]
        self.fits(count * extent[0] * extent[1], self.config.stationary_depth)
        x = self.rounded(self.load("stationary", nb, images, *big))
        for position, ob in enumerate(obs):
            dy = self.rounded(self.load("stream", ob, images, rows, cols))
            if nb == 0:
                sums[1][position] += dy.sum(axis=(0, 1, 2))
            for tap, (kr, kc) in enumerate(self.taps):
                pr, ir = self.rows.meet(kr, rows, big[0])
                pc, ic = self.cols.meet(kc, cols, big[1])
                left = dy[:, pr[:, None], pc[None, :]].reshape(-1, group)
                right = x[:, ir[:, None], ic[None, :]].reshape(-1, group)
                self.bound(left, right, v["images"] * v["small_rows"] * v["small_cols"])
                sums[0][position, tap] += left.T @ right
        return sums

    def update_drain(self, sums, obs, nb):
        v, group = self.v, self.group
        for position, ob in enumerate(obs):
            offset = ob * v["output_block_stride"] + nb * v["output_image_stride"]
            for tap in range(len(self.taps)):
                here = offset + tap * 4 * group * group
                self.apply(
                    sums[0][position, tap],
                    self.block(v["output_base"] + here),
                    self.block(v["side_base"] + here),
                )
            if nb == 0 and Flag.BIAS in self.flags:
                here = ob * 4 * group + 4 * np.arange(group)
                self.apply(sums[1][position], v["bias_base"] + here, v["bias_momentum_base"] + here)

    def apply(self, gradient, where, momentum_where):
        """Write the gradient, or apply the optimiser in place."""
        memory, v = self.memory, self.v
        if Flag.UPDATE not in self.flags:
            self.device.saw(gradient)
            memory.write("output", where, gradient)
            return
        rate, decay, factor = (
            np.float32(v[name]) for name in ("learning_rate", "weight_decay", "momentum")
        )
        weights = memory.read("side", where)
        velocity = gradient + decay * weights
        self.device.bound(np.abs(rate * velocity).max())
        if Flag.MOMENTUM in self.flags:
            velocity = factor * memory.read("side", momentum_where) + velocity
            memory.write("output", momentum_where, velocity)
        weights = weights - rate * velocity
        self.device.saw(weights)
        memory.write("output", where, weights)
