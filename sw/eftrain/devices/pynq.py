"""A core on a Zynq's logic through PYNQ: ``Overlay``, ``MMIO`` and ``allocate``.

For boards that run AMD's PYNQ image (http://www.pynq.io), where neither a device-tree overlay nor
the u-dma-buf module is needed: PYNQ loads the bitstream, maps the registers at their physical
address and takes the buffer from CMA. It gives no interrupt to a plain wait, so this device looks
at the registers once a millisecond.
"""

import importlib
import importlib.util
import time

import numpy as np

from eftrain_hdl import isa

from ..boards import Family
from .base import DeviceError
from .mapped import PAGE, MappedDevice

__all__ = ["REGISTERS", "PynqDevice", "is_available"]

REGISTERS = {Family.ULTRASCALE_PLUS: 0xA000_0000, Family.SERIES7: 0x43C0_0000}
"""Physical address of the control port, by the family of the part."""


def is_available():
    """Whether the package ``pynq`` can be imported."""
    return importlib.util.find_spec("pynq") is not None


class PynqDevice(MappedDevice):
    """A core on this chip.

    Parameters
    ----------
    bitstream : path
        The ``.bit`` file; PYNQ also needs the ``.hwh`` file of the same name beside it.
    size : int
        Bytes of the buffer.
    address : int
        Physical address of the control port; see :data:`REGISTERS`.
    clock_hz : int
        Clock of the core.

    Raises
    ------
    DeviceError
        If PYNQ is not installed, does not load the bitstream, or has not so much memory.
    """

    def __init__(self, bitstream, size, address, clock_hz):
        try:
            pynq = importlib.import_module("pynq")
        except ImportError:
            raise DeviceError(
                "The package pynq is not installed; use PYNQ's image and its Python "
                "(/usr/local/share/pynq-venv), or the device uio."
            ) from None
        try:
            self.overlay = pynq.Overlay(str(bitstream))
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
