"""cocotb testbench of the serial bridge: single requests, legal or not, and silent buses."""

import itertools

import cocotb
from bridge_bench import (
    CLOCK_HZ,
    MEMORY_BASE,
    MEMORY_SIZE,
    PERIOD_NS,
    TIMEOUT_CYCLES,
)
from bridge_system import QUIET_NS, Bench
from cocotb.task import bridge
from cocotb.triggers import ClockCycles, RisingEdge, Timer
from cocotb.utils import get_sim_time

from eftrain.devices import DeviceError
from eftrain.devices.frames import Reply, Request
from eftrain_hdl.serial_protocol import MAX_PAYLOAD, NAK, REPLY, SERIAL_VERSION, Op, Status

BURST = 256
"""Bytes of the bursts that are stopped on their way."""


@cocotb.test()
async def break_and_line_errors(dut):
    """A break inside a frame, and characters without a stop bit, cost retries and nothing else."""
    bench = await Bench(dut, fast=False).start()
    await bench.greet()
    whole = Request(7, Op.WRITE_REGISTER, 0x10, 4, b"good").encode()
    await bench.port.send(whole[:9])
    dut.rx.value = 0
    await Timer(3, "us")
    dut.rx.value = 1
    await Timer(1, "us")
    await bench.port.send(whole)
    replies = await bench.replies()
    assert [(r.op, r.status) for r in replies] == [
        (NAK, Status.BAD_CRC),
        (Op.WRITE_REGISTER | REPLY, Status.OKAY),
    ]
    assert bench.ctrl_write.written == [(0x10, b"good")]
    # A glitch shorter than half a bit is no start bit.
    dut.rx.value = 0
    await Timer(PERIOD_NS, "ns")
    dut.rx.value = 1
    await Timer(1, "us")
    assert (await bench.ask(8, Op.READ_REGISTER, 0x10, 4)).payload == b"good"


@cocotb.test()
async def once_only(dut):
    """A repeated request is answered from what is kept, until another or HELLO comes."""
    bench = await Bench(dut).start()
    await bench.greet()
    doorbell = (5, Op.WRITE_REGISTER, 0x40, 4, b"\1\0\0\0")
    for _ in range(3):
        assert await bench.ask(*doorbell) == Reply(5, Op.WRITE_REGISTER | REPLY, Status.OKAY)
    assert len(bench.ctrl_write.written) == 1
    read = (6, Op.READ_MEMORY, MEMORY_BASE, 64)
    first = await bench.ask(*read)
    old = bytes(bench.memory[:64])
    assert first.payload == old
    bench.memory[:64] = bytes(64)
    assert await bench.ask(*read) == first
    # The payload of a request that is dropped or damaged does not touch what is kept.
    damaged = bytearray(Request(7, Op.WRITE_MEMORY, MEMORY_BASE, 64, b"x" * 64).encode())
    damaged[20] ^= 1
    await bench.port.send(damaged)
    (nak,) = await bench.replies()
    assert (nak.op, nak.status) == (NAK, Status.BAD_CRC)
    assert await bench.ask(*read) == first
    assert bench.memory[:64] == bytes(64)
    # A new session forgets.
    await bench.ask(6, Op.HELLO)
    assert (await bench.ask(*read)).payload == bytes(64)
    assert (await bench.ask(*doorbell)).status == Status.OKAY
    assert len(bench.ctrl_write.written) == 2


