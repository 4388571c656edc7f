"""The bridge's top for simulation, and a host's serial port in simulated time."""

from collections import deque

import cocotb
from amaranth.hdl import Module, Mux
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from cocotb.task import resume
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge, Timer
from cocotb.utils import get_sim_time

from eftrain_hdl.bridge import ByteBridge, UartReceiver, UartTransmitter
from eftrain_hdl.memory import AxiLiteSignature, AxiReadSignature, AxiWriteSignature

CLOCK_HZ, BAUD = 100_000_000, 25_000_000
PERIOD_NS = 10
BIT_NS = 40
MEMORY_BASE, MEMORY_SIZE = 0x1000_0000, 1 << 16
TIMEOUT_CYCLES = 1024

ERROR = -1
"""Among the bytes of a port: a framing error."""


class BridgeBench(wiring.Component):
    """The bridge with its UARTs; with ``fast``, bytes come and go by ``i`` and ``o`` instead."""

    rx: In(1, init=1)
    tx: Out(1, init=1)
    fast: In(1)
    i: In(stream.Signature(8, always_ready=True))
    error: In(1)
    o: Out(stream.Signature(8))
    ctrl: Out(AxiLiteSignature(12))
    read: Out(AxiReadSignature(32, 128, 2))
    write: Out(AxiWriteSignature(32, 128, 2))
    irq: In(1)
    core_reset: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.bridge = bridge = ByteBridge(
            clock_hz=CLOCK_HZ,
            memory_base=MEMORY_BASE,
            memory_size=MEMORY_SIZE,
            timeout_cycles=TIMEOUT_CYCLES,
        )
        m.submodules.receiver = receiver = UartReceiver(clock_hz=CLOCK_HZ, baud=BAUD)
        m.submodules.transmitter = transmitter = UartTransmitter(clock_hz=CLOCK_HZ, baud=BAUD)
        for name in ("ctrl", "read", "write"):
            connect(m, getattr(bridge, name), flipped(getattr(self, name)))
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            bridge.i.valid.eq(Mux(self.fast, self.i.valid, receiver.o.valid)),
            bridge.i.payload.eq(Mux(self.fast, self.i.payload, receiver.o.payload)),
            bridge.error.eq(Mux(self.fast, self.error, receiver.error)),
            bridge.o.ready.eq(Mux(self.fast, self.o.ready, transmitter.i.ready)),
            transmitter.i.valid.eq(bridge.o.valid & ~self.fast),
            transmitter.i.payload.eq(bridge.o.payload),
            self.o.valid.eq(bridge.o.valid & self.fast),
            self.o.payload.eq(bridge.o.payload),
            bridge.irq.eq(self.irq),
            self.core_reset.eq(bridge.core_reset),
        ]
        return m


class Faults:
    """Damages a share of bytes at random: lost, changed, doubled, added, or replaced by a flag."""

    def __init__(self, rng, rate):
        self.rate = rate
        self.count = 0
        self._rng = rng

    def __call__(self, data, errors=False):
        rng, damaged = self._rng, []
        for byte in data:
            if rng.random() >= self.rate:
                damaged.append(byte)
                continue
            self.count += 1
            other = rng.choice([rng.randrange(256), 0x7E, 0x7D])
            damaged += rng.choice(
                [
                    [],
                    [byte ^ 1 << rng.randrange(8)],
                    [byte, byte],
                    [byte, other],
                    [other],
                    [ERROR] if errors else [],
                ]
            )
        return damaged


class SimulatedPort:
    """The port of a :class:`SerialLink` in a simulation; call it in a function of ``bridge()``.

    Attributes
    ----------
    faults : callable
        Makes bytes of bytes, both ways.
    repeat, lost : float
        Probabilities that a frame is sent twice, and not at all.
    late : float
        Probability that the replies of a frame are held back for ``late_ns``.
    """

    def __init__(self, dut, rng, *, fast=True):
        self.faults = lambda data, errors=False: data
        self.repeat = self.lost = self.late = 0.0
        self.late_ns = 0
        self.sent = 0
        self._held_until = 0
        self._dut, self._rng, self._fast = dut, rng, fast
        self._received = deque()
        self._now = 0.0
        dut.fast.value = int(fast)
        dut.i_valid.value = dut.error.value = 0
        dut.o_ready.value = 1
        dut.rx.value = 1
        cocotb.start_soon(self._listen() if fast else self._listen_to_line())

    def now(self):
        return self._now

    def write(self, data):
        resume(self.send)(data)

    def read(self, seconds):
        return resume(self.receive)(seconds * 1e9)

    def clear(self):
        self._received.clear()

    def close(self):
        pass

    async def send(self, data):
        if not self._fast:
            await RisingEdge(self._dut.clk)
            await Timer(PERIOD_NS // 3, "ns")  # Away from the clock's edges.
        times = 2 if self._rng.random() < self.repeat else 1
        for _ in range(0 if self._rng.random() < self.lost else times):
            for byte in self.faults(data, errors=True):
                await (self._send_byte if self._fast else self._send_character)(byte)
        self.sent += len(data)
        if self._rng.random() < self.late:
            self._held_until = get_sim_time("ns") + self.late_ns
        self._now = get_sim_time("sec")

    async def receive(self, nanoseconds):
        """The bytes that are there; waits for the first one."""
        end = get_sim_time("ns") + nanoseconds
        data = b""
        while not data and (now := get_sim_time("ns")) < end:
            if self._received and now >= self._held_until:
                data = bytes(self._received)
                self._received.clear()
            else:
                await ClockCycles(self._dut.clk, 10)
        self._now = get_sim_time("sec")
        return data

    async def _send_byte(self, byte):
        dut = self._dut
        dut.i_valid.value, dut.error.value = int(byte != ERROR), int(byte == ERROR)
        dut.i_payload.value = max(byte, 0)
        await RisingEdge(dut.clk)
        dut.i_valid.value = dut.error.value = 0
        for _ in range(self._rng.choice((0, 0, 1, 5))):
            await RisingEdge(dut.clk)

    async def _send_character(self, byte):
        stop = byte != ERROR
        for bit in (0, *(max(byte, 0) >> n & 1 for n in range(8)), stop):
            self._dut.rx.value = int(bit)
            await Timer(BIT_NS, "ns")
        self._dut.rx.value = 1

    async def _listen(self):
        dut = self._dut
        while True:
            if not dut.o_valid.value:
                await RisingEdge(dut.o_valid)
            await RisingEdge(dut.clk)
            if dut.o_valid.value:
                self._received += self.faults([int(dut.o_payload.value)])

    async def _listen_to_line(self):
        tx = self._dut.tx
        while True:
            await FallingEdge(tx)
            await Timer(BIT_NS // 2, "ns")
            byte = 0
            for bit in range(8):
                await Timer(BIT_NS, "ns")
                byte |= int(tx.value) << bit
            await Timer(BIT_NS, "ns")
            assert tx.value, "no stop bit"
            self._received += self.faults([byte])
