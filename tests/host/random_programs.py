"""Random legal programs on integers, and the comparison of the memory they leave behind.

They reach what no network asks for: combinations of flags that the planner does not use, tiles of
every shape, short descriptors that overlap, results that the next descriptor reads at once.
"""

import random
from dataclasses import dataclass, field

import numpy as np
from drain_interpreter import record_bytes
from interpreter_checks import BLOCK_BY_BLOCK, ON_BIG_GRID, PASSES, SUMMING
from isa_interpreter import InterpretedDevice
from overlapped_program import AHEAD, with_flag, without_hazards

from eftrain.driver import DeviceProgramError, Driver
from eftrain_hdl import isa
from eftrain_hdl.isa import COEFFICIENT_VECTORS, PARAMETER_VECTORS, Flag, Opcode

EXACT = 2.0**24
"""Sums of integers below this are exact in fp32."""

_SETS = {
    # Flags of which a random part is taken; what excludes or needs another is mended afterwards.
    opcode: [flag for flag in isa.LEGAL_FLAGS[opcode] if flag not in AHEAD]
    for opcode in (*PASSES, Opcode.NORM)
}
_READS = ("stream", "companion", "side", "norm", "auxiliary", "stationary")
"""Ports that may read the result of an earlier descriptor."""


class Places:
    """Offsets in memory of the regions that programs use, for one channel group.

    Each region that is written has a part of ``part`` bytes for each descriptor.
    """

    READ = (*_READS, "records", "bias_vectors")
    WRITTEN = (
        "output", "second", "velocity", "bias", "bias_velocity", "statistics", "parameters",
        "coefficients",
    )  # fmt: skip

    def __init__(self, group, descriptors):
        self.group, self.part = group, 0x4000 * group
        self.vector, self.block = 4 * group, 4 * group * group
        self.start = {}
        top = 0
        for name in self.READ:
            self.start[name] = top
            top += self.part
        for name in self.WRITTEN:
            self.start[name] = top
            top += self.part * descriptors
        self.program = top
        self.end = top + (descriptors + 3) * isa.DESCRIPTOR_BYTES

    def of(self, name, number=0):
        return self.start[name] + number * self.part


@dataclass
class RandomProgram:
    """Descriptors with absolute addresses, and what in memory is not compared bit by bit."""

    code: list
    records: list = field(default_factory=list)
    """(offset, blocks, pixels, whether of FP) of statistics: only their totals are determined."""
    floats: list = field(default_factory=list)
    """(offset, words) of what NORM writes: rounded."""

    def readable(self):
        return [isa.decode(descriptor) for descriptor in self.code]


