"""The tile walker against a walk that tries every pixel and tap."""

import random

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from eftrain_hdl.addressing.tile_walker import TileWalker
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.isa import ErrorCode, Flag, Opcode
from sim.reference_walk import LayerPass, TileOverflow, TileWalk, random_layer

SEED = 20230517
CYCLES_PER_TILE = 32
"""More than a new tile takes."""
OPCODES = (
    Opcode.CONV_FP, Opcode.CONV_BP, Opcode.CONV_WU, Opcode.PASS, Opcode.PASS_BP,
)  # fmt: skip

FP, BP, WU = Opcode.CONV_FP, Opcode.CONV_BP, Opcode.CONV_WU


def reference(layer, config):
    """``(steps, overflow)``."""
    steps = []
    try:
        for step in TileWalk(layer, config):
            steps.append(step)
    except TileOverflow:
        return steps, True
    return steps, False


def differences(found, step, prefix=""):
    """Fields of a record of the hardware that are not those of the reference."""
    wrong = []
    for name, value in step.items():
        if isinstance(value, dict):
            wrong += differences(found[name], value, f"{prefix}{name}.")
        elif value is not None and found[name] != value:
            wrong.append((f"{prefix}{name}", found[name], value))
    return wrong


def check(layers, config, *, seed=SEED, stalls=0.0):
    """Run the layers one after another; a reset follows an overflow. Returns what was seen."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    dut = TileWalker(config)
    seen = {"steps": 0, "overflows": 0, "empty": 0, "tiles": []}

    async def next_record(ctx):
        """Wait for a record, for at most the time of a new tile."""
        for cycles in range(CYCLES_PER_TILE):
            if ctx.get(dut.o.valid):
                return cycles
            await ctx.tick()
        raise AssertionError(f"no record for {CYCLES_PER_TILE} cycles")

    async def bench(ctx):
        for number, layer in enumerate(layers):
            steps, overflow = reference(layer, config)
            slot = number % 2
            ctx.set(dut.slot, slot)
            ctx.set(dut.descriptor.as_value(), layer.bits)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            previous = None
            for number, step in enumerate(steps):
                where = f"step {number} of {layer}"
                assert ctx.get(dut.busy), where
                waited = await next_record(ctx)
                tile = [step[name] for name in ("rows", "cols", "image0", "out_block0")]
                same_tile = tile == previous
                if same_tile and layer.opcode in (FP, BP):
                    assert waited == 0, f"a further step of a tile took time: {where}"
                else:
                    seen["tiles"].append(waited)
                while rng.random() < stalls:
                    await ctx.tick()
                    assert ctx.get(dut.o.valid), f"the record went away: {where}"
                record = ctx.get(dut.o.payload)
                wrong = differences(record, step | {"slot": slot})
                assert not wrong, f"(field, found, expected) {wrong} in {where}"
                assert not ctx.get(dut.error)
                ctx.set(dut.o.ready, 1)
                await ctx.tick()
                ctx.set(dut.o.ready, 0)
                previous = tile
                seen["steps"] += 1
                seen["empty"] += not (step["rows"]["small"] and step["cols"]["small"])
            for _ in range(2 * CYCLES_PER_TILE if overflow else 3):
                assert not ctx.get(dut.o.valid), f"one record too many of {layer}"
                await ctx.tick()
            assert ctx.get(dut.busy) == overflow, layer
            assert ctx.get(dut.error) == (ErrorCode.TILE_OVERFLOW if overflow else 0), layer
            if overflow:
                seen["overflows"] += 1
                ctx.set(reset, 1)
                await ctx.tick()
                ctx.set(reset, 0)
                assert not ctx.get(dut.busy) and not ctx.get(dut.error)

    reset = Signal()
    simulator = Simulator(ResetInserter(reset)(dut))
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


@pytest.mark.parametrize("group", [4, 16])
@pytest.mark.parametrize("opcode", OPCODES, ids=lambda opcode: opcode.name)
def test_random_layers(opcode, group):
    rng = random.Random(f"{SEED} {opcode} {group}")
    config = CoreConfig(rows=group, lanes=group)
    seen = check([random_layer(rng, opcode) for _ in range(60)], config, stalls=0.3)
    assert seen["steps"] > 100
    assert 20 < max(seen["tiles"]) < CYCLES_PER_TILE


def test_small_buffers():
    """Random layers on the smallest buffers: many overflow, some in the middle of the walk."""
    rng = random.Random(SEED)
    config = CoreConfig(
        rows=4, lanes=4, stream_depth=64, stationary_depth=64, accumulator_depth=64
    )
    layers = [random_layer(rng, opcode, max_kernel=4) for _ in range(25) for opcode in OPCODES]
    seen = check(layers, config)
    assert seen["overflows"] > 20 and seen["steps"] > 100


def square(opcode, flags=(), *, big, small, kernel=1, stride=1, pad=0, tile=None, **fields):
    """A layer with the same numbers on both axes, or (rows, cols) pairs."""
    tile = tile or (big if opcode is BP else small)
    both = {}
    for name, value in (
        ("big", big), ("small", small), ("kernel", kernel), ("stride", stride), ("pad", pad),
        ("tile", tile),
    ):  # fmt: skip
        rows, cols = value if isinstance(value, tuple) else (value, value)
        both |= {f"{name}_rows": rows, f"{name}_cols": cols}
    counts = {"images": 1, "out_blocks": 1, "in_blocks": 1} | fields
    counts = {"tile_images": counts["images"], "tile_out_blocks": counts["out_blocks"]} | counts
    return LayerPass(opcode, flags, **both, **counts)


@pytest.mark.parametrize(
    ("name", "fits", "too_large"),
    [
        (
            "stream",
            square(FP, big=(8, 16), small=(8, 16)),
            square(FP, big=(43, 3), small=(11, 1), kernel=3, stride=4),
        ),
        (
            "stream of BP",
            square(BP, big=(4, 8), small=(4, 8), images=4),
            square(BP, big=(1, 41), small=(3, 43), kernel=3, pad=2),
        ),
        (
            # Rows are filled up to whole groups: 11 rows of 9 pixels take 11 * 3 * 4 vectors.
            "stream of WU",
            square(WU, big=(4, 8), small=(4, 8), images=2, out_blocks=2),
            square(WU, big=(11, 9), small=(11, 9)),
        ),
        (
            "stationary",
            square(WU, big=(8, 16), small=(8, 16)),
            square(WU, big=(43, 3), small=(11, 1), kernel=3, stride=4),
        ),
        (
            "accumulators",
            square(FP, big=(4, 8), small=(4, 8), out_blocks=4),
            square(FP, big=(1, 43), small=(1, 43), out_blocks=3),
        ),
        (
            "accumulators of BP",
            square(BP, big=(8, 16), small=(2, 4), stride=4),
            square(BP, big=(3, 43), small=(1, 11), stride=4),
        ),
        (
            "accumulators of WU",
            square(WU, big=4, small=4, kernel=(4, 8), pad=(2, 4)),
            square(WU, [Flag.BIAS], big=4, small=4, kernel=(4, 8), pad=(2, 4)),
        ),
        (
            "65536 pixels, zero in 16 bits",
            square(FP, big=(8, 16), small=(8, 16)),
            square(FP, big=256, small=256),
        ),
        (
            "65536 sums, zero in 16 bits",
            square(FP, big=(8, 16), small=(8, 16)),
            square(FP, big=(8, 16), small=(8, 16), out_blocks=512),
        ),
        (
            "65536 sums of WU",
            square(WU, big=1, small=1, out_blocks=32),
            square(WU, big=1, small=1, out_blocks=16384),
        ),
    ],
)
def test_overflow_at_the_edge(name, fits, too_large):
    """A tile of exactly the depth is emitted, a larger one is refused."""
    config = CoreConfig(
        rows=4, lanes=4, stream_depth=128, stationary_depth=128, accumulator_depth=128
    )
    print(name)
    assert not reference(fits, config)[1] and reference(too_large, config)[1]
    seen = check([fits, too_large, fits], config)
    assert seen["overflows"] == 1 and seen["steps"] == 2 * len(reference(fits, config)[0])


def test_tile_that_no_pixel_reaches():
    """Strides above the kernel leave big pixels out; they still are tiles, of no vectors."""
    layers = [
        square(BP, big=9, small=3, stride=4, tile=(1, 2)),
        square(BP, big=(7, 20), small=(2, 5), kernel=2, stride=4, pad=1, tile=(1, 3), in_blocks=2),
    ]
    seen = check(layers, CoreConfig(rows=4, lanes=4))
    assert seen["empty"] > 20


def test_largest_sizes():
    """Sixteen-bit sizes do not wrap: the tile at the far end of a long row is right."""
    layers = []
    for opcode in OPCODES:
        sizes = {"big": (1, 65535), "kernel": (1, 11), "stride": (1, 3), "pad": (0, 10)}
        sizes |= {"small": (1, 21849), "tile": (1, 65535 // 8 if opcode is BP else 21849 // 8)}
        layers.append(square(opcode, **sizes))
    seen = check(layers, CoreConfig(rows=4, lanes=4, stream_depth=32768, stationary_depth=32768,
                                    accumulator_depth=32768))  # fmt: skip
    assert seen["steps"] >= 4 * 8
