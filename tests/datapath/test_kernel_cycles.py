# amaranth: UnusedElaboratable=no
"""The kernel under cocotb: bits against numpy, and what happens in which cycle."""

import pytest
from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from eftrain_hdl.config import CoreConfig
from eftrain_hdl.datapath.kernel import Kernel
from eftrain_hdl.memory import FlatPorts
from sim.cocotb_build import build_testbench

TESTBENCH = "sim.testbenches.tb_kernel"
CONFIG = CoreConfig(
    rows=4, lanes=4, stream_depth=128, stationary_depth=128, accumulator_depth=128
)


class KernelBench(wiring.Component):
    """The kernel, and its events packed into one port, so that a cycle costs one read."""

    def __init__(self, config):
        self._kernel = Kernel(config)
        super().__init__({**self._kernel.signature.members, "events": Out(7)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.kernel = kernel = self._kernel
        for name in ("steps", "finished_steps", "stationary", "streamed", "o"):
            connect(m, flipped(getattr(self, name)), getattr(kernel, name))
        m.d.comb += kernel.descriptors.eq(self.descriptors)
        for name in ("final", "ready", "full", "sweep", "sweep_slot", "active", *Kernel.EVENTS):
            m.d.comb += getattr(self, name).eq(getattr(kernel, name))
        # In the order of the testbench's Event.
        m.d.comb += self.events.eq(
            Cat(
                kernel.active,
                *(getattr(kernel, name) for name in Kernel.EVENTS),
                kernel.o.valid & kernel.o.ready,
                kernel.final,
            )
        )
        return m


@pytest.fixture(scope="module")
def model():
    # C++ has its own `final`.
    flat = FlatPorts(KernelBench(CONFIG), prefixes={"final": "finished"})
    return build_testbench(flat, name="kernel_4x4")


@pytest.mark.parametrize(
    "testcase",
    [
        "results",
        "random_stalls",
        "no_bubble_between_sweeps",
        "tiles_back_to_back",
        "two_in_flight",
        "no_bubble_between_passes",
        "drain_rate",
        "latency_to_first_beat",
        "full_banks",
        "stalls_name_their_cause",
        "short_sweeps",
        "earliest_schedule",
    ],
)
def test_kernel(model, testcase):
    assert model.run(TESTBENCH, testcase=testcase) == 1
