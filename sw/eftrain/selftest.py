"""Does a device compute and move data right? Memory, the four ports, the three passes of a layer.

Everything is small, since a device may be at the end of a serial line, and made of integers that
every format holds exactly, so that results are compared for equality. Needs numpy only.
"""

import numpy as np

from eftrain_hdl import isa

from . import layers
from .devices.base import Device, DeviceError
from .optim import SGD

__all__ = [
    "PORTS",
    "Part",
    "check_interrupt",
    "check_layer",
    "check_port",
    "measure_clock",
    "walk_memory",
]

SEED = 1
ATOM = 16
"""Bytes of one test of the memory, one beat of the bus."""


class Part(Device):
    """A range of another device's memory, as if it were all.

    Parameters
    ----------
    device : Device
    offset, size : int
    """

    def __init__(self, device, offset, size):
        self._device = device
        self.name = device.name
        self.memory_base = device.memory_base + offset
        self.memory_size = size

    def read_register(self, address):
        return self._device.read_register(address)

    def write_register(self, address, value):
        self._device.write_register(address, value)

    def read_memory(self, address, size):
        self.check_range(address, size)
        return self._device.read_memory(address, size)

    def write_memory(self, address, data):
        self.check_range(address, len(data))
        self._device.write_memory(address, data)

    def wait(self, cycles):
        return self._device.wait(cycles)

    def close(self):
        pass


def walk_memory(device):
    """Look for stuck and crossed lines of data and address, from the host alone.

    Data lines: a one, then a zero, walks through the first beat. Address lines: every place at a
    power of two from the beginning, and the last one, gets a text of its own; all are then
    read back, so that two that are one are seen.

    Returns
    -------
    str
        What was tested.

    Raises
    ------
    DeviceError
        If a byte came back different.
    """
    base, size = device.memory_base, device.memory_size
    # All 256 in one transfer each way, since there may be a serial line.
    bits = np.eye(8 * ATOM, dtype=np.uint8)
    walking = np.packbits(np.concatenate([bits, 1 - bits]), axis=1)
    walking = walking[:, : min(ATOM, size)]
    device.write_memory(base, np.ascontiguousarray(walking).reshape(-1))
    found = np.frombuffer(device.read_memory(base, walking.size), np.uint8)
    _compare("walking bits", walking.reshape(-1), found, base)

    generator = np.random.default_rng(SEED)
    places = [0, size - ATOM]
    places += [1 << bit for bit in range(ATOM.bit_length() - 1, size.bit_length())]
    places = sorted({place for place in places if place + ATOM <= size})
    texts = generator.integers(0, 256, (len(places), ATOM), np.uint8)
    for place, text in zip(places, texts, strict=True):
        device.write_memory(base + place, text)
    for place, text in zip(places, texts, strict=True):
        found = np.frombuffer(device.read_memory(base + place, ATOM), np.uint8)
        _compare("address lines", text, found, base + place)
    return f"256 patterns, {len(places)} addresses from 0x{base:08x} to 0x{base + size - 1:08x}"


def _compare(what, expected, found, address):
    wrong = np.flatnonzero(expected != found)
    if wrong.size:
        first = int(wrong[0])
        raise DeviceError(
            f"The memory at 0x{address + first:08x} reads 0x{found[first]:02x} where "
            f"0x{expected[first]:02x} was written ({what}, {wrong.size} wrong bytes); check the "
            "buffer's address, and that nothing else uses it."
        )


def _integers(generator, shape):
    """Integers from -127 to 127, exact in every format."""
    return generator.integers(-127, 128, shape).astype(np.float32)


def _through_stationary(device, generator, group):
    """Weights are read as they stand where each picture has a single one."""
    w = _integers(generator, (4 * group, 2 * group, 1, 1))
    x = np.eye(2 * group, dtype=np.float32)[:, :, None, None]
    return w[:, :, 0, 0].T, layers.conv_forward(device, x, w)[:, :, 0, 0]


def _through_stream(device, generator, group):
    """A picture whose 2x2 windows hold equal values, pooled."""
    y = _integers(generator, (2, 2 * group, 4, 4))
    return y, layers.max_pool(device, y.repeat(2, axis=2).repeat(2, axis=3))


def _through_side(device, generator, group):
    """Weights and momentum of an update with zero gradients: v/2 and w - v/2."""
    shape = (2 * group, 2 * group, 1, 1)
    w, v = _integers(generator, shape), 2 * _integers(generator, shape)
    x = np.zeros((1, 2 * group, 1, 1), np.float32)
    sgd = SGD(lr=1.0, momentum=0.5)
    (new, _), (moved, _) = layers.conv_update(device, x, x, (w, None), (v, None), sgd)
    return np.stack([w - v / 2, v / 2]), np.stack([new, moved])


def _through_write(device, generator, group):
    """Pooled values and their gradients, scattered to the first pixel of each window."""
    x = np.zeros((1, 2 * group, 8, 8), np.float32)
    dy = _integers(generator, (1, 2 * group, 4, 4))
    expected = np.zeros_like(x)
    expected[:, :, ::2, ::2] = dy
    return expected, layers.max_pool_backward(device, x, dy)


PORTS = {
    "stationary": _through_stationary,
    "stream": _through_stream,
    "side": _through_side,
    "write": _through_write,
}
"""Name of a port to a function of (device, generator, group) that gives (expected, found)."""


