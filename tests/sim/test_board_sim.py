"""The simulated ULX3S: core, SDRAM and serial line behind the driver for real boards."""

from dataclasses import replace

import numpy as np
import pytest

from eftrain.boards import find
from eftrain.devices import DeviceError
from eftrain.devices.board_sim import BoardSimDevice
from eftrain.driver import Driver
from eftrain.personalize import Settings, personalize, prepare

BOARD = find("ulx3s")


def test_first_steps_of_the_demo_have_the_bits_of_the_core_alone():
    """Other memory, other timing, a serial line in between: the same weights."""
    results = []
    for device in ("sim", "ulx3s-sim"):
        task = prepare(Settings(device=device, samples=32, epochs=1, batch_size=16))
        # The same core: another would add in another order.
        results.append(personalize(replace(task, config=BOARD.core())))
    core, board = results
    assert board.history.losses == core.history.losses
    # It was the board: a step takes several times as long on one narrow memory.
    assert board.history.cycles > 2 * core.history.cycles
    weights = [result.trainer.state_dict() for result in results]
    before = core.task.graph.weights
    for name, array in weights[0].items():
        assert not np.array_equal(array, before[name])
        np.testing.assert_array_equal(array, weights[1][name])


@pytest.fixture(scope="module")
def device():
    with BoardSimDevice(BOARD) as device:
        yield device


def test_what_the_board_says_of_itself(device):
    assert device.name == "ulx3s-sim"
    assert (device.memory_base, device.memory_size) == (BOARD.memory_base, BOARD.memory_size)
    assert device.clock_hz == BOARD.clock_hz
    assert Driver(device).config == BOARD.core()


@pytest.mark.parametrize("offset", [0, 1, 4095])
def test_memory_over_the_line_and_beside_it(device, offset):
    data = np.random.default_rng(offset).integers(0, 256, 3001, np.uint8)
    device.write_memory(device.memory_base + offset, data)
    assert device.read_memory(device.memory_base + offset, len(data)) == data.tobytes()
    beside = np.frombuffer(device.simulation.memory(8192), np.uint8)
    np.testing.assert_array_equal(beside[offset : offset + len(data)], data)
    assert device.simulation.violations() == (0, 0)


def test_time_stands_still_between_requests(device):
    before = device.simulation.cycles
    device.read_register(0)
    one = device.simulation.cycles - before
    device.read_register(0)
    assert device.simulation.cycles - before == 2 * one


def test_unplugged():
    device = BoardSimDevice(BOARD)
    device.simulation.close()
    with pytest.raises(DeviceError, match="was unplugged or switched off"):
        device.read_register(0)
    device.close()
