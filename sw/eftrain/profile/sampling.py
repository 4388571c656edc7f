"""Samples of the device's counters while a program runs."""

from dataclasses import dataclass

from eftrain_hdl import isa

from ..devices.base import Device, DeviceError

BEATS = ("BEATS_STATIONARY", "BEATS_STREAM", "BEATS_SIDE", "BEATS_WRITE")
UNITS = {"readers": "READ_DESCRIPTOR", "compute": "COMPUTE_DESCRIPTOR", "drain": "DRAIN_DESCRIPTOR"}
"""Unit to the register that names the descriptor it works on."""

_WIDE = ("CYCLES", "ACTIVE")
_NARROW = (*isa.STALLS, *BEATS)
_WRAP = 1 << 32

_DESCRIPTOR = sum(
    1 << event.lsb for event in isa.REGISTER["IRQ_STATUS"].fields if event.name == "descriptor"
)


@dataclass(frozen=True)
class Sample:
    """All counters at one moment.

    Attributes
    ----------
    counts : dict
        CYCLES, ACTIVE, every name of ``isa.STALLS`` and of ``BEATS``, since the doorbell.
    units : dict
        Unit to the index of the descriptor it works on.
    """

    counts: dict
    units: dict

    @property
    def cycles(self):
        return self.counts["CYCLES"]


def breakdown(sample):
    """``{"ACTIVE": cycles, "STALL_...": cycles, ...}``: every cycle under exactly one name.

    Raises
    ------
    DeviceError
        If the counters do not add up to the cycles.
    """
    parts = {name: sample.counts[name] for name in ("ACTIVE", *isa.STALLS)}
    if sum(parts.values()) != sample.cycles:
        raise DeviceError(
            f"The stall counters add up to {sum(parts.values())} of {sample.cycles} cycles; the "
            "bitstream does not belong to this package."
        )
    return parts


class _Wrapped(Device):
    """A device that is watched while a program runs.

    Looking does not disturb the program: it runs at the pace of the core's clock, and the registers
    have a port of their own.
    """

    def __init__(self, device):
        self._device = device
        self.name = device.name
        self.memory_base, self.memory_size = device.memory_base, device.memory_size

    def wait(self, cycles):
        return self._device.wait(cycles)

    def read_register(self, address):
        return self._device.read_register(address)

    def write_register(self, address, value):
        self._device.write_register(address, value)

    def read_memory(self, address, size):
        return self._device.read_memory(address, size)

    def write_memory(self, address, data):
        self._device.write_memory(address, data)

    def close(self):
        self._device.close()


class SampledDevice(_Wrapped):
    """Keeps all counters of every moment in ``samples``.

    Parameters
    ----------
    device : Device
    interval : int
        Cycles between two samples.
    on_sample : callable, optional
        Called with each ``Sample``.
    """

    def __init__(self, device, interval, on_sample=None):
        super().__init__(device)
        self.samples = []
        self._interval, self._on_sample = interval, on_sample

    def wait(self, cycles):
        while cycles > 0:
            step = min(cycles, self._interval)
            finished = super().wait(step)
            self._look()
            if finished:
                return True
            cycles -= step
        return False

    def _look(self):
        # Before the doorbell, and between a reset and being idle, there is nothing to see.
        sample = read_counters(self._device, self.samples[-1] if self.samples else None)
        if sample.cycles:
            self.samples.append(sample)
            if self._on_sample:
                self._on_sample(sample)


class CompletionDevice(_Wrapped):
    """Notes when each descriptor was completed: ``completed`` in cycles since the doorbell, in the
    order of completion.

    Every completion raises the interrupt, so with a device whose time stands still while nobody
    waits the times are exact, but for the few cycles of a register access, the same for all.

    Attributes
    ----------
    completed : list of int
    doorbell : int or None
        When the program began, in cycles of the device's own count; None before its first interrupt
        and for devices that have none.
    """

    def __init__(self, device):
        super().__init__(device)
        self.completed = []
        self.doorbell = None

    def write_register(self, address, value):
        if address == isa.REGISTER["IRQ_ENABLE"].address:
            value |= _DESCRIPTOR
        super().write_register(address, value)

    def wait(self, cycles):
        if not self._device.wait(cycles):
            return False
        now = getattr(self._device, "cycles", None)
        cycles = _read_wide(self._device, "CYCLES")
        if self.doorbell is None and now is not None:
            self.doorbell = now - cycles
        events = _read(self._device, "IRQ_STATUS")
        if events & _DESCRIPTOR:
            self.completed.append(cycles)
            self.write_register(isa.REGISTER["IRQ_STATUS"].address, _DESCRIPTOR)
        return bool(events & ~_DESCRIPTOR)


def read_counters(device, previous=None):
    """All counters of a device now.

    Parameters
    ----------
    device : Device
    previous : Sample, optional
        One of the same program, at most 2**32 cycles before: some counters have 32 bits.

    Returns
    -------
    Sample
    """
    # The cycles come first: reading them latches all the others.
    counts = {name: _read_wide(device, name) for name in _WIDE}
    before = previous.counts if previous else dict.fromkeys(_NARROW, 0)
    counts |= {name: _unwrapped(_read(device, name), before[name]) for name in _NARROW}
    return Sample(counts, {unit: _read(device, name) for unit, name in UNITS.items()})


def _read(device, name):
    return device.read_register(isa.REGISTER[name].address)


def _read_wide(device, name):
    return _read(device, f"{name}_LOW") | _read(device, f"{name}_HIGH") << 32


def _unwrapped(value, previous):
    """The count that a 32-bit counter shows as ``value``, not below ``previous``."""
    return previous + (value - previous) % _WRAP
