# amaranth: UnusedElaboratable=no
"""The UART at the rates that boards use, against a line that is timed apart from its clock."""

import itertools
import math

import pytest
from amaranth.sim import Simulator

from eftrain_hdl.bridge import UartReceiver, UartTransmitter
from eftrain_hdl.bridge.uart import MIN_CYCLES_PER_BIT, baud_step

RATES = [
    (25_000_000, 3_000_000),
    (3_000_000, 115_200),
    (50_000_000, 3_000_000),
    (100_000_000, 3_000_000),
    (100_000_000, 25_000_000),
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
def test_receiver(clock_hz, baud):
    """Whatever the phase of the line, and with rates of host and board that differ by 1.5 %."""
    data = bytes([0x55, 0x00, 0xFF, 0x7E])
    deviations = (-0.015, 0.015) if clock_hz / baud > MIN_CYCLES_PER_BIT else (0,)
    for deviation, offset in itertools.product(deviations, (0.0, 0.4, 0.9)):
        found = receive(clock_hz, baud, levels(data), deviation=deviation, offset=offset)
        assert bytes(byte for _, byte in found) == data


def test_receiver_samples_near_the_middle():
    """``valid`` rises half a bit, and the cycles of synchroniser and filter, into the stop bit."""
    clock_hz, baud = 100_000_000, 1_000_000
    ((cycle, byte),) = receive(clock_hz, baud, levels(b"A"))
    assert byte == ord("A")
    assert 5 + 950 <= cycle <= 5 + 950 + 8


def test_framing_errors():
    bits = levels(b"a") + levels(b"b", stop=0) + [0] * 35 + [1] + levels(b"c")
    found = receive(10_000_000, 1_000_000, bits)
    assert [byte for _, byte in found] == [ord("a"), None, ord("c")]


def test_glitches_are_not_start_bits():
    """One cycle is filtered, and what is shorter than half a bit is no start bit."""
    clock_hz, baud = 16_000_000, 1_000_000
    bits = [1] * 10 + [0] * 1 + [1] * 40 + [0] * 6 + [1] * 40
    # `levels` in cycles: sixteen a bit.
    bits += [level for level in levels(b"x") for _ in range(16)]
    dut = UartReceiver(clock_hz=clock_hz, baud=baud)
    found = []

    async def line(ctx):
        await drive(ctx, dut.rx, bits + [1] * 40, 1)

    async def watch(ctx):
        async for _, _, valid, payload in ctx.tick().sample(dut.o.valid, dut.o.payload):
            if valid:
                found.append(payload)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(line)
    simulator.add_testbench(watch, background=True)
    simulator.run()
    assert found == [ord("x")]


@pytest.mark.parametrize(("clock_hz", "baud"), RATES)
def test_transmitter(clock_hz, baud):
    """Every bit lasts as long as it should to a cycle, over characters without a pause."""
    dut = UartTransmitter(clock_hz=clock_hz, baud=baud)
    cycles_per_bit = clock_hz / baud
    data = bytes([0x55, 0x00, 0xFF, 0x7E])
    wave = []

    async def feed(ctx):
        ctx.set(dut.i.valid, 1)
        for byte in data:
            ctx.set(dut.i.payload, byte)
            await ctx.tick().until(dut.i.ready)
        ctx.set(dut.i.valid, 0)
        await ctx.tick().repeat(round(12 * cycles_per_bit))

    async def watch(ctx):
        async for _, _, tx in ctx.tick().sample(dut.tx):
            wave.append(tx)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(feed)
    simulator.add_testbench(watch, background=True)
    simulator.run()
    begin = wave.index(0)
    bits = levels(data)
    for index, level in enumerate(bits):
        first, end = index * cycles_per_bit, (index + 1) * cycles_per_bit
        inner = wave[begin + math.ceil(first) + 1 : begin + math.floor(end) - 1]
        assert inner and set(inner) == {level}
    assert set(wave[begin + round(len(bits) * cycles_per_bit) :]) == {1}


@pytest.mark.parametrize("clock_hz", [25_000_000, 48_000_000, 50_000_000, 99_999_999, 100_000_000])
@pytest.mark.parametrize("baud", [9_600, 115_200, 921_600, 2_999_999, 3_000_000])
def test_divisor(clock_hz, baud):
    bits, step = baud_step(clock_hz, baud)
    assert abs(step / (1 << bits) * clock_hz / baud - 1) < 2**-12


@pytest.mark.parametrize(
    ("clock_hz", "baud", "message"),
    [
        (25_000_000, 7_000_000, "7000000 baud at 25000000 Hz is 3.6 cycles a bit; it must be 4 to"),
        (100_000_000, 1_200, "1200 baud at 100000000 Hz is 83333.3 cycles a bit"),
        (0, 9_600, "clock_hz and baud must be positive integers, not 0 and 9600."),
        (1e8, 9_600, "clock_hz and baud must be positive integers, not 100000000.0 and 9600."),
    ],
)
def test_rates_that_do_not_fit(clock_hz, baud, message):
    for uart in (UartReceiver, UartTransmitter):
        with pytest.raises(ValueError) as error:
            uart(clock_hz=clock_hz, baud=baud)
        assert str(error.value).startswith(message)
