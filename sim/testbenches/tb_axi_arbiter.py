"""cocotb testbench of the AXI arbiters (``tests/memory/test_axi_arbiter.py`` builds the top).

Three masters of cocotbext-axi on ``s0_axi`` ... ``s2_axi`` (3 id bits), a RAM on ``m_axi`` (5).
"""

import itertools
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiMaster, AxiRam, AxiResp

from sim.testbenches.burst_bench import PERIOD_NS, SEED, STALLS, Channel, ready_after

MASTERS = 3
ID_BITS = 3
MEMORY_BYTES = 2**16
REGION = MEMORY_BYTES // MASTERS & -4096


class Monitor:
    """What moves on ``m_axi``: requests as (address, beats, id), cycles in which data moves.

    Also checks that what is offered stays until it is taken.
    """

    def __init__(self, dut):
        self._dut = dut
        self._channels = {
            name: Channel(
                self._signal(name, "valid"),
                self._signal(name, "ready"),
                [self._signal(name, field) for field in fields],
            )
            for name, fields in {
                "ar": ("addr", "len", "id", "size", "burst", "cache", "prot", "qos", "lock"),
                "aw": ("addr", "len", "id", "size", "burst", "cache", "prot", "qos", "lock"),
                "w": ("data", "strb", "last"),
                "r": ("id", "data", "resp", "last"),
            }.items()
        }
        self.clear()
        cocotb.start_soon(self._watch())

    def _signal(self, channel, name):
        return getattr(self._dut, f"m_axi_{channel}{name}")

    def clear(self):
        self.requests = {"ar": [], "aw": []}
        self.beat_cycles = {"r": [], "w": []}

    async def _watch(self):
        for cycle in itertools.count():
            await RisingEdge(self._dut.clk)
            for name, channel in self._channels.items():
                taken = channel.observe()
                if taken is not None and name in self.requests:
                    self.requests[name].append(tuple(taken[:3]))
                elif taken is not None:
                    self.beat_cycles[name].append(cycle)


class Ram(AxiRam):
    """A RAM that answers SLVERR in a range of addresses."""

    def __init__(self, bus, clock, reset):
        super().__init__(bus, clock, reset, size=2**32)
        self.bad = range(0)
        for half, access in ((self.write_if, "_write"), (self.read_if, "_read")):
            setattr(half, access, self._guarded(getattr(half, access)))

    def _guarded(self, access):
        async def guarded(address, *rest):
            if address in self.bad:
                raise ValueError("address answers SLVERR")
            return await access(address, *rest)

        return guarded


