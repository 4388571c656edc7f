"""Contiguous memory that processor and core share, from the u-dma-buf driver.

https://github.com/ikwzm/udmabuf gives each buffer a node ``/dev/<name>`` to map and attributes
under ``/sys/class/u-dma-buf/<name>`` (``/sys/class/udmabuf/<name>`` before version 3).

The HP ports of a Zynq do not look into the processor's caches. So the memory is mapped cached, and
what was written is cleaned to DRAM (``sync_for_device``) before the core reads it, and what the
core wrote is invalidated (``sync_for_cpu``) before it is read here. One write of a number does
either, with the range in it: offset in bits 63:32, size in bits 31:4, direction in bits 3:2
(0: both), 1 in bit 0.
"""

import mmap
import os
from pathlib import Path

import numpy as np

from .base import DeviceError
from .linux import lock_node, open_node, read_attribute, read_number, write_attribute

__all__ = ["DmaBuffer", "find_buffers"]

CLASSES = ("u-dma-buf", "udmabuf")

CACHE_LINE = 64
"""Bytes. Ranges are widened to whole lines; the lines of Zynq's processors have 32 and 64."""

WRITE_COMBINE = 2
"""``sync_mode`` in which a node opened with O_SYNC is not cached, but takes accesses of any
alignment; in the default mode, 1, unaligned ones end in a bus error on ARM."""


def find_buffers(root="/"):
    """Attribute folders of all buffers, those with ``eftrain`` in their name first."""
    found = []
    for kind in CLASSES:
        folder = Path(root) / "sys/class" / kind
        if folder.is_dir():
            found += sorted(folder.iterdir())
    return sorted(found, key=lambda path: "eftrain" not in path.name)


class DmaBuffer:
    """One buffer, mapped.

    Parameters
    ----------
    root : path
        Where ``dev`` and ``sys`` are.
    name : str, optional
        Of the buffer; by default one with ``eftrain`` in its name, else the first.
    cached : bool
        Map it cached, with cache maintenance at every access; else uncached (O_SYNC), slower.

    Attributes
    ----------
    name : str
    address, size : int
        Physical, in bytes.

    Raises
    ------
    DeviceError
        If there is none, or it may not be used.
    """

    def __init__(self, root="/", name=None, cached=True):
        buffers = find_buffers(root)
        matching = [path for path in buffers if name in (None, path.name)]
        if not matching:
            names = ", ".join(path.name for path in buffers) or "none"
            cma = cma_total(root)
            raise DeviceError(
                f"There is no DMA buffer{f' {name!r}' if name else ''} under /sys/class/u-dma-buf "
                f"(found: {names}); load the u-dma-buf module and the board's device-tree overlay"
                + (f", and see that its size fits into CMA, {cma >> 20} MiB." if cma else ".")
            )
        self._attributes = matching[0]
        self.name = self._attributes.name
        self.address = read_number(self._attributes / "phys_addr")
        self.size = read_number(self._attributes / "size")
        # Where the ports are coherent by hardware, the driver makes these writes do nothing.
        self._syncs = cached or read_attribute(self._attributes / "dma_coherent") != "1"
        if not cached:
            write_attribute(self._attributes / "sync_mode", str(WRITE_COMBINE))
        path = Path(root) / "dev" / self.name
        self._descriptor = open_node(path, 0 if cached else os.O_SYNC)
        try:
            lock_node(self._descriptor, path)
            self._map = mmap.mmap(self._descriptor, self.size)
        except (OSError, ValueError) as error:
            os.close(self._descriptor)
            raise DeviceError(f"{path} cannot be mapped ({error}); check its driver.") from None
        except DeviceError:
            os.close(self._descriptor)
            raise
        self._bytes = np.frombuffer(self._map, np.uint8)

    def read(self, offset, size):
        """Bytes as the core left them in DRAM."""
        if not size:
            return b""
        self._sync("sync_for_cpu", offset, size)
        return self._bytes[offset : offset + size].tobytes()

    def write(self, offset, data):
        """Bytes, in DRAM when this returns."""
        if not len(data):
            return
        self._bytes[offset : offset + len(data)] = np.frombuffer(data, np.uint8)
        self._sync("sync_for_device", offset, len(data))

    def close(self):
        self._bytes = None
        self._map.close()
        os.close(self._descriptor)

    def _sync(self, attribute, offset, size):
        begin = offset - offset % CACHE_LINE
        end = min(offset + size + -(offset + size) % CACHE_LINE, self.size)
        # Uncached memory has nothing to clean, but the write orders it before the doorbell.
        if self._syncs:
            write_attribute(
                self._attributes / attribute, f"0x{begin:08X}{end - begin & ~0xF | 1:08X}"
            )


def cma_total(root="/"):
    """Bytes of the kernel's contiguous memory allocator, or None."""
    return _meminfo(root).get("CmaTotal")


def cma_free(root="/"):
    """Bytes of it that are free, or None."""
    return _meminfo(root).get("CmaFree")


def _meminfo(root):
    values = {}
    for line in (read_attribute(Path(root) / "proc/meminfo") or "").splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()
        if number and number[0].isdigit():
            values[name] = int(number[0]) << 10
    return values
