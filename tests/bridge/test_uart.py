# amaranth: UnusedElaboratable=no
"""The UART at the rates that boards use, against a line that is timed independently of its clock."""

import random

import pytest
from amaranth.sim import Simulator

from eftrain_hdl.bridge import UartReceiver, UartTransmitter
from eftrain_hdl.bridge.uart import baud_step

RATES = [
    (25_000_000, 3_000_000),
    (25_000_000, 115_200),
    (50_000_000, 3_000_000),
    (66_000_000, 2_000_000),
    (100_000_000, 3_000_000),
    (100_000_000, 25_000_000),
    (10_000_000, 2_500_000),
]


def levels(data, *, stop=1):
    """Line levels of the characters, a bit each."""
    return [b for byte in data for b in (0, *(byte >> n & 1 for n in range(8)), stop)]


async def drive(ctx, line, bits, cycles_per_bit, offset=0.0):
    """Set the line, cycle by cycle, to the level that it has at that time."""
    cycle = 0
    while (index := int((cycle - offset) / cycles_per_bit)) < len(bits):
        ctx.set(line, bits[index] if cycle >= offset else 1)
        await ctx.tick()
        cycle += 1
    ctx.set(line, 1)


def receive(clock_hz, baud, bits, *, deviation=0.0, offset=0.0):
    """(cycle, byte or None) of what the receiver gives; None is an error."""
    dut = UartReceiver(clock_hz=clock_hz, baud=baud)
    found = []

    async def line(ctx):
        await ctx.tick().repeat(5)
        await drive(ctx, dut.rx, bits, clock_hz / baud * (1 + deviation), offset)
        await ctx.tick().repeat(round(4 * clock_hz / baud))

    async def watch(ctx):
        cycle = 0
        async for _, _, valid, payload, error in ctx.tick().sample(
            dut.o.valid, dut.o.payload, dut.error
        ):
            assert not (valid and error)
            if valid or error:
                found.append((cycle, None if error else payload))
            cycle += 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(line)
    simulator.add_testbench(watch, background=True)
    simulator.run()
    return found


@pytest.mark.parametrize(("clock_hz", "baud"), RATES)
@pytest.mark.parametrize("deviation", [-0.015, 0, 0.015])
def test_receiver(clock_hz, baud, deviation):
    data = bytes([0x55, 0x00, 0xFF, 0x7E]) + random.Random(1).randbytes(3)
    if clock_hz / baud == 4:
        deviation = 0  # Nothing to spare.
    for offset in (0.0, 0.4, 0.9):
        found = receive(clock_hz, baud, levels(data), deviation=deviation, offset=offset)
        assert bytes(byte for _, byte in found) == data