def memory_image(seed, places):
    """Small integers everywhere, as bytes."""
    values = np.random.default_rng(seed).integers(-2, 3, places.program // 4)
    return values.astype("<f4").tobytes()


def make_program(rng, config, base, descriptors):
    """A random program of this many passes and NORMs, some of them in a loop.

    The AHEAD flags are random too, so hazards must be removed before it is run.
    """
    places = Places(config.group, descriptors)
    program = RandomProgram([])
    maker = _Maker(rng, config, places, program)
    for number in range(descriptors):
        opcode, flags, fields = maker.descriptor(number)
        fields = {k: v + base if k.endswith("_base") else v for k, v in fields.items()}
        code = isa.encode(opcode, flags, **fields)
        if opcode in PASSES:
            for flag in AHEAD:
                code = with_flag(code, flag, rng.random() < 0.7)
        program.code.append(code)
    if rng.random() < 0.3:
        begin = rng.randrange(descriptors)
        program.code.insert(begin, isa.encode(Opcode.LOOP, count=2))
        program.code.append(isa.encode(Opcode.NEXT))
    program.code.append(isa.encode(Opcode.END))
    return program


class _Maker:
    def __init__(self, rng, config, places, program):
        self.rng, self.config, self.places, self.program = rng, config, places, program
        self.results = []

    def flags(self, opcode):
        """A legal set."""
        rng = self.rng
        share = rng.choice((0.2, 0.5, 0.8))
        flags = {flag for flag in _SETS[opcode] if rng.random() < share}
        needs_norm_x = (Flag.X_PAIR, Flag.NORM_X) if opcode in PASSES else ()
        pairs = [*isa.EXCLUSIVE_FLAGS, (Flag.GRADIENT, Flag.X_PAIR)]
        if opcode is Opcode.PASS:
            pairs.append((Flag.POOL, Flag.STATISTICS))
        for pair in rng.sample(pairs, len(pairs)):
            if set(pair) <= flags:
                flags.remove(rng.choice(pair))
        if opcode is Opcode.NORM and Flag.GRADIENT not in flags:
            flags -= {Flag.UPDATE}
        # Twice, because one flag may need another that needs a third.
        for flag, other in [*isa.REQUIRED_FLAGS, *[needs_norm_x] * bool(needs_norm_x)] * 2:
            if flag in flags and other not in flags:
                flags.remove(flag)
        return flags

    def descriptor(self, number):
        opcode = self.rng.choice((*PASSES, *PASSES, Opcode.NORM))
        flags = self.flags(opcode)
        if opcode is Opcode.NORM:
            return opcode, flags, self.norm(flags, number)
        fields = self.geometry(opcode, flags)
        while fields is None:
            fields = self.geometry(opcode, flags)
        grids = {
            name: (fields[f"{name}_rows"], fields[f"{name}_cols"]) for name in ("big", "small")
        }
        if opcode is Opcode.CONV_WU:
            fields |= self.weight_gradient(fields, grids, number)
        else:
            fields |= self.pixels(opcode, flags, fields, grids, number)
        self.chain(fields)
        if Flag.UPDATE not in flags:
            self.results.append(self.places.of("output", number))
        if flags & {Flag.KEEP, Flag.TEE}:
            self.results.append(self.places.of("second", number))
        return opcode, flags, fields

    def geometry(self, opcode, flags):
        rng = self.rng
        kernel = [rng.choice((1, 1, 2, 3, 5)) for _ in range(2)]
        stride = [rng.randint(1, isa.MAX_STRIDE) for _ in range(2)]
        pad = [rng.randrange(k) for k in kernel]
        least = [max(k - 2 * q, 1) for k, q in zip(kernel, pad, strict=True)]
        big = [n + rng.choice((0, 1, 2, 3, 5)) for n in least]
        shape = zip(big, kernel, stride, pad, strict=True)
        small = [(n + 2 * q - k) // s + 1 for n, k, s, q in shape]
        if Flag.POOL in flags:
            if min(small) < 2:
                return None
            small = [n - n % 2 for n in small]
        tile = [rng.randint(1, n) for n in (big if opcode in ON_BIG_GRID else small)]
        if Flag.POOL in flags:
            tile = [n + n % 2 for n in tile]
        images, out_blocks = rng.randint(1, 3), rng.randint(1, 3)
        by_block = opcode in BLOCK_BY_BLOCK
        fields = {
            "images": images, "tile_images": rng.randint(1, images), "out_blocks": out_blocks,
            "tile_out_blocks": 1 if by_block else rng.randint(1, out_blocks),
            "in_blocks": 1 if by_block else rng.randint(1, 3),
            "scale": rng.choice((1.0, 2.0, -1.0)) if by_block else 0.0,
        }  # fmt: skip
        for name, (rows, cols) in {
            "kernel": kernel, "stride": stride, "pad": pad, "big": big, "small": small,
            "tile": tile,
        }.items():  # fmt: skip
            fields |= {f"{name}_rows": rows, f"{name}_cols": cols}
        return fields

    def box(self, port, size, blocks):
        """Strides of a dense map."""
        row = size[1] * self.places.vector
        strides = {"row": row, "block": size[0] * row, "image": blocks * size[0] * row}
        return {f"{port}_{name}_stride": value for name, value in strides.items()}

    def weight_gradient(self, fields, grids, number):
        at, rng = self.places.of, self.rng
        taps = fields["kernel_rows"] * fields["kernel_cols"]
        return {
            **self.box("stream", grids["small"], fields["out_blocks"]),
            **self.box("stationary", grids["big"], fields["in_blocks"]),
            "stream_base": at("stream"), "stationary_base": at("stationary"),
            "stream_coefficients_base": at("records"), "companion_base": at("companion"),
            "stationary_coefficients_base": at("records") + 32 * self.places.vector,
            "output_base": at("output", number),
            "output_image_stride": taps * self.places.block,
            "output_block_stride": fields["in_blocks"] * taps * self.places.block,
            "side_base": at("velocity", number), "bias_base": at("bias", number),
            "bias_momentum_base": at("bias_velocity", number),
            "learning_rate": rng.choice((1.0, -1.0)), "momentum": rng.choice((1.0, -1.0, 2.0)),
            "weight_decay": rng.choice((0.0, 1.0)),
        }  # fmt: skip

    def pixels(self, opcode, flags, fields, grids, number):
        at, backward = self.places.of, opcode in ON_BIG_GRID
        out_blocks, in_blocks = fields["out_blocks"], fields["in_blocks"]
        grid = grids["big" if backward else "small"]
        result = [
            2 * n if Flag.UNPOOL in flags else n // 2 if Flag.POOL in flags else n for n in grid
        ]
        stream_blocks = out_blocks if opcode in BLOCK_BY_BLOCK else in_blocks
        weights = fields["kernel_rows"] * fields["kernel_cols"] * self.places.block
        vectors = 1 if opcode is Opcode.CONV_FP else COEFFICIENT_VECTORS
        if flags & SUMMING:
            pixels = fields["images"] * grid[0] * grid[1]
            is_fp = opcode is Opcode.CONV_FP
            self.program.records.append((at("statistics", number), out_blocks, pixels, is_fp))
        return {
            **self.box("stream", grids["small" if backward else "big"], stream_blocks),
            **self.box("output", result, out_blocks), **self.box("side", grid, out_blocks),
            **self.box("auxiliary", result if Flag.UNPOOL in flags else grid, out_blocks),
            **self.box("second", grid, out_blocks),
            "stream_base": at("stream"), "companion_base": at("companion"),
            "stream_coefficients_base": at("records"), "stationary_base": at("stationary"),
            "stationary_image_stride": weights * (1 if backward else in_blocks),
            "stationary_block_stride": weights * (out_blocks if backward else 1),
            "output_base": at("output", number), "second_base": at("second", number),
            "side_base": at("side"), "norm_base": at("norm"), "auxiliary_base": at("auxiliary"),
            "bias_base": at("bias_vectors"),
            "bias_block_stride": (vectors + self.rng.randrange(3)) * self.places.vector,
            "statistics_base": at("statistics", number),
        }  # fmt: skip

    def chain(self, fields):
        """Let some ports read an earlier result."""
        for port in _READS:
            if f"{port}_base" in fields and self.results and self.rng.random() < 0.25:
                if port == "side" and "bias_momentum_base" in fields:
                    continue  # The velocity, which is written as well.
                fields[f"{port}_base"] = self.rng.choice(self.results)

    def norm(self, flags, number):
        at, rng = self.places.of, self.rng
        blocks, pixels, statistics = rng.randint(1, 3), 16, at("norm")
        fitting = [
            (offset, count)
            for offset, has, count, is_fp in self.program.records
            if has >= blocks and is_fp == (Flag.GRADIENT not in flags)
        ]
        if fitting:
            statistics, pixels = rng.choice(fitting)
        elif Flag.GRADIENT not in flags:
            # Sums that are none of a map may have a variance that cancels.
            flags.add(Flag.FROZEN)
        for name, vectors in (
            ("parameters", PARAMETER_VECTORS), ("coefficients", COEFFICIENT_VECTORS),
        ):  # fmt: skip
            words = blocks * vectors * self.places.group
            self.program.floats.append((at(name, number), words))
        return {
            "out_blocks": blocks, "statistics_base": statistics, "pair_base": at("records"),
            "parameters_base": at("parameters", number),
            "coefficients_base": at("coefficients", number), "scale": 1 / pixels,
            "unbias": pixels / max(pixels - 1, 1), "epsilon": 4.0,
            "statistics_momentum": 0.25, "learning_rate": 0.5, "momentum": 0.5,
            "weight_decay": 0.5,
        }  # fmt: skip


def assert_same(found, expected, program, config, tolerance=1e-5):
    """Both memories hold the same numbers; partial sums are added, what NORM wrote is rounded."""
    found, expected = (np.frombuffer(data, "<f4").copy() for data in (found, expected))
    size = record_bytes(config) // 4
    for offset, blocks, _, _ in program.records:
        for data in (found, expected):
            records = data[offset // 4 : offset // 4 + blocks * size].reshape(blocks, size)
            sums = records[:, config.group :].reshape(blocks, 2, -1, config.group)
            totals = sums.sum(axis=2, dtype=np.float64)
            sums[:] = 0
            sums[:, :, 0] = totals
    for offset, words in program.floats:
        both = [data[offset // 4 : offset // 4 + words] for data in (found, expected)]
        scale = np.abs(both[1]).max()
        assert np.abs(both[0] - both[1]).max() <= tolerance * scale, program.readable()
        both[0][:] = both[1]
    wrong = np.flatnonzero(found != expected)
    assert not wrong.size, f"byte {4 * wrong[0]:#x}: {program.readable()}"


def outcome(device, places, code, memory):
    """What a program leaves in memory, or the error that stopped it."""
    base = device.memory_base
    device.write_memory(base, memory)
    device.write_memory(base + places.program, b"".join(code))
    try:
        Driver(device).run(base + places.program, len(code), (base, base + places.end))
    except DeviceProgramError as error:
        return error.code, error.unit, error.descriptor
    return device.read_memory(base, places.program)


def prepared(config, base, seed, count, descriptors=4):
    """``count`` programs without hazards, whose sums are exact.

    Yields ``(program, places, memory, outcome on the interpreter)``.
    """
    rng = random.Random(seed)
    places = Places(config.group, descriptors)
    oracle = InterpretedDevice(config, base, places.end)
    for _ in range(count):
        oracle.largest = np.inf
        while not oracle.largest < EXACT:
            memory = memory_image(rng.randrange(1 << 30), places)
            program = make_program(rng, config, base, descriptors)
            oracle.largest, oracle.memory.hazards = 0.0, []
            expected = outcome(oracle, places, program.code, memory)
        # In the order in which the oracle computes, these flags make no difference.
        program.code = without_hazards(program.code, oracle.memory.hazards)
        yield program, places, memory, expected
