"""The driver: capability checks, device errors and recovery, polling."""

from dataclasses import replace
from functools import partialmethod

import numpy as np
import pytest
from error_cases import END, END_OF_WINDOW, ERROR_CASES, NEXT, check_error, check_label_error, run
from layer_cases import random

from eftrain import layers
from eftrain.devices.base import DeviceError
from eftrain.driver import Driver
from eftrain_hdl import isa
from eftrain_hdl.isa import Opcode


@pytest.mark.parametrize("array", ["4x4", "8x8"])
@pytest.mark.parametrize("name", ERROR_CASES)
def test_device_errors_say_what_and_where_and_the_next_program_runs(make_device, name, array):
    check_error(make_device(array), name)


def test_labels_out_of_range_are_found_by_the_device(make_device):
    check_label_error(make_device())


def test_a_locked_window_is_reported(make_device):
    device = make_device()
    driver = Driver(device)
    run(driver, END)
    device.write_register(isa.REGISTER["CONTROL"].address, 1 << 2)
    with pytest.raises(DeviceError, match="locked"):
        run(driver, END, end_of_window=2 * END_OF_WINDOW)


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
