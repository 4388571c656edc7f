"""Puts this folder on the path, so that tests share the interpreter and the case lists."""

import sys
from pathlib import Path

import pytest
import torch

# The layers are tiny: threads would only wait for each other.
torch.set_num_threads(1)

sys.path.insert(0, str(Path(__file__).parent))

from eftrain_hdl.config import CoreConfig  # noqa: E402


@pytest.fixture
def make_device():
    """Builds an interpreted device with small buffers, so that small layers need several tiles."""
    from isa_interpreter import InterpretedDevice

    def make(array="8x8", **sizes):
        return InterpretedDevice(CoreConfig.parse(array, **sizes))

    return make
