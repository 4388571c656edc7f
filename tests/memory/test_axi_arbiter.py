# amaranth: UnusedElaboratable=no
"""AXI arbiters, with masters and a memory of cocotbext-axi."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from eftrain_hdl.memory import AxiReadSignature, AxiWriteSignature, FlatPorts
from eftrain_hdl.memory.axi_arbiter import AxiReadArbiter, AxiWriteArbiter
from sim.cocotb_build import build_testbench

MASTERS = 3
ID_BITS = 3


class ArbiterBench(wiring.Component):
    """Both arbiters, with 3 masters: not a power of two."""

    def __init__(self):
        members = {}
        for index in range(MASTERS):
            members[f"r{index}"] = In(AxiReadSignature(32, 128, ID_BITS))
            members[f"w{index}"] = In(AxiWriteSignature(32, 128, ID_BITS))
        members["r_bus"] = Out(AxiReadSignature(32, 128, ID_BITS + 2))
        members["w_bus"] = Out(AxiWriteSignature(32, 128, ID_BITS + 2))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        for kind, arbiter in (
            ("r", AxiReadArbiter(MASTERS, id_bits=ID_BITS)),
            ("w", AxiWriteArbiter(MASTERS, id_bits=ID_BITS)),
        ):
            m.submodules[kind] = arbiter
            connect(m, arbiter.bus, flipped(getattr(self, f"{kind}_bus")))
            for index, port in enumerate(arbiter.ports):
                connect(m, flipped(getattr(self, f"{kind}{index}")), port)
        return m


@pytest.fixture(scope="module")
def model():
    prefixes = {f"{kind}{index}": f"s{index}_axi" for kind in "rw" for index in range(MASTERS)}
    prefixes |= {"r_bus": "m_axi", "w_bus": "m_axi"}
    return build_testbench(FlatPorts(ArbiterBench(), prefixes=prefixes), name="axi_arbiter")


@pytest.mark.parametrize(
    "testcase",
    [
        "random_traffic",
        "turns_and_rate",
        "errors_find_their_master",
        "ready_waits_for_valid",
        "data_ahead_of_request",
    ],
)
def test_arbiter(model, testcase):
    assert model.run("sim.testbenches.tb_axi_arbiter", testcase=testcase) == 1


@pytest.mark.parametrize("make", [AxiReadArbiter, AxiWriteArbiter])
def test_parameters(make):
    with pytest.raises(ValueError, match="^ports must be an integer from 2 to 16, not 1.$"):
        make(1)
    with pytest.raises(ValueError, match="5 ports with 2 id bits each need 5 id bits .* not 4"):
        make(5, id_bits=2, bus_id_bits=4)
    assert len(make(4, id_bits=2).ports) == 4
