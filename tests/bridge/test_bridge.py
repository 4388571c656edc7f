# amaranth: UnusedElaboratable=no
"""The serial bridge against the host's own code and cocotbext-axi's registers and memory."""

from pathlib import Path

from eftrain_hdl.memory import FlatPorts
from sim.cocotb_build import build_testbench

TESTS = 12


def test_bridge(monkeypatch):
    # The simulator's Python inherits the search path.
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent))
    from bridge_bench import BridgeBench

    model = build_testbench(FlatPorts(BridgeBench()), name="serial_bridge")
    # One run for all: starting the simulator takes longer than most of the tests.
    assert model.run("tb_bridge,tb_bridge_requests") == TESTS
