"""Drives a block with plain 128-bit streams under cocotb: what several testbenches share."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from cocotbext.axi.stream import define_stream

from sim.testbenches.tb_blocks import Handshakes, pack, stall

PlainBus, PlainBeat, PlainSource, PlainSink, _ = define_stream(
    "Plain", signals=["payload", "valid", "ready"]
)


def bits(values):
    return np.asarray(values, np.float32).view(np.uint32)


def to_beats(words):
    return [pack(beat) for beat in np.asarray(words, np.uint32).reshape(-1, 4)]


class High:
    """Counts the cycles in which a port is high."""

    def __init__(self, dut, name):
        self.count = 0
        self._signal = getattr(dut, name)
        cocotb.start_soon(self._watch(dut))

    async def _watch(self, dut):
        while True:
            await RisingEdge(dut.clk)
            self.count += int(self._signal.value)


class Unit:
    """A block with plain streams: ``inputs``, and ``o``. ``flags`` are ports to count."""

    def __init__(self, dut, inputs, flags):
        self.dut = dut
        self.sources = {
            name: PlainSource(PlainBus.from_prefix(dut, name), dut.clk) for name in inputs
        }
        self.moved = {name: Handshakes(dut, name, ["payload"]) for name in (*inputs, "o")}
        self.sink = PlainSink(PlainBus.from_prefix(dut, "o"), dut.clk)
        self.high = {name: High(dut, name) for name in flags}

    def set(self, **controls):
        for name, value in controls.items():
            getattr(self.dut, name).value = value

    def get(self, name):
        return int(getattr(self.dut, name).value)

    def send(self, name, words):
        """Queue words, four a beat."""
        for beat in to_beats(words):
            self.sources[name].send_nowait(PlainBeat(payload=beat))

    def pause(self, rng, **active):
        """Random stalls on the streams that are named; none on the others."""
        for name, stream in {**self.sources, "o": self.sink}.items():
            stall(rng, stream, active.get(name, False))

    def clear(self):
        for moved in self.moved.values():
            moved.cycles.clear()
        for high in self.high.values():
            high.count = 0

    async def receive(self, count):
        return [int((await self.sink.recv()).payload) for _ in range(count)]

    def check_rest(self):
        """All of the input was taken and nothing more came out."""
        assert self.sink.empty()
        assert all(source.empty() for source in self.sources.values())
