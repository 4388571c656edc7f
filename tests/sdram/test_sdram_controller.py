# amaranth: UnusedElaboratable=no
"""SDRAM controller against the SDRAM model, under cocotbext-axi's master and traffic in gates."""

from dataclasses import replace

import pytest
from amaranth.back import verilog

from eftrain_hdl.memory import FlatPorts
from eftrain_hdl.sdram import MT48LC16M16A2_75, ULX3S_PART, SdramController
from sim.cocotb_build import build_verilog
from sim.sdram_bench import MODEL_SOURCE, SdramBench, SdramTrafficBench

TESTBENCH = "sim.testbenches.tb_sdram"
BASE = 0x1000_0000


def build(bench, *, name):
    text = verilog.convert(bench, name="top", emit_src=False) + MODEL_SOURCE.read_text()
    return build_verilog(text, name=name, toplevel="top")


@pytest.fixture(scope="module")
def model():
    # The data sheet's pause of 200 us is made short; the tests of bandwidth keep it.
    bench = SdramBench(replace(ULX3S_PART, power_up=2000), 50_000_000, base=BASE)
    return build(FlatPorts(bench, prefixes={"read": "s_axi", "write": "s_axi"}), name="sdram")


@pytest.mark.parametrize(
    "testcase", ["random_traffic", "many_at_once", "stalled_sides", "refused_bursts", "latency"]
)
def test_controller(model, testcase):
    assert model.run(TESTBENCH, testcase=testcase) == 1


def test_bandwidth():
    bench = SdramTrafficBench(ULX3S_PART, 50_000_000, base=BASE)
    model = build(bench, name="sdram_traffic")
    assert model.run(TESTBENCH, testcase="bandwidth") == 1


def test_bandwidth_at_full_clock():
    """CAS latency 3, longer row times in cycles, registers at the pins."""
    bench = SdramTrafficBench(MT48LC16M16A2_75, 133_000_000, base=BASE, delay=1)
    model = build(bench, name="sdram_traffic_133")
    assert model.run(TESTBENCH, testcase="bandwidth", environment={"FULL_CLOCK": "1"}) == 1


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
