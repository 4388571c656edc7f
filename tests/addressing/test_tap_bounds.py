"""The table of loop bounds: right for every tap of random tiles, and there as early as it says."""

import random

from amaranth.sim import Simulator

from eftrain_hdl.addressing.tap_bounds import TapBounds
from eftrain_hdl.addressing.tap_range import TapRange
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.isa import Opcode
from sim.reference_walk import TileOverflow, TileWalk, random_layer, tap_pairs

SEED = 20231201
AXES = (("rows", "row"), ("cols", "col"))


def tiles(rng, count):
    """``count`` pairs of a layer and the record of one of its tiles, of all opcodes."""
    config = CoreConfig(rows=4, lanes=4)
    while count:
        layer = random_layer(rng, rng.choice((Opcode.CONV_FP, Opcode.CONV_BP, Opcode.CONV_WU)))
        try:
            yield layer, rng.choice(list(TileWalk(layer, config)))
        except TileOverflow:
            continue
        count -= 1


def expected(layer, record, axis, tap):
    """``(count, first small, first big)``, or None without any."""
    ends = [record[axis][name] or 0 for name in ("small0", "small1", "big0", "big1")]
    pairs = tap_pairs(layer, axis, tap, range(*ends[:2]), range(*ends[2:]))
    return (len(pairs), *pairs[0]) if pairs else None


def test_each_tap_as_early_as_it_may_be_asked_for():
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    dut = TapBounds()
    asked = {"some": 0, "none": 0}

    async def bench(ctx):
        for layer, record in tiles(rng, 150):
            for axis, _ in AXES:
                numbers = {name: value or 0 for name, value in record[axis].items()}
                ctx.set(getattr(dut, axis), numbers)
                ctx.set(getattr(dut, f"stride_{axis}"), layer[f"stride_{axis}"])
                ctx.set(getattr(dut, f"pad_{axis}"), layer[f"pad_{axis}"])
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for axis, tap in AXES:
                ctx.set(getattr(dut, f"last_{tap}"), layer[f"kernel_{axis}"] - 1)
            for _ in range(TapRange.latency):
                assert not ctx.get(dut.found)
                await ctx.tick()
            assert ctx.get(dut.found)
            await ctx.tick()
            for number in range(max(layer["kernel_rows"], layer["kernel_cols"])):
                for axis, tap in AXES:
                    if number >= layer[f"kernel_{axis}"]:
                        continue
                    ctx.set(getattr(dut, tap), number)
                    await ctx.delay(1e-9)
                    found = ctx.get(getattr(dut, f"{tap}_range"))
                    wanted = expected(layer, record, axis, number)
                    where = f"{tap} {number} of {record} in {layer}"
                    if wanted:
                        assert tuple(found[k] for k in ("count", "small", "big")) == wanted, where
                    else:
                        assert found["count"] == 0, where
                    asked["some" if wanted else "none"] += 1
                await ctx.tick()
                await ctx.tick()
            # The sequencer takes longer than this for the taps of a step.
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert min(asked.values()) > 100