class Bench:
    def __init__(self, dut):
        dut._log.info("random seed %d", SEED)
        self.dut = dut
        self.rng = random.Random(SEED)
        dut.rst.value = 1
        cocotb.start_soon(Clock(dut.clk, PERIOD_NS, "ns").start())
        self.masters = [
            AxiMaster(AxiBus.from_prefix(dut, f"s{index}_axi"), dut.clk, dut.rst, max_burst_len=64)
            for index in range(MASTERS)
        ]
        self.ram = Ram(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst)
        self.monitor = Monitor(dut)

    async def start(self):
        await self.cycles(4)
        self.dut.rst.value = 0
        await self.cycles(4)

    async def cycles(self, count):
        for _ in range(count):
            await RisingEdge(self.dut.clk)

    def pause(self, sources, sinks):
        """Let what sends, or what receives, idle in random cycles; on both sides of the arbiter."""
        ram = self.ram.write_if, self.ram.read_if
        senders, receivers = [ram[0].b_channel, ram[1].r_channel], []
        receivers += [ram[0].aw_channel, ram[0].w_channel, ram[1].ar_channel]
        for master in self.masters:
            write, read = master.write_if, master.read_if
            senders += [write.aw_channel, write.w_channel, read.ar_channel]
            receivers += [write.b_channel, read.r_channel]
        for streams, active in ((senders, sources), (receivers, sinks)):
            for stream in streams:
                rng = random.Random(self.rng.random())
                paused = (active and rng.random() < 0.5 for _ in itertools.count())
                stream.set_pause_generator(paused)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def random_traffic(dut):
    """Every master reads back what it wrote, at the same time as the others, whatever its ids."""
    bench = Bench(dut)
    await bench.start()

    async def work(index):
        rng, master = random.Random(SEED + index), bench.masters[index]
        image = {}
        for _ in range(6):
            length = rng.choice([1, 16, 48, 100, 600, 1500])
            address = REGION * index + rng.randrange(REGION - length)
            data = rng.randbytes(length)
            await master.write(address, data, awid=rng.choice([None, 0, 5, 7]))
            image.update(enumerate(data, address))
            answer = await master.read(address, length, arid=rng.choice([None, 0, 2, 6]))
            assert answer.data == data and answer.resp == AxiResp.OKAY
        for address, byte in image.items():
            assert bench.ram.read(address, 1)[0] == byte

    for sources, sinks in STALLS:
        bench.pause(sources, sinks)
        bench.monitor.clear()
        tasks = [cocotb.start_soon(work(index)) for index in range(MASTERS)]
        for task in tasks:
            await task
        for requests in bench.monitor.requests.values():
            assert len(requests) > 3 * 6
            # The upper id bits name the master, whose region the address is in.
            assert all(axi_id >> ID_BITS == address // REGION for address, _, axi_id in requests)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def turns_and_rate(dut):
    """Masters with requests take turns burst by burst, and data moves in every cycle."""
    bench = Bench(dut)
    await bench.start()
    data = bench.rng.randbytes(16 * 256)
    for access in ("write", "read"):
        tasks = []
        for index, master in enumerate(bench.masters):
            for half in (master.write_if, master.read_if):
                half.max_burst_len = 16
            arguments = (len(data),) if access == "read" else (data,)
            tasks.append(cocotb.start_soon(getattr(master, access)(REGION * index, *arguments)))
        for task in tasks:
            answer = await task
            assert access == "write" or answer.data == data
    for channel, beats in (("aw", "w"), ("ar", "r")):
        owners = [axi_id >> ID_BITS for _, _, axi_id in bench.monitor.requests[channel]]
        assert len(owners) == 3 * 16 and [b for _, b, _ in bench.monitor.requests[channel]]
        start = owners[0]
        assert owners == [(start + turn) % MASTERS for turn in range(len(owners))]
        cycles = bench.monitor.beat_cycles[beats]
        assert len(cycles) == 3 * 256
        assert cycles[-1] - cycles[0] + 1 == len(cycles), channel


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def errors_find_their_master(dut):
    """An error answer goes to the master that asked, and to no other."""
    bench = Bench(dut)
    await bench.start()
    bench.ram.bad = range(REGION, 2 * REGION)
    tasks = []
    for index, master in enumerate(bench.masters):
        for access, argument in ((master.write, bytes(64)), (master.read, 64)):
            task = cocotb.start_soon(access(REGION * index, argument))
            tasks.append((index, task))
    for index, task in tasks:
        assert (await task).resp == (AxiResp.SLVERR if index == 1 else AxiResp.OKAY)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def ready_waits_for_valid(dut):
    """A memory that is ready only after a request shows: the arbiter must not wait for it."""
    bench = Bench(dut)
    await bench.start()
    ram = bench.ram
    ram.write_if.aw_channel.set_pause_generator(ready_after(dut.m_axi_awvalid))
    ram.write_if.w_channel.set_pause_generator(ready_after(dut.m_axi_wvalid))
    ram.read_if.ar_channel.set_pause_generator(ready_after(dut.m_axi_arvalid))
    await bench.cycles(5)
    assert not dut.m_axi_arready.value and not dut.m_axi_awready.value
    await bench.masters[2].write(256, bytes(range(200)))
    assert (await bench.masters[1].read(256, 200)).data == bytes(range(200))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def data_ahead_of_request(dut):
    """Data that waits for its request does not get into another master's burst."""
    bench = Bench(dut)
    await bench.start()
    early, other = bench.masters[0], bench.masters[1]
    early.write_if.aw_channel.set_pause_generator(itertools.repeat(True))
    task = cocotb.start_soon(early.write(0, bytes([1]) * 64))
    await bench.cycles(10)
    assert dut.s0_axi_wvalid.value and not dut.s0_axi_wready.value
    await other.write(4096, bytes([2]) * 64)
    early.write_if.aw_channel.set_pause_generator(itertools.repeat(False))
    await task
    assert bench.ram.read(0, 64) == bytes([1]) * 64 and bench.ram.read(4096, 64) == bytes([2]) * 64
