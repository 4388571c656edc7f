"""cocotb tests of the SDRAM controller in front of the SDRAM model.

``tests/sdram/test_sdram_controller.py`` and ``test_sdram_full_clock.py`` build the top,
:class:`sim.sdram_bench.SdramBench`; cocotbext-axi's master drives its port ``s_axi``.
"""

import itertools
import logging
import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, Timer
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiBurstType, AxiBus, AxiMaster, AxiResp

BASE = 0x1000_0000
SIZE = 32 << 20
SEED = 20220210
PERIOD_NS = 20


def start_clock(dut):
    cocotb.start_soon(Clock(dut.clk, PERIOD_NS, unit="ns").start())


def stop_streams(dut):
    for name in ("read_enable", "write_enable", "start"):
        getattr(dut, name).value = 0


def check_violations(dut):
    assert not int(dut.violations.value), f"violation {int(dut.first_violation.value)}"
    assert int(dut.bursts.value) > 0


class Bench:
    def __init__(self, dut):
        self.dut = dut
        self.rng = random.Random(SEED)
        logging.getLogger("cocotb").setLevel(logging.WARNING)
        start_clock(dut)
        stop_streams(dut)
        dut.rst.value = 1
        bus = AxiBus.from_prefix(dut, "s_axi")
        self.master = AxiMaster(bus, dut.clk, dut.rst, max_burst_len=64)
        writes, reads = self.master.write_if, self.master.read_if
        self.channels = {
            "aw": writes.aw_channel,
            "w": writes.w_channel,
            "b": writes.b_channel,
            "ar": reads.ar_channel,
            "r": reads.r_channel,
        }

    async def start(self):
        await Timer(5 * PERIOD_NS, "ns")
        await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0

    def pause(self, share, *names):
        """Let channels idle or stall in ``share`` of the cycles; all channels if none is named."""
        for name in names or self.channels:
            rng = random.Random(self.rng.random())
            paused = (rng.random() < share for _ in itertools.count())
            self.channels[name].set_pause_generator(paused)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def random_traffic(dut):
    """Random lengths, alignments and strobes, reads between them: memory holds what was written.

    Each write is read back as soon as it is answered, while reads of other addresses are going on.
    """
    bench = Bench(dut)
    await bench.start()
    rng, master = bench.rng, bench.master
    # Rows that meet in one bank, neighbours, both ends of memory.
    origins = [BASE, BASE + 4096, BASE + 2 * 4096, BASE + 64 * 4096, BASE + SIZE - 4096]
    shadow = {}

    async def compare(address, length):
        got = await master.read(address, length)
        assert got.resp == AxiResp.OKAY
        for position, byte in enumerate(got.data, address):
            assert shadow.get(position, byte) == byte, hex(position)

    async def compare_then_and_now(task, before):
        """Compare the bytes that no write has changed while the read was going on."""
        for (position, byte), got in zip(before.items(), (await task).data, strict=True):
            assert byte in (None, got) or byte != shadow[position], hex(position)

    for share in (0, 0.5):
        bench.pause(share)
        others = []
        for _ in range(25):
            length = rng.choice([1, 3, 16, 40, 100, 200, 500, 1030])
            address = rng.choice(origins) + rng.randrange(4096 - length)
            if not rng.randrange(4):
                address &= -16
            data = rng.randbytes(length)
            written = await master.write(address, data)
            assert written.resp == AxiResp.OKAY
            shadow.update(enumerate(data, address))
            await compare(address & -16, min(length + 32, 300))
            if len(others) > 3:
                await compare_then_and_now(*others.pop(0))
            known = rng.choice(list(shadow)) & -64
            before = {position: shadow.get(position) for position in range(known, known + 64)}
            others.append((cocotb.start_soon(master.read(known, 64)), before))
        for other in others:
            await compare_then_and_now(*other)
    for start in sorted({position & -512 for position in shadow})[:20]:
        await compare(start, 512)
    check_violations(dut)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def many_at_once(dut):
    """Bursts of both directions queue up, each side's in its order, with all lengths up to 256."""
    bench = Bench(dut)
    await bench.start()
    bench.master.write_if.max_burst_len = bench.master.read_if.max_burst_len = 256
    data = {}
    for share in (0, 0.3):
        bench.pause(share)
        writes = []
        for index, length in enumerate((4096, 16, 32, 1024, 48, 16, 160, 2000)):
            data[BASE + 8192 * index] = bench.rng.randbytes(length)
            write = bench.master.write(BASE + 8192 * index, data[BASE + 8192 * index])
            writes.append(cocotb.start_soon(write))
            old = bench.master.read(BASE + 8192 * index + 4096, 64)
            writes.append(cocotb.start_soon(old))
        for task in writes:
            await task
        reads = {
            address: cocotb.start_soon(bench.master.read(address, len(expected)))
            for address, expected in data.items()
        }
        for address, task in reads.items():
            assert (await task).data == data[address], hex(address)
    check_violations(dut)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def stalled_sides(dut):
    """A read that nobody takes does not stop writes, nor a write without data the reads."""
    bench = Bench(dut)
    await bench.start()
    master, size = bench.master, 6 * 1024
    data = bench.rng.randbytes(size)
    bench.pause(1, "r")
    reads = cocotb.start_soon(master.read(BASE, size))
    for start in range(0, size, 1024):
        await master.write(BASE + start + 65536, data[start : start + 1024])
    assert not reads.done()
    bench.pause(0, "r")
    await reads
    bench.pause(1, "w")
    write = cocotb.start_soon(master.write(BASE, data[:1024]))
    assert (await master.read(BASE + 65536, size)).data == data
    assert not write.done()
    bench.pause(0, "w")
    await write
    assert (await master.read(BASE, 1024)).data == data[:1024]
    check_violations(dut)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def refused_bursts(dut):
    """Bursts outside of the memory and of other kinds are answered, and write nothing."""
    bench = Bench(dut)
    await bench.start()
    master = bench.master
    ends = (BASE, BASE + SIZE - 64)
    data = bytes(range(64))
    for end in ends:
        await master.write(end, data)
    # Those around the memory, and what they would be if address bits were dropped.
    for address in (BASE - 64, BASE + SIZE, 0, SIZE - 64, 0xF000_0000, 2 * BASE):
        assert (await master.write(address, bytes(64))).resp == AxiResp.DECERR, hex(address)
        assert (await master.read(address, 64)).resp == AxiResp.DECERR, hex(address)
    for kind in ({"burst": AxiBurstType.FIXED}, {"burst": AxiBurstType.WRAP}, {"size": 2}):
        assert (await master.write(BASE, bytes(64), **kind)).resp == AxiResp.SLVERR, kind
        assert (await master.read(BASE, 64, **kind)).resp == AxiResp.SLVERR, kind
    for end in ends:
        answer = await master.read(end, 64)
        assert answer.data == data and answer.resp == AxiResp.OKAY
    check_violations(dut)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def latency(dut):
    """Cycles from AR to the first beat when nothing else goes on."""
    bench = Bench(dut)
    await bench.start()
    await bench.master.read(BASE, 16)
    await Timer(500 * PERIOD_NS, "ns")

    async def measure(address):
        task = cocotb.start_soon(bench.master.read(address, 16))
        while not (dut.s_axi_arvalid.value and dut.s_axi_arready.value):
            await RisingEdge(dut.clk)
        begin = get_sim_time("ns")
        while not dut.s_axi_rvalid.value:
            await RisingEdge(dut.clk)
        cycles = (get_sim_time("ns") - begin) / PERIOD_NS
        await task
        return cycles

    first = await measure(BASE)
    same_row = await measure(BASE + 16)
    other_row = await measure(BASE + 4096)
    dut._log.warning("latency %d %d %d", first, same_row, other_row)
    assert same_row <= first and other_row <= 32


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def reset_keeps_memory(dut):
    """Resets in the middle of traffic: no timing is violated, nothing is lost, all goes on."""
    bench = Bench(dut)
    await bench.start()
    data = bench.rng.randbytes(1024)
    await bench.master.write(BASE + 65536, data)
    for index, name in enumerate(STREAMS):
        getattr(dut, f"{name}_origin").value = BASE + 0x8_0000 * (index + 1)
    dut.length.value = 7
    for _ in range(12):
        dut.start.value = 1
        await RisingEdge(dut.clk)
        dut.start.value = 0
        dut.read_enable.value = bench.rng.randrange(16)
        dut.write_enable.value = bench.rng.randrange(1, 4)
        await Timer(bench.rng.randrange(100, 1500) * PERIOD_NS, "ns")
        await RisingEdge(dut.clk)
        stop_streams(dut)
        dut.rst.value = 1
        for _ in range(bench.rng.randrange(1, 4)):
            await RisingEdge(dut.clk)
        dut.rst.value = 0
        begin = get_sim_time("ns")
        assert (await bench.master.read(BASE + 65536, 1024)).data == data
        # Not the pause of power-up.
        assert (get_sim_time("ns") - begin) / PERIOD_NS < 64 * 8 + 200
    check_violations(dut)


