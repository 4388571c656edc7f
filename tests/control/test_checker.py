"""Descriptor checks: every rule with the smallest bad descriptor, and random ones."""

import random

import pytest
from amaranth.sim import Simulator
from control_bench import GOOD, good

from eftrain_hdl import isa
from eftrain_hdl.control import DescriptorChecker
from eftrain_hdl.isa import ErrorCode, Flag, Opcode

MAX_CLASSES = 1024
FP, BP, WU, PASS, PASS_BP, LOSS, NORM = (
    Opcode.CONV_FP,
    Opcode.CONV_BP,
    Opcode.CONV_WU,
    Opcode.PASS,
    Opcode.PASS_BP,
    Opcode.LOSS,
    Opcode.NORM,
)
GRIDDED = (FP, BP, WU, PASS, PASS_BP)
BIG = (BP, PASS_BP)
ONE_BLOCK = (PASS, PASS_BP)


def needed(op, flag):
    """The flags that ``flag`` needs beside it."""
    chain = [b for a, b in isa.REQUIRED_FLAGS if a == flag]
    chain += [Flag.NORM_X] * (flag == Flag.X_PAIR and op != NORM)
    return (flag, *chain)


def verdicts(blobs, **options):
    """What the checker says of each descriptor."""
    dut = DescriptorChecker(max_classes=MAX_CLASSES, **options)
    codes = []

    async def testbench(ctx):
        for blob in blobs:
            ctx.set(dut.descriptor.as_value(), int.from_bytes(blob, "little"))
            await ctx.tick().repeat(dut.latency)
            codes.append(ErrorCode(ctx.get(dut.code)))

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()
    return codes


def model(blob):
    """The rules, written a second time."""
    try:
        opcode, _, v = isa.decode(blob)
    except ValueError:
        return ErrorCode.UNKNOWN_OPCODE
    bits = int.from_bytes(blob[1:4], "little")
    flags = {flag for flag in Flag if bits >> flag & 1}
    legal = set(isa.LEGAL_FLAGS[opcode])
    if bits >> len(Flag) or flags - legal:
        return ErrorCode.ILLEGAL_FLAGS
    if any(a in flags and b in flags for a, b in isa.EXCLUSIVE_FLAGS):
        return ErrorCode.ILLEGAL_FLAGS
    if opcode == PASS and {Flag.POOL, Flag.STATISTICS} <= flags:
        return ErrorCode.ILLEGAL_FLAGS
    if any(flag in flags and not set(needed(opcode, flag)) <= flags for flag in Flag):
        return ErrorCode.ILLEGAL_FLAGS
    if opcode == Opcode.LOOP:
        return ErrorCode.NONE if v["count"] else ErrorCode.ZERO_DIMENSION
    if opcode in (Opcode.NEXT, Opcode.END):
        return ErrorCode.NONE
    if opcode == LOSS:
        if 0 in (v["images"], v["classes"]):
            return ErrorCode.ZERO_DIMENSION
        if v["classes"] > MAX_CLASSES:
            return ErrorCode.OVERSIZED_DIMENSION
        used = [v["stream_base"], v["side_base"], v["bias_base"]]
        used += [v["output_base"]] * (Flag.GRADIENT in flags)
        return ErrorCode.MISALIGNED_ADDRESS if any(a % 16 for a in used) else ErrorCode.NONE
    if opcode == NORM:
        if not v["out_blocks"]:
            return ErrorCode.ZERO_DIMENSION
        used = [v["parameters_base"], v["coefficients_base"]]
        used += [v["statistics_base"]] * (Flag.FROZEN not in flags)
        used += [v["pair_base"]] * (Flag.X_PAIR in flags)
        return ErrorCode.MISALIGNED_ADDRESS if any(a % 16 for a in used) else ErrorCode.NONE

    axes = ("rows", "cols")
    if Flag.POOL in flags and any(v[f"{g}_{a}"] % 2 for g in ("tile", "small") for a in axes):
        return ErrorCode.ILLEGAL_FLAGS
    grids = ("kernel", "stride", "big", "small", "tile")
    sizes = [v[f"{what}_{a}"] for what in grids for a in axes]
    sizes += [v[n] for n in ("images", "tile_images", "out_blocks", "tile_out_blocks", "in_blocks")]
    if 0 in sizes:
        return ErrorCode.ZERO_DIMENSION
    grid = "big" if opcode in BIG else "small"
    for a in axes:
        if (
            v[f"kernel_{a}"] > 11
            or v[f"stride_{a}"] > 4
            or v[f"pad_{a}"] >= v[f"kernel_{a}"]
            or v[f"tile_{a}"] > v[f"{grid}_{a}"]
            or (v[f"small_{a}"] - 1) * v[f"stride_{a}"] > v[f"big_{a}"] - 1 + v[f"pad_{a}"]
        ):
            return ErrorCode.OVERSIZED_DIMENSION
    if v["tile_images"] > v["images"] or v["tile_out_blocks"] > v["out_blocks"]:
        return ErrorCode.OVERSIZED_DIMENSION
    if opcode in ONE_BLOCK and (v["tile_out_blocks"], v["in_blocks"]) != (1, 1):
        return ErrorCode.OVERSIZED_DIMENSION
    statistics = Flag.STATISTICS in flags
    records = flags & {Flag.STATISTICS, Flag.SUMS}
    if records and v["tile_out_blocks"] > 16:
        return ErrorCode.OVERSIZED_DIMENSION

    parts = ("base", "image_stride", "block_stride", "row_stride")
    used = [f"stream_{p}" for p in parts] + [f"output_{p}" for p in parts]
    if opcode not in ONE_BLOCK:
        used += [f"stationary_{p}" for p in parts]
    if opcode in (FP, BP):
        used.remove("stationary_row_stride")
    if opcode == WU:
        used.remove("output_row_stride")
        used += ["side_base", "bias_momentum_base"] * (Flag.MOMENTUM in flags)
        used += ["stationary_coefficients_base"] * (Flag.NORM_X in flags)
        used += ["bias_base"] * (Flag.BIAS in flags)
    else:
        gradient = statistics and opcode != FP
        used += ["side_base"] * (Flag.SIDE_MASK in flags)
        if Flag.SIDE_MASK in flags or gradient:
            used += [f"side_{p}" for p in parts[1:]]
        if flags & {Flag.ADD, Flag.UNPOOL}:
            used += [f"auxiliary_{p}" for p in parts]
        if Flag.BIAS in flags or (statistics and (gradient or Flag.POOL in flags)):
            used += ["bias_base", "bias_block_stride"]
        used += ["statistics_base"] * bool(records) + ["norm_base"] * gradient
        used += ["stream_coefficients_base"] * (Flag.NORM_X in flags)
        used += ["companion_base"] * (Flag.X_PAIR in flags) + ["second_base"] * (Flag.TEE in flags)
        used += [f"second_{p}" for p in parts] * (Flag.KEEP in flags)
    used += ["stream_coefficients_base", "companion_base"] * (Flag.NORM_DY in flags)
    return ErrorCode.MISALIGNED_ADDRESS if any(v[n] % 16 for n in used) else ErrorCode.NONE


