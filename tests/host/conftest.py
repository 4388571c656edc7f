"""Devices for the tests of the host package."""

import pytest
import torch

from eftrain_hdl.config import CoreConfig

# The layers are tiny: threads would only wait for each other.
torch.set_num_threads(1)


@pytest.fixture
def make_device():
    """Builds an interpreted device with small buffers, so that small layers need several tiles."""
    from isa_interpreter import InterpretedDevice

    def make(array="8x8", **sizes):
        return InterpretedDevice(CoreConfig.parse(array, **sizes))

    return make
