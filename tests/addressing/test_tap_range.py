"""Loop bounds of one tap: every small tile, and random large ones, against trying each pixel."""

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


def hull(pixels):
    """The range of all pixels, from the first to the last one; None without any."""
    return range(min(pixels), max(pixels) + 1) if pixels else None


def other_range(tile, grid, kernel, stride, pad, *, tile_is_small):
    """What a tile on one grid meets on the other one, with any tap, as a range; None: nothing.

    ``grid`` is that of the other one. Only pixels beside the tile are tried, since tiles are large.
    """
    taps = range(kernel)
    if tile_is_small:
        ends = {p for p in tile if min(p - tile.start, tile.stop - 1 - p) < kernel}
        return hull({p * stride + tap - pad for p in ends for tap in taps} & set(grid))
    near = range(
        max(grid.start, (tile.start - kernel) // stride - 1),
        min(grid.stop, (tile.stop + pad) // stride + 2),
    )
    return hull({p for p in near if any(p * stride + tap - pad in tile for tap in taps)})


def check(cases):
    """``cases``: (small, big, stride, pad, tap), one a cycle."""
    dut = TapRange()
    seen = {"some": 0, "none": 0}

    async def bench(ctx):
        waiting = []
        for case in [*cases, *[None] * TapRange.latency]:
            waiting.append(case)
            if case:
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
            await ctx.tick()
            if len(waiting) < TapRange.latency:
                continue
            case = waiting.pop(0)
            if case is None:
                continue
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


def taps_of(tile, grid, kernel, stride, pad, *, tile_is_small):
    """The cases of all taps of a tile; without pixels on the small grid, an empty range there."""
    other = other_range(tile, grid, kernel, stride, pad, tile_is_small=tile_is_small)
    if tile_is_small and other is None:
        return []
    small, big = (tile, other) if tile_is_small else (other or range(grid.stop, grid.stop), tile)
    return [(small, big, stride, pad, tap) for tap in range(kernel)]


def ranges(limit):
    return [range(low, high) for high in range(limit + 1) for low in range(high)]


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("tile_is_small", [True, False], ids=["tiles of small", "tiles of big"])
def test_all_small_cases(tile_is_small, stride):
    """All tiles of grids of up to 5 small and 8 big pixels, with kernels up to 5."""
    cases = []
    for kernel in range(1, 6):
        for pad, small, big in itertools.product(range(kernel), range(1, 6), range(1, 9)):
            if (small - 1) * stride >= big + pad:
                continue  # The last window begins beyond the big grid: no such layer.
            sizes = (small, big) if tile_is_small else (big, small)
            for tile in ranges(sizes[0]):
                cases += taps_of(
                    tile, range(sizes[1]), kernel, stride, pad, tile_is_small=tile_is_small
                )
    seen = check(cases)
    assert sum(seen.values()) == len(cases) and min(seen.values()) > 200


def test_random_large_cases():
    """Large kernels, and pixels up to the end of sixteen bits."""
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    cases = []
    while len(cases) < 6000:
        stride, kernel = rng.randint(1, 4), rng.randint(1, 11)
        pad = rng.randrange(kernel)
        big = rng.choice((rng.randint(1, 40), rng.randint(1, 1000), 65535))
        small = min((big + pad - 1) // stride + 1, 65535) - rng.choice((0, 0, 1, 5))
        if small < 1:
            continue
        tile_is_small = rng.random() < 0.5
        sizes = (small, big) if tile_is_small else (big, small)
        end = rng.choice((sizes[0], rng.randint(1, sizes[0])))
        tile = range(max(0, end - rng.choice((1, 3, 60, 60, 9000))), end)
        cases += taps_of(tile, range(sizes[1]), kernel, stride, pad, tile_is_small=tile_is_small)
    seen = check(cases)
    assert min(seen.values()) > 300
