# amaranth: UnusedElaboratable=no
"""The vector unit under cocotb: rate, stalls, and the bits of the models.

These run in seconds what ``test_softmax_loss.py`` and ``test_norm.py`` would take minutes for;
those compare the models with PyTorch.
"""

import pytest

from eftrain_hdl.config import CoreConfig
from eftrain_hdl.datapath.vector_unit import VectorUnit
from eftrain_hdl.memory import FlatPorts
from sim.cocotb_build import build_testbench

TESTBENCH = "sim.testbenches.tb_vector"
# Two beats a vector.
CONFIG = CoreConfig(rows=8, lanes=8, max_classes=64)


@pytest.fixture(scope="module")
def model():
    return build_testbench(FlatPorts(VectorUnit(CONFIG)), name="vector_8x8")


@pytest.mark.parametrize(
    "testcase",
    [
        "loss_random_stalls",
        "loss_corners",
        "loss_cycles",
        "loss_label_error",
        "norm_random_stalls",
        "norm_corners",
        "norm_cycles",
    ],
)
def test_block(model, testcase):
    assert model.run(TESTBENCH, testcase=testcase) == 1
