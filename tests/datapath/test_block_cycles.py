# amaranth: UnusedElaboratable=no
"""The blocks of the datapath one by one under cocotb: latency, rate, order, corner cases."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped

from eftrain_hdl.config import CoreConfig
from eftrain_hdl.datapath.accumulator import Accumulator
from eftrain_hdl.datapath.mac_array import MacArray
from eftrain_hdl.datapath.ring_buffer import RingBuffer
from eftrain_hdl.datapath.transposer import Transposer
from eftrain_hdl.datapath.vector_loader import VectorLoader
from eftrain_hdl.memory import FlatPorts
from sim.cocotb_build import build_testbench

TESTBENCH = "sim.testbenches.tb_blocks"
CONFIG = CoreConfig(rows=4, lanes=4, accumulator_depth=64)


class Blocks(wiring.Component):
    """Blocks side by side; port ``<block>_<port>`` is port ``<port>`` of that block."""

    def __init__(self):
        self._blocks = {
            "ring1": RingBuffer(depth=16, width=32, latency=1),
            "ring2": RingBuffer(depth=16, width=32, latency=2),
            # One, two and four beats a vector.
            "load1": VectorLoader(CoreConfig(rows=4, lanes=4)),
            "load2": VectorLoader(CoreConfig(rows=8, lanes=8, format="bf16")),
            "load4": VectorLoader(CoreConfig(rows=16, lanes=16)),
            "turn": Transposer(lanes=4, element_bits=8),
            "array": MacArray(CONFIG),
            "sums": Accumulator(CONFIG),
        }
        super().__init__(
            {
                f"{block}_{port}": member
                for block, component in self._blocks.items()
                for port, member in component.signature.members.items()
            }
        )

    def elaborate(self, platform):
        m = Module()
        for block, component in self._blocks.items():
            m.submodules[block] = component
            for port, member in component.signature.members.items():
                mine, its = getattr(self, f"{block}_{port}"), getattr(component, port)
                if member.is_signature:
                    connect(m, flipped(mine), its)
                elif member.flow is In:
                    m.d.comb += its.eq(mine)
                else:
                    m.d.comb += mine.eq(its)
        return m


@pytest.fixture(scope="module")
def model():
    return build_testbench(FlatPorts(Blocks()), name="blocks")


@pytest.mark.parametrize(
    "testcase",
    [
        "ring_buffer_latency",
        "ring_buffer_full_and_release",
        "ring_buffer_random",
        "vector_loader",
        "vector_loader_backpressure",
        "transposer_groups",
        "transposer_random",
        "transposer_passes_through",
        "transposer_switches",
        "transposer_backpressure",
        "mac_array_random",
        "mac_array_swap",
        "accumulator_clears_after_reset",
        "accumulator_latency_and_hazard",
        "accumulator_random",
    ],
)
def test_block(model, testcase):
    assert model.run(TESTBENCH, testcase=testcase) == 1


def test_ring_buffer_parameters():
    with pytest.raises(ValueError, match="must be a power of two, not 24"):
        RingBuffer(depth=24, width=8)
    with pytest.raises(ValueError, match="must be 1 or 2, not 3"):
        RingBuffer(depth=16, width=8, latency=3)