@cocotb.test()
async def refused_requests(dut):
    """Every request that is not legal is answered, and does nothing."""
    bench = await Bench(dut).start()
    # Nothing is done for a host that does not know that the board was reset.
    reply = await bench.ask(1, Op.WRITE_REGISTER, 0x40, 4, b"\1\0\0\0")
    assert reply == Reply(1, Op.WRITE_REGISTER | REPLY, Status.NO_SESSION)
    reply = await bench.ask(9, Op.HELLO, 0xCAFE_F00D)
    words = [int.from_bytes(reply.payload[i : i + 4], "little") for i in range(0, 28, 4)]
    assert words == [
        SERIAL_VERSION, 0xCAFE_F00D, CLOCK_HZ, MEMORY_BASE, MEMORY_SIZE, MAX_PAYLOAD, TIMEOUT_CYCLES
    ]  # fmt: skip
    before = bytes(bench.memory)
    base = MEMORY_BASE
    seq = itertools.count(10)
    for status, *request in (
        (Status.BAD_OP, 7),
        (Status.BAD_OP, 0x7F, 0, 0),
        (Status.BAD_REQUEST, Op.HELLO, 0, 1),
        (Status.BAD_REQUEST, Op.READ_REGISTER, 0x1000, 4),
        (Status.BAD_REQUEST, Op.READ_REGISTER, 0x8000_0000, 4),
        (Status.BAD_REQUEST, Op.READ_REGISTER, 2, 4),
        (Status.BAD_REQUEST, Op.READ_REGISTER, 0, 8),
        (Status.BAD_REQUEST, Op.READ_REGISTER, 0, 4, b"1234"),
        (Status.BAD_REQUEST, Op.WRITE_REGISTER, 0, 4),
        (Status.BAD_REQUEST, Op.WRITE_REGISTER, 0, 4, b"12345"),
        (Status.BAD_REQUEST, Op.WRITE_REGISTER, 0, 4, b"123"),
        (Status.BAD_REQUEST, Op.READ_MEMORY, base, 0),
        (Status.BAD_REQUEST, Op.READ_MEMORY, base + 8, 16),
        (Status.BAD_REQUEST, Op.READ_MEMORY, base, 24),
        (Status.BAD_REQUEST, Op.READ_MEMORY, base, 1040),
        (Status.BAD_REQUEST, Op.READ_MEMORY, base, 0x8000),
        (Status.BAD_REQUEST, Op.READ_MEMORY, base + 4096 - 16, 32),
        (Status.BAD_REQUEST, Op.WRITE_MEMORY, base, 32, b"x" * 16),
        (Status.BAD_REQUEST, Op.WRITE_MEMORY, base, 16, b"x" * 32),
        (Status.BAD_REQUEST, Op.WRITE_MEMORY, base, 1040, b"x" * 1040),
        (Status.BAD_REQUEST, Op.WRITE_MEMORY, base, 1024, b"x" * 3000),
        (Status.BAD_REQUEST, Op.WAIT, 0, 4),
        (Status.BAD_REQUEST, Op.RESET, 0, 4),
        (Status.OKAY, Op.READ_MEMORY, base + 4096 - 16, 16),
        (Status.OKAY, Op.READ_MEMORY, base + 4096 - 1024, 1024),
        (Status.OKAY, Op.READ_REGISTER, 0x7FC, 4),
        (Status.SLVERR, Op.READ_REGISTER, 0x800, 4),
        (Status.SLVERR, Op.WRITE_REGISTER, 0xFFC, 4, b"1234"),
    ):
        number = next(seq)
        reply = await bench.ask(number, *request)
        assert (reply.seq, reply.op, reply.status) == (number, request[0] | REPLY, status), request
        assert len(reply.payload) == (request[2] if status == Status.OKAY else 0)
    assert bench.ctrl_write.written == []
    assert bench.memory == before
    # Frames that are too short for a request, with a right CRC; two flags in a row are none.
    from eftrain.devices.frames import encode_frame

    for content in (b"", b"1", b"1234567"):
        await bench.port.send(b"\x7e\x7e" + encode_frame(content))
        (reply,) = await bench.replies()
        assert (reply.op, reply.status) == (NAK, Status.BAD_CRC)


@cocotb.test()
async def waiting(dut):
    bench = await Bench(dut).start()
    await bench.greet()

    async def timed(seq, cycles, irq_after=None, byte_after=None):
        begin = get_sim_time("ns")
        await bench.port.send(Request(seq, Op.WAIT, cycles).encode())
        if irq_after is not None:
            await ClockCycles(dut.clk, irq_after)
            dut.irq.value = 1
        if byte_after is not None:
            await ClockCycles(dut.clk, byte_after)
            await bench.port.send(b"?")
        (reply,) = await bench.replies()
        dut.irq.value = 0
        assert reply.status == Status.OKAY
        # `replies` waits for quiet.
        return reply.payload[0], (get_sim_time("ns") - begin - QUIET_NS) / PERIOD_NS

    for cycles in (0, 1, 3000):
        flag, took = await timed(cycles & 0xFF, cycles)
        assert flag == 0 and cycles <= took <= cycles + 120
    flag, took = await timed(21, 0xFFFF_FFFF, irq_after=500)
    assert flag == 1 and 500 <= took <= 620
    dut.irq.value = 1
    flag, took = await timed(22, 1000)
    assert flag == 1 and took <= 120
    # A host that speaks before the end gets an answer to that, and its next frame through.
    flag, took = await timed(23, 0xFFFF_FFFF, byte_after=300)
    assert flag == 0 and took <= 430
    await bench.port.send(b"\x7e")
    assert (await bench.ask(24, Op.READ_REGISTER, 0, 4)).status == Status.OKAY


