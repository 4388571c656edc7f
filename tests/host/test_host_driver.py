"""The driver: capability checks, device errors and recovery, polling."""

from dataclasses import replace
from functools import partialmethod

import numpy as np
import pytest
from layer_cases import random

from eftrain import layers
from eftrain.devices.base import DeviceError
from eftrain.driver import DeviceProgramError, Driver
from eftrain.pack import program
from eftrain_hdl import isa
from eftrain_hdl.isa import ErrorCode, Flag, Opcode


def copy_pass(base, **changes):
    """A legal 4x4 copy from ``base`` to ``base + 0x1000``, with some fields changed."""
    fields = {
        f"{name}_{axis}": 1 for name in ("kernel", "stride") for axis in ("rows", "cols")
    } | {
        f"{name}_{axis}": 4 for name in ("big", "small", "tile") for axis in ("rows", "cols")
    } | {
        "images": 1, "tile_images": 1, "out_blocks": 1, "tile_out_blocks": 1, "in_blocks": 1,
        "stream_base": base, "stream_row_stride": 128, "output_base": base + 0x1000,
        "output_row_stride": 128, "scale": 1.0,
    }
    return isa.encode(changes.pop("opcode", Opcode.PASS), changes.pop("flags", ()),
                      **{**fields, **changes})


def run(driver, *descriptors, window=None):
    device = driver.device
    base = device.memory_base
    device.write_memory(base + 0x8000, b"".join(descriptors))
    return driver.run(base + 0x8000, len(descriptors), window or (base, base + 0x10000))


NEXT = isa.encode(Opcode.NEXT)
END = program.end()
BASE = 0x1000_0000


@pytest.mark.parametrize(("descriptors", "code", "index"), [
    ([b"\xee" + bytes(127), END], ErrorCode.UNKNOWN_OPCODE, 0),
    ([copy_pass(BASE, images=0), END], ErrorCode.ZERO_DIMENSION, 0),
    ([copy_pass(BASE), copy_pass(BASE, kernel_rows=12), END], ErrorCode.OVERSIZED_DIMENSION, 1),
    ([copy_pass(BASE, stride_cols=5), END], ErrorCode.OVERSIZED_DIMENSION, 0),
    ([copy_pass(BASE, pad_cols=1), END], ErrorCode.OVERSIZED_DIMENSION, 0),
    ([copy_pass(BASE, tile_rows=5), END], ErrorCode.OVERSIZED_DIMENSION, 0),
    ([copy_pass(BASE, output_base=BASE + 8), END], ErrorCode.MISALIGNED_ADDRESS, 0),
    ([copy_pass(BASE, stream_base=BASE - 16), END], ErrorCode.ADDRESS_OUT_OF_WINDOW, 0),
    ([copy_pass(BASE, flags=[Flag.UPDATE]), END], ErrorCode.ILLEGAL_FLAGS, 0),
    ([copy_pass(BASE, flags=[Flag.POOL, Flag.UNPOOL]), END], ErrorCode.ILLEGAL_FLAGS, 0),
    ([NEXT, END], ErrorCode.LOOP_NESTING, 0),
    ([isa.encode(Opcode.LOOP, count=1)] * 5 + [END], ErrorCode.LOOP_NESTING, 4),
    ([copy_pass(BASE)], ErrorCode.PROGRAM_OVERRUN, None),
    ([copy_pass(BASE, big_rows=999, small_rows=999, tile_rows=999, big_cols=9, small_cols=9,
                tile_cols=9), END], ErrorCode.TILE_OVERFLOW, 0),
])
def test_device_errors_say_what_and_where_and_the_next_program_runs(
    make_device, descriptors, code, index
):
    driver = Driver(make_device())
    with pytest.raises(DeviceProgramError) as error:
        run(driver, *descriptors)
    assert error.value.code is code
    assert index is None or error.value.descriptor == index
    assert isa.ERROR_HELP[code] in str(error.value) and str(error.value).endswith(".")
    values = np.arange(128, dtype="<f4")
    driver.write(BASE, values.tobytes())
    run(driver, copy_pass(BASE), END)
    assert driver.read(BASE + 0x1000, 512) == values.tobytes()


def test_labels_out_of_range_are_found_by_the_device(make_device):
    with pytest.raises(DeviceProgramError) as error:
        layers.softmax_cross_entropy(make_device(), random(2, 3), np.array([1, 3]))
    assert error.value.code is ErrorCode.LABEL_OUT_OF_RANGE


def test_accesses_stay_in_the_window(make_device):
    driver = Driver(make_device())
    with pytest.raises(DeviceProgramError) as error:
        run(driver, copy_pass(BASE, output_base=BASE + 0xFFF0), END)
    assert error.value.code is ErrorCode.ADDRESS_OUT_OF_WINDOW


def test_a_locked_window_is_reported(make_device):
    device = make_device()
    driver = Driver(device)
    run(driver, END)
    device.write_register(isa.REGISTER["CONTROL"].address, 1 << 2)
    with pytest.raises(DeviceError, match="locked"):
        run(driver, END, window=(BASE, BASE + 0x20000))


@pytest.mark.parametrize(("register", "message"), [
    ("ID", "no eftrain core"), ("ISA_VERSION", "ISA version 7"),
])
def test_other_devices_are_refused(make_device, register, message):
    device = make_device()
    device.registers[register] = 7
    with pytest.raises(DeviceError, match=message):
        Driver(device)


def test_programs_of_another_configuration_are_refused(make_device):
    driver = Driver(make_device())
    driver.require(driver.config)
    with pytest.raises(DeviceError, match="planned for stream_depth 64"):
        driver.require(replace(driver.config, stream_depth=64))


def test_a_busy_device_is_refused_until_reset(make_device, monkeypatch):
    driver = Driver(make_device())
    endless = [isa.encode(Opcode.LOOP, count=1 << 30), NEXT, END]

    def leave(driver, records, on_record):
        driver.device.wait(10_000)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Driver, "_watch", leave)
        patch.setattr(Driver, "reset", lambda driver: None)
        with pytest.raises(KeyboardInterrupt):
            run(driver, *endless)
    with pytest.raises(DeviceError, match="busy"):
        run(driver, END)
    driver.reset()
    run(driver, END)


def test_a_failing_callback_leaves_a_usable_device(make_device, monkeypatch):
    device = make_device()

    def fail(index, record):
        raise KeyboardInterrupt

    logits, labels = random(2, 3), np.array([0, 1])
    with monkeypatch.context() as patch:
        patch.setattr(Driver, "run", partialmethod(Driver.run, on_record=fail))
        with pytest.raises(KeyboardInterrupt):
            layers.softmax_cross_entropy(device, logits, labels)
    assert layers.softmax_cross_entropy(device, logits, labels)[1] in (0, 1, 2)
