"""cocotb testbench of the burst writer.

The top holds one writer on bus ``m_axi`` (128 bit, 64 beats a burst, 8 bursts unanswered) and a
narrow one on bus ``n_axi`` (32 bit, 16 beats a burst, 2 bursts unanswered). With ``STORED`` in the
environment both store the data of a burst before they request it. Two writers that always do
(32 bursts unanswered) share bus ``p_axi``.
``tests/memory/test_burst_writer.py`` builds it and runs each test below.
"""

import itertools
import os

import cocotb
from cocotb.queue import Queue
from cocotb.triggers import RisingEdge, Timer
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiRamWrite, AxiWriteBus
from cocotbext.axi.stream import define_stream

from sim.testbenches.burst_bench import (
    PERIOD_NS,
    STALLS,
    BurstBench,
    BusMonitor,
    Run,
    RunBus,
    bursts_of,
    ready_after,
)

MEMORY_BYTES = 2**16
STORED = "STORED" in os.environ

WordBus, Word, WordSource, _, _ = define_stream("Word", signals=["payload", "valid", "ready"])


class DelayedResponses:
    """Stands in for the response channel: sends each response ``cycles`` later than asked to."""

    def __init__(self, channel, cycles):
        self._channel = channel
        self._cycles = cycles
        self._queue = Queue()
        cocotb.start_soon(self._pump())

    async def _pump(self):
        while True:
            due, response = await self._queue.get()
            if (wait := due - get_sim_time("ns")) > 0:
                await Timer(wait, "ns")
            await self._channel.send(response)

    def _transaction_obj(self):
        return self._channel._transaction_obj()

    async def send(self, response):
        due = get_sim_time("ns") + self._cycles * PERIOD_NS
        self._queue.put_nowait((due, response))


class WriteMemory(AxiRamWrite):
    """RAM with response latency, that answers SLVERR to writes at and above ``bad_from``."""

    def __init__(self, bus, clock, *, contents, latency=0):
        super().__init__(bus, clock, size=2**32)
        self.write(0, contents)
        self.bad_from = None
        self.responses = self.b_channel
        self.aw_channel.queue_occupancy_limit = 16
        if latency:
            self.b_channel.queue_occupancy_limit = 64
            self.b_channel = DelayedResponses(self.b_channel, latency)

    async def _write(self, address, data):
        if self.bad_from is not None and address >= self.bad_from:
            raise ValueError("address answers SLVERR")
        await super()._write(address, data)


class WriteBusMonitor(BusMonitor):
    """A :class:`BusMonitor` that checks the data as well.

    Further attributes: ``strobes`` of each beat, ``responses``.
    """

    def __init__(self, dut, bus, **limits):
        super().__init__(dut, bus, "aw", **limits)
        self._beats = self.channel("w", "wdata", "wstrb", "wlast")
        self.channels.append(self._beats)
        self._bvalid, self._bready = self.signal("bvalid"), self.signal("bready")

    def clear(self):
        super().clear()
        self.strobes, self.responses = [], 0

    def observe_data(self, cycle):
        if (beat := self._beats.observe()) is not None:
            self.beat_cycles.append(cycle)
            self.strobes.append(beat[1])
        if self._bvalid.value and self._bready.value:
            self.in_flight -= 1
            self.responses += 1


