"""The loop nest against nested loops."""

import itertools
import random

import pytest
from amaranth.sim import Simulator

from eftrain_hdl.addressing.loop_nest import LoopNest

SEED = 20231007


def points(starts, counts, strides, bits):
    """Reference: addresses, first and last bits of every point in order.

    ``strides[level][a]`` belongs to address ``a``.
    """
    for index in itertools.product(*(range(count) for count in counts)):
        addresses = [
            (start + sum(i * strides[level][a] for level, i in enumerate(index))) % 2**width
            for a, (start, width) in enumerate(zip(starts, bits, strict=True))
        ]
        first = [all(i == 0 for i in index[level:]) for level in range(len(counts))]
        last = [
            all(i == count - 1 for i, count in zip(index[level:], counts[level:], strict=True))
            for level in range(len(counts))
        ]
        yield addresses, first, last


def as_bits(flags):
    return sum(flag << level for level, flag in enumerate(flags))


@pytest.mark.parametrize(
    ("levels", "bits", "cases"),
    [(1, (8,), 20), (2, (16, 16), 25), (4, (16, 16), 30), (4, (32,), 20), (5, (16,), 15)],
)
@pytest.mark.parametrize("copies", (False, True))
def test_against_nested_loops(levels, bits, cases, copies):
    """One point in every cycle with ``advance``; a load in any cycle starts anew."""
    print(f"seed {SEED}")
    rng = random.Random(f"{SEED} {levels} {bits}")
    dut = LoopNest(levels=levels, count_bits=16, address_bits=bits, copies=copies)

    def scramble(ctx):
        """What is asked for next: a nest that copies must not care."""
        for level in range(levels):
            ctx.set(dut.setup.level[level].count, rng.choice((1, 2, 3)))
            for a in range(len(bits)):
                ctx.set(dut.setup.level[level].stride[f"a{a}"], rng.getrandbits(bits[a]))

    async def bench(ctx):
        for case in range(cases):
            counts = [rng.choice((1, 1, 2, 3, 5)) for _ in range(levels)]
            strides = [[rng.getrandbits(width) for width in bits] for _ in range(levels)]
            starts = [rng.getrandbits(width) for width in bits]
            for a, start in enumerate(starts):
                ctx.set(dut.setup.start[f"a{a}"], start)
            for level in range(levels):
                ctx.set(dut.setup.level[level].count, counts[level])
                for a in range(len(bits)):
                    ctx.set(dut.setup.level[level].stride[f"a{a}"], strides[level][a])
            # The setup comes one cycle ahead of the load, while the nest before may still step.
            ctx.set(dut.advance, copies and rng.randrange(2))
            await ctx.tick()
            # Even a nest that stands somewhere in the middle.
            way = rng.choice(("load", "load with advance", "restart"))
            ctx.set(dut.load, way != "restart")
            ctx.set(dut.restart, way == "restart" or rng.randrange(2))
            ctx.set(dut.advance, way != "load")
            await ctx.tick()
            ctx.set(dut.load, 0)
            ctx.set(dut.restart, 0)
            # The start is needed in the cycle of the load only.
            for a in range(len(bits)):
                ctx.set(dut.setup.start[f"a{a}"], rng.getrandbits(bits[a]))
            if copies:
                scramble(ctx)
            every = list(points(starts, counts, strides, bits))
            stop = len(every) if case % 4 else rng.randint(1, len(every))
            for addresses, first, last in every[:stop]:
                while True:
                    found = [ctx.get(dut.address[f"a{a}"]) for a in range(len(bits))]
                    assert found == addresses
                    assert ctx.get(dut.first) == as_bits(first)
                    assert ctx.get(dut.last) == as_bits(last)
                    advance = case % 2 == 0 or rng.random() < 0.6
                    ctx.set(dut.advance, advance)
                    # Alone it does nothing.
                    ctx.set(dut.restart, not advance and rng.randrange(2))
                    await ctx.tick()
                    if advance:
                        break
            ctx.set(dut.advance, 0)
            ctx.set(dut.restart, 0)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()


def test_long_loop():
    """Counts of sixteen bits: the last point comes exactly then, and the end wraps to the start."""
    dut = LoopNest(levels=2, count_bits=16, address_bits=(32,))

    async def bench(ctx):
        ctx.set(dut.setup.start.a0, 100)
        ctx.set(dut.setup.level[0].count, 2)
        ctx.set(dut.setup.level[0].stride.a0, 0x10000)
        ctx.set(dut.setup.level[1].count, 3000)
        ctx.set(dut.setup.level[1].stride.a0, 7)
        await ctx.tick()
        ctx.set(dut.load, 1)
        await ctx.tick()
        ctx.set(dut.load, 0)
        ctx.set(dut.advance, 1)
        for outer, inner in itertools.product(range(2), range(3000)):
            assert ctx.get(dut.address.a0) == 100 + 0x10000 * outer + 7 * inner
            assert ctx.get(dut.last[1]) == (inner == 2999)
            assert ctx.get(dut.last[0]) == (inner == 2999 and outer == 1)
            await ctx.tick()
        assert ctx.get(dut.first) == 3

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
