# amaranth: UnusedElaboratable=no
"""The bridge as a whole, on its serial line, and its parameters."""

import pytest
from amaranth.sim import Simulator

from eftrain.devices.frames import FrameReader, Reply, Request
from eftrain_hdl.bridge import SerialBridge
from eftrain_hdl.serial_protocol import REPLY, Op, Status

CYCLES_PER_BIT = 4
PARAMETERS = {
    "clock_hz": 100_000_000,
    "baud": 100_000_000 // CYCLES_PER_BIT,
    "memory_base": 0x1000_0000,
    "memory_size": 1 << 20,
}


def test_requests_over_the_line():
    """Every port is connected: registers answer at once, and so does the interrupt."""
    dut = SerialBridge(**PARAMETERS)
    reader, replies, resets = FrameReader(), [], []
    requests = [
        Request(1, Op.HELLO),
        Request(2, Op.READ_REGISTER, 0x123 << 2, 4),
        Request(3, Op.WAIT, 1000),
        Request(4, Op.RESET),
        Request(5, Op.READ_MEMORY, 0x1000_0010, 16),
    ]

    async def host(ctx):
        ctx.set(dut.irq, 1)
        for bus in (dut.ctrl, dut.read):
            ctx.set(bus.arready, 1)
            ctx.set(bus.rvalid, 1)
        ctx.set(dut.ctrl.rdata, 0x01020304)
        ctx.set(dut.read.rdata, 0x7E << 120 | 0x55)
        for request in requests:
            for byte in request.encode():
                for bit in (0, *(byte >> n & 1 for n in range(8)), 1):
                    ctx.set(dut.rx, bit)
                    await ctx.tick().repeat(CYCLES_PER_BIT)
            count = len(replies)
            while len(replies) == count:
                await ctx.tick()

    async def listen(ctx):
        while True:
            while ctx.get(dut.tx):
                await ctx.tick()
            await ctx.tick().repeat(CYCLES_PER_BIT // 2)
            byte = 0
            for bit in range(8):
                await ctx.tick().repeat(CYCLES_PER_BIT)
                byte |= ctx.get(dut.tx) << bit
            await ctx.tick().repeat(CYCLES_PER_BIT)
            assert ctx.get(dut.tx)
            replies.extend(Reply.parse(content) for content in reader.feed(bytes([byte])))

    async def watch(ctx):
        async for _, _, reset, valid, address in ctx.tick().sample(
            dut.core_reset, dut.ctrl.arvalid, dut.ctrl.araddr
        ):
            resets.append(reset)
            assert not valid or address == 0x123 << 2

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(host)
    simulator.add_testbench(listen, background=True)
    simulator.add_testbench(watch, background=True)
    simulator.run()
    hello, *others = replies
    assert (hello.seq, hello.op, hello.status) == (1, Op.HELLO | REPLY, Status.OKAY)
    assert hello.payload[12:20] == (0x1000_0000).to_bytes(4, "little") + b"\0\0\x10\0"
    assert others == [
        Reply(2, Op.READ_REGISTER | REPLY, Status.OKAY, b"\4\3\2\1"),
        Reply(3, Op.WAIT | REPLY, Status.OKAY, b"\1"),
        Reply(4, Op.RESET | REPLY, Status.OKAY),
        Reply(5, Op.READ_MEMORY | REPLY, Status.OKAY, b"\x55" + bytes(14) + b"\x7e"),
    ]
    assert sum(resets) == 16


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"baud": 26_000_000}, "26000000 baud at 100000000 Hz is 3.8 cycles a bit"),
        ({"timeout_cycles": 1000}, "timeout_cycles must be from 1024 to 2**32 - 1, not 1000."),
        ({"memory_base": 8}, "memory_base 8 and memory_size 1048576 must be multiples of 16."),
        ({"memory_size": 0}, "memory_base 268435456 and memory_size 0 must be multiples of 16."),
        ({"memory_base": 0xFFFF_0000}, "Memory of 1048576 bytes from 0xffff0000 on does not end"),
        ({"id_bits": 0}, "id_bits must be an integer from 1 to 32, not 0."),
    ],
)
def test_parameters(changed, message):
    with pytest.raises(ValueError) as error:
        SerialBridge(**{**PARAMETERS, **changed})
    assert str(error.value).startswith(message)