class Bench(BurstBench):
    """Drives one writer of the top and keeps the memory image that its writes must lead to."""

    IDLE_LIMIT = 20000

    def __init__(self, dut, *, latency=0, suffix="", bus="m_axi", beat_bytes=16, **limits):
        super().__init__(dut, memory_bytes=MEMORY_BYTES, suffix=suffix)
        self.beat_bytes = beat_bytes
        self.image = bytearray(self.rng.randbytes(MEMORY_BYTES))
        self.words = WordSource(WordBus.from_prefix(dut, f"i{suffix}"), dut.clk)
        self.memory = WriteMemory(
            AxiWriteBus.from_prefix(dut, bus), dut.clk, contents=bytes(self.image), latency=latency
        )
        self.monitor = WriteBusMonitor(
            dut, bus, beat_bytes=beat_bytes, **{"max_beats": 64, "max_in_flight": 8, **limits}
        )

    async def reset(self):
        self.words.clear()
        self.words.valid.value = 0
        await super().reset()

    def stall(self, idle, backpressure):
        """Idle both sources and the memory's answers, stall the memory's requests and data."""
        self.pause(
            (self.runs, idle),
            (self.words, idle),
            (self.memory.responses, idle),
            (self.memory.aw_channel, backpressure),
            (self.memory.w_channel, backpressure),
        )

    def request(self, address, beats):
        self.runs.send_nowait(Run(address=address, beats=beats, tag=self.rng.randrange(4)))

    def data_for(self, address, beats):
        for index in range(beats):
            word = self.rng.randbytes(self.beat_bytes)
            self.words.send_nowait(Word(payload=int.from_bytes(word, "little")))
            at = address + index * self.beat_bytes
            self.image[at : at + self.beat_bytes] = word

    def check_memory(self):
        """The whole memory, so that a stray write anywhere shows."""
        found = bytes(self.memory.read(0, MEMORY_BYTES))
        wrong = [at for at in range(MEMORY_BYTES) if found[at] != self.image[at]]
        assert not wrong, f"{len(wrong)} wrong bytes from {wrong[0]:#x} to {wrong[-1]:#x}"

    async def write(self, runs):
        """Write random data to ``runs`` and check memory as soon as the writer says idle."""
        self.monitor.clear()
        for run in runs:
            self.request(*run)
            self.data_for(*run)
        while not self.runs.empty():
            await RisingEdge(self.dut.clk)
        await self.cycles(2)  # The last run is on its way from the source.
        while self.runs.valid.value:
            await RisingEdge(self.dut.clk)
        await self.until_idle()
        self.check_memory()
        total = sum(beats for _, beats in runs)
        assert len(self.monitor.beat_cycles) == total
        assert self.monitor.responses == len(self.monitor.bursts)
        assert set(self.monitor.strobes) == {2**self.beat_bytes - 1}
        assert int(self.error.value) == 0
        return total


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def sweep_across_page(dut):
    """Lengths × offsets around a 4 KiB boundary; nothing around the run changes."""
    bench = Bench(dut)
    await bench.start()
    short = [(1, 2, 3, 4, 15, 16, 17), (-17, -16, -4, -3, -2, -1, 0, 1)]
    long = [(63, 64, 65, 256, 257), (-65, -64, -63, -1, 0)]
    for idle, backpressure in STALLS:
        bench.stall(idle, backpressure)
        for lengths, offsets in (short, long):
            for beats in lengths:
                # One length at a time, from the highest offset down, so that an overlong write
                # cannot hide under the next run.
                runs = [(8192 + 16 * offset, beats) for offset in reversed(offsets)]
                assert await bench.write(runs) == beats * len(offsets)
                want = bursts_of([(*run, 0) for run in runs])
                assert bench.monitor.bursts == want


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def many_random_runs(dut):
    """Back-to-back random runs with latency and stalls, on both writers."""
    wide = Bench(dut, latency=64)
    narrow = Bench(
        dut, latency=9, suffix="0", bus="n_axi", beat_bytes=4, max_beats=16, max_in_flight=2
    )
    await wide.start()
    for bench, max_beats in ((wide, 64), (narrow, 16)):
        for idle, backpressure in STALLS:
            bench.stall(idle, backpressure)
            runs = []
            for _ in range(100):
                beats = bench.rng.choice((1, 2, bench.rng.randrange(1, 40)))
                place = bench.rng.randrange(MEMORY_BYTES // bench.beat_bytes - beats + 1)
                runs.append((bench.beat_bytes * place, beats))
            assert await bench.write(runs) > 500
            want = bursts_of(
                [(*run, 0) for run in runs], beat_bytes=bench.beat_bytes, max_beats=max_beats
            )
            assert bench.monitor.bursts == want
    assert wide.monitor.most_in_flight == 8
    assert narrow.monitor.most_in_flight == 2


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def data_rate(dut):
    """One beat a cycle across bursts and runs; three cycles from run to request.

    With stored data the request comes two cycles after the last beat of the burst.
    """
    bench = Bench(dut, latency=64)
    await bench.start()
    for beats, count in ((300, 8), (64, 40), (16, 100)):
        bench.monitor.clear()
        taken_at, requested_at = None, None

        async def first_request():
            nonlocal taken_at, requested_at
            for cycle in itertools.count():
                await RisingEdge(dut.clk)
                if taken_at is not None:
                    assert not bench.idle.value, "idle although a run was accepted"
                if taken_at is None and dut.run_valid.value and dut.run_ready.value:
                    taken_at = cycle
                if dut.m_axi_awvalid.value:
                    requested_at = cycle
                    return

        watch = cocotb.start_soon(first_request())
        runs = [(16 * beats * index % 32768, beats) for index in range(count)]
        total = await bench.write(runs)
        await watch
        cycles = bench.monitor.beat_cycles
        span = cycles[-1] - cycles[0] + 1
        dut._log.info(
            "runs of %d beats: %d beats in %d cycles, first request after %d cycles",
            beats,
            total,
            span,
            requested_at - taken_at,
        )
        assert total == beats * count > 1000
        if not STORED:
            assert requested_at - taken_at == 3
        assert span == total


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def data_long_after_run(dut):
    """Requests go out before the data comes; the writer is not idle until all of it is written."""
    bench = Bench(dut)
    await bench.start()
    bench.request(4096 - 32, 100)
    await bench.cycles(40)
    assert len(bench.monitor.bursts) == 3 and not bench.monitor.beat_cycles
    assert not bench.idle.value
    bench.data_for(4096 - 32, 99)
    await bench.cycles(200)
    assert len(bench.monitor.beat_cycles) == 99 and not bench.idle.value
    bench.data_for(4096 - 32 + 16 * 99, 1)
    await bench.until_idle()
    bench.check_memory()
    # Data that waits for its run is not taken.
    bench.data_for(0, 1)
    await bench.cycles(20)
    assert len(bench.monitor.beat_cycles) == 100
    assert dut.i_valid.value and not dut.i_ready.value
    bench.request(0, 1)
    await bench.cycles(20)
    assert bench.idle.value
    bench.check_memory()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def ready_waits_for_valid(dut):
    """A memory that is ready only after a request or a beat shows: the writer must not wait."""
    bench = Bench(dut)
    await bench.start()
    bench.memory.aw_channel.set_pause_generator(ready_after(dut.m_axi_awvalid))
    bench.memory.w_channel.set_pause_generator(ready_after(dut.m_axi_wvalid))
    await bench.cycles(5)
    assert not dut.m_axi_awready.value and not dut.m_axi_wready.value
    assert await bench.write([(4080, 3), (0, 200)]) == 203


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def bus_error(dut):
    """SLVERR: what was requested is completed without strobes, the rest is not; reset recovers."""
    bench = Bench(dut, latency=5)
    await bench.start()
    bench.memory.bad_from = 0x8000
    runs = [(0x1000, 20), (0x8000, 4), *((0x2000 + 1024 * index, 64) for index in range(20))]
    for run in runs:
        bench.request(*run)
        bench.data_for(*run)
    await bench.cycles(20)
    await bench.until_idle()
    assert int(bench.error.value) == 3
    beats = len(bench.monitor.beat_cycles)
    assert beats == sum(burst[1] for burst in bench.monitor.bursts)
    assert bench.monitor.responses == len(bench.monitor.bursts) < len(runs)
    # Stored data may have left in full before the answer came.
    # A stored burst has not begun when the error comes, so none need be cut short.
    assert {0xFFFF} <= set(bench.monitor.strobes) <= {0, 0xFFFF}
    assert STORED or 0 in bench.monitor.strobes
    written = bench.monitor.strobes.count(0xFFFF)
    assert bench.monitor.strobes == [0xFFFF] * written + [0] * (beats - written)
    await bench.cycles(50)
    assert not dut.run_ready.value and not dut.i_ready.value
    assert len(bench.monitor.beat_cycles) == beats and bench.idle.value
    bench.memory.bad_from = None
    await bench.reset()
    bench.image[:] = bench.memory.read(0, MEMORY_BYTES)
    assert await bench.write([(4096 - 16, 70), (0x8000, 3)]) == 73


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def refused_runs(dut):
    """Bad runs set their error and change no byte, even when data waits."""
    bench = Bench(dut)
    await bench.start()
    base, limit = 0x1000, 0x3000
    before = bytes(bench.image)
    refused = [
        (base + 8, 1, 1),
        (base - 8, 1, 1),
        (base - 16, 2, 2),
        (limit - 16, 2, 2),
        (limit, 1, 2),
        (base, 0, 2),
        (base, 513, 2),
        (0xFFFF_FFF0, 2, 2),
    ]
    for address, beats, code in refused:
        dut.window_base.value = base
        dut.window_limit.value = limit
        bench.request(address, beats)
        bench.request(base, 4)
        bench.data_for(base, 4)
        await bench.cycles(30)
        assert int(bench.error.value) == code, (hex(address), beats)
        assert bench.idle.value and not dut.run_ready.value and not dut.i_ready.value
        assert not bench.monitor.bursts and not bench.monitor.beat_cycles
        await bench.reset()
        bench.image[:] = before
        bench.check_memory()
    dut.window_base.value = base
    dut.window_limit.value = limit
    assert await bench.write([(base, 512), (limit - 16, 1), (base, 1)]) == 514


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def halt_and_reuse(dut):
    """Halt at every stage: the bus is left clean, nothing is written any more, reset recovers."""
    bench = Bench(dut, latency=8)
    await bench.start()
    cut_short = 0
    for delay in (0, 1, 2, 3, 4, 5, 8, 13, 20, 40, 77, 130):
        for starved, blocked in ((False, False), (True, False), (False, True)):
            bench.monitor.clear()
            for channel in (bench.memory.aw_channel, bench.memory.w_channel):
                channel.set_pause_generator(itertools.repeat(blocked and delay % 2))
            start = bytes(bench.image)
            for index in range(10):
                bench.request(2048 * index, 100)
                bench.data_for(2048 * index, 3 if starved and index == 0 else 100)
                if starved:
                    break
            await bench.cycles(delay)
            dut.halt.value = 1
            await bench.cycles(3)
            assert not dut.run_ready.value and not dut.i_ready.value
            if blocked and delay % 2:
                await bench.cycles(20)
                assert bench.idle.value != (dut.m_axi_awvalid.value or dut.m_axi_wvalid.value)
                for channel in (bench.memory.aw_channel, bench.memory.w_channel):
                    channel.set_pause_generator(itertools.repeat(False))
            await bench.until_idle()
            beats = len(bench.monitor.beat_cycles)
            assert beats == sum(burst[1] for burst in bench.monitor.bursts)
            assert bench.monitor.responses == len(bench.monitor.bursts)
            written = bench.monitor.strobes.count(0xFFFF)
            assert bench.monitor.strobes == [0xFFFF] * written + [0] * (beats - written)
            cut_short += written < beats
            # Exactly the first beats of the runs have reached memory, and no other byte changed.
            want = bytearray(start)
            for index in range(written):
                at = 2048 * (index // 100) + 16 * (index % 100)
                want[at : at + 16] = bench.image[at : at + 16]
            bench.image[:] = want
            bench.check_memory()
            await bench.cycles(30)
            assert bench.idle.value and len(bench.monitor.beat_cycles) == beats
            await bench.reset()
            assert await bench.write([(4096 - 32, 70), (0, 1)]) == 71
    # With stored data no burst that was requested has to wait for its data.
    assert cut_short > (2 if STORED else 20)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def stored_data_first(dut):
    """A burst is requested when its last beat came, and then takes a cycle a beat."""
    bench = Bench(dut)
    await bench.start()
    for beats in (64, 5, 1):
        bench.monitor.clear()
        bench.request(0x2000, beats)
        bench.data_for(0x2000, beats - 1)
        await bench.cycles(150)
        assert not bench.monitor.bursts and not bench.monitor.beat_cycles
        assert not bench.idle.value
        bench.data_for(0x2000 + 16 * (beats - 1), 1)
        while not (dut.i_valid.value and dut.i_ready.value):
            await RisingEdge(dut.clk)
        latency = 0
        while not dut.m_axi_awvalid.value:
            await RisingEdge(dut.clk)
            latency += 1
        assert latency == 3
        await bench.until_idle()
        cycles = bench.monitor.beat_cycles
        assert cycles[-1] - cycles[0] + 1 == beats
        bench.check_memory()
    # Data may come before its run as well, as much as there is room for.
    bench.data_for(0, 300)
    await bench.cycles(300)
    assert bench.idle.value and dut.i_valid.value and not dut.i_ready.value
    bench.request(0, 300)
    await bench.cycles(10)
    await bench.until_idle()
    bench.check_memory()


class Pair(BurstBench):
    """Drives the two writers that share a bus; each has one half of memory."""

    IDLE_LIMIT = 20000
    HALF = MEMORY_BYTES // 2

    def __init__(self, dut, *, latency=0):
        super().__init__(dut, memory_bytes=MEMORY_BYTES, suffix="1")
        self.image = bytearray(self.rng.randbytes(MEMORY_BYTES))
        self.sources = [
            (self.runs, WordSource(WordBus.from_prefix(dut, "i1"), dut.clk)),
            (
                type(self.runs)(RunBus.from_prefix(dut, "run2"), dut.clk),
                WordSource(WordBus.from_prefix(dut, "i2"), dut.clk),
            ),
        ]
        self.memory = WriteMemory(
            AxiWriteBus.from_prefix(dut, "p_axi"),
            dut.clk,
            contents=bytes(self.image),
            latency=latency,
        )
        self.monitor = WriteBusMonitor(dut, "p_axi", beat_bytes=16, max_beats=64, max_in_flight=64)

    def request(self, client, address, beats, *, data=None):
        """A run, and its first ``data`` beats (all of them by default)."""
        runs, words = self.sources[client]
        address += client * self.HALF
        runs.send_nowait(Run(address=address, beats=beats, tag=0))
        for index in range(beats if data is None else data):
            word = self.rng.randbytes(16)
            words.send_nowait(Word(payload=int.from_bytes(word, "little")))
            self.image[address + 16 * index : address + 16 * index + 16] = word

    async def both_idle(self):
        """Until all that was queued is in memory."""
        while any(not source.empty() for pair in self.sources for source in pair):
            await RisingEdge(self.dut.clk)
        await self.cycles(5)
        for _ in range(self.IDLE_LIMIT):
            await RisingEdge(self.dut.clk)
            if self.dut.idle1.value and self.dut.idle2.value:
                return
        raise AssertionError("a writer does not become idle")

    def check_memory(self):
        found = bytes(self.memory.read(0, MEMORY_BYTES))
        wrong = [at for at in range(MEMORY_BYTES) if found[at] != self.image[at]]
        assert not wrong, f"{len(wrong)} wrong bytes from {wrong[0]:#x} to {wrong[-1]:#x}"
        assert int(self.dut.error1.value) == int(self.dut.error2.value) == 0

    async def reset(self):
        for pair in self.sources:
            for source in pair:
                source.clear()
                source.valid.value = 0
        await super().reset()


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def arbiter_random_runs(dut):
    """Both writers at random, in all stall combinations: every byte, every burst, every answer."""
    bench = Pair(dut, latency=20)
    await bench.start()
    for idle, backpressure in STALLS:
        bench.monitor.clear()
        bench.pause(
            *((source, idle) for pair in bench.sources for source in pair),
            (bench.memory.responses, idle),
            (bench.memory.aw_channel, backpressure),
            (bench.memory.w_channel, backpressure),
        )
        runs = [[], []]
        for client in (0, 1):
            for _ in range(60):
                beats = bench.rng.choice((1, 2, bench.rng.randrange(1, 150)))
                place = bench.rng.randrange(Pair.HALF // 16 - beats + 1)
                runs[client].append((16 * place, beats))
                bench.request(client, *runs[client][-1])
        await bench.both_idle()
        bench.check_memory()
        assert bench.monitor.responses == len(bench.monitor.bursts)
        for client in (0, 1):
            mine = [burst for burst in bench.monitor.bursts if burst[2] == client]
            placed = [(at + client * Pair.HALF, beats, 0) for at, beats in runs[client]]
            assert mine == bursts_of(placed, axi_id=client)
        assert set(bench.monitor.strobes) == {0xFFFF}


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def arbiter_rate(dut):
    """A beat a cycle, from one writer or from both, at 64 cycles from data to response."""
    bench = Pair(dut, latency=64)
    await bench.start()
    for beats, count in ((300, 6), (64, 20), (8, 60), (4, 100)):
        for clients in ((0,), (1,), (0, 1)):
            bench.monitor.clear()
            for index in range(count):
                for client in clients:
                    bench.request(client, 16 * beats * index % (Pair.HALF // 2), beats)
            await bench.both_idle()
            bench.check_memory()
            cycles = bench.monitor.beat_cycles
            span, total = cycles[-1] - cycles[0] + 1, beats * count * len(clients)
            dut._log.info("runs of %d, writers %s: %d beats in %d", beats, clients, total, span)
            assert len(cycles) == total
            assert span == total


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def arbiter_starved_neighbour(dut):
    """A writer that waits for the rest of its data does not hold up the other one."""
    bench = Pair(dut)
    await bench.start()
    for starved in (0, 1):
        bench.monitor.clear()
        bench.request(starved, 0, 64, data=63)
        await bench.cycles(100)
        for index in range(10):
            bench.request(1 - starved, 1024 * index, 64)
        while len(bench.monitor.beat_cycles) < 640:
            await RisingEdge(dut.clk)
        cycles = bench.monitor.beat_cycles
        assert cycles[-1] - cycles[0] + 1 == 640
        word = bench.rng.randbytes(16)
        at = starved * Pair.HALF + 16 * 63
        bench.image[at : at + 16] = word
        bench.sources[starved][1].send_nowait(Word(payload=int.from_bytes(word, "little")))
        await bench.both_idle()
        bench.check_memory()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def arbiter_halt(dut):
    """Halt at every stage: what was requested is completed and answered, and reset recovers."""
    bench = Pair(dut, latency=8)
    await bench.start()
    cut_short = 0
    for delay in (0, 1, 3, 8, 40, 70, 77, 100, 130, 200, 300):
        bench.monitor.clear()
        for index in range(5):
            for client in (0, 1):
                bench.request(client, 2048 * index, 100)
        await bench.cycles(delay)
        dut.halt.value = 1
        await bench.cycles(3)
        for index in (1, 2):
            assert not getattr(dut, f"run{index}_ready").value
            assert not getattr(dut, f"i{index}_ready").value
        for _ in range(2000):
            await RisingEdge(dut.clk)
            if dut.idle1.value and dut.idle2.value:
                break
        beats = len(bench.monitor.beat_cycles)
        assert beats == sum(burst[1] for burst in bench.monitor.bursts)
        assert bench.monitor.responses == len(bench.monitor.bursts)
        cut_short += 0 < bench.monitor.strobes.count(0xFFFF) < beats
        await bench.cycles(30)
        assert len(bench.monitor.beat_cycles) == beats
        await bench.reset()
        bench.image[:] = bench.memory.read(0, MEMORY_BYTES)
        for client in (0, 1):
            bench.request(client, 4096 - 32, 70)
        await bench.both_idle()
        bench.check_memory()
    assert cut_short > 3
