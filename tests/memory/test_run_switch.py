"""The switch between two sources of a writer: order, rate, random stalls."""

import random

import pytest
from amaranth.sim import Simulator

from eftrain_hdl.memory import RunSwitch

SEED = 20240311


@pytest.mark.parametrize("stalls", [0.0, 0.5])
def test_run_switch(stalls):
    """Each run gets its beats from its source, one a cycle, and the runs pass unchanged."""
    rng = random.Random(SEED)
    dut = RunSwitch(runs_ahead=4)
    pending = {"run": [], "i": [], "tee": []}
    expected = {"o_run": [], "o": []}
    for index in range(60):
        beats, tee = rng.choice((1, 2, rng.randint(1, 20))), rng.randrange(2)
        run = {"address": 4096 * index, "beats": beats, "tag": {"tee": tee, "mark": index % 2}}
        pending["run"].append(run)
        expected["o_run"].append((run["address"], beats, tee))
        for _ in range(beats):
            word = rng.getrandbits(128)
            pending["tee" if tee else "i"].append(word)
            expected["o"].append(word)
    found = {"o_run": [], "o": []}
    times = []

    async def bench(ctx):
        offered = dict.fromkeys(pending, False)
        for cycle in range(10000):
            for name, values in pending.items():
                if not offered[name] and values and rng.random() >= stalls:
                    offered[name] = True
                    ctx.set(getattr(dut, name).payload, values[0])
                ctx.set(getattr(dut, name).valid, offered[name])
            for name in found:
                ctx.set(getattr(dut, name).ready, rng.random() >= stalls)
            await ctx.delay(1e-9)
            for name, values in pending.items():
                if offered[name] and ctx.get(getattr(dut, name).ready):
                    values.pop(0)
                    offered[name] = False
            for name, taken in found.items():
                port = getattr(dut, name)
                if ctx.get(port.valid) and ctx.get(port.ready):
                    value = ctx.get(port.payload)
                    if name == "o_run":
                        value = (value["address"], value["beats"], value["tag"]["tee"])
                    else:
                        times.append(cycle)
                    taken.append(value)
            await ctx.tick()
            if found == expected:
                break
        assert found == expected and ctx.get(dut.idle)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    if not stalls:
        assert times[-1] - times[0] + 1 == len(times)
