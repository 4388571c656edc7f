"""Layer passes of the interpreter: checks, tile walk, arithmetic and drain of one descriptor."""

import numpy as np

from eftrain_hdl.isa import MAX_KERNEL, MAX_STRIDE, ErrorCode, ErrorUnit, Flag, Opcode


class ProgramStop(Exception):
    """The device would stop here."""

    def __init__(self, code, unit=ErrorUnit.CONTROL):
        super().__init__(code, unit)
        self.code, self.unit = code, unit


def _pair(values, name):
    return values[f"{name}_rows"], values[f"{name}_cols"]


def check_pass(config, opcode, flags, v):
    """Stop on sizes the device refuses before it starts."""
    tile, small = _pair(v, "tile"), _pair(v, "small")
    if Flag.POOL in flags and any(size % 2 for size in (*tile, *small)):
        raise ProgramStop(ErrorCode.ILLEGAL_FLAGS)
    positive = (
        "kernel_rows", "kernel_cols", "stride_rows", "stride_cols", "big_rows", "big_cols",
        "small_rows", "small_cols", "images", "tile_images", "tile_rows", "tile_cols",
        "out_blocks", "tile_out_blocks", "in_blocks",
    )
    if not all(v[name] for name in positive):
        raise ProgramStop(ErrorCode.ZERO_DIMENSION)
    grid = _pair(v, "big" if opcode is Opcode.CONV_BP else "small")
    oversized = (
        max(_pair(v, "kernel")) > MAX_KERNEL or max(_pair(v, "stride")) > MAX_STRIDE
        or any(q >= k for q, k in zip(_pair(v, "pad"), _pair(v, "kernel"), strict=True))
        or any(t > g for t, g in zip(tile, grid, strict=True))
        or v["tile_images"] > v["images"] or v["tile_out_blocks"] > v["out_blocks"]
    )
    oversized |= any(
        (small - 1) * s >= big + q
        for small, s, big, q in zip(
            *(_pair(v, name) for name in ("small", "stride", "big", "pad")), strict=True
        )
    )
    oversized |= opcode is Opcode.PASS and (v["in_blocks"], v["tile_out_blocks"]) != (1, 1)
    if oversized:
        raise ProgramStop(ErrorCode.OVERSIZED_DIMENSION)
    taps = v["kernel_rows"] * v["kernel_cols"]
    if opcode is Opcode.CONV_WU:
        sums = v["tile_out_blocks"] * (taps + (Flag.BIAS in flags)) * config.group
        if sums > config.accumulator_depth:
            raise ProgramStop(ErrorCode.TILE_OVERFLOW)


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
        self.device, self.config, self.group = device, device.config, device.config.group
        self.opcode, self.flags, self.v = opcode, flags, v
        self.rows, self.cols = _Spans(v, "rows"), _Spans(v, "cols")
        self.taps = [
            (r, c) for r in range(v["kernel_rows"]) for c in range(v["kernel_cols"])
        ]

    def run(self):
        v, wu = self.v, self.opcode is Opcode.CONV_WU
        grid = _pair(v, "big" if self.opcode is Opcode.CONV_BP else "small")
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

    def fits(self, vectors, limit):
        if vectors > limit:
            raise ProgramStop(ErrorCode.TILE_OVERFLOW)

    def where(self, port, block, images, rows, cols):
        """Word indices [images, rows, cols, T] of a region of one block of a port's tensor."""
        v = self.v
        units = {"stream": ErrorUnit.STREAM, "stationary": ErrorUnit.STATIONARY,
                 "output": ErrorUnit.WRITE, "side": ErrorUnit.SIDE}
        shape = tuple(high - low for low, high in (images, rows, cols))
        if 0 in shape:
            return np.zeros((*shape, self.group), np.int64)
        addresses = (
            v[f"{port}_base"] + block * v[f"{port}_block_stride"]
            + np.arange(*images)[:, None, None, None] * v[f"{port}_image_stride"]
            + np.arange(*rows)[:, None, None] * v[f"{port}_row_stride"]
            + np.arange(*cols)[:, None] * 4 * self.group + 4 * np.arange(self.group)
        )
        return self.device.index(addresses, units[port])

    def read(self, *region):
        return self.device.words[self.where(*region)]

    def block(self, base, unit):
        group = self.group
        offsets = 4 * np.arange(group * group).reshape(group, group)
        return self.device.index(base + offsets, unit)

    def pixel_tile(self, obs, images, rows, cols):
        """FP, BP, PASS: the reduction of one tile and its drain."""
        v, backward = self.v, self.opcode is Opcode.CONV_BP
        if backward:
            touched = self.rows.small_of(*rows), self.cols.small_of(*cols)
        else:
            touched = self.rows.big_of(*rows), self.cols.big_of(*cols)
        shape = tuple(high - low for low, high in (images, rows, cols))
        extent = [high - low for low, high in touched]
        self.fits(shape[0] * extent[0] * extent[1], self.config.stream_depth)
        self.fits(len(obs) * shape[0] * shape[1] * shape[2], self.config.accumulator_depth)
        sums = np.zeros((len(obs), *shape, self.group), np.float32)
        for rb in range(1 if self.opcode is Opcode.PASS else v["in_blocks"]):
            source = obs[0] if self.opcode is Opcode.PASS else rb
            x = self.read("stream", source, images, *touched)
            for tap, (kr, kc) in enumerate(self.taps):
                small = touched if backward else (rows, cols)
                big = (rows, cols) if backward else touched
                pr, ir = self.rows.meet(kr, small[0], big[0])
                pc, ic = self.cols.meet(kc, small[1], big[1])
                from_, to = ((pr, pc), (ir, ic)) if backward else ((ir, ic), (pr, pc))
                gathered = x[:, from_[0][:, None], from_[1][None, :]]
                for position, ob in enumerate(obs):
                    sums[position][:, to[0][:, None], to[1][None, :]] += (
                        gathered @ self.weight(ob, rb, tap)
                    )
        for position, ob in enumerate(obs):
            self.drain(sums[position], ob, images, rows, cols)

    def weight(self, ob, rb, tap):
        """The T x T factor of one tap, [reduction channel, result channel]."""
        v, group = self.v, self.group
        if self.opcode is Opcode.PASS:
            return np.float32(v["scale"]) * np.eye(group, dtype=np.float32)
        base = (
            v["stationary_base"] + ob * v["stationary_image_stride"]
            + rb * v["stationary_block_stride"] + tap * 4 * group * group
        )
        stored = self.device.words[self.block(base, ErrorUnit.STATIONARY)]  # [m, n]
        return stored if self.opcode is Opcode.CONV_BP else stored.T

    def drain(self, result, ob, images, rows, cols):
        v, flags, device = self.v, self.flags, self.device
        if Flag.BIAS in flags:
            base = v["bias_base"] + ob * 4 * self.group
            bias = device.words[device.index(base + 4 * np.arange(self.group), ErrorUnit.SIDE)]
            result = result + bias
        if Flag.UNPOOL in flags:
            rows, cols = tuple(2 * r for r in rows), tuple(2 * c for c in cols)
            side = self.read("side", ob, images, rows, cols)
            result = _unpool(result, side)
        if Flag.SIDE_ADD in flags:
            result = result + self.read("side", ob, images, rows, cols)
        if Flag.SIDE_MASK in flags:
            result = np.where(self.read("side", ob, images, rows, cols) > 0, result, 0)
        if Flag.RELU in flags:
            result = np.maximum(result, 0)
        if Flag.POOL in flags:
            rows, cols = tuple(r // 2 for r in rows), tuple(c // 2 for c in cols)
            n, r, c, lanes = result.shape
            result = result.reshape(n, r // 2, 2, c // 2, 2, lanes).max(axis=(2, 4))
        device.words[self.where("output", ob, images, rows, cols)] = result

    def update_step(self, sums, obs, nb, images, rows, cols):
        """WU: add one tile to the sums ``(weights [ob, tap, m, n], bias [ob, m])``."""
        group = self.group
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
        x = self.read("stationary", nb, images, *big)
        for position, ob in enumerate(obs):
            dy = self.read("stream", ob, images, rows, cols)
            if nb == 0:
                sums[1][position] += dy.sum(axis=(0, 1, 2))
            for tap, (kr, kc) in enumerate(self.taps):
                pr, ir = self.rows.meet(kr, rows, big[0])
                pc, ic = self.cols.meet(kc, cols, big[1])
                left = dy[:, pr[:, None], pc[None, :]].reshape(-1, group)
                right = x[:, ir[:, None], ic[None, :]].reshape(-1, group)
                sums[0][position, tap] += left.T @ right
        return sums

    def update_drain(self, sums, obs, nb):
        v, group = self.v, self.group
        for position, ob in enumerate(obs):
            offset = ob * v["output_block_stride"] + nb * v["output_image_stride"]
            for tap in range(len(self.taps)):
                here = offset + tap * 4 * group * group
                self.apply(
                    sums[0][position, tap], self.block(v["output_base"] + here, ErrorUnit.WRITE),
                    lambda h=here: self.block(v["side_base"] + h, ErrorUnit.SIDE),
                )
            if nb == 0 and Flag.BIAS in self.flags:
                here = ob * 4 * group + 4 * np.arange(group)
                self.apply(
                    sums[1][position], self.device.index(v["bias_base"] + here, ErrorUnit.WRITE),
                    lambda h=here: self.device.index(
                        v["bias_momentum_base"] + h, ErrorUnit.SIDE
                    ),
                )

    def apply(self, gradient, where, momentum_where):
        """Write the gradient, or apply the optimiser in place."""
        words, v = self.device.words, self.v
        if Flag.UPDATE not in self.flags:
            words[where] = gradient
            return
        rate, decay, factor = (
            np.float32(v[name]) for name in ("learning_rate", "weight_decay", "momentum")
        )
        velocity = gradient + decay * words[where]
        if Flag.MOMENTUM in self.flags:
            velocity = factor * words[momentum_where()] + velocity
            words[momentum_where()] = velocity
        words[where] = words[where] - rate * velocity


def _unpool(result, side):
    """Each value to the first maximum of its 2x2 window of ``side``, zeros elsewhere."""
    n, rows, cols, lanes = result.shape
    windows = side.reshape(n, rows, 2, cols, 2, lanes).transpose(0, 1, 3, 5, 2, 4)
    first = windows.reshape(n, rows, cols, lanes, 4).argmax(axis=-1)
    spread = np.where(np.arange(4) == first[..., None], result[..., None], 0)
    spread = spread.reshape(n, rows, cols, lanes, 2, 2).transpose(0, 1, 4, 2, 5, 3)
    return spread.reshape(n, 2 * rows, 2 * cols, lanes)
