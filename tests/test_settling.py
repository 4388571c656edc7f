"""The end of a descriptor: no sooner than every unit is idle, once, and never in the middle."""

import random

import pytest
from amaranth.sim import Simulator

from eftrain_hdl.settling import Settling

UNITS = 4
LATENCY = Settling.cycles + 1


def run(busy):
    """``done`` in each cycle, while the flags are ``busy`` and then high."""
    dut = Settling(UNITS)
    done = []

    async def testbench(ctx):
        for flags in (*busy, *[(1 << UNITS) - 1] * (LATENCY + 2)):
            ctx.set(dut.busy, flags)
            done.append(ctx.get(dut.done))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()
    return done


def test_done_comes_once_for_each_descriptor():
    # Two descriptors; flags of the first are still low for two cycles after its end.
    first = [0b0001] * 3 + [0] * (LATENCY + 2)
    done = run(first + [0b1000] * 5 + [0] * (LATENCY + 2))
    assert [cycle for cycle, pulse in enumerate(done) if pulse] == [
        3 + LATENCY, len(first) + 5 + LATENCY
    ]  # fmt: skip


@pytest.mark.parametrize("hidden", range(Settling.cycles))
def test_an_item_on_its_way_is_never_missed(hidden):
    """From unit to unit, out of sight for up to two cycles each time."""
    rng, busy = random.Random(hidden), []
    for _ in range(50):
        busy += [0] * rng.randint(0, hidden) + [1 << rng.randrange(UNITS)] * rng.randint(1, 3)
    done = run(busy)
    assert not any(done)


def test_an_item_out_of_sight_for_longer_would_be_missed():
    assert any(run([1, *[0] * Settling.cycles, 2, 2, 2]))


def test_nothing_is_done_before_the_flags_are_seen():
    assert not any(run([1] * 5))
    assert run([0] * (LATENCY + 2)).index(1) == LATENCY
