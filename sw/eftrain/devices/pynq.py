"""A core on a Zynq's logic through PYNQ: ``Overlay``, ``MMIO`` and ``allocate``.

For boards that run AMD's PYNQ image (http://www.pynq.io), where neither a device-tree overlay nor
the u-dma-buf module is needed: PYNQ loads the bitstream, maps the registers at their physical
address and takes the buffer from CMA. It gives no interrupt to a plain wait, so this device looks
at the registers once a millisecond.
"""

import importlib
import importlib.util
import platform
import time

import numpy as np

from eftrain_hdl import isa

from .base import DeviceError
from .mapped import PAGE, MappedDevice

__all__ = ["PynqDevice", "available"]

CLOCK_HZ = 100_000_000
SIZE = 64 << 20

_REGISTERS = {"aarch64": 0xA000_0000}
_REGISTERS_7000 = 0x43C0_0000
"""Address of the control port on ZynqMP and on Zynq-7000, as the block designs have it."""


def available():
    """Whether the package ``pynq`` can be imported."""
    return importlib.util.find_spec("pynq") is not None


class PynqDevice(MappedDevice):
    """A core on this chip.

    Parameters
    ----------
    bitstream : path, optional
        The ``.bit`` file; PYNQ also needs the ``.hwh`` file of the same name beside it. Without one
        the logic is used as it is.
    size : int
        Bytes of the buffer.
    address : int, optional
        Physical address of the control port; by default that of this processor's family.
    clock_hz : int
        Clock of the core.

    Raises
    ------
    DeviceError
        If PYNQ is not installed, does not load the bitstream, or has not so much memory.
    """

    def __init__(self, bitstream=None, *, size=SIZE, address=None, clock_hz=CLOCK_HZ):
        try:
            pynq = importlib.import_module("pynq")
        except ImportError:
            raise DeviceError(
                "The package pynq is not installed; use PYNQ's image and its Python "
                "(/usr/local/share/pynq-venv), or the device uio."
            ) from None
        if address is None:
            address = _REGISTERS.get(platform.machine(), _REGISTERS_7000)
        try:
            self.overlay = pynq.Overlay(str(bitstream)) if bitstream else None
        except Exception as error:  # It raises many kinds, also for a missing .hwh file.
            raise DeviceError(f"PYNQ does not load {bitstream}: {_what(error)}.") from error
        try:
            array = pynq.allocate((size,), np.uint8)
        except Exception as error:
            raise DeviceError(
                f"PYNQ does not allocate {size >> 20} MiB ({_what(error)}); ask for less, or boot "
                "with a larger cma= on the kernel's command line."
            ) from error
        try:
            registers = _Registers(pynq.MMIO(address, isa.REGISTER_SPACE))
            buffer = _Buffer(array)
            super().__init__("pynq", registers, buffer, _Poll(), clock_hz)
        except BaseException:
            array.freebuffer()
            raise


class _Registers:
    def __init__(self, mmio):
        self._words = mmio.array  # An array of uint32 over the mapped registers.

    def read(self, address):
        return int(self._words[address >> 2])

    def write(self, address, value):
        self._words[address >> 2] = value

    def close(self):
        self._words = None


class _Buffer:
    """What ``allocate`` gives is an array over cached memory; its parts can be synchronised."""

    def __init__(self, array):
        self._array = array
        address = getattr(array, "device_address", None)
        self.address = int(array.physical_address if address is None else address)
        self.size = array.nbytes

    def read(self, offset, size):
        part = self._part(offset, size)
        part.invalidate()
        return self._array[offset : offset + size].tobytes()

    def write(self, offset, data):
        self._array[offset : offset + len(data)] = np.frombuffer(data, np.uint8)
        self._part(offset, len(data)).flush()

    def close(self):
        if self._array is not None:
            self._array.freebuffer()
            self._array = None

    def _part(self, offset, size):
        """The pages around a range: whole cache lines."""
        begin = offset - offset % PAGE
        return self._array[begin : offset + size + -(offset + size) % PAGE]


class _Poll:
    def wait(self, seconds):
        time.sleep(min(seconds, 0.001))

    def close(self):
        pass


def _what(error):
    text = " ".join(str(error).split()).rstrip(".")
    return text or type(error).__name__
