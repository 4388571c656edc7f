"""Simulated cores, built once a session (and kept in the build cache) for all tests here.

Most tests use 4x4 cores, which are the fastest to build and to simulate.
"""

import pytest
import torch

from eftrain.devices.sim import SimDevice
from eftrain_hdl.config import CoreConfig
from sim.build import build_model

# The layers are tiny: threads would only wait for each other.
torch.set_num_threads(1)


def _model(number_format):
    return build_model(CoreConfig.parse("4x4", number_format), on_status=print)


@pytest.fixture(scope="session")
def fp32_model():
    return _model("fp32")


@pytest.fixture(scope="session")
def bf16_model():
    return _model("bf16")


@pytest.fixture(scope="session")
def device(fp32_model):
    """One fp32 core for all layers: what one test leaves in it must not matter to the next."""
    with SimDevice(shared_object=fp32_model) as device:
        yield device


@pytest.fixture(scope="session")
def bf16_device(bf16_model):
    with SimDevice(shared_object=bf16_model) as device:
        yield device


@pytest.fixture(scope="session")
def default_device():
    """The core that one gets without choosing; the tests of the demo use the same model."""
    with SimDevice(CoreConfig(), on_status=print) as device:
        yield device


@pytest.fixture
def fresh_device(fp32_model):
    """An fp32 core of its own, for tests that break something."""
    with SimDevice(shared_object=fp32_model) as device:
        yield device
