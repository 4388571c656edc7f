"""cocotb testbench of the burst reader and the read arbiter.

The top holds one reader on bus ``m_axi`` (128 bit, 64 beats a burst, 32 bursts in flight) and two
readers behind an arbiter on bus ``n_axi`` (64 bit, 16 beats a burst, 4 bursts in flight each). In
the model with landing beats all three are like the first one, with 512 landing beats each.
``tests/memory/test_burst_reader.py`` builds it and runs each test below.
"""

import itertools

import cocotb
from cocotb.queue import Queue
from cocotb.triggers import RisingEdge, Timer
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiRamRead, AxiReadBus
from cocotbext.axi.stream import define_stream

from sim.testbenches.burst_bench import (
    PERIOD_NS,
    STALLS,
    BurstBench,
    BusMonitor,
    Run,
    RunBus,
    RunSource,
    bursts_of,
    ready_after,
)

MEMORY_BYTES = 2**17

BeatBus, _, _, BeatSink, _ = define_stream(
    "Beat", signals=["data", "tag", "last", "valid", "ready"]
)


class DelayedRequests:
    """Stands in for a request channel: hands each request out ``cycles`` after it arrived."""

    def __init__(self, channel, cycles):
        self._channel = channel
        self._cycles = cycles
        self._queue = Queue()
        cocotb.start_soon(self._pump())

    async def _pump(self):
        while True:
            request = await self._channel.recv()
            due = get_sim_time("ns") + self._cycles * PERIOD_NS
            self._queue.put_nowait((due, request))

    async def recv(self):
        due, request = await self._queue.get()
        if (wait := due - get_sim_time("ns")) > 0:
            await Timer(wait, "ns")
        return request


class ReadMemory(AxiRamRead):
    """RAM with read latency, that answers SLVERR at and above ``bad_from``."""

    def __init__(self, bus, clock, *, contents, latency=0):
        super().__init__(bus, clock, size=2**32)
        self.write(0, contents)
        self.bad_from = None
        self.requests = self.ar_channel
        if latency:
            self.ar_channel.queue_occupancy_limit = 64
            self.ar_channel = DelayedRequests(self.ar_channel, latency)

    async def _read(self, address, length):
        if self.bad_from is not None and address >= self.bad_from:
            raise ValueError("address answers SLVERR")
        return await super()._read(address, length)


class ReadBusMonitor(BusMonitor):
    """A :class:`BusMonitor` that counts a burst as answered with its last beat."""

    def __init__(self, dut, bus, **limits):
        super().__init__(dut, bus, "ar", **limits)
        self._rvalid, self._rready, self._rlast = (
            self.signal(name) for name in ("rvalid", "rready", "rlast")
        )

    def observe_data(self, cycle):
        if self._rvalid.value and self._rready.value:
            self.beat_cycles.append(cycle)
            self.in_flight -= int(self._rlast.value)


