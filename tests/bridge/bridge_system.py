"""What surrounds the bridge in its testbenches: registers and memory of cocotbext-axi, a host."""

import logging
import random

import cocotb
from bridge_bench import (
    MEMORY_SIZE,
    PERIOD_NS,
    SimulatedPort,
)
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteRamRead,
    AxiLiteRamWrite,
    AxiRamRead,
    AxiRamWrite,
    AxiReadBus,
    AxiWriteBus,
)

from eftrain.devices.frames import FrameReader, Reply, Request
from eftrain.devices.serial import SerialDevice
from eftrain_hdl.serial_protocol import Op, Status
from sim.testbenches.burst_bench import BusMonitor

SEED = 20220210
TIMEOUT = 4e-6
"""Seconds, beyond the bridge's limit on a bus."""

QUIET_NS = 1000
REPLY_NS = 60_000


def pauses(rng):
    while True:
        yield rng.random() < 0.4


class Registers(AxiLiteRamWrite):
    """Registers that remember what was written to them, in order."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.written = []

    async def _write(self, address, data):
        if address >= 0x800:
            raise ValueError("answers SLVERR")
        self.written.append((address, bytes(data)))
        await super()._write(address, data)


class Readable(AxiLiteRamRead):
    async def _read(self, address, length):
        if address >= 0x800:
            raise ValueError("answers SLVERR")
        return await super()._read(address, length)


class Rules(BusMonitor):
    """The rules of AXI on one of the memory buses."""

    def __init__(self, dut, bus, prefix, data):
        super().__init__(dut, bus, prefix, beat_bytes=16, max_beats=64, max_in_flight=1 << 30)
        if data:
            self.beats = self.channel("w", *data)
            self.channels.append(self.beats)
        self.data = data

    def observe_data(self, cycle):
        if self._dut.core_reset.value:
            for channel in self.channels:
                channel.forget()
        elif self.data:
            self.beats.observe()


class Bench:
    """The top with registers and memory; ``memory`` begins at the bridge's MEMORY_BASE."""

    def __init__(self, dut, *, fast=True, rules=False):
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
        self.dut = dut
        self.rng = random.Random(SEED)
        self.port = SimulatedPort(dut, self.rng, fast=fast)
        self.registers = bytearray(4096)
        self.memory = bytearray(self.rng.randbytes(MEMORY_SIZE))
        reset = (dut.clk, dut.core_reset, True)
        self.ctrl_write = Registers(
            AxiLiteBus.from_prefix(dut, "ctrl").write, *reset, mem=self.registers
        )
        self.ctrl_read = Readable(
            AxiLiteBus.from_prefix(dut, "ctrl").read, *reset, mem=self.registers
        )
        self.read = AxiRamRead(AxiReadBus.from_prefix(dut, "read"), *reset, mem=self.memory)
        self.write = AxiRamWrite(AxiWriteBus.from_prefix(dut, "write"), *reset, mem=self.memory)
        if rules:
            self.rules = [
                Rules(dut, "read", "ar", ()),
                Rules(dut, "write", "aw", ("wdata", "wstrb", "wlast")),
            ]
        self._reader = FrameReader()

    async def start(self):
        dut = self.dut
        dut.irq.value = 0
        dut.rst.value = 1
        cocotb.start_soon(Clock(dut.clk, PERIOD_NS, "ns").start())
        await ClockCycles(dut.clk, 3)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 3)
        return self

    def stall(self):
        """Hold every channel of every bus back in random cycles."""
        for model in (self.ctrl_write, self.ctrl_read, self.read, self.write):
            for name in ("aw_channel", "w_channel", "b_channel", "ar_channel", "r_channel"):
                if hasattr(model, name):
                    generator = pauses(random.Random(self.rng.random()))
                    getattr(model, name).set_pause_generator(generator)

    def device(self, **options):
        """The host's device, to be used in a function of ``bridge()``."""
        options = {"baud": 10**9, "timeout": TIMEOUT, **options}
        return SerialDevice("simulated", port=self.port, **options)

    async def replies(self):
        """All replies that come until the line is quiet."""
        found, nanoseconds = [], REPLY_NS
        while data := await self.port.receive(nanoseconds):
            found += [Reply.parse(content) for content in self._reader.feed(data)]
            nanoseconds = QUIET_NS
        return found

    async def ask(self, *arguments):
        """The one reply to a :class:`Request` with these fields."""
        await self.port.send(Request(*arguments).encode())
        (reply,) = await self.replies()
        return reply

    async def greet(self):
        reply = await self.ask(0, Op.HELLO)
        assert reply.status == Status.OKAY
