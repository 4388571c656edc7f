"""The whole core under cocotb, as a device that the host package's own driver can use.

Register accesses and memory go through cocotbext-axi, whose models of AXI share nothing with those
of the C++ harness. The host package is ordinary blocking Python, so it runs in a thread of its own
while simulated time passes in the cocotb tasks that it waits for::

    device = CocotbDevice(dut)
    await device.reset()
    await bridge(train)(device)
"""

import logging

import cocotb
from cocotb.clock import Clock
from cocotb.task import resume
from cocotb.triggers import ClockCycles, First, RisingEdge
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiRamRead,
    AxiRamWrite,
    AxiReadBus,
    AxiResp,
    AxiWriteBus,
)

from eftrain.devices import Device, DeviceError
from sim.build import cached_verilog
from sim.cocotb_build import build_verilog

__all__ = ["CocotbDevice", "build_core"]

_WORD_BYTES = 4
_VERILATOR_ARGUMENTS = (
    "-O3",
    "--no-assert",
    # Files of a size that compiles in seconds, to use all processors.
    "--output-split", "20000",
)  # fmt: skip


class CocotbDevice(Device):
    """A core whose ports are those of :class:`eftrain_hdl.core.Core`.

    The methods of :class:`~eftrain.devices.Device` block; call them in a function that
    :func:`cocotb.task.bridge` made.

    Parameters
    ----------
    dut : cocotb handle
        The core. Its clock is started here.
    memory_base, memory_size : :class:`int`
        Address of the first byte of memory, a multiple of the number of bytes.
    """

    name = "cocotb"

    def __init__(self, dut, *, memory_base=0x1000_0000, memory_size=1 << 20):
        if memory_base % memory_size:
            raise ValueError(
                f"memory_base 0x{memory_base:x} must be a multiple of memory_size {memory_size}."
            )
        # A line for every burst otherwise.
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
        self.memory_base = memory_base
        self.memory_size = memory_size
        self._dut = dut
        self._memory = bytearray(memory_size)
        dut.aresetn.value = 0
        cocotb.start_soon(Clock(dut.aclk, 10, unit="ns").start())

        def attach(model, bus, prefix, **arguments):
            return model(bus.from_prefix(dut, prefix), dut.aclk, dut.aresetn, False, **arguments)

        self._control = attach(AxiLiteMaster, AxiLiteBus, "s_axi_ctrl")
        # The models take an address modulo the size of their memory.
        self._readers = [
            attach(AxiRamRead, AxiReadBus, f"m_axi_{name}", mem=self._memory)
            for name in ("stationary", "stream", "side")
        ]
        self._writer = attach(AxiRamWrite, AxiWriteBus, "m_axi_write", mem=self._memory)

    async def reset(self, cycles=8):
        """Hold the hardware reset for some cycles. Memory keeps what it holds."""
        self._dut.aresetn.value = 0
        await ClockCycles(self._dut.aclk, cycles)
        self._dut.aresetn.value = 1
        await ClockCycles(self._dut.aclk, 2)

    def set_stalls(self, rng, probability):
        """Hold every channel of every bus back in random cycles.

        Parameters
        ----------
        rng : :class:`random.Random`
        probability : :class:`float`
            0 (never) to below 1.
        """

        def pauses(seed):
            own = type(rng)(seed)
            while True:
                yield own.random() < probability

        for channel in self._channels():
            channel.set_pause_generator(pauses(rng.getrandbits(32)))

    def _channels(self):
        control = self._control
        for interface in (control.write_if, self._writer):
            yield from (interface.aw_channel, interface.w_channel, interface.b_channel)
        for interface in (control.read_if, *self._readers):
            yield from (interface.ar_channel, interface.r_channel)

    @resume
    async def read_register(self, address):
        answer = await self._control.read(address, _WORD_BYTES)
        self._check(answer.resp, "read", address)
        return int.from_bytes(answer.data, "little")

    @resume
    async def write_register(self, address, value):
        answer = await self._control.write(address, value.to_bytes(_WORD_BYTES, "little"))
        self._check(answer.resp, "write", address)

    @resume
    async def wait(self, cycles):
        irq, clock = self._dut.irq, self._dut.aclk
        if not irq.value:
            await First(RisingEdge(irq), ClockCycles(clock, cycles))
        return bool(irq.value)

    def read_memory(self, address, size):
        begin = self._offset(address, size)
        return bytes(self._memory[begin : begin + size])

    def write_memory(self, address, data):
        data = memoryview(data).cast("B")
        begin = self._offset(address, len(data))
        self._memory[begin : begin + len(data)] = data

    def close(self):
        pass

    def _offset(self, address, size):
        self.check_range(address, size)
        return address - self.memory_base

    def _check(self, response, kind, address):
        if response != AxiResp.OKAY:
            raise DeviceError(
                f"The core answered {AxiResp(response).name} to the {kind} of register "
                f"0x{address:03x}."
            )


def build_core(config):
    """Build a core for cocotb with Verilator, or find the one built before.

    The Verilog is the very text that :func:`sim.build.build_model` compiles for this configuration,
    from the same cache: generating it takes as long as compiling it.

    Parameters
    ----------
    config : :class:`eftrain_hdl.config.CoreConfig`

    Returns
    -------
    :class:`sim.cocotb_build.CocotbModel`

    Raises
    ------
    :exc:`sim.toolchain.ToolchainError`, :exc:`sim.cocotb_build.CocotbFailure`
        As for :func:`sim.cocotb_build.build_verilog`.
    """
    return build_verilog(
        cached_verilog(config),
        name=f"core_{config.name}",
        toplevel=config.name,
        arguments=_VERILATOR_ARGUMENTS,
    )
