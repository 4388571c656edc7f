"""A core on a Zynq's logic, through the kernel's generic UIO driver and a u-dma-buf buffer.

The device-tree overlay of a board names the core's node ``eftrain`` and binds it to
``uio_pdrv_genirq``, which makes ``/dev/uioN``: its first page maps the registers; writing 1 to it
unmasks the interrupt, reading it takes an event. The interrupt is a level, masked by the driver
when it fires, and stays high until IRQ_STATUS is cleared.

https://docs.kernel.org/driver-api/uio-howto.html
"""

import mmap
import os
import select
import struct
from pathlib import Path

import numpy as np

from eftrain_hdl import isa

from .base import DeviceError
from .linux import lock_node, open_node, read_attribute
from .mapped import MappedDevice
from .udmabuf import DmaBuffer

__all__ = ["RegisterFile", "UioDevice", "UioInterrupt", "find_uio"]

NAME = "eftrain"
CLOCK_HZ = 100_000_000


def find_uio(root="/", name=NAME):
    """Path of the node of the UIO device ``name``.

    The name is that of the device-tree node; what follows an @ does not count.

    Raises
    ------
    DeviceError
        If there is none.
    """
    folder = Path(root) / "sys/class/uio"
    found = {}
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            found[path.name] = read_attribute(path / "name") or ""
    for node, title in found.items():
        if title.partition("@")[0] == name:
            return Path(root) / "dev" / node
    others = ", ".join(sorted(set(filter(None, found.values())))) or "none"
    raise DeviceError(
        f"There is no UIO device named {name!r} under /sys/class/uio (found: {others}); load the "
        "bitstream with its device-tree overlay, and `modprobe uio_pdrv_genirq "
        "of_id=generic-uio`."
    )


class RegisterFile:
    """The registers, mapped; every access is one 32-bit load or store.

    Parameters
    ----------
    descriptor : int
        Of an open file, which stays open.
    size : int
        Bytes.
    """

    def __init__(self, descriptor, size=isa.REGISTER_SPACE):
        try:
            self._map = mmap.mmap(descriptor, size)
        except (OSError, ValueError) as error:
            raise DeviceError(f"The registers cannot be mapped ({error}).") from None
        # An aligned item of an array is one access, as in PYNQ; a slice of the map may be four.
        self._words = np.frombuffer(self._map, "<u4")

    def read(self, address):
        return int(self._words[address >> 2])

    def write(self, address, value):
        self._words[address >> 2] = value

    def close(self):
        self._words = None
        self._map.close()


class UioInterrupt:
    """The interrupt of a UIO device.

    Parameters
    ----------
    descriptor : int
        Of its open node; closed by :meth:`close`.
    """

    def __init__(self, descriptor):
        self._descriptor = descriptor

    def wait(self, seconds):
        """Unmask it, then return at the next event, or after this time; whether there was one."""
        try:
            os.write(self._descriptor, struct.pack("=i", 1))
            ready, _, _ = select.select([self._descriptor], [], [], seconds)
            if ready:
                os.read(self._descriptor, 4)
        except OSError as error:
            raise DeviceError(
                f"The interrupt of the UIO device cannot be used ({error.strerror}); give its node "
                "interrupts in the device-tree overlay."
            ) from None
        return bool(ready)

    def close(self):
        os.close(self._descriptor)


class UioDevice(MappedDevice):
    """A core on this chip.

    Parameters
    ----------
    name : str
        Of the UIO device.
    clock_hz : int
        Clock of the core.
    root : path
        Where ``dev`` and ``sys`` are.
    buffer : str, optional
        Name of the DMA buffer; see :class:`DmaBuffer`.
    cached : bool
        Whether the buffer is mapped cached.
    register_file, dma_buffer
        Classes for registers and memory, for tests.

    Raises
    ------
    DeviceError
        If a node is missing, may not be used or is used by another process, or the buffer lies
        where the core does not reach it.
    """

    def __init__(
        self,
        name=NAME,
        *,
        clock_hz=CLOCK_HZ,
        root="/",
        buffer=None,
        cached=True,
        register_file=RegisterFile,
        dma_buffer=DmaBuffer,
    ):
        path = find_uio(root, name)
        # O_SYNC: registers must not be cached.
        descriptor = open_node(path, os.O_SYNC)
        parts = [UioInterrupt(descriptor)]
        try:
            lock_node(descriptor, path)
            parts.append(register_file(descriptor))
            parts.append(dma_buffer(root, buffer, cached))
            interrupt, registers, memory = parts
            super().__init__(f"uio:{name}", registers, memory, interrupt, clock_hz)
        except BaseException:
            for part in parts:
                part.close()
            raise
