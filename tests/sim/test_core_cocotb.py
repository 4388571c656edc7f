"""The whole core in two simulations that share nothing but its Verilog: the same bits.

The host package trains a network through the C++ harness in this process, and through cocotbext-axi
in a simulation of cocotb.
"""

import re

import numpy as np
import pytest

from eftrain.devices.sim import SimDevice
from eftrain_hdl.config import CoreConfig
from sim.cocotb_device import build_core
from sim.testbenches import tb_core

CONFIG = CoreConfig.parse("4x4")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """File with what training comes to on the C++ harness."""
    path = tmp_path_factory.mktemp("core") / "expected.npz"
    with SimDevice(CONFIG, **tb_core.MEMORY) as device:
        np.savez(path, **tb_core.train(device))
    return path


@pytest.fixture(scope="module")
def model(expected):
    # After the harness, which leaves its Verilog in the cache.
    return build_core(CONFIG)


@pytest.mark.parametrize("testcase", ["training", "training_with_stalls"])
def test_core_trains_to_the_same_bits(model, expected, testcase):
    print(f"seed {tb_core.SEED}")
    environment = {"EXPECTED": str(expected)}
    assert model.run("sim.testbenches.tb_core", testcase=testcase, environment=environment) == 1


def test_verilog_has_no_process_without_a_trigger(model):
    """``always @*`` around a constant waits for an event that never comes, as a simulator may
    read it; it comes from a signal that constants and a process drive in part each."""
    text = (model.directory / f"{CONFIG.name}.v").read_text()
    assert len(re.findall(r"always @\*", text)) > 100
    found = re.search(r"always @\*\n +[^\n=]*= \d+'\w+;", text)
    assert found is None, found


def test_comparison_finds_one_wrong_bit(expected):
    with np.load(expected) as file:
        arrays = dict(file)
    tb_core.assert_same_bits(arrays, expected)
    for array in arrays.values():
        bits = array.view(np.uint8)
        bits.flat[-1] ^= 1
        with pytest.raises(AssertionError, match="differs"):
            tb_core.assert_same_bits(arrays, expected)
        bits.flat[-1] ^= 1
