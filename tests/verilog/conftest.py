"""The core that the tests of this folder look at."""

import pytest

from eftrain_hdl.config import CoreConfig
from sim.build import cached_verilog


@pytest.fixture(scope="session")
def small_core():
    """Verilog of the smallest array with small buffers, and the name of its top module."""
    config = CoreConfig(
        rows=4, lanes=4, format="bf16", stream_depth=512, stationary_depth=512,
        accumulator_depth=512, max_classes=64,
    )  # fmt: skip
    return cached_verilog(config), config.name
