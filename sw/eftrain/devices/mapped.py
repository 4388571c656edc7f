"""Devices whose registers and memory this processor reaches itself: the core on a Zynq's logic.

What differs between UIO and PYNQ are three parts, given to the constructor: ``registers`` with
``read(address)`` and ``write(address, value)``; ``buffer``, contiguous memory, with ``address``,
``size``, ``read(offset, size)`` and ``write(offset, data)`` that keep the cache coherent; and
``interrupt`` with ``wait(seconds)``, which tells whether it came, or None if it cannot. All have
``close()``.
"""

import time

from eftrain_hdl import isa

from .base import Device, DeviceError

__all__ = ["MappedDevice", "check_buffer"]

PAGE = 4096
ADDRESS_SPACE = 1 << 32

MINIMUM_WAIT = 0.001
"""Seconds of one sleep: the interrupt ends it, so a longer one costs nothing but fresh progress."""

_READABLE = {register.address for register in isa.REGISTERS if register.access != "wo"}
_WRITABLE = {register.address for register in isa.REGISTERS if register.access != "ro"}
_WINDOW = tuple(isa.REGISTER[name].address for name in ("WINDOW_BASE", "WINDOW_LIMIT"))
_LOCK = next(f for f in isa.REGISTER["CONTROL"].fields if f.name == "lock_window")


def check_buffer(name, address, size):
    """Raise ``DeviceError`` unless the core can use ``size`` bytes at this physical address."""
    if size < PAGE or address % PAGE:
        raise DeviceError(
            f"{name} lies at 0x{address:x} with {size} bytes; the core needs whole pages of {PAGE} "
            "bytes: give it a size and a place that are multiples of that in the device tree."
        )
    # The register WINDOW_LIMIT holds the first byte past the window.
    if address + size >= ADDRESS_SPACE:
        raise DeviceError(
            f"{name} lies at 0x{address:x} to 0x{address + size - 1:x} and the core reaches "
            "addresses below 4 GiB only; reserve it in low memory with memory-region in the device "
            "tree."
        )


class MappedDevice(Device):
    """A core on the same chip.

    Parameters
    ----------
    name : str
    registers, buffer, interrupt
        See the module.
    clock_hz : int
        Clock of the core, to turn cycles into time.
    """

    def __init__(self, name, registers, buffer, interrupt, clock_hz):
        check_buffer(f"The buffer of {name}", buffer.address, buffer.size)
        self.name = name
        self.memory_base, self.memory_size = buffer.address, buffer.size
        self.clock_hz = clock_hz
        self._registers, self._buffer, self._interrupt = registers, buffer, interrupt
        self._closed = False

    def read_register(self, address):
        # The core answers SLVERR to anything else, which kills a process on ARM (SIGBUS).
        self._check_register("read", address, _READABLE)
        return self._registers.read(address)

    def write_register(self, address, value):
        self._check_register("write", address, _WRITABLE)
        self._registers.write(address, value)

    def read_memory(self, address, size):
        self._check_open()
        self.check_range(address, size)
        return self._buffer.read(address - self.memory_base, size)

    def write_memory(self, address, data):
        self._check_open()
        data = memoryview(data).cast("B")
        self.check_range(address, len(data))
        self._buffer.write(address - self.memory_base, data)

    def wait(self, cycles):
        deadline = time.monotonic() + max(cycles / self.clock_hz, MINIMUM_WAIT)
        while not self._line_is_high():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            # What ends it may be an event of an earlier program; the registers tell.
            self._interrupt.wait(remaining)
        return True

    def interrupt_arrives(self, seconds=0.5):
        """Whether the interrupt reaches this process, asked while its line is high.

        None if this device does not use it. A device works without, by looking at the registers.
        """
        return self._interrupt.wait(seconds)

    def lock_window(self):
        """Let the core reach the buffer and nothing else until the next hardware reset."""
        window = self.memory_base, self.memory_base + self.memory_size
        for register, value in zip(_WINDOW, window, strict=True):
            self.write_register(register, value)
        if tuple(self.read_register(register) for register in _WINDOW) != window:
            raise DeviceError(
                f"The memory window of {self.name} is locked to another range; load the bitstream "
                "again to open it."
            )
        self.write_register(isa.REGISTER["CONTROL"].address, 1 << _LOCK.lsb)

    def close(self):
        if not self._closed:
            self._closed = True
            for part in (self._interrupt, self._registers, self._buffer):
                part.close()

    def _line_is_high(self):
        status, enable = (isa.REGISTER[name].address for name in ("IRQ_STATUS", "IRQ_ENABLE"))
        return bool(self.read_register(status) & self.read_register(enable))

    def _check_register(self, kind, address, allowed):
        self._check_open()
        if address not in allowed:
            raise DeviceError(f"{self.name} has no register to {kind} at 0x{address:03x}.")

    def _check_open(self):
        if self._closed:
            raise DeviceError(f"{self.name} is closed.")
