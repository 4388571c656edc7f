# amaranth: UnusedElaboratable=no
"""SDRAM controller against the SDRAM model, under cocotbext-axi's master and traffic in gates."""

from dataclasses import replace

import pytest

from eftrain_hdl.sdram import ULX3S_PART, SdramController
from sim.sdram_bench import SdramBench, build_bench

TESTBENCH = "sim.testbenches.tb_sdram"


@pytest.fixture(scope="module")
def model():
    # The data sheet's pause of 200 us is made short; the test at full clock keeps it.
    part = replace(ULX3S_PART, power_up=2000)
    return build_bench(SdramBench(part, 50_000_000, base=0x1000_0000), name="sdram")


@pytest.mark.parametrize(
    "testcase",
    [
        "random_traffic",
        "many_at_once",
        "stalled_sides",
        "refused_bursts",
        "latency",
        "reset_keeps_memory",
        "bandwidth",
    ],
)
def test_controller(model, testcase):
    assert model.run(TESTBENCH, testcase=testcase) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"capture": -2}, "capture must be an integer from -1 to 8, not -2."),
        ({"max_postponed": 9}, "max_postponed must be an integer from 1 to 8, not 9."),
        (
            {"base": 0x100_0000},
            "base must be a 32-bit multiple of the memory's 33554432 bytes, not 0x1000000.",
        ),
        ({"clock_hz": 150_000_000}, "ULX3S SDRAM allows at most 133.3 MHz, not 150 MHz."),
    ],
)
def test_parameters(arguments, message):
    arguments = {"clock_hz": 50_000_000, **arguments}
    with pytest.raises(ValueError) as caught:
        SdramController(ULX3S_PART, **arguments)
    assert str(caught.value) == message
