"""What the testbenches of the burst reader and the burst writer have in common."""

import itertools
import logging
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi.stream import define_stream

__all__ = [
    "PERIOD_NS",
    "STALLS",
    "BurstBench",
    "BusMonitor",
    "Channel",
    "Run",
    "RunBus",
    "RunSource",
    "bursts_of",
    "ready_after",
]

PERIOD_NS = 10
SEED = 20220210

RunBus, Run, RunSource, _, _ = define_stream(
    "Run", signals=["address", "beats", "tag", "valid", "ready"]
)

# (source idles, sink stalls): the four combinations that every data test goes through.
STALLS = [(False, False), (True, False), (False, True), (True, True)]


def split(address, beats, *, beat_bytes, max_beats):
    """Reference for the cutting of a run: the fewest bursts that do not cross 4 KiB."""
    bursts = []
    while beats:
        count = min(beats, max_beats, (4096 - address % 4096) // beat_bytes)
        bursts.append((address, count))
        address += count * beat_bytes
        beats -= count
    return bursts


def bursts_of(runs, *, axi_id=0, beat_bytes=16, max_beats=64):
    """The bursts of all runs, each (address, beats, tag), as a :class:`BusMonitor` lists them."""
    return [
        (address, count, axi_id)
        for run_address, beats, _ in runs
        for address, count in split(run_address, beats, beat_bytes=beat_bytes, max_beats=max_beats)
    ]


def pauses(rng, share=0.5):
    """Pause generator that is high for ``share`` of the cycles, at random."""
    while True:
        yield rng.random() < share


def ready_after(valid):
    """Pause generator of a sink that waits for ``valid`` before it is ready, as AXI allows."""
    while True:
        yield not valid.value


class Channel:
    """A channel of a bus, of which AXI asks that what is offered stays as it is until taken."""

    def __init__(self, valid, ready, payload):
        self._valid = valid
        self._ready = ready
        self._payload = payload
        self._waiting = None

    def observe(self):
        """The payload that moves in this cycle, a list of integers, or None."""
        offered = [int(field.value) for field in self._payload] if self._valid.value else None
        assert self._waiting in (None, offered), f"{self._valid._name}: what waited has changed"
        taken = offered is not None and self._ready.value
        self._waiting = None if taken else offered
        return offered if taken else None

    def forget(self):
        self._waiting = None


class BusMonitor:
    """Checks the rules of AXI on a bus and counts what moves.

    A subclass looks at the data in ``observe_data(cycle)``, and takes what is answered from
    ``in_flight``.

    Attributes: ``bursts`` (address, beats, id) in order, ``burst_cycles``, ``beat_cycles``,
    ``most_in_flight``.
    """

    def __init__(self, dut, bus, request, *, beat_bytes, max_beats, max_in_flight):
        self.in_flight = self.most_in_flight = 0
        self._dut = dut
        self._bus = bus
        self._beat_bytes = beat_bytes
        self._max_beats = max_beats
        self._max_in_flight = max_in_flight
        fields = ("id", "addr", "len", "size", "burst", "cache")
        self._requests = self.channel(request, *(f"{request}{field}" for field in fields))
        self.channels = [self._requests]
        self.clear()
        cocotb.start_soon(self._watch())

    def signal(self, name):
        return getattr(self._dut, f"{self._bus}_{name}")

    def channel(self, prefix, *payload):
        signals = [self.signal(name) for name in payload]
        return Channel(self.signal(f"{prefix}valid"), self.signal(f"{prefix}ready"), signals)

    def clear(self):
        self.bursts, self.burst_cycles, self.beat_cycles = [], [], []

    async def _watch(self):
        for cycle in itertools.count():
            await RisingEdge(self._dut.clk)
            if self._dut.rst.value:
                for channel in self.channels:
                    channel.forget()
                continue
            if (request := self._requests.observe()) is not None:
                self._take(*request)
                self.burst_cycles.append(cycle)
            self.observe_data(cycle)

    def _take(self, axi_id, address, length, size, burst, cache):
        count = length + 1
        assert 2**size == self._beat_bytes and burst == 1 and cache == 3
        assert count <= self._max_beats
        assert address % 4096 + count * self._beat_bytes <= 4096, "burst crosses 4 KiB"
        self.bursts.append((address, count, axi_id))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        assert self.in_flight <= self._max_in_flight


class BurstBench:
    """Clock, reset and window of the top, and one stream of runs.

    Parameters
    ----------
    dut : cocotb handle
    suffix : str
        Which of the top's readers or writers: what its ports' names end in.
    memory_bytes : int
        End of the window, which begins at 0.
    """

    IDLE_LIMIT = 2000
    """Cycles that the bench waits for ``idle``."""

    def __init__(self, dut, *, memory_bytes, suffix=""):
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
        dut._log.setLevel(logging.INFO)
        dut._log.info("random seed %d", SEED)
        self.dut = dut
        self.rng = random.Random(SEED)
        self.idle = getattr(dut, f"idle{suffix}")
        self.error = getattr(dut, f"error{suffix}")
        self.runs = RunSource(RunBus.from_prefix(dut, f"run{suffix}"), dut.clk)
        self._memory_bytes = memory_bytes

    async def start(self):
        dut = self.dut
        dut.halt.value = 0
        dut.window_base.value = 0
        dut.window_limit.value = self._memory_bytes
        dut.rst.value = 1
        cocotb.start_soon(Clock(dut.clk, PERIOD_NS, "ns").start())
        await self.cycles(3)
        dut.rst.value = 0
        await self.cycles(2)

    async def cycles(self, count):
        for _ in range(count):
            await RisingEdge(self.dut.clk)

    async def reset(self):
        self.runs.clear()
        self.runs.valid.value = 0
        self.dut.rst.value = 1
        await self.cycles(2)
        self.dut.halt.value = 0
        self.dut.rst.value = 0
        await self.cycles(2)

    def pause(self, *streams):
        """For each (stream, active): hold the stream back in random cycles, or never."""
        for stream, active in streams:
            generator = (
                pauses(random.Random(self.rng.random())) if active else itertools.repeat(False)
            )
            stream.set_pause_generator(generator)

    async def until_idle(self, limit=None):
        for _ in range(limit or self.IDLE_LIMIT):
            await RisingEdge(self.dut.clk)
            if self.idle.value:
                return
        raise AssertionError(f"{self.idle._name} does not become high")