STREAMS = ("r0", "r1", "r2", "r3", "w0", "w1")
FULL_CLOCK = "FULL_CLOCK" in os.environ

# Streams that read and write (a bit each), beats a burst, share of cycles in which the data pins
# move a word: at least, at 50 MHz and at 133 MHz.
CASES = {
    "one write": (0, 1, 64, 0.95, 0.95),
    "one read": (1, 0, 64, 0.95, 0.95),
    "four reads": (15, 0, 64, 0.95, 0.95),
    "four reads, one write": (15, 1, 64, 0.95, 0.93),
    "four reads, two writes, 16 beats": (15, 3, 16, 0.93, 0.85),
    "four reads, two writes, 4 beats": (15, 3, 4, 0.80, 0.60),
}


async def set_up(dut, origins, length):
    """Stop the streams, wait until nothing moves, and give them new addresses."""
    dut.read_enable.value = 0
    dut.write_enable.value = 0
    await Timer(4000 * PERIOD_NS, "ns")
    for name, origin in zip(STREAMS, origins, strict=True):
        getattr(dut, f"{name}_origin").value = origin
    dut.length.value = length - 1
    dut.start.value = 1
    await Timer(PERIOD_NS, "ns")
    dut.start.value = 0


async def measure(dut, reads, writes, *, cycles):
    """Share of cycles with a word on the data pins, once the streams are on their way."""
    dut.read_enable.value = reads
    dut.write_enable.value = writes
    await Timer(500 * PERIOD_NS, "ns")
    before = int(dut.bursts.value)
    await Timer(cycles * PERIOD_NS, "ns")
    return (int(dut.bursts.value) - before) * 8 / cycles


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def bandwidth(dut):
    """Words a cycle for streams of several kinds, refresh included; what was written comes back."""
    start_clock(dut)
    stop_streams(dut)
    for name in ("awvalid", "wvalid", "arvalid", "bready", "rready"):
        getattr(dut, f"s_axi_{name}").value = 0
    dut.rst.value = 1
    await Timer(5 * PERIOD_NS, "ns")
    dut.rst.value = 0
    # The whole pause of 200 us.
    await Timer(30_000 * PERIOD_NS, "ns")
    # Areas of 64 KiB; all of their rows meet in the same bank.
    areas = [BASE + 0x10000 * index for index in range(4)]
    for writes in (1, 2):
        await set_up(dut, (*areas, areas[0], areas[1]), 64)
        await measure(dut, 0, writes, cycles=14_000)
    sources = (areas[0], areas[1], areas[0] + 0x2000, areas[1] + 0x2000)
    for name, (reads, writes, length, *least) in CASES.items():
        await set_up(dut, (*sources, areas[2], areas[3]), length)
        share = await measure(dut, reads, writes, cycles=10_000)
        dut._log.info("%s: %.3f", name, share)
        assert share >= least[FULL_CLOCK], name
        for index in range(4):
            assert (int(getattr(dut, f"r{index}_beats").value) > 100) == bool(reads >> index & 1)
            assert not int(getattr(dut, f"r{index}_wrong").value)
    # As many refreshes as the data sheet asks for, but those postponed.
    cycles = get_sim_time("ns") / PERIOD_NS
    interval = 1037 if FULL_CLOCK else 390
    assert abs(int(dut.refreshes.value) - (cycles - 30_000) / interval) < 90
    check_violations(dut)
