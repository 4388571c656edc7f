"""The steer between two buses: order, no stray beats, and no time lost on one bus."""

import random
from collections import deque

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from eftrain_hdl.memory import AxiReadSignature, BurstReader, ReadSteer

SEED = 20240311
LATENCY = 20


class SteeredReader(wiring.Component):
    """A reader behind a steer, as the companion chain has it."""

    def __init__(self):
        self.reader, self.steer = BurstReader(landing_beats=128), ReadSteer()
        bus = AxiReadSignature(32, 128, 1)
        super().__init__({"bus0": Out(bus), "bus1": Out(bus), "idle": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.reader, m.submodules.steer = reader, steer = self.reader, self.steer
        wiring.connect(m, steer.o_run, reader.run)
        wiring.connect(m, reader.bus, steer.client)
        wiring.connect(m, steer.bus0, wiring.flipped(self.bus0))
        wiring.connect(m, steer.bus1, wiring.flipped(self.bus1))
        m.d.comb += [
            steer.idle.eq(reader.idle),
            reader.window_base.eq(0),
            reader.window_limit.eq(1 << 31),
            self.idle.eq(reader.idle),
        ]
        return m


def run(runs, stalls):
    """Feed runs ``(address, beats, bus)``; returns ``[(address, bus)]`` of the beats."""
    rng = random.Random(SEED)
    dut = SteeredReader()
    total = sum(beats for _, beats, _ in runs)
    found = []

    async def bench(ctx):
        waiting = deque(runs)
        buses = (dut.bus0, dut.bus1)
        queues = (deque(), deque())
        offered = False
        for cycle in range(20000):
            if waiting and not offered:
                address, beats, bus = waiting[0]
                payload = {"address": address, "beats": beats, "tag": {"alternate": bus}}
                ctx.set(dut.steer.run.payload, payload)
                offered = True
            ctx.set(dut.steer.run.valid, offered)
            ctx.set(dut.reader.o.ready, rng.random() >= stalls)
            for index, (bus, queue) in enumerate(zip(buses, queues, strict=True)):
                ctx.set(bus.arready, rng.random() >= stalls)
                ready = bool(queue) and queue[0][0] <= cycle
                ctx.set(bus.rvalid, ready)
                if ready:
                    _, address, last = queue[0]
                    # The data say where they come from.
                    ctx.set(bus.rdata, address | index << 64)
                    ctx.set(bus.rlast, last)
            await ctx.delay(1e-9)
            if offered and ctx.get(dut.steer.run.ready):
                waiting.popleft()
                offered = False
            if ctx.get(dut.reader.o.valid) and ctx.get(dut.reader.o.ready):
                data = ctx.get(dut.reader.o.payload)["data"]
                found.append((data & (1 << 64) - 1, data >> 64))
            for bus, queue in zip(buses, queues, strict=True):
                if ctx.get(bus.arvalid) and ctx.get(bus.arready):
                    first, length = ctx.get(bus.araddr), ctx.get(bus.arlen)
                    for beat in range(length + 1):
                        queue.append((cycle + LATENCY, first + 16 * beat, beat == length))
                if ctx.get(bus.rvalid) and ctx.get(bus.rready):
                    queue.popleft()
            await ctx.tick()
            if len(found) == total and ctx.get(dut.idle):
                return
        raise AssertionError("The reader never became idle.")

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return found


@pytest.mark.parametrize("stalls", [0.0, 0.4])
def test_runs_take_the_bus_of_their_tag_in_order(stalls):
    rng = random.Random(SEED)
    runs = [(4096 * k, rng.randint(1, 20), rng.randrange(2)) for k in range(40)]
    expected = [(a + 16 * beat, bus) for a, beats, bus in runs for beat in range(beats)]
    assert run(runs, stalls) == expected
