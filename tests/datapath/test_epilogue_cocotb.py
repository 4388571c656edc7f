# amaranth: UnusedElaboratable=no
"""The epilogue under cocotb: the bits of the model in every legal mode, latency, rate, stalls.

``test_epilogue.py`` compares the model with PyTorch and float64.
"""

import pytest

from eftrain_hdl.config import CoreConfig
from eftrain_hdl.datapath.epilogue import Epilogue
from eftrain_hdl.memory import FlatPorts
from sim.cocotb_build import build_testbench

TESTBENCH = "sim.testbenches.tb_epilogue"


# One, two and four beats a vector.
@pytest.fixture(scope="module", params=(4, 8, 16))
def model(request):
    group = request.param
    epilogue = Epilogue(CoreConfig(rows=group, lanes=group))
    return build_testbench(FlatPorts(epilogue), name=f"epilogue_{group}")


@pytest.mark.parametrize(
    "testcase",
    [
        "epilogue_latency",
        "epilogue_a_beat_a_cycle",
        "epilogue_blocks",
        "epilogue_records",
        "epilogue_modes_back_to_back",
        "epilogue_random_stalls",
        "epilogue_nonfinite",
        "epilogue_lacking",
        "epilogue_full",
    ],
)
def test_epilogue(model, testcase):
    assert model.run(TESTBENCH, testcase=testcase) == 1
