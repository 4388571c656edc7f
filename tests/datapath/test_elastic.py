"""Glue of the datapath: nothing is lost or doubled under any stalls, and the rate is a value a
cycle."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from eftrain_hdl.datapath.elastic import DelayLine, LandingFifo, SkidBuffer

SEED = 20250211


def simulate(dut, bench):
    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("stall_in", (0.0, 0.5))
@pytest.mark.parametrize("stall_out", (0.0, 0.5))
def test_skid_buffer_moves_everything_in_order(stall_in, stall_out):
    """One cycle of latency; without stalls a value every cycle; ready and valid are registers."""
    dut = SkidBuffer(data.StructLayout({"word": 12, "last": 1}))
    rng = random.Random(SEED)
    sent = [{"word": rng.getrandbits(12), "last": rng.getrandbits(1)} for _ in range(300)]
    entered, left = [], []

    async def bench(ctx):
        waiting, offered, held = list(sent), False, None
        for cycle in range(3000):
            before = ctx.get(dut.i.ready), ctx.get(dut.o.valid)
            offered = offered or bool(waiting and rng.random() >= stall_in)
            ctx.set(dut.i.valid, offered)
            ctx.set(dut.i.payload, waiting[0] if offered else sent[cycle % 7])
            ready = rng.random() >= stall_out
            ctx.set(dut.o.ready, ready)
            assert (ctx.get(dut.i.ready), ctx.get(dut.o.valid)) == before
            if offered and ctx.get(dut.i.ready):
                waiting.pop(0)
                offered = False
                entered.append(cycle)
            value = ctx.get(dut.o.payload) if ctx.get(dut.o.valid) else None
            assert held is None or value == held, "changed while it had to wait"
            held = None if ready else value
            if ready and value is not None:
                left.append((cycle, value["word"], value["last"]))
            await ctx.tick()

    simulate(dut, bench)
    assert [(word, last) for _, word, last in left] == [(s["word"], s["last"]) for s in sent]
    if not stall_out:
        assert [cycle for cycle, *_ in left] == [cycle + 1 for cycle in entered]
    if not stall_in and not stall_out:
        assert entered == list(range(len(sent)))


def test_skid_buffer_holds_two_values():
    dut = SkidBuffer(8)

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        taken = 0
        for value in range(6):
            ctx.set(dut.i.payload, value)
            taken += ctx.get(dut.i.ready)
            await ctx.tick()
        assert taken == 2 and ctx.get(dut.o.valid) and ctx.get(dut.o.payload) == 0

    simulate(dut, bench)


class Pipeline(wiring.Component):
    """A delay line as a stream, by way of the smallest FIFO that lets it run at full rate."""

    latency = 5

    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))
    idle: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.line = line = DelayLine(9, self.latency)
        m.submodules.landing = landing = LandingFifo(8, self.latency + 4)
        wiring.connect(m, wiring.flipped(self.o), landing.o)
        m.d.comb += [
            self.i.ready.eq(landing.room),
            landing.claim.eq(self.i.valid & self.i.ready),
            line.i.eq(self.i.payload << 1 | landing.claim),
            landing.write.eq(line.o[0]),
            landing.data.eq(line.o[1:]),
            self.idle.eq(landing.idle),
        ]
        return m


@pytest.mark.parametrize("stall_in", (0.0, 0.5))
@pytest.mark.parametrize("stall_out", (0.0, 0.5))
def test_landing_fifo_loses_nothing(stall_in, stall_out):
    dut = Pipeline()
    rng = random.Random(SEED)
    sent = [rng.getrandbits(8) for _ in range(400)]
    left = []

    async def bench(ctx):
        waiting, offered = list(sent), False
        for _ in range(3000):
            offered = offered or bool(waiting and rng.random() >= stall_in)
            ctx.set(dut.i.valid, offered)
            ctx.set(dut.i.payload, waiting[0] if offered else 0)
            ctx.set(dut.o.ready, rng.random() >= stall_out)
            inside = len(sent) - len(waiting) - len(left)
            assert ctx.get(dut.idle) == (inside == 0)
            if offered and ctx.get(dut.i.ready):
                waiting.pop(0)
                offered = False
            if ctx.get(dut.o.valid) and ctx.get(dut.o.ready):
                left.append(ctx.get(dut.o.payload))
            await ctx.tick()

    simulate(dut, bench)
    assert left == sent


def test_landing_fifo_lets_a_value_pass_every_cycle():
    """From the first value on, and again after a standstill."""
    dut = Pipeline()

    async def bench(ctx):
        for ready, cycles in ((1, 60), (0, 30), (1, 60)):
            moved = []
            for cycle in range(cycles):
                ctx.set(dut.i.valid, 1)
                ctx.set(dut.o.ready, ready)
                if ctx.get(dut.o.valid) and ready:
                    moved.append(cycle)
                await ctx.tick()
            if ready:
                assert moved == list(range(moved[0], cycles)), "a gap"

    simulate(dut, bench)