def check_port(device, name):
    """Run a small program that moves patterns through one port, at both ends of the memory.

    Returns
    -------
    str
        How much went through.

    Raises
    ------
    DeviceError
        If it stopped, moved nothing through this port, or a value is wrong.
    """
    counter = isa.REGISTER[f"BEATS_{name.upper()}"].address
    cycles = isa.REGISTER["CYCLES_LOW"].address  # Reading it latches the counters.
    group = device.read_register(isa.REGISTER["ARRAY"].address) & 0xFFFF
    size = min(device.memory_size // 2, 1 << 20)
    beats = 0
    for place, offset in (("first", 0), ("last", device.memory_size - size)):
        part = Part(device, offset, size)
        expected, found = PORTS[name](part, np.random.default_rng(SEED), group)
        device.read_register(cycles)
        moved = device.read_register(counter)
        if not moved:
            raise DeviceError(f"Nothing went through the {name} port; check its wiring.")
        beats += moved
        _same(
            f"through the {name} port in the {place} {size >> 10} KiB of the memory",
            expected,
            found,
            "check the port's wiring and the caches",
        )
    return f"{beats * ATOM:,} bytes, equal"


def _same(where, expected, found, fix):
    wrong = np.argwhere(expected != found)
    if len(wrong):
        place = tuple(int(index) for index in wrong[0])
        raise DeviceError(
            f"{len(wrong)} of {expected.size} values are wrong {where}: {found[place]!s} instead "
            f"of {expected[place]!s} at {place}; {fix}."
        )


def check_layer(device):
    """Forward pass, input gradient and weight gradient of one 3x3 convolution, against numpy.

    Returns
    -------
    str

    Raises
    ------
    DeviceError
        If the device stops or a value is wrong.
    """
    generator = np.random.default_rng(SEED)
    # Small enough for sums that fp32 holds exactly.
    x, w, dy = (
        generator.integers(-9, 10, shape).astype(np.float32)
        for shape in ((2, 5, 6, 6), (6, 5, 3, 3), (2, 6, 6, 6))
    )
    b = generator.integers(-9, 10, 6).astype(np.float32)
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    y, dx, dw = np.zeros_like(dy), np.zeros_like(padded), np.zeros_like(w)
    for row in range(3):
        for col in range(3):
            window = (slice(None), slice(None), slice(row, row + 6), slice(col, col + 6))
            y += np.einsum("bnij,mn->bmij", padded[window], w[:, :, row, col])
            dx[window] += np.einsum("bmij,mn->bnij", dy, w[:, :, row, col])
            dw[:, :, row, col] = np.einsum("bmij,bnij->mn", dy, padded[window])
    found_dw, found_db = layers.conv_weight_gradient(device, x, dy, w.shape, padding=1)
    passes = {
        "forward": (y + b[:, None, None], layers.conv_forward(device, x, w, b, padding=1)),
        "input gradient": (
            dx[:, :, 1:-1, 1:-1],
            layers.conv_input_gradient(device, x.shape, w, dy, padding=1),
        ),
        "weight gradient": (dw, found_dw),
        "bias gradient": (dy.sum(axis=(0, 2, 3)), found_db),
    }
    for name, (expected, found) in passes.items():
        fix = "the memory is fine, so check the clock's constraints or build the bitstream again"
        _same(f"in the {name} of a 3x3 convolution", expected, found, fix)
    return "a 3x3 convolution forward, backward and its weight gradient, equal to numpy"


def check_interrupt(device):
    """Let the core finish a program that does nothing, and see whether its interrupt arrives.

    Returns
    -------
    str or None
        None if the device does not use an interrupt.

    Raises
    ------
    DeviceError
        If the program does not end, or its interrupt does not arrive.
    """
    if not hasattr(device, "interrupt_arrives"):
        return None
    address, program = device.memory_base, isa.encode(isa.Opcode.END)
    device.write_memory(address, program)

    def write(name, value):
        device.write_register(isa.REGISTER[name].address, value)

    window = {"WINDOW_BASE": address, "WINDOW_LIMIT": address + len(program)}
    start = {"PROGRAM_ADDRESS": address, "PROGRAM_LENGTH": 1, "IRQ_ENABLE": 3, "CONTROL": 1}
    for name, value in (window | start).items():
        write(name, value)
    if not any(device.wait(1000) for _ in range(100)):
        raise DeviceError("The core did not end an empty program; check its clock and reset.")
    arrives = device.interrupt_arrives()
    write("IRQ_STATUS", 3)
    if arrives is False:
        raise DeviceError(
            "The core's interrupt does not arrive (programs still run, as the registers are looked "
            "at); check interrupts and interrupt-parent of its node in the device-tree overlay."
        )
    return "arrives at the end of a program" if arrives else None


def measure_clock(device, clock, sleep, seconds=0.5):
    """Cycles a second of UPTIME.

    Parameters
    ----------
    clock, sleep : callable
        ``time.monotonic`` and ``time.sleep``.
    seconds : float
        Between two looks; longer if a look takes long.

    Returns
    -------
    float
    """
    uptime = isa.REGISTER["UPTIME"].address

    def look():
        before = clock()
        value = device.read_register(uptime)
        after = clock()
        return value, (before + after) / 2, after - before

    first, began, took = look()
    sleep(max(seconds, 200 * took))
    last, ended, _ = look()
    return ((last - first) & 0xFFFF_FFFF) / (ended - began)
