"""cocotb testbench of the AXI3 ports.

An AXI4 master of 128 bit is on ``s_axi``, a memory of 64 bit on ``m_axi``.
``tests/platforms/test_zynq_axi3_port.py`` builds the top and runs each test below.
"""

import itertools
import logging
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiMaster, AxiRam, AxiResp

MEMORY_BYTES = 1 << 16
STALLS = {
    "none": (None, None),
    "both": ([1, 0, 1], [0, 1, 1, 0, 0]),
}


class Bench:
    def __init__(self, dut, stalls="none"):
        cocotb.start_soon(Clock(dut.clk, 10, "ns").start())
        self.dut = dut
        logging.getLogger("cocotb.top").setLevel(logging.WARNING)
        self.master = AxiMaster(AxiBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
        self.memory = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=MEMORY_BYTES)
        self.bursts = {"ar": [], "aw": []}
        self.pieces = []
        cocotb.start_soon(self._watch())
        ours, theirs = STALLS[stalls]
        for channels, pattern in (
            ((self.master.read_if.r_channel, self.master.write_if.b_channel,
              self.master.write_if.w_channel), ours),
            ((self.memory.read_if.ar_channel, self.memory.read_if.r_channel,
              self.memory.write_if.aw_channel, self.memory.write_if.w_channel,
              self.memory.write_if.b_channel), theirs),
        ):  # fmt: skip
            if pattern:
                for channel in channels:
                    channel.set_pause_generator(itertools.cycle(pattern))

    async def reset(self):
        self.dut.rst.value = 1
        for _ in range(3):
            await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0
        await RisingEdge(self.dut.clk)

    async def _watch(self):
        """Every burst on the narrow side is a legal AXI3 one."""
        dut, beats = self.dut, 0
        while True:
            await RisingEdge(dut.clk)
            if dut.rst.value:
                continue
            for prefix, seen in self.bursts.items():
                valid, ready, address, length, size, burst, identifier, lock = (
                    getattr(dut, f"m_axi_{prefix}{name}").value
                    for name in ("valid", "ready", "addr", "len", "size", "burst", "id", "lock")
                )
                if valid and ready:
                    address, length = int(address), int(length)
                    assert (size, burst, identifier, lock) == (3, 1, 0, 0)
                    assert length <= 15 and address % 8 == 0
                    assert address // 4096 == (address + length * 8 + 7) // 4096
                    seen.append((address, length + 1))
            if dut.m_axi_wvalid.value and dut.m_axi_wready.value:
                beats += 1
                if dut.m_axi_wlast.value:
                    self.pieces.append(beats)
                    beats = 0

    def check_pieces(self):
        """Data ended where the addresses said."""
        assert self.pieces == [length for _, length in self.bursts["aw"]]


def random_bytes(generator, length):
    return bytes(generator.randrange(256) for _ in range(length))


async def _round_trips(dut, stalls):
    generator = random.Random(7)
    bench = Bench(dut, stalls)
    await bench.reset()
    # Around the ends of pieces, bursts and pages; then many at once.
    places = [(4096 - 16 * before, 16 * beats)
              for before in (1, 9) for beats in (1, 8, 9, 64, 65)]  # fmt: skip
    for address, length in places:
        data = random_bytes(generator, length)
        bench.memory.write(address - 16, b"\xee" * (length + 32))
        await bench.master.write(address, data)
        assert bench.memory.read(address, length) == data
        # Guard bytes on both sides.
        assert bench.memory.read(address - 16, 16) == b"\xee" * 16
        assert bench.memory.read(address + length, 16) == b"\xee" * 16
        assert (await bench.master.read(address, length)).data == data
    bench.check_pieces()

    contents = random_bytes(generator, MEMORY_BYTES)
    bench.memory.write(0, contents)
    tasks = []
    for _ in range(30):
        beats = generator.randrange(1, 130)
        address = 16 * generator.randrange((MEMORY_BYTES >> 4) - beats)
        task = cocotb.start_soon(bench.master.read(address, 16 * beats))
        tasks.append((address, beats, task))
    for address, beats, task in tasks:
        assert (await task).data == contents[address : address + 16 * beats]


@cocotb.test()
async def round_trips(dut):
    await _round_trips(dut, "none")


@cocotb.test()
async def round_trips_stalled(dut):
    await _round_trips(dut, "both")


@cocotb.test()
async def many_writes(dut):
    """Several writes under way, responses and identifiers to their own."""
    generator = random.Random(3)
    bench = Bench(dut, "both")
    await bench.reset()
    slots = []
    for slot in range(16):
        data = random_bytes(generator, 16 * generator.randrange(1, 64))
        slots.append((slot * 1024, data))
    tasks = [cocotb.start_soon(bench.master.write(a, d, awid=i % 4))
             for i, (a, d) in enumerate(slots)]  # fmt: skip
    for task in tasks:
        assert (await task).resp == AxiResp.OKAY
    for address, data in slots:
        assert bench.memory.read(address, len(data)) == data
    bench.check_pieces()


@cocotb.test()
async def strobes(dut):
    """Bytes without a strobe stay."""
    bench = Bench(dut)
    await bench.reset()
    bench.memory.write(256, b"\x55" * 64)
    await bench.master.write(259, b"\xaa" * 42)
    assert bench.memory.read(256, 64) == b"\x55" * 3 + b"\xaa" * 42 + b"\x55" * 19


@cocotb.test()
async def rate(dut):
    """A narrow beat a cycle: 64 wide beats in hardly more than 128 cycles."""
    bench = Bench(dut)
    await bench.reset()
    tasks = [cocotb.start_soon(bench.master.read(1024 * i, 1024)) for i in range(16)]
    beats = cycles = 0
    while beats < 16 * 64:
        await RisingEdge(dut.clk)
        got = bool(dut.s_axi_rvalid.value and dut.s_axi_rready.value)
        cycles += beats > 0 or got
        beats += got
    for task in tasks:
        await task
    # The memory model itself pauses between two bursts.
    assert cycles < 16 * 128 * 1.25, cycles


@cocotb.test()
async def errors(dut):
    """A piece that fails makes its burst fail, on its beats only; the next burst is clean."""
    bench = Bench(dut)
    await bench.reset()
    bad = range(128, 256)

    def failing(original):
        async def access(address, *rest, **more):
            if address in bad:
                raise ValueError("answers SLVERR")
            return await original(address, *rest, **more)

        return access

    bench.memory.read_if._read = failing(bench.memory.read_if._read)
    bench.memory.write_if._write = failing(bench.memory.write_if._write)
    assert (await bench.master.write(0, bytes(1024))).resp == AxiResp.SLVERR
    assert (await bench.master.write(512, bytes(1024))).resp == AxiResp.OKAY
    assert (await bench.master.read(0, 128)).resp == AxiResp.OKAY
    assert (await bench.master.read(0, 1024)).resp == AxiResp.SLVERR
    assert (await bench.master.read(256, 1024)).resp == AxiResp.OKAY
