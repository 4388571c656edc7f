# amaranth: UnusedElaboratable=no
"""NormMap and a run generator: which records move for a NORM, in which order."""

import random
import struct

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from eftrain_hdl.addressing.norm_map import NormMap
from eftrain_hdl.addressing.run_generator import RunGenerator
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.isa import Flag, Opcode, encode

SEED = 20250311
STATISTICS, PARAMETERS, COEFFICIENTS, PAIR = 0x1000, 0x20000, 0x40000, 0x50000
G, U, V, F, P = Flag.GRADIENT, Flag.UPDATE, Flag.MOMENTUM, Flag.FROZEN, Flag.X_PAIR


def expected_runs(config, flags, blocks):
    """(address, beats) of the two ports."""
    vector = config.vector_beats
    side, output = [], []
    for block in range(blocks):

        def record(base, beats, block=block):
            return base + block * beats * 16, beats

        if F not in flags:
            side.append(record(STATISTICS, vector + 16))
            output.append(record(PARAMETERS, 8 * vector))
        side.append(record(PARAMETERS, 8 * vector))
        if P in flags:
            side.append(record(PAIR, 4 * vector))
        output.append(record(COEFFICIENTS, 4 * vector))
    return {"side": side, "output": output}


@pytest.mark.parametrize("side", (4, 16, 32))
def test_runs(side):
    """Every mode, one to three blocks, with either port stalled now and then."""
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    config = CoreConfig(rows=side, lanes=side, stream_depth=512, stationary_depth=512)
    m = Module()
    m.submodules.dut = dut = NormMap(config)
    ports = {}
    for name in ("side", "output"):
        m.submodules[name] = runs = RunGenerator(address_bits=config.address_bits)
        wiring.connect(m, getattr(dut, name), runs.i)
        ports[name] = runs

    async def take(ctx, port, stalls):
        """The runs of one descriptor."""
        taken = []
        for _ in range(400):
            ctx.set(port.o.ready, rng.random() >= stalls)
            _, _, valid, ready, run = await ctx.tick().sample(
                port.o.valid, port.o.ready, port.o.payload
            )
            if valid and ready:
                taken.append((run["address"], run["beats"]))
        return taken

    async def bench(ctx):
        for flags in ((), (P,), (F,), (F, P), (G,), (G, U, V)):
            for blocks in (1, 3):
                blob = encode(
                    Opcode.NORM, flags, out_blocks=blocks, statistics_base=STATISTICS,
                    parameters_base=PARAMETERS, coefficients_base=COEFFICIENTS, pair_base=PAIR,
                )  # fmt: skip
                words = struct.unpack("<64I", blob)
                ctx.set(dut.descriptor.as_value(), sum(w << 32 * k for k, w in enumerate(words)))
                expected = expected_runs(config, flags, blocks)
                # The ports are independent: while one is taken, the other waits.
                for first, second in (("side", "output"), ("output", "side")):
                    ctx.set(dut.start, 1)
                    await ctx.tick()
                    ctx.set(dut.start, 0)
                    assert ctx.get(dut.busy)
                    for name in (first, second):
                        ctx.set(ports[first].o.ready, 0)
                        assert await take(ctx, ports[name], 0.3) == expected[name]
                        ctx.set(ports[name].o.ready, 0)
                    assert not ctx.get(dut.busy)

    simulator = Simulator(m)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
