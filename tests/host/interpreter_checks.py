"""What the device refuses before a descriptor starts, in the order in which it reports it."""

from interpreter_memory import ProgramStop

from eftrain_hdl import isa
from eftrain_hdl.isa import ErrorCode, Flag, Opcode

PASSES = (Opcode.CONV_FP, Opcode.CONV_BP, Opcode.CONV_WU, Opcode.PASS, Opcode.PASS_BP)
ON_BIG_GRID = (Opcode.CONV_BP, Opcode.PASS_BP)
BLOCK_BY_BLOCK = (Opcode.PASS, Opcode.PASS_BP)
SUMMING = {Flag.STATISTICS, Flag.SUMS}
"""Flags that write a record for each block."""


def pair(values, name):
    """The (rows, columns) of a field."""
    return values[f"{name}_rows"], values[f"{name}_cols"]


def check(config, opcode, flags, v):
    """Stop on an illegal descriptor; ``v`` holds its fields, bases with pointers added."""
    _flags(opcode, flags, v)
    if opcode in PASSES:
        _pass_sizes(config, opcode, flags, v)
    elif not all(v.get(name, 1) for name in ("images", "classes", "out_blocks", "count")):
        raise ProgramStop(ErrorCode.ZERO_DIMENSION)
    elif v.get("classes", 0) > config.max_classes:
        raise ProgramStop(ErrorCode.OVERSIZED_DIMENSION)
    for name, value in v.items():
        if name.endswith(("_base", "_stride")) and value % isa.ALIGNMENT:
            raise ProgramStop(ErrorCode.MISALIGNED_ADDRESS)
    if opcode is Opcode.CONV_WU:
        taps = v["kernel_rows"] * v["kernel_cols"] + (Flag.BIAS in flags)
        if v["tile_out_blocks"] * taps * config.group > config.accumulator_depth:
            raise ProgramStop(ErrorCode.TILE_OVERFLOW)


def _flags(opcode, flags, v):
    legal = flags <= set(isa.LEGAL_FLAGS[opcode])
    exclusive = (*isa.EXCLUSIVE_FLAGS, *isa.EXCLUSIVE_FLAGS_OF.get(opcode, ()))
    required = (*isa.REQUIRED_FLAGS, *isa.REQUIRED_FLAGS_OF.get(opcode, ()))
    legal &= not any(set(both) <= flags for both in exclusive)
    legal &= not any(flag in flags and other not in flags for flag, other in required)
    if opcode in PASSES and Flag.POOL in flags:
        legal &= not any(size % 2 for size in (*pair(v, "tile"), *pair(v, "small")))
    if not legal:
        raise ProgramStop(ErrorCode.ILLEGAL_FLAGS)


def _pass_sizes(config, opcode, flags, v):
    positive = [
        f"{name}_{axis}"
        for name in ("kernel", "stride", "big", "small", "tile")
        for axis in ("rows", "cols")
    ]
    positive += ["images", "tile_images", "out_blocks", "tile_out_blocks", "in_blocks"]
    if not all(v[name] for name in positive):
        raise ProgramStop(ErrorCode.ZERO_DIMENSION)
    kernel, stride, pad = (pair(v, name) for name in ("kernel", "stride", "pad"))
    big, small, tile = (pair(v, name) for name in ("big", "small", "tile"))
    grid = big if opcode in ON_BIG_GRID else small
    oversized = (
        max(kernel) > isa.MAX_KERNEL
        or max(stride) > isa.MAX_STRIDE
        or any(q >= k for q, k in zip(pad, kernel, strict=True))
        or any(t > g for t, g in zip(tile, grid, strict=True))
        or v["tile_images"] > v["images"]
        or v["tile_out_blocks"] > v["out_blocks"]
        # The last small pixel's window starts past the last big pixel.
        or any((p - 1) * s >= i + q for p, s, i, q in zip(small, stride, big, pad, strict=True))
        or (opcode in BLOCK_BY_BLOCK and (v["in_blocks"], v["tile_out_blocks"]) != (1, 1))
        or (flags & SUMMING and v["tile_out_blocks"] > isa.MAX_STATISTICS_BLOCKS)
    )
    if oversized:
        raise ProgramStop(ErrorCode.OVERSIZED_DIMENSION)
