"""A Zynq's Linux around a simulated core: a folder that stands in for / , and what is behind it.

Real: sysfs files, the mapped register page, the mapped buffer, and the UIO node, which is a
pseudo-terminal, so that select, read and write on it are real calls. Behind it runs a thread that
lets the core run by itself, as a board does. Two things an ordinary file cannot do are added by
subclasses: an access to the register page goes on to the core's bus, and a write to a sync
attribute moves data between the processor's view of the buffer, the file, and DRAM, the
simulator's memory. Without cache maintenance the two differ, and tests fail.

Needs numpy only, like the package on a board.
"""

import mmap
import os
import select
import struct
import threading
import time
import tty
from functools import partial
from pathlib import Path

import numpy as np

from eftrain import SGD, Conv2d, Flatten, Graph, Linear, ReLU, Trainer
from eftrain.devices.udmabuf import DmaBuffer
from eftrain.devices.uio import RegisterFile, UioDevice
from eftrain_hdl import isa

BUILD, UPTIME = isa.REGISTER["BUILD"].address, isa.REGISTER["UPTIME"].address
CYCLES_A_SLICE = 5_000

MEMORY_BASE, MEMORY_SIZE = 0x1E90_0000, 4 << 20
"""Not where the board's artefact says: a buffer's address is known on the board only."""


class FakeBoard:
    """A board. A context manager.

    Parameters
    ----------
    root : path
        The folder to fill.
    core : Device
        The simulated core, with its memory.
    build : int
        What BUILD reads as.
    clock_hz : int
        What UPTIME counts.
    """

    def __init__(self, root, core, build=0, clock_hz=100_000_000):
        self.root, self.core, self.build, self.clock_hz = Path(root), core, build, clock_hz
        self.syncs = []
        """(attribute, offset, size) of every cache operation."""
        self.events = 0
        """Interrupts delivered through the node."""
        self.interrupt_is_wired = True
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self._fill()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _fill(self):
        write(self.root / "sys/class/uio/uio0/name", "axi-pmon\n")
        write(self.root / "sys/class/uio/uio1/name", "eftrain\n")
        node = self.root / "dev/uio1"
        node.parent.mkdir(parents=True)
        node.symlink_to(os.ttyname(self._slave))
        registers = self.root / "registers"
        registers.write_bytes(bytes(isa.REGISTER_SPACE))
        self._page = os.open(registers, os.O_RDWR)
        attributes = self.root / "sys/class/u-dma-buf/udmabuf-eftrain"
        write(attributes / "phys_addr", f"0x{self.core.memory_base:x}\n")
        write(attributes / "size", f"{self.core.memory_size}\n")
        for name, text in {"sync_for_cpu": "", "sync_for_device": "", "dma_coherent": "0"}.items():
            write(attributes / name, text)
        write(self.root / "proc/meminfo", "MemTotal: 2 kB\nCmaTotal: 131072 kB\nCmaFree: 9 kB\n")
        buffer = self.root / "dev/udmabuf-eftrain"
        # What the caches hold before the first invalidation is not what DRAM holds.
        buffer.write_bytes(b"\xa5" * self.core.memory_size)
        with buffer.open("r+b") as file:
            self._view = np.frombuffer(mmap.mmap(file.fileno(), 0), np.uint8)

    def open(self, **options):
        """The ``UioDevice`` of this board."""
        return UioDevice(
            root=self.root,
            register_file=partial(BusRegisterFile, self),
            dma_buffer=partial(CachedBuffer, self),
            **{"clock_hz": self.clock_hz, **options},
        )

    def load(self, address):
        if address == BUILD:
            return self.build
        if address == UPTIME:
            return int(time.monotonic() * self.clock_hz) & 0xFFFF_FFFF
        with self._lock:
            return self.core.read_register(address)

    def store(self, address, value):
        with self._lock:
            self.core.write_register(address, value)

    def synchronise(self, attribute, command):
        """What the u-dma-buf driver does with a number that is written to ``attribute``."""
        offset, size = command >> 32, command & 0xFFFF_FFF0
        assert command & 0xF == 1 and offset % 64 == 0, hex(command)
        assert size and offset + size <= self.core.memory_size, hex(command)
        self.syncs.append((attribute, offset, size))
        part = self._view[offset : offset + size]
        address = self.core.memory_base + offset
        with self._lock:
            if attribute == "sync_for_cpu":
                part[:] = np.frombuffer(self.core.read_memory(address, size), np.uint8)
            else:
                self.core.write_memory(address, part)

    def _run(self):
        """The core runs; its interrupt, a level, is given once each time it is unmasked."""
        unmasked = False
        busy = isa.REGISTER["STATUS"].address
        while not self._stop.is_set():
            with self._lock:
                running = self.core.read_register(busy) & 1
                high = self.core.wait(CYCLES_A_SLICE if running else 1)
            # Also lets the host have the lock.
            if select.select([self._master], [], [], 0.0005 if running else 0.002)[0]:
                assert set(struct.iter_unpack("=i", os.read(self._master, 64))) == {(1,)}
                unmasked = True
            if high and unmasked and self.interrupt_is_wired:
                self.events += 1
                os.write(self._master, struct.pack("=i", self.events))
                unmasked = False

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()
        for descriptor in (self._master, self._slave, self._page):
            os.close(descriptor)


class BusRegisterFile(RegisterFile):
    """The mapped page, whose accesses go on to the board's core."""

    def __init__(self, board, descriptor):
        assert os.isatty(descriptor)
        self._board = board
        super().__init__(board._page)

    def read(self, address):
        super().write(address, self._board.load(address))
        return super().read(address)

    def write(self, address, value):
        super().write(address, value)
        self._board.store(address, super().read(address))


class CachedBuffer(DmaBuffer):
    """The mapped buffer, whose sync attributes act."""

    def __init__(self, board, *options):
        self._board = board
        super().__init__(*options)

    def _sync(self, attribute, offset, size):
        super()._sync(attribute, offset, size)
        self._board.synchronise(attribute, int((self._attributes / attribute).read_text(), 16))


class CorruptDevice:
    """Passes everything to a device, but flips one bit of what is read at one address."""

    def __init__(self, device, address, bit=0):
        self._device, self._address, self._bit = device, address, bit

    def __getattr__(self, name):
        return getattr(self._device, name)

    def read_memory(self, address, size):
        data = bytearray(self._device.read_memory(address, size))
        if address <= self._address < address + size:
            data[self._address - address] ^= 1 << self._bit
        return bytes(data)


def train(device):
    """Weights, losses and scores of a few steps; what must not depend on the device."""
    generator = np.random.default_rng(7)
    x = generator.random((12, 1, 6, 6), np.float32)
    y = generator.integers(0, 3, 12)
    layers = [Conv2d(1, 5, 3, padding=1), ReLU(), Flatten(), Linear(180, 3)]
    trainer = Trainer(Graph((1, 6, 6), layers), device, SGD(lr=0.1, momentum=0.5), seed=3)
    history = trainer.fit(x, y, epochs=2, batch_size=5, test=(x[:4], y[:4]))
    logits = trainer.predict(x, logits=True)
    weights = {name: value.tobytes() for name, value in trainer.state_dict().items()}
    return weights, history.losses, history.before, history.after, logits.tobytes()


def write(path, text):
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
