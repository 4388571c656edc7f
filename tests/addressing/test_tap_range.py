"""Loop bounds of one tap: every small case, and random large ones, against trying each pixel."""

import itertools
import random

import pytest
from amaranth.sim import Simulator

from eftrain_hdl.addressing.tap_range import TapRange

SEED = 20231115


def brute_force(small, big, stride, pad, tap):
    """``(count, first small, first big)``, counted from the starts; the latter None without any."""
    met = [p for p in small if p * stride + tap - pad in big]
    if not met:
        return 0, None, None
    # The pixels that meet lie next to each other, or a count would not do.
    assert met == list(range(met[0], met[-1] + 1))
    return len(met), met[0] - small.start, met[0] * stride + tap - pad - big.start


def check(cases):
    """``cases``: (small, big, stride, pad, tap), each held for the latency of the block."""
    dut = TapRange()
    seen = {"some": 0, "none": 0}

    async def bench(ctx):
        for case in cases:
            small, big, stride, pad, tap = case
            ctx.set(
                dut.axis,
                {
                    "small0": small.start, "small1": small.stop,
                    "big0": big.start, "big1": big.stop,
                    "small": len(small), "big": len(big),
                },
            )  # fmt: skip
            ctx.set(dut.stride, stride)
            ctx.set(dut.pad, pad)
            ctx.set(dut.tap, tap)
            for _ in range(TapRange.latency):
                await ctx.tick()
            count, small, big = brute_force(*case)
            found = ctx.get(dut.o)
            assert found["count"] == count, case
            if count:
                assert (found["small"], found["big"]) == (small, big), case
            seen["some" if count else "none"] += 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


def ranges(limit):
    return [range(low, high) for high in range(limit + 1) for low in range(high + 1)]


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_all_small_cases(stride):
    """All ranges of up to 4 small and 5 big pixels, paddings up to 3, taps up to 4."""
    cases = itertools.product(ranges(4), ranges(5), [stride], range(4), range(5))
    seen = check(cases)
    assert sum(seen.values()) == 15 * 21 * 4 * 5 and min(seen.values()) > 200


def test_random_large_cases():
    """Large kernels, and pixels up to the end of sixteen bits."""
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    cases = []
    for _ in range(3000):
        stride, kernel = rng.randint(1, 4), rng.randint(1, 11)
        pad, tap = rng.randrange(kernel), rng.randrange(kernel)
        end = rng.choice((40, 40, 1000, 65535))
        low = max(0, end - rng.randint(1, 60))
        big = range(rng.randint(low, end), end)
        small_end = max(1, min(end // stride + rng.randint(-3, 10), 65535))
        small = range(max(0, small_end - rng.randint(1, 40)), small_end)
        cases.append((small, big, stride, pad, tap))
    seen = check(cases)
    assert min(seen.values()) > 300
