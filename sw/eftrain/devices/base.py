"""What the driver needs of a device: registers, memory, and waiting for its interrupt."""

from abc import ABC, abstractmethod

import numpy as np

__all__ = ["Device", "DeviceError"]


class DeviceError(RuntimeError):
    """A device cannot be reached, refused an access or misbehaved; the message is one sentence."""


class Device(ABC):
    """A core with its memory. Use it as a context manager, or call :meth:`close`.

    Attributes
    ----------
    name : :class:`str`
        For messages and reports.
    memory_base, memory_size : :class:`int`
        First byte and number of bytes of the memory that host and core share, as the core sees it.
    """

    name: str
    memory_base: int
    memory_size: int

    @abstractmethod
    def read_register(self, address):
        """Value of the 32-bit register at byte ``address`` of the control port."""

    @abstractmethod
    def write_register(self, address, value):
        """Write a 32-bit register."""

    @abstractmethod
    def read_memory(self, address, size):
        """``size`` bytes of memory from ``address`` on, as :class:`bytes`."""

    @abstractmethod
    def write_memory(self, address, data):
        """Put a contiguous bytes-like object into memory at ``address``."""

    @abstractmethod
    def wait(self, cycles):
        """Let the device run until its interrupt line is high.

        Parameters
        ----------
        cycles : :class:`int`
            Return after about this many clock cycles in any case.

        Returns
        -------
        :class:`bool`
            Whether the interrupt line is high.
        """

    @abstractmethod
    def close(self):
        """Give the device back. May be called more than once."""

    def read_array(self, address, shape, dtype=np.float32):
        """A copy of memory as an array, in the byte order of the device (little-endian).

        Parameters
        ----------
        address : :class:`int`
        shape : :class:`int` or :class:`tuple` of :class:`int`
        dtype : numpy type

        Returns
        -------
        :class:`numpy.ndarray`
            Writable.
        """
        dtype = np.dtype(dtype).newbyteorder("<")
        size = int(np.prod(shape)) * dtype.itemsize
        # A bytearray, because an array over bytes is read-only.
        return np.frombuffer(bytearray(self.read_memory(address, size)), dtype).reshape(shape)

    def write_array(self, address, array):
        """Put an array into memory in C order, little-endian."""
        array = np.asarray(array)
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        self.write_memory(address, little.reshape(-1).view(np.uint8))

    def check_range(self, address, size):
        """Raise :exc:`DeviceError` unless these bytes are memory of this device."""
        end = self.memory_base + self.memory_size
        if size < 0 or address < self.memory_base or address + size > end:
            raise DeviceError(
                f"{size} bytes at 0x{address:08x} are not in the memory of {self.name}, which is "
                f"0x{self.memory_base:08x} to 0x{end - 1:08x}."
            )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
