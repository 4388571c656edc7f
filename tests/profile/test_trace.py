"""Sampling and the trace, on a device made of a list of counter values."""

import pytest

from eftrain.devices.base import Device, DeviceError
from eftrain.profile.sampling import BEATS, CompletionDevice, SampledDevice, breakdown
from eftrain.profile.trace import CLOCK_MHZ, trace
from eftrain_hdl import isa

DONE, DESCRIPTOR = 1, 4
NAMES = {register.address: register.name for register in isa.REGISTERS}


class Scripted(Device):
    """Works on descriptor 0 for 1,000 cycles and on descriptor 1 for 500; then it is done."""

    name, memory_base, memory_size = "scripted", 0, 16

    def __init__(self, offset=0, lost=0):
        self.now, self.offset, self.lost = 0, offset, lost

    def wait(self, cycles):
        self.now = min(1500, self.now + cycles)
        return self.now == 1500

    def read_register(self, address):
        name = NAMES[address]
        cycles = self.now + self.offset
        values = {
            "CYCLES_LOW": cycles % (1 << 32),
            "CYCLES_HIGH": cycles >> 32,
            "ACTIVE_LOW": self.now,
            "STALL_STREAM": (self.offset - self.lost) % (1 << 32),
            "BEATS_WRITE": self.now // 2,
        }
        if name.endswith("_DESCRIPTOR"):
            return int(self.now > 1000)
        return values.get(name, 0)

    def write_register(self, address, value): ...
    def read_memory(self, address, size): ...
    def write_memory(self, address, data): ...
    def close(self): ...


def sampled(**options):
    device = SampledDevice(Scripted(**options), 250)
    while not device.wait(1000):
        pass
    return device.samples


def test_samples_are_taken_at_the_interval_until_the_program_ends():
    samples = sampled()
    assert [sample.cycles for sample in samples] == [250, 500, 750, 1000, 1250, 1500]


class Interrupting(Scripted):
    """Raises its interrupt for each of the two descriptors if asked to, and with the second END."""

    def __init__(self):
        super().__init__()
        self.enabled = self.pending = 0

    def wait(self, cycles):
        for _ in range(cycles):
            if self.pending & self.enabled:
                break
            self.now += 1
            self.pending |= {1000: DESCRIPTOR, 1500: DESCRIPTOR | DONE}.get(self.now, 0)
        return bool(self.pending & self.enabled)

    def read_register(self, address):
        return self.pending if NAMES[address] == "IRQ_STATUS" else super().read_register(address)

    def write_register(self, address, value):
        if NAMES[address] == "IRQ_ENABLE":
            self.enabled = value
        if NAMES[address] == "IRQ_STATUS":
            self.pending &= ~value


def test_completions_are_noted_when_they_happen():
    device = CompletionDevice(Interrupting())
    device.write_register(isa.REGISTER["IRQ_ENABLE"].address, DONE)
    while not device.wait(250):
        pass
    assert device.completed == [1000, 1500]


def test_the_breakdown_has_every_cycle_once():
    parts = breakdown(sampled(offset=70)[-1])
    assert parts["ACTIVE"] == 1500 and parts["STALL_STREAM"] == 70
    assert sum(parts.values()) == 1570 and set(parts) == {"ACTIVE", *isa.STALLS}


def test_counters_that_do_not_add_up_are_refused():
    with pytest.raises(DeviceError, match="add up to 1567 of 1570"):
        breakdown(sampled(offset=70, lost=3)[-1])


def test_slices_follow_each_unit_and_rates_are_shares():
    events = trace(sampled(), ["conv FP", "conv BP"])["traceEvents"]
    threads = {e["args"]["name"]: e["tid"] for e in events if e["name"] == "thread_name"}
    assert set(threads) == {"readers", "compute", "drain"}
    slices = [e for e in events if e["ph"] == "X" and e["tid"] == threads["compute"]]
    assert [(e["name"], e["ts"], e["dur"]) for e in slices] == [
        ("conv FP", 0, 1000 / CLOCK_MHZ),
        ("conv BP", 1000 / CLOCK_MHZ, 500 / CLOCK_MHZ),
    ]
    rates = [e for e in events if e["ph"] == "C"]
    assert all(e["args"]["active"] == 100 for e in rates if e["name"] == "array %")
    assert all(e["args"]["write"] == 50 for e in rates if e["name"] == "ports %")
    assert {name.removeprefix("BEATS_").lower() for name in BEATS} == set(
        next(e for e in rates if e["name"] == "ports %")["args"]
    )
