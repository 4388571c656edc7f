# amaranth: UnusedElaboratable=no
"""The register block as a foreign AXI4-Lite master sees it, under cocotb."""

from pathlib import Path

import pytest

from eftrain_hdl.config import CoreConfig
from eftrain_hdl.control import RegisterBlock
from eftrain_hdl.control.control import register_constants
from eftrain_hdl.memory import FlatPorts
from sim.cocotb_build import build_testbench


@pytest.fixture(scope="module")
def model():
    block = RegisterBlock(constants=register_constants(CoreConfig()))
    return build_testbench(FlatPorts(block, prefixes={"ctrl": "s_axi"}), name="registers")


@pytest.mark.parametrize("testcase", ["round_trip", "refused", "many_at_once"])
def test_registers(model, testcase, monkeypatch):
    # The simulator's Python inherits the search path.
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent))
    assert model.run("tb_registers", testcase=testcase) == 1