def cases():
    """``(expected code, descriptor)``: for each rule, just inside and just outside."""
    none, flagged = ErrorCode.NONE, ErrorCode.ILLEGAL_FLAGS
    zero, large, odd = (
        ErrorCode.ZERO_DIMENSION,
        ErrorCode.OVERSIZED_DIMENSION,
        ErrorCode.MISALIGNED_ADDRESS,
    )
    for op in Opcode:
        yield none, good(op)
        for flag in range(24):
            legal = flag in isa.LEGAL_FLAGS[op] and needed(op, flag) == (flag,)
            blob = bytearray(good(op))
            blob[1 + flag // 8] |= 1 << flag % 8
            yield none if legal else flagged, bytes(blob)
        for pair in isa.EXCLUSIVE_FLAGS:
            yield flagged, good(op, pair)
        for flag in isa.LEGAL_FLAGS[op]:
            yield none, good(op, needed(op, flag))
    yield flagged, good(PASS, (Flag.POOL, Flag.STATISTICS))
    for opcode in set(range(256)) - set(Opcode):
        yield ErrorCode.UNKNOWN_OPCODE, bytes([opcode]) + good(FP)[1:]

    axes = ("rows", "cols")
    sizes = [f"{what}_{a}" for what in ("kernel", "stride", "big", "small", "tile") for a in axes]
    sizes += ["images", "tile_images", "out_blocks", "tile_out_blocks", "in_blocks"]
    for op in GRIDDED:
        for size in sizes:
            yield zero, good(op, **{size: 0})
        for a in axes:
            yield none, good(op, **{f"kernel_{a}": 11})
            yield large, good(op, **{f"kernel_{a}": 12})
            yield none, good(op, **{f"kernel_{a}": 3, f"pad_{a}": 2})
            yield large, good(op, **{f"kernel_{a}": 3, f"pad_{a}": 3})
            for stride in (1, 2, 3, 4):
                size = {
                    f"kernel_{a}": 3,
                    f"pad_{a}": 1,
                    f"stride_{a}": stride,
                    f"tile_{a}": 3,
                    f"small_{a}": 5,
                }
                yield none, good(op, **size, **{f"big_{a}": 4 * stride})
                yield large, good(op, **size, **{f"big_{a}": 4 * stride - 1})
            yield large, good(op, **{f"stride_{a}": 5, f"small_{a}": 1, f"tile_{a}": 1})
            grid = "big" if op in BIG else "small"
            yield none, good(op, **{f"{grid}_{a}": 7, f"tile_{a}": 7, f"small_{a}": 7})
            yield large, good(op, **{f"{grid}_{a}": 7, f"tile_{a}": 8, f"small_{a}": 7})
        yield large, good(op, tile_images=3)
        yield large, good(op, tile_out_blocks=3)
        yield (large if op in ONE_BLOCK else none), good(op, tile_out_blocks=2)
        yield (large if op in ONE_BLOCK else none), good(op, in_blocks=2)
    for op in (FP, BP):
        for flags in ((), (Flag.STATISTICS,), *[(Flag.SUMS,)] * (op == BP)):
            yield none, good(op, flags, out_blocks=20, tile_out_blocks=16)
            code = large if flags else none
            yield code, good(op, flags, out_blocks=20, tile_out_blocks=17)
    yield zero, good(NORM, out_blocks=0)
    yield zero, good(LOSS, images=0)
    yield zero, good(LOSS, classes=0)
    yield none, good(LOSS, classes=MAX_CLASSES)
    yield large, good(LOSS, classes=MAX_CLASSES + 1)
    yield zero, good(Opcode.LOOP, count=0)
    for op in (FP, PASS):
        for name in ("tile_rows", "tile_cols", "small_rows", "small_cols"):
            even = dict.fromkeys(("tile_rows", "tile_cols", "small_rows", "small_cols"), 6)
            yield none, good(op, (Flag.POOL,), **even)
            yield none, good(op, **{**even, name: 5 if "tile" in name else 7})
            yield flagged, good(op, (Flag.POOL,), **{**even, name: 5 if "tile" in name else 7})

    for op in (*GRIDDED, LOSS, NORM):
        for field in isa.DESCRIPTORS[op]:
            if field.name.endswith(("_base", "_stride")):
                for flags in [()] + [needed(op, flag) for flag in isa.LEGAL_FLAGS[op]]:
                    for offset in (1, 8, 16):
                        value = GOOD[op].get(field.name, 0) + offset
                        blob = good(op, flags, **{field.name: value})
                        yield model(blob), blob
    yield odd, good(FP, stream_base=8)
    yield odd, good(WU, (Flag.BIAS,), bias_base=4)
    yield none, good(WU, bias_base=4)
    yield odd, good(BP, (Flag.SUMS,), statistics_base=8)
    yield none, good(BP, (Flag.SUMS,), norm_base=8, bias_base=4, bias_block_stride=8)
    yield none, good(BP, (Flag.SUMS,), side_base=8, side_row_stride=4)
    yield odd, good(LOSS, (Flag.GRADIENT,), output_base=8)
    yield none, good(LOSS, output_base=8)


def test_rules():
    wanted, blobs = zip(*cases(), strict=True)
    for code, blob, verdict in zip(wanted, blobs, verdicts(blobs), strict=True):
        assert verdict == code, blob.hex()
        assert model(blob) == code, blob.hex()
    assert set(wanted) == {
        ErrorCode.NONE,
        ErrorCode.UNKNOWN_OPCODE,
        ErrorCode.ILLEGAL_FLAGS,
        ErrorCode.ZERO_DIMENSION,
        ErrorCode.OVERSIZED_DIMENSION,
        ErrorCode.MISALIGNED_ADDRESS,
    }


@pytest.mark.parametrize("seed", [1])
def test_random_descriptors(seed):
    """Random changes of good descriptors, agreeing with the rules written a second time."""
    rng = random.Random(seed)
    blobs = []
    for _ in range(1500):
        op = rng.choice((*GRIDDED, LOSS, NORM))
        flags = []
        for flag in isa.LEGAL_FLAGS[op]:
            if rng.random() < 0.2:
                # Alone now and then, which most of them may not be.
                flags += needed(op, flag) if rng.random() < 0.9 else (flag,)
        changes = {}
        for field in rng.sample(isa.DESCRIPTORS[op][2:], rng.randint(0, 3)):
            top = 0xFFFF if field.kind == "float" else field.mask
            value = rng.choice((0, 1, 2, 3, 4, 6, 8, 12, top, rng.randint(0, top)))
            changes[field.name] = min(value, field.mask)
        blobs.append(good(op, flags, **changes))
    codes = verdicts(blobs)
    for blob, code in zip(blobs, codes, strict=True):
        assert code == model(blob), blob.hex()
    assert codes.count(ErrorCode.NONE) > 100


def test_core_without_batch_norm():
    cases = [(ErrorCode.UNKNOWN_OPCODE, good(NORM))]
    for op in (*GRIDDED, LOSS):
        for flag in isa.LEGAL_FLAGS[op]:
            flags = needed(op, flag)
            refused = set(flags) & set(isa.BATCH_NORM_FLAGS)
            even = dict.fromkeys(("tile_rows", "tile_cols", "small_rows", "small_cols"), 6)
            sizes = even if Flag.POOL in flags else {}
            code = ErrorCode.ILLEGAL_FLAGS if refused else ErrorCode.NONE
            cases.append((code, good(op, flags, **sizes)))
    codes, blobs = zip(*cases, strict=True)
    assert list(codes) == verdicts(blobs, batch_norm=False)
    assert verdicts(blobs) == [ErrorCode.NONE] * len(blobs)
