"""The tile walker against a walk that tries every pixel and tap."""

import random

import pytest
from amaranth.sim import Simulator

from eftrain_hdl.addressing.tile_walker import TileWalker
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.isa import ErrorCode, Flag, Opcode
from sim.reference_walk import LayerPass, TileOverflow, TileWalk, random_layer

SEED = 20230517
CYCLES_PER_TILE = 32
"""More than a new tile takes."""
OPCODES = (Opcode.CONV_FP, Opcode.CONV_BP, Opcode.CONV_WU, Opcode.PASS)

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
        for layer in layers:
            steps, overflow = reference(layer, config)
            ctx.set(dut.descriptor.as_value(), layer.bits)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            previous = None
            for number, step in enumerate(steps):
                where = f"step {number} of {layer}"
                assert ctx.get(dut.busy), where
                waited = await next_record(ctx)
                same_tile = previous is not None and all(
                    previous[name] == step[name] for name in ("rows", "cols", "image0", "out_block0")
                )
                if same_tile and layer.opcode in (FP, BP):
                    assert waited == 0, f"a further step of a tile took time: {where}"
                else:
                    seen["tiles"].append(waited)
                while rng.random() < stalls:
                    await ctx.tick()
                    assert ctx.get(dut.o.valid), f"the record went away: {where}"
                record = ctx.get(dut.o.payload)
                wrong = differences(record, step)
                assert not wrong, f"(field, found, expected) {wrong} in {where}"
                assert not ctx.get(dut.error)
                ctx.set(dut.o.ready, 1)
                await ctx.tick()
                ctx.set(dut.o.ready, 0)
                previous = step
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

    top, reset = with_reset(dut)
    simulator = Simulator(top)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


def with_reset(dut):
    from amaranth.hdl import Module, ResetInserter, Signal

    reset = Signal()
    m = Module()
    m.submodules.dut = ResetInserter(reset)(dut)
    return m, reset
