# amaranth: UnusedElaboratable=no
"""The AXI3 ports between cocotbext-axi's AXI4 master and its memory."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from eftrain_hdl.memory import AxiReadSignature, AxiWriteSignature, FlatPorts
from eftrain_hdl.memory.axi3_port import Axi3ReadPort, Axi3WritePort
from sim.cocotb_build import build_testbench

TESTBENCH = "sim.testbenches.tb_axi3_port"


class PortBench(wiring.Component):
    """A read port and a write port that look like one bus, which has the widths of AXI4 for the
    sake of the memory model: a longer ``arlen``, a shorter ``arlock``, no ``wid``."""

    core_read: In(AxiReadSignature(32, 128, 2))
    core_write: In(AxiWriteSignature(32, 128, 2))
    bus_read: Out(AxiReadSignature(32, 64, 6))
    bus_write: Out(AxiWriteSignature(32, 64, 6))

    def elaborate(self, platform):
        m = Module()
        m.submodules.read = read = Axi3ReadPort()
        m.submodules.write = write = Axi3WritePort()
        connect(m, flipped(self.core_read), read.core)
        connect(m, flipped(self.core_write), write.core)
        for port, bus in ((read.bus, self.bus_read), (write.bus, self.bus_write)):
            for name, member in bus.signature.members.items():
                narrow, wide = getattr(port, name), getattr(bus, name)
                m.d.comb += wide.eq(narrow) if member.flow is Out else narrow.eq(wide)
        return m


@pytest.fixture(scope="module")
def model():
    prefixes = {"core_read": "s_axi", "core_write": "s_axi"}
    prefixes |= {"bus_read": "m_axi", "bus_write": "m_axi"}
    return build_testbench(FlatPorts(PortBench(), prefixes=prefixes), name="axi3_port")


@pytest.mark.parametrize(
    "testcase",
    [
        "round_trips",
        "round_trips_stalled",
        "many_writes",
        "strobes",
        "rate",
        "errors",
    ],
)
def test_axi3_port(model, testcase):
    assert model.run(TESTBENCH, testcase=testcase) == 1
