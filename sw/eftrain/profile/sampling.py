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


class _Watching(Device):
    """A device that is looked at every ``interval`` cycles while a program runs.

    Looking does not disturb the program: it runs at the pace of the core's clock, and the registers
    have a port of their own.
    """

    def __init__(self, device, interval):
        self._device = device
        self._interval = interval
        self.name = device.name
        self.memory_base, self.memory_size = device.memory_base, device.memory_size

    def wait(self, cycles):
        while cycles > 0:
            step = min(cycles, self._interval)
            finished = self._device.wait(step)
            self._look()
            if finished:
                return True
            cycles -= step
        return False

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


class SampledDevice(_Watching):
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
        super().__init__(device, interval)
        self.samples = []
        self._on_sample = on_sample

    def _look(self):
        # Before the doorbell, and between a reset and being idle, there is nothing to see.
        sample = read_counters(self._device, self.samples[-1] if self.samples else None)
        if sample.cycles:
            self.samples.append(sample)
            if self._on_sample:
                self._on_sample(sample)


class CompletionDevice(_Watching):
    """Notes when each descriptor was completed: ``completed[index]`` in cycles since the doorbell,
    late by up to ``interval`` and the few cycles of a register access."""

    def __init__(self, device, interval):
        super().__init__(device, interval)
        self.completed = []

    def _look(self):
        # In this order: reading the cycles latches the other.
        cycles = _read_wide(self._device, "CYCLES")
        oldest = _read(self._device, "CURRENT_DESCRIPTOR")
        self.completed += [cycles] * (oldest - len(self.completed))


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
