"""PynqDevice on a module that stands in for PYNQ, in front of the simulated core."""

import sys
import types

import numpy as np
import pytest
from fake_board import train

from eftrain.devices import pynq as pynq_device
from eftrain.devices.base import DeviceError
from eftrain.devices.sim import SimDevice


class FakeBuffer(np.ndarray):
    """As PYNQ's: a part knows its place in the whole, and moves what it covers by itself."""

    core = None

    def __array_finalize__(self, other):
        if isinstance(other, FakeBuffer):
            self.core = other.core
            begin = (array.__array_interface__["data"][0] for array in (self, other))
            self.device_address = other.device_address + next(begin) - next(begin)

    def flush(self):
        self.core.write_memory(self.device_address, np.ascontiguousarray(self).view(np.ndarray))

    def invalidate(self):
        data = self.core.read_memory(self.device_address, self.nbytes)
        self[:] = np.frombuffer(data, np.uint8)

    def freebuffer(self):
        self.core.freed += 1


class FakeWords:
    """``MMIO.array``: an item is a register, and holds no wider integers."""

    def __init__(self, core):
        self.core = core

    def __getitem__(self, index):
        return np.uint32(self.core.read_register(4 * index))

    def __setitem__(self, index, value):
        self.core.write_register(4 * index, int(np.array([value], np.uint32)[0]))


@pytest.fixture
def pynq(core, monkeypatch):
    module = types.ModuleType("pynq")
    module.calls = []
    core.freed = 0
    module.address = core.memory_base

    def overlay(path):
        module.calls.append(("Overlay", path))
        if not path.endswith(".bit"):
            raise OSError(f"Bitstream file {path} does not exist.")

    def allocate(shape, dtype):
        module.calls.append(("allocate", shape))
        if shape[0] > core.memory_size:
            raise RuntimeError("bad_alloc")
        array = np.zeros(shape, dtype).view(FakeBuffer)
        array.core, array.device_address = core, module.address
        return array

    def mmio(address, length):
        module.calls.append(("MMIO", address, length))
        return types.SimpleNamespace(array=FakeWords(core))

    module.Overlay, module.allocate, module.MMIO = overlay, allocate, mmio
    monkeypatch.setitem(sys.modules, "pynq", module)
    return module


def test_training_gives_the_bits_of_the_simulated_device(pynq, core, model, monkeypatch):
    with SimDevice(shared_object=model) as device:
        expected = train(device)
    # Nothing else lets this core run, so a wait does.
    poll = types.SimpleNamespace(wait=lambda seconds: core.wait(4096), close=lambda: None)
    monkeypatch.setattr(pynq_device, "_Poll", lambda: poll)
    device = pynq_device.PynqDevice("/b/eftrain.bit", size=2 << 20, address=0x43C00000)
    with device:
        assert train(device) == expected
    assert pynq.calls == [
        ("Overlay", "/b/eftrain.bit"), ("allocate", (2 << 20,)), ("MMIO", 0x43C00000, 4096),
    ]  # fmt: skip
    assert core.freed == 1
    device.close()
    assert core.freed == 1


def test_the_address_is_that_of_the_processor(pynq, monkeypatch):
    for machine, address in (("aarch64", 0xA0000000), ("armv7l", 0x43C00000)):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        pynq_device.PynqDevice(size=4096).close()
        assert pynq.calls[-1] == ("MMIO", address, 4096)
    assert all(call[0] != "Overlay" for call in pynq.calls), "the logic is used as it is"


@pytest.mark.parametrize(("options", "message"), [
    ({"bitstream": "x.bin"}, r"PYNQ does not load x\.bin: Bitstream file x\.bin does not exist\."),
    ({"size": 1 << 30}, r"does not allocate 1024 MiB \(bad_alloc\); .*cma="),
])  # fmt: skip
def test_errors_of_pynq_are_one_sentence(pynq, options, message):
    with pytest.raises(DeviceError, match=message):
        pynq_device.PynqDevice(**options)


def test_a_buffer_out_of_reach_is_given_back(pynq, core):
    pynq.address = 0x8_0000_0000
    with pytest.raises(DeviceError, match="below 4 GiB"):
        pynq_device.PynqDevice(size=4096)
    assert core.freed == 1


def test_pynq_may_be_missing(monkeypatch):
    assert pynq_device.available() is False
    monkeypatch.setitem(sys.modules, "pynq", None)
    with pytest.raises(DeviceError, match="pynq is not installed"):
        pynq_device.PynqDevice("x.bit")
