"""The SDRAM model's own checks: each fires, and none too early."""

import pytest

from sim.cocotb_build import build_verilog
from sim.testbenches import tb_sdram_model as testbench


@pytest.fixture(scope="module")
def model():
    return build_verilog(
        testbench.MODEL_SOURCE.read_text(),
        name="sdram_model",
        toplevel="sdram_model",
        arguments=[f"-G{name}={value}" for name, value in testbench.PARAMETERS.items()],
    )


@pytest.mark.parametrize(
    "testcase",
    [
        "initialisation",
        "precharge_comes_first",
        "limits_and_mistakes",
        "refresh_limits",
        "contents",
    ],
)
def test_model(model, testcase):
    assert model.run("sim.testbenches.tb_sdram_model", testcase=testcase) == 1


def test_every_code_is_provoked():
    assert testbench.provoked() == set(testbench.CODES)