class Bench(BurstBench):
    """Drives one reader of the top: runs in, beats out, memory behind the bus."""

    BEAT_BYTES, MAX_BEATS, IN_FLIGHT = 16, 64, 32

    def __init__(self, dut, *, latency=0):
        super().__init__(dut, memory_bytes=MEMORY_BYTES)
        self.contents = self.rng.randbytes(MEMORY_BYTES)
        self.sink = BeatSink(BeatBus.from_prefix(dut, "o"), dut.clk)
        self.memory = ReadMemory(
            AxiReadBus.from_prefix(dut, "m_axi"), dut.clk, contents=self.contents, latency=latency
        )
        self.monitor = ReadBusMonitor(
            dut,
            "m_axi",
            beat_bytes=self.BEAT_BYTES,
            max_beats=self.MAX_BEATS,
            max_in_flight=self.IN_FLIGHT,
        )

    async def start(self):
        for name in ("run0_valid", "run1_valid", "o0_ready", "o1_ready", "n_axi_rvalid"):
            getattr(self.dut, name).value = 0
        await super().start()

    async def reset(self):
        self.sink.clear()
        await super().reset()

    def stall(self, idle, backpressure):
        """Idle the run source and the memory's data, stall the sink and the memory's requests."""
        self.pause(
            (self.runs, idle),
            (self.memory.r_channel, idle),
            (self.sink, backpressure),
            (self.memory.requests, backpressure),
        )

    def send(self, address, beats, tag=0):
        self.runs.send_nowait(Run(address=address, beats=beats, tag=tag))

    async def expect(self, runs, *, sink=None, beat_bytes=None):
        """Receive the beats of ``runs`` and compare; returns how many there were."""
        sink = sink or self.sink
        beat_bytes = beat_bytes or self.BEAT_BYTES
        count = 0
        for address, beats, tag in runs:
            for index in range(beats):
                beat = await sink.recv()
                at = address + index * beat_bytes
                want = int.from_bytes(self.contents[at : at + beat_bytes], "little")
                assert int(beat.data) == want, f"wrong data from {at:#x}"
                assert int(beat.tag) == tag
                assert int(beat.last) == (index == beats - 1)
                count += 1
        return count

    async def round_trip(self, runs):
        for run in runs:
            self.send(*run)
        count = await self.expect(runs)
        await self.until_idle()
        assert self.sink.empty() and int(self.dut.error.value) == 0
        return count


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def sweep_across_page(dut):
    """Lengths × offsets around a 4 KiB boundary, in all four stall combinations."""
    bench = Bench(dut)
    await bench.start()
    short = [(1, 2, 3, 4, 15, 16, 17), (-17, -16, -15, -4, -3, -2, -1, 0, 1)]
    long = [(63, 64, 65, 256, 257), (-65, -64, -63, -1, 0)]
    for idle, backpressure in STALLS:
        bench.stall(idle, backpressure)
        runs = [
            (8192 + 16 * offset, beats, bench.rng.randrange(4))
            for lengths, offsets in (short, long)
            for beats in lengths
            for offset in offsets
        ]
        bench.monitor.bursts.clear()
        count = await bench.round_trip(runs)
        assert count == sum(beats for _, beats, _ in runs) > 3000
        assert bench.monitor.bursts == bursts_of(runs)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def many_random_runs(dut):
    """Back-to-back random runs with latency and stalls keep order, tags and the in-flight limit."""
    bench = Bench(dut, latency=64)
    await bench.start()
    for idle, backpressure in STALLS:
        bench.stall(idle, backpressure)
        runs = []
        for _ in range(120):
            beats = bench.rng.choice((1, 2, bench.rng.randrange(1, 40)))
            address = 16 * bench.rng.randrange(MEMORY_BYTES // 16 - beats + 1)
            runs.append((address, beats, bench.rng.randrange(4)))
        bench.monitor.bursts.clear()
        assert await bench.round_trip(runs) > 500
        assert bench.monitor.bursts == bursts_of(runs)
    assert bench.monitor.most_in_flight == bench.IN_FLIGHT


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def request_rate(dut):
    """One request a cycle, within runs and from run to run; three cycles from run to request."""
    bench = Bench(dut, latency=64)
    await bench.start()
    for bursts_per_run in (1, 4, 32):
        bench.monitor.burst_cycles.clear()
        beats = 64 * bursts_per_run
        # Request cycles are compared with the cycle in which the first run is taken.
        runs = [(1024 * bursts_per_run * index, beats, 1) for index in range(32 // bursts_per_run)]
        for run in runs:
            bench.send(*run)
        while not (dut.run_valid.value and dut.run_ready.value):
            await RisingEdge(dut.clk)
        latency = 0
        while not dut.m_axi_arvalid.value:
            await RisingEdge(dut.clk)
            latency += 1
            assert not dut.idle.value, "idle although a run was accepted"
        await bench.expect(runs)
        await bench.until_idle()
        cycles = bench.monitor.burst_cycles
        assert len(cycles) == 32
        dut._log.info(
            "%d bursts a run: first request after %d cycles, 32 requests in %d cycles",
            bursts_per_run,
            latency,
            cycles[-1] - cycles[0] + 1,
        )
        assert latency == 3
        assert cycles[-1] - cycles[0] + 1 == 32


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def data_rate(dut):
    """One beat a cycle at 64 cycles latency, for long runs and for runs of four beats."""
    bench = Bench(dut, latency=64)
    await bench.start()
    for beats, count in ((300, 8), (64, 40), (4, 300)):
        bench.monitor.beat_cycles.clear()
        runs = [(beats * 16 * index % 65536, beats, index % 4) for index in range(count)]
        total = await bench.round_trip(runs)
        cycles = bench.monitor.beat_cycles
        taken = cycles[-1] - cycles[0] + 1
        dut._log.info("runs of %d beats: %d beats in %d cycles", beats, total, taken)
        assert len(cycles) == total == beats * count > 1000
        # Runs of four beats that straddle a page would cost a burst more; these do not.
        assert taken == total


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def bus_error(dut):
    """SLVERR in the second burst: beats before it arrive, the rest is dropped, reset recovers."""
    bench = Bench(dut)
    await bench.start()
    bad_beat = 70
    bench.memory.bad_from = 4096 + 16 * bad_beat
    bench.send(4096, 200, 2)
    for index in range(40):
        bench.send(16384 + 1024 * index, 64, 3)
    for index in range(bad_beat):
        beat = await bench.sink.recv()
        assert int(beat.last) == 0 and int(beat.tag) == 2
        at = 4096 + 16 * index
        assert int(beat.data) == int.from_bytes(bench.contents[at : at + 16], "little")
    await bench.cycles(10)
    assert int(dut.error.value) == 3
    assert not dut.run_ready.value
    await bench.until_idle(5000)
    requested = len(bench.monitor.bursts)
    await bench.cycles(50)
    assert dut.idle.value and int(dut.error.value) == 3
    assert len(bench.monitor.bursts) == requested < 44
    assert len(bench.monitor.beat_cycles) == sum(b[1] for b in bench.monitor.bursts) > bad_beat
    assert bench.sink.empty(), "beats came through after the error"
    bench.memory.bad_from = None
    await bench.reset()
    assert int(dut.error.value) == 0
    assert await bench.round_trip([(64, 130, 1), (4080, 2, 3)]) == 132


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def bus_error_with_many_in_flight(dut):
    """SLVERR while the memory holds 32 requests: all of their beats are taken and dropped."""
    bench = Bench(dut, latency=64)
    await bench.start()
    bench.memory.bad_from = 0
    for index in range(64):
        bench.send(1024 * index, 64, 3)
    await bench.cycles(20)
    await bench.until_idle(5000)
    assert int(dut.error.value) == 3
    assert len(bench.monitor.beat_cycles) == 64 * len(bench.monitor.bursts)
    assert len(bench.monitor.bursts) == 32
    assert bench.sink.empty()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def ready_waits_for_valid(dut):
    """A memory that is ready only after a request shows: the reader must not wait for it."""
    bench = Bench(dut)
    await bench.start()
    bench.memory.requests.set_pause_generator(ready_after(dut.m_axi_arvalid))
    await bench.cycles(5)
    assert not dut.m_axi_arready.value
    assert await bench.round_trip([(4080, 3, 1), (0, 200, 2)]) == 203


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def foreign_beats(dut):
    """A beat with another reader's rid is neither taken nor passed on."""
    bench = Bench(dut, latency=64)
    await bench.start()
    bench.send(0, 1)
    while not bench.monitor.bursts:
        await RisingEdge(dut.clk)
    foreign = bench.memory.r_channel._transaction_obj(rid=1, rdata=0, rresp=0, rlast=1)
    bench.memory.r_channel.send_nowait(foreign)
    await bench.cycles(5)
    for _ in range(20):
        await RisingEdge(dut.clk)
        assert dut.m_axi_rvalid.value and not dut.m_axi_rready.value and not dut.o_valid.value
    assert not dut.idle.value and bench.sink.empty()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def refused_runs(dut):
    """Bad runs set their error, put nothing on the bus, and keep later runs out until reset."""
    bench = Bench(dut)
    await bench.start()
    base, limit, top = 0x1000, 0x3000, 0xFFFF_FFFF
    misaligned, outside = 1, 2
    refused = [
        (base + 8, 1, base, limit, misaligned),
        (base + 1, 4, base, limit, misaligned),
        (base - 8, 1, base, limit, misaligned),
        (base - 16, 1, base, limit, outside),
        (base - 16, 2, base, limit, outside),
        (limit - 16, 2, base, limit, outside),
        (limit, 1, base, limit, outside),
        (base, 0, base, limit, outside),
        (base, 513, base, limit, outside),
        (base, 65535, base, limit, outside),
        (0, 1, base, limit, outside),
        (0, 1, 0, 15, outside),
        # Address plus length wraps around 32 bit.
        (0xFFFF_FFF0, 2, 0, top, outside),
        (0xFFFF_FFF0, 1, 0, top, outside),
        (0xFFF0_0000, 65535 + 2, 0, 0x1000, outside),
        (0xFFFF_F000, 512, 0, 0x2000, outside),
    ]
    for address, beats, window_base, window_limit, code in refused:
        dut.window_base.value = window_base
        dut.window_limit.value = window_limit
        bench.send(address, beats % 65536)
        bench.send(0x1000, 4)
        await bench.cycles(30)
        assert int(dut.error.value) == code, (hex(address), beats)
        assert dut.idle.value and not dut.run_ready.value
        assert not bench.monitor.bursts and bench.sink.empty()
        await bench.reset()
        assert int(dut.error.value) == 0
    # The window's exact extent is fine, and so is its last beat.
    dut.window_base.value = base
    dut.window_limit.value = limit
    assert await bench.round_trip([(base, 512, 1), (limit - 16, 1, 2), (base, 1, 3)]) == 514
    # A run that is refused behind good ones does not damage requests on the bus.
    bench.send(base, 100)
    bench.send(limit, 1)
    await bench.cycles(300)
    assert int(dut.error.value) == outside and dut.idle.value


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def halt_and_reuse(dut):
    """Halt at every stage of a transfer: the bus is left clean, and after reset all works."""
    bench = Bench(dut, latency=8)
    await bench.start()
    stopped_early = 0
    for delay in (0, 1, 2, 3, 4, 5, 8, 13, 20, 40, 77):
        for blocked in (None, bench.memory.requests, bench.sink):
            bench.stall(False, False)
            if blocked:
                blocked.set_pause_generator(itertools.repeat(True))
            bench.monitor.bursts.clear()
            bench.monitor.beat_cycles.clear()
            for index in range(10):
                bench.send(2048 * index, 100, 1)
            await bench.cycles(delay)
            dut.halt.value = 1
            await bench.cycles(3)
            assert not dut.run_ready.value
            received = bench.sink.count()
            if blocked is bench.memory.requests:
                # A request that waits on the bus must wait on, and the reader is not idle.
                await bench.cycles(20)
                assert dut.idle.value != dut.m_axi_arvalid.value
                bench.memory.requests.set_pause_generator(itertools.repeat(False))
            await bench.until_idle()
            moved = len(bench.monitor.beat_cycles)
            assert moved == sum(burst[1] for burst in bench.monitor.bursts)
            assert bench.sink.count() == received, "beats came through during halt"
            stopped_early += moved < 1000
            await bench.cycles(30)
            assert dut.idle.value and len(bench.monitor.beat_cycles) == moved
            bench.stall(False, False)
            await bench.reset()
            assert await bench.round_trip([(4096 - 32, 70, 3), (0, 1, 2)]) == 71
    assert stopped_early > 20


def share(bench, *, latency):
    """Memory, monitor, run sources and sinks for the two readers that share a bus, and sizes."""
    dut = bench.dut
    memory = ReadMemory(
        AxiReadBus.from_prefix(dut, "n_axi"), dut.clk, contents=bench.contents, latency=latency
    )
    narrow = len(dut.n_axi_rdata) == 64
    sizes = {"beat_bytes": 8, "max_beats": 16} if narrow else {"beat_bytes": 16, "max_beats": 64}
    monitor = ReadBusMonitor(dut, "n_axi", max_in_flight=8 if narrow else 64, **sizes)
    sources = [RunSource(RunBus.from_prefix(dut, f"run{index}"), dut.clk) for index in (0, 1)]
    sinks = [BeatSink(BeatBus.from_prefix(dut, f"o{index}"), dut.clk) for index in (0, 1)]
    return memory, monitor, sources, sinks, sizes


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def arbiter_shares_bus(dut):
    """Two readers behind the arbiter each get their own data, and requests alternate."""
    bench = Bench(dut)
    await bench.start()
    memory, monitor, sources, sinks, sizes = share(bench, latency=16)
    beat_bytes = sizes["beat_bytes"]
    memory.requests.set_pause_generator(ready_after(dut.n_axi_arvalid))
    await bench.cycles(5)
    assert not dut.n_axi_arready.value
    sources[0].send_nowait(Run(address=0, beats=20, tag=1))
    assert await bench.expect([(0, 20, 1)], sink=sinks[0], beat_bytes=beat_bytes) == 20

    for idle, backpressure in STALLS:
        bench.pause(*((stream, idle) for stream in (*sources, memory.r_channel)))
        bench.pause(*((stream, backpressure) for stream in (*sinks, memory.requests)))
        runs = [[], []]
        for client, _ in itertools.product((0, 1), range(40)):
            beats = bench.rng.randrange(1, 50)
            address = beat_bytes * bench.rng.randrange(MEMORY_BYTES // beat_bytes - beats + 1)
            runs[client].append((address, beats, bench.rng.randrange(4)))
        monitor.bursts.clear()
        tasks = []
        for client in (0, 1):
            for address, beats, tag in runs[client]:
                sources[client].send_nowait(Run(address=address, beats=beats, tag=tag))
            expect = bench.expect(runs[client], sink=sinks[client], beat_bytes=beat_bytes)
            tasks.append(cocotb.start_soon(expect))
        counts = [await task for task in tasks]
        assert min(counts) > 500
        await bench.cycles(2)
        assert dut.idle0.value and dut.idle1.value
        assert not int(dut.error0.value) and not int(dut.error1.value)
        for client in (0, 1):
            mine = [burst for burst in monitor.bursts if burst[2] == client]
            assert mine == bursts_of(runs[client], axi_id=client, **sizes)
        # When both always have requests, they alternate. Those that land may have no room.
        order = [burst[2] for burst in monitor.bursts][: len(monitor.bursts) // 2]
        longest = max(len(list(group)) for _, group in itertools.groupby(order))
        dut._log.info("longest row of requests of one client: %d", longest)
        assert idle or longest == 1 or beat_bytes == 16


LANDING_BEATS = 512


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def landing_claims_room(dut):
    """With nobody to take the beats, as many are requested as fit, and none of them waits."""
    bench = Bench(dut, latency=64)
    await bench.start()
    for lengths in ([64] * 40, [4] * 300, [bench.rng.randint(1, 130) for _ in range(40)]):
        bench.monitor.clear()
        bench.sink.set_pause_generator(itertools.repeat(True))
        runs = [(1024 * (k % 64), beats, k % 4) for k, beats in enumerate(lengths)]
        for run in runs:
            bench.send(*run)
        await bench.cycles(1000)
        requested = sum(beats for _, beats, _ in bench.monitor.bursts)
        assert len(bench.monitor.beat_cycles) == requested, "a beat waits on the bus"
        assert LANDING_BEATS - 2 * 64 <= requested <= LANDING_BEATS
        assert not dut.m_axi_arvalid.value and not dut.idle.value
        bench.sink.set_pause_generator(itertools.repeat(False))
        await bench.expect(runs)
        await bench.until_idle()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def landing_shared_rate(dut):
    """A beat a cycle on a shared bus with 64 cycles latency, from one reader or from both."""
    bench = Bench(dut)
    await bench.start()
    _, monitor, sources, sinks, _ = share(bench, latency=64)
    for beats, count in ((300, 6), (64, 20), (4, 200)):
        for clients in ((0,), (1,), (0, 1)):
            monitor.clear()
            tasks = []
            for client in clients:
                runs = [(beats * 16 * index % 65536, beats, index % 4) for index in range(count)]
                for address, _, tag in runs:
                    sources[client].send_nowait(Run(address=address, beats=beats, tag=tag))
                tasks.append(cocotb.start_soon(bench.expect(runs, sink=sinks[client])))
            total = sum([await task for task in tasks])
            cycles = monitor.beat_cycles
            span = cycles[-1] - cycles[0] + 1
            dut._log.info("runs of %d, clients %s: %d in %d", beats, clients, total, span)
            assert span == total == len(cycles)
            await bench.cycles(5)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def landing_blocked_neighbour(dut):
    """A reader whose data nobody takes does not slow the other one down."""
    bench = Bench(dut)
    await bench.start()
    _, monitor, sources, sinks, _ = share(bench, latency=64)
    for blocked in (0, 1):
        other = 1 - blocked
        monitor.clear()
        sinks[blocked].set_pause_generator(itertools.repeat(True))
        runs = [(1024 * index, 64, 1) for index in range(40)]
        for address, beats, tag in runs:
            for source in sources:
                source.send_nowait(Run(address=address, beats=beats, tag=tag))
        assert await bench.expect(runs, sink=sinks[other]) == 2560
        cycles = monitor.beat_cycles
        assert cycles[-1] - cycles[0] + 1 == len(cycles) <= 2560 + LANDING_BEATS
        assert sinks[blocked].empty()
        sinks[blocked].set_pause_generator(itertools.repeat(False))
        assert await bench.expect(runs, sink=sinks[blocked]) == 2560