@cocotb.test()
async def silent_registers(dut):
    """Registers that never answer give TIMEOUT, not silence; late answers are left out."""
    bench = await Bench(dut).start()
    await bench.greet()
    bench.registers[0:8] = b"old!new!"
    for channel in (bench.ctrl_read.ar_channel, bench.ctrl_read.r_channel):
        channel.pause = True
        for seq in (1, 2):
            reply = await bench.ask(seq, Op.READ_REGISTER, 0, 4)
            assert reply == Reply(seq, Op.READ_REGISTER | REPLY, Status.TIMEOUT)
        # Memory is not concerned.
        assert (await bench.ask(3, Op.READ_MEMORY, MEMORY_BASE, 16)).status == Status.OKAY
        channel.pause = False
        await ClockCycles(dut.clk, 20)
        assert (await bench.ask(4, Op.READ_REGISTER, 4, 4)).payload == b"new!"
    bench.ctrl_write.b_channel.pause = True
    assert (await bench.ask(5, Op.WRITE_REGISTER, 8, 4, b"1234")).status == Status.TIMEOUT
    assert (await bench.ask(6, Op.READ_REGISTER, 0, 4)).status == Status.TIMEOUT
    bench.ctrl_write.b_channel.pause = False
    reply = await bench.ask(7, Op.RESET)
    assert reply == Reply(7, Op.RESET | REPLY, Status.OKAY)
    assert (await bench.ask(8, Op.READ_REGISTER, 0, 4)).payload == b"old!"

    def run():
        device = bench.device()
        bench.ctrl_read.r_channel.pause = True
        try:
            device.read_register(0x24)
        except DeviceError as error:
            text = str(error)
        assert (
            text
            == "simulated did not complete the read of register 0x024 in time; reset the board."
        )
        bench.ctrl_read.r_channel.pause = False
        device.reset()
        assert device.read_register(4) == int.from_bytes(b"new!", "little")

    await bridge(run)()


@cocotb.test()
async def silent_memory(dut):
    """Bursts that stop anywhere: TIMEOUT, no wrong data later, and RESET or a late answer heals."""
    bench = await Bench(dut, rules=True).start()
    await bench.greet()
    seq = itertools.count(1)
    payload = bench.rng.randbytes(BURST)

    async def ask(*arguments):
        return await bench.ask(next(seq), *arguments)

    async def pause_later(channel, cycles):
        await ClockCycles(dut.clk, cycles)
        channel.pause = True

    read_channels = (bench.read.ar_channel, bench.read.r_channel)
    for reset, channel in itertools.product((False, True), read_channels):
        before = bytes(bench.memory)
        task = cocotb.start_soon(pause_later(channel, 40))
        await ask(Op.READ_MEMORY, MEMORY_BASE, BURST)
        reply = await ask(Op.READ_MEMORY, MEMORY_BASE, BURST)
        assert reply.status == Status.TIMEOUT and reply.payload == b""
        await task
        # The reply that is kept while the late beats come does not change.
        bench.registers[0:4] = b"kept"
        kept = await ask(Op.READ_REGISTER, 0, 4)
        assert kept.payload == b"kept"
        if reset:
            assert (await ask(Op.RESET)).status == Status.OKAY
        channel.pause = False
        await ClockCycles(dut.clk, 100)
        if not reset:
            repeated = Request(kept.seq, Op.READ_REGISTER, 0, 4)
            await bench.port.send(repeated.encode())
            assert await bench.replies() == [kept]
        reply = await ask(Op.READ_MEMORY, MEMORY_BASE + BURST, BURST)
        assert reply.payload == before[BURST : 2 * BURST]

    write_channels = (bench.write.aw_channel, bench.write.w_channel, bench.write.b_channel)
    for reset, channel in itertools.product((False, True), write_channels):
        before = bytes(bench.memory)
        channel.pause = True
        reply = await ask(Op.WRITE_MEMORY, MEMORY_BASE, BURST, payload)
        assert reply.status == Status.TIMEOUT
        # A request that fills the buffer anew does not reach memory by the earlier burst.
        assert (
            await ask(Op.WRITE_MEMORY, MEMORY_BASE, BURST, b"x" * BURST)
        ).status == Status.TIMEOUT
        assert (await ask(Op.WRITE_REGISTER, 0, 4, b"kept")).status == Status.OKAY
        assert bench.registers[0:4] == b"kept"
        if reset:
            assert (await ask(Op.RESET)).status == Status.OKAY
        channel.pause = False
        await ClockCycles(dut.clk, 200)
        found = bytes(bench.memory)
        assert found[BURST:] == before[BURST:]
        assert all(
            found[at : at + 16] in (before[at : at + 16], payload[at : at + 16])
            for at in range(0, BURST, 16)
        )
        assert (
            await ask(Op.WRITE_MEMORY, MEMORY_BASE, BURST, before[:BURST])
        ).status == Status.OKAY
        assert bench.memory == before


@cocotb.test()
async def reset_line(dut):
    """RESET holds ``core_reset`` for 16 cycles, once for each sequence number."""
    bench = await Bench(dut).start()
    cycles = []

    async def count():
        while True:
            await RisingEdge(dut.clk)
            cycles.append(int(dut.core_reset.value))

    cocotb.start_soon(count())
    await bench.greet()
    assert sum(cycles) == 0
    for expected, seq in ((16, 1), (16, 1), (32, 2)):
        await bench.ask(seq, Op.RESET)
        assert sum(cycles) == expected
