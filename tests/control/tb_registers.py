"""cocotb testbench of the register block; ``test_registers_cocotb.py`` builds and runs it.

The top is a ``RegisterBlock`` with bus ``s_axi``; its other inputs stay zero.
"""

import itertools
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from eftrain_hdl import isa

SEED = 20220210
STALLS = list(itertools.product((False, True), repeat=5))


def pauses(rng):
    while True:
        yield rng.random() < 0.6


async def start(dut):
    """Clock, reset and a master."""
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    dut.rst.value = 1
    for _ in range(3):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    return AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)


@cocotb.test()
async def round_trip(dut):
    """Reads and writes of all lengths and offsets, with every combination of stalled channels."""
    master = await start(dut)
    rng = random.Random(SEED)
    write, read = master.write_if, master.read_if
    channels = (write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel)
    names = ("PROGRAM_ADDRESS", "PROGRAM_LENGTH", "WINDOW_BASE", "WINDOW_LIMIT")
    first = isa.REGISTER[names[0]].address
    image = bytearray(4 * len(names))
    for stalls in STALLS:
        for channel, stalled in zip(channels, stalls, strict=True):
            channel.set_pause_generator(pauses(rng) if stalled else itertools.repeat(False))
        for _ in range(6):
            offset = rng.randrange(len(image))
            length = rng.randint(1, len(image) - offset)
            data = rng.randbytes(length)
            answer = await master.write(first + offset, data)
            assert answer.resp == AxiResp.OKAY
            image[offset:offset + length] = data
            answer = await master.read(first, len(image))
            assert (answer.resp, bytes(answer.data)) == (AxiResp.OKAY, bytes(image))


@cocotb.test()
async def refused(dut):
    """Read-only registers and holes in the map answer SLVERR and change nothing."""
    master = await start(dut)
    for address in (0x000, 0x008, 0x024, 0x0FC, 0xFFC):
        assert (await master.write(address, b"\xff" * 4)).resp == AxiResp.SLVERR
    assert int.from_bytes((await master.read(0, 4)).data, "little") == isa.PRODUCT_ID
    answer = await master.read(0x0FC, 4)
    assert (answer.resp, bytes(answer.data)) == (AxiResp.SLVERR, bytes(4))


@cocotb.test()
async def many_at_once(dut):
    """Requests that the master queues up are all answered, in order."""
    master = await start(dut)
    address = isa.REGISTER["WATCHDOG"].address
    writes = [master.init_write(address, i.to_bytes(4, "little")) for i in range(20)]
    for event in writes:
        await event.wait()
    reads = [master.init_read(address, 4) for _ in range(20)]
    for event in reads:
        await event.wait()
        assert event.data.data == (19).to_bytes(4, "little")
