"""Random programs on the simulated core and on the interpreter: the same bits in all of memory.

Operands are small integers, so that both are exact. This reaches what no network asks for yet:
flags that the planner does not use, tiles of every shape, short descriptors close together.
"""

import random

import numpy as np
import pytest
from isa_interpreter import InterpretedDevice

from eftrain.driver import DeviceProgramError, Driver
from eftrain_hdl import isa
from eftrain_hdl.isa import Flag, Opcode

SEED = 20220424
DESCRIPTORS = 3

R, B, A, M = Flag.RELU, Flag.BIAS, Flag.SIDE_ADD, Flag.SIDE_MASK
P, U, W, V = Flag.POOL, Flag.UNPOOL, Flag.UPDATE, Flag.MOMENTUM
FLAGS = {
    Opcode.PASS: [(), (R,), (M,), (A,), (A, R), (M, R), (P,), (P, R), (U,), (U, M)],
    Opcode.CONV_FP: [(), (R, B), (A,), (A, R, B), (P, R, B)],
    Opcode.CONV_BP: [(), (A,), (M,), (U,), (U, M)],
    Opcode.CONV_WU: [(), (B,), (B, W), (B, W, V), (B, V), (W, V)],
}


class Map:
    """Offsets in memory of the regions that programs use, and sizes, for one channel group."""

    def __init__(self, group):
        region = 0x10000 * group
        (
            self.stream, self.stationary, self.side, self.output, self.bias, self.bias_momentum,
            self.program,
        ) = range(0, 7 * region, region)  # fmt: skip
        self.own = region // 4
        """Bytes of each region that one descriptor writes."""
        self.vector, self.block = 4 * group, 4 * group * group


def descriptor(rng, places, base, place):
    """One random layer pass that writes only the part of each region that begins at ``place``."""
    opcode = rng.choice(list(FLAGS))
    flags = rng.choice(FLAGS[opcode])
    kernel = [rng.choice((1, 1, 2, 3, 5)) for _ in range(2)]
    stride = [rng.randint(1, isa.MAX_STRIDE) for _ in range(2)]
    pad = [rng.randrange(k) for k in kernel]
    least = [max(k - 2 * q, 1) for k, q in zip(kernel, pad, strict=True)]
    big = [n + rng.choice((0, 1, 2, 3, 5)) for n in least]
    shape = zip(big, kernel, stride, pad, strict=True)
    small = [(n + 2 * q - k) // s + 1 for n, k, s, q in shape]
    if P in flags:
        if min(small) < 2:
            return descriptor(rng, places, base, place)
        small = [n - n % 2 for n in small]
    grid = big if opcode is Opcode.CONV_BP else small
    tile = [rng.randint(1, n) for n in grid]
    if P in flags:
        tile = [n + n % 2 for n in tile]
    images, out_blocks = rng.randint(1, 3), rng.randint(1, 3)
    in_blocks = 1 if opcode is Opcode.PASS else rng.randint(1, 3)
    taps = kernel[0] * kernel[1]

    fields = {
        "images": images, "tile_images": rng.randint(1, images), "out_blocks": out_blocks,
        "tile_out_blocks": 1 if opcode is Opcode.PASS else rng.randint(1, out_blocks),
        "in_blocks": in_blocks, "stationary_base": places.stationary,
        "output_base": places.output + place,
        "scale": rng.choice((1.0, 0.5)) if opcode is Opcode.PASS else 0.0,
    }  # fmt: skip
    for name, pair in (
        ("kernel", kernel), ("stride", stride), ("pad", pad), ("big", big), ("small", small),
        ("tile", tile),
    ):  # fmt: skip
        fields |= {f"{name}_rows": pair[0], f"{name}_cols": pair[1]}

    def box(port, start, size, blocks):
        row = size[1] * places.vector
        strides = {"row": row, "block": size[0] * row, "image": blocks * size[0] * row}
        fields[f"{port}_base"] = start
        fields.update({f"{port}_{name}_stride": value for name, value in strides.items()})

    if opcode is Opcode.CONV_WU:
        box("stream", places.stream, small, out_blocks)
        box("stationary", places.stationary, big, in_blocks)
        fields |= {
            "output_image_stride": taps * places.block,
            "output_block_stride": in_blocks * taps * places.block,
            "side_base": places.side + place, "bias_base": places.bias + place,
            "bias_momentum_base": places.bias_momentum + place,
            "learning_rate": 0.5, "momentum": 0.5, "weight_decay": rng.choice((0.0, 0.5)),
        }  # fmt: skip
    else:
        is_bp = opcode is Opcode.CONV_BP
        blocks = out_blocks if opcode is Opcode.PASS else in_blocks
        box("stream", places.stream, small if is_bp else big, blocks)
        result = [2 * n if U in flags else n // 2 if P in flags else n for n in grid]
        box("output", places.output + place, result, out_blocks)
        box("side", places.side, result, out_blocks)
        fields["bias_base"] = places.bias
        fields |= {
            "stationary_image_stride": taps * places.block * (1 if is_bp else in_blocks),
            "stationary_block_stride": taps * places.block * (out_blocks if is_bp else 1),
        }
    fields = {k: v + base if k.endswith("_base") else v for k, v in fields.items()}
    return isa.encode(opcode, flags, **fields)


def outcome(device, places, program, memory):
    """What the program leaves in memory, or the error that stopped it."""
    base = device.memory_base
    device.write_memory(base, memory)
    device.write_memory(base + places.program, program)
    try:
        length = len(program) // isa.DESCRIPTOR_BYTES
        Driver(device).run(base + places.program, length, (base, base + len(memory)))
    except DeviceProgramError as error:
        return error.code, error.unit, error.descriptor
    return device.read_memory(base, places.program)


def check_programs(device, programs, stalls):
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    values = np.random.default_rng(SEED)
    base, config = device.memory_base, Driver(device).config
    oracle = InterpretedDevice(config, memory_base=base)
    places = Map(config.group)
    device.set_stalls(SEED, stalls)
    for number in range(programs):
        parts = [descriptor(rng, places, base, places.own * k) for k in range(DESCRIPTORS)]
        program = b"".join([*parts, isa.encode(Opcode.END)])
        memory = values.integers(-3, 4, places.program // 2).astype("<f4").tobytes()
        found, expected = (outcome(d, places, program, memory) for d in (device, oracle))
        if isinstance(found, bytes) and isinstance(expected, bytes):
            # As numbers: the interpreter does not know the sign of a zero sum.
            found, expected = (np.frombuffer(data, "<f4") for data in (found, expected))
            wrong = np.flatnonzero(found != expected)
            assert not wrong.size, f"program {number}, byte {4 * wrong[0]:#x}: {readable(parts)}"
        else:
            assert found == expected, f"program {number}: {readable(parts)}"


def readable(descriptors):
    return [isa.decode(blob) for blob in descriptors]


@pytest.mark.parametrize("stalls", [0.0, 0.7])
def test_random_programs(fresh_device, stalls):
    check_programs(fresh_device, 150, stalls)


@pytest.mark.parametrize("stalls", [0.0, 0.7])
def test_random_programs_of_the_default_core(default_device, stalls):
    try:
        check_programs(default_device, 100, stalls)
    finally:
        default_device.set_stalls(SEED, 0.0)
