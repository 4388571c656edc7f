# amaranth: UnusedElaboratable=no
"""The epilogue and the loss unit under cocotb: latency, rate, stalls, and the bits of the models.

These run in seconds what ``test_epilogue.py`` and ``test_softmax_loss.py`` would take minutes for;
those compare the models with PyTorch.
"""

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from eftrain_hdl.config import CoreConfig
from eftrain_hdl.datapath.epilogue import Epilogue
from eftrain_hdl.datapath.softmax_loss import SoftmaxLoss
from eftrain_hdl.memory import FlatPorts
from sim.cocotb_build import build_testbench

TESTBENCH = "sim.testbenches.tb_epilogue"
# Two beats a vector.
CONFIG = CoreConfig(rows=8, lanes=8, max_classes=64)


class Blocks(wiring.Component):
    """Both blocks side by side; port ``<block>.<port>`` is port ``<port>`` of that block."""

    def __init__(self):
        self._blocks = {"ep": Epilogue(CONFIG), "loss": SoftmaxLoss(CONFIG)}
        super().__init__({name: Out(block.signature) for name, block in self._blocks.items()})

    def elaborate(self, platform):
        m = Module()
        for name, block in self._blocks.items():
            m.submodules[name] = block
            connect(m, flipped(getattr(self, name)), block)
        return m


@pytest.fixture(scope="module")
def model():
    return build_testbench(FlatPorts(Blocks()), name="epilogue_8x8")


@pytest.mark.parametrize(
    "testcase",
    [
        "epilogue_latency",
        "epilogue_a_beat_a_cycle",
        "epilogue_bias_blocks",
        "epilogue_modes_back_to_back",
        "epilogue_random_stalls",
        "epilogue_full",
        "loss_random_stalls",
        "loss_corners",
        "loss_cycles",
        "loss_label_error",
    ],
)
def test_block(model, testcase):
    assert model.run(TESTBENCH, testcase=testcase) == 1
