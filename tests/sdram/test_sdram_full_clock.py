"""SDRAM controller at 133 MHz: CAS latency 3, longer row times, registers at the pins."""

import pytest

from eftrain_hdl.sdram import MT48LC16M16A2_75
from sim.sdram_bench import SdramBench, build_bench


@pytest.fixture(scope="module")
def model():
    bench = SdramBench(MT48LC16M16A2_75, 133_000_000, base=0x1000_0000, delay=1)
    return build_bench(bench, name="sdram_full_clock")


@pytest.mark.parametrize("testcase", ["many_at_once", "bandwidth"])
def test_full_clock(model, testcase):
    environment = {"FULL_CLOCK": "1"}
    assert model.run("sim.testbenches.tb_sdram", testcase=testcase, environment=environment) == 1
