"""The drain alone: order, what it says about each vector, and that it loses no cycle."""

import itertools
import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from eftrain_hdl.config import CoreConfig
from eftrain_hdl.datapath.drain import Drain
from eftrain_hdl.isa import Flag, Opcode

SEED = 20240816
PLACE = ("block_start", "block_end", "group_first", "group_last", "block")


class Tile:
    """A tile of ``blocks`` out blocks of images x rows x cols vectors, with random place marks."""

    def __init__(self, rng, *, blocks, images, rows, cols):
        self.area = rows * cols
        self.shape = (blocks, images, rows, cols)
        self.size = images * self.area
        self.total = blocks * self.size
        self.marks = {"group_first": rng.randrange(2), "group_last": rng.randrange(2)}
        self.final = rng.randrange(2)

    def fields(self):
        blocks, images, rows, cols = self.shape
        return {
            "rows": {"small": rows}, "cols": {"small": cols}, "images": images,
            "out_blocks": blocks, "small_area": self.area, "block_vectors": self.size,
            "final": self.final, **self.marks,
        }  # fmt: skip

    def vectors(self, pool):
        """(address, place marks) of each vector in the order of the drain."""
        blocks, images, rows, cols = self.shape
        order = np.arange(self.size).reshape(images, rows, cols)
        if pool:
            windows = order.reshape(images, rows // 2, 2, cols // 2, 2)
            order = windows.transpose(0, 1, 3, 2, 4)
        order = order.ravel()
        for block, (k, place) in itertools.product(range(blocks), enumerate(order)):
            yield (
                block * self.size + int(place),
                {"block_start": int(k == 0), "block_end": int(k == self.size - 1),
                 "block": block, **self.marks},
            )  # fmt: skip


def run(config, tiles, *, pool, stalls, rng):
    """Drain ``tiles``; returns the beats ``(cycle, data, beat, marks)``, what was read to the end
    as ``(cycle, bank, reads so far)``, and the cycles of ``final``.

    The accumulators hold their own address in every word, with the number of the word above it. A
    bank that is free computes, which changes its output.
    """
    dut = Drain(config)
    beats, turns, finals = [], [], []

    async def bench(ctx):
        ctx.set(dut.descriptor.opcode, Opcode.CONV_FP)
        ctx.set(dut.descriptor.flags, pool << Flag.POOL)
        offered, banks = list(tiles), 0
        beat = reads = frees = shown = 0
        for cycle in range(4000):
            offers = bool(offered) and (ctx.get(dut.i.valid) or rng.random() >= stalls)
            if offers:
                ctx.set(dut.i.payload, offered[0].fields())
            ctx.set(dut.i.valid, offers)
            ready = rng.random() >= stalls
            ctx.set(dut.o.ready, ready)
            # Banks fill in advance, or in random cycles.
            if not stalls or rng.random() >= 0.9:
                banks = len(turns) + 1
            ctx.set(dut.full, banks > len(turns))
            # The bank is read within this cycle: its output changes with the next.
            read, address = ctx.get(dut.read), ctx.get(dut.address)
            reads += read
            if read:
                shown = len(turns)
            assert not read or banks > len(turns), "a bank is read before it is full"
            if ctx.get(dut.turns):
                turns.append((cycle, ctx.get(dut.bank), reads))
            frees += ctx.get(dut.free)
            if offers and ctx.get(dut.i.ready):
                offered.pop(0)
            if ctx.get(dut.final):
                assert ready and ctx.get(dut.o.valid)
                finals.append(cycle)
            if ctx.get(dut.o.valid) and ready:
                payload = ctx.get(dut.o.payload)
                marks = {name: payload[name] for name in PLACE}
                beats.append((cycle, payload["data"], beat, marks))
                beat = (beat + 1) % config.vector_beats
            await ctx.tick()
            if read:
                ctx.set(
                    dut.sums,
                    sum((k << 16 | address) << 32 * k for k in range(config.rows)),
                )
            elif shown < frees:
                ctx.set(dut.sums, -1)
            if frees == len(tiles) and len(beats) == reads * config.vector_beats:
                break
        else:
            raise AssertionError("the drain did not end")
        assert frees == len(turns)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return beats, turns, finals


def beat_of(address, beat):
    return sum(((4 * beat + k) << 16 | address) << 32 * k for k in range(4))


@pytest.mark.parametrize("group", (4, 8))
@pytest.mark.parametrize("pool", (False, True))
@pytest.mark.parametrize("stalls", (0.0, 0.4))
def test_drain(group, pool, stalls):
    rng = random.Random(SEED)
    config = CoreConfig(rows=group, lanes=group)
    sizes = [(1, 1, 2, 2), (3, 2, 2, 4), (1, 1, 4, 2), (2, 1, 2, 2), (1, 3, 4, 4)]
    if not pool:
        sizes += [(1, 1, 1, 1), (4, 1, 1, 1), (2, 2, 3, 5)]
    names = ("blocks", "images", "rows", "cols")
    tiles = [Tile(rng, **dict(zip(names, size, strict=True))) for size in sizes]
    beats, turns, finals = run(config, tiles, pool=pool, stalls=stalls, rng=rng)

    expected = [vector for tile in tiles for vector in tile.vectors(pool)]
    count = config.vector_beats
    assert len(beats) == count * len(expected)
    for (_, data, beat, marks), (address, wanted) in zip(
        beats, [vector for vector in expected for _ in range(count)], strict=True
    ):
        assert data == beat_of(address, beat) and marks == wanted
    # The banks take turns.
    ends = list(itertools.accumulate(tile.total for tile in tiles))
    assert [bank for _, bank, _ in turns] == [k % 2 for k in range(len(tiles))]
    assert [reads for *_, reads in turns] == ends
    lasts = [beats[count * end - 1][0] for end in ends]
    assert finals == [last for last, tile in zip(lasts, tiles, strict=True) if tile.final]
    if not stalls:
        # Four cycles for the first tile, the read, the buffer.
        assert beats[0][0] == 6
        # The next tile is taken when the last vector of this one is due. Two cycles later the nest
        # stands at its first vector, which is read as soon as the beats of the last one are sent.
        waits = (3 if count == 1 or tile.total == 1 else 2 for tile in tiles[:-1])
        assert lasts[-1] == 5 + len(beats) + sum(max(wait - count, 0) for wait in waits)
