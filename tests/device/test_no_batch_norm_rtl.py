"""A core without the units of batch-norm: it trains everything else, and refuses that."""

import numpy as np
import pytest
from torch import nn
from training_cases import check_fifty_steps

from eftrain.devices.sim import SimDevice
from eftrain.errors import UserError
from eftrain.optim import SGD
from eftrain.trainer import Trainer
from eftrain_hdl.config import CoreConfig


@pytest.fixture(scope="module")
def small():
    config = CoreConfig.parse("4x4", "fp32", batch_norm=False)
    with SimDevice(config, on_status=print) as device:
        yield device


def test_fifty_steps(small):
    """Biases included, whose gradients such a core sums in the weight gradient's pass."""
    check_fifty_steps(small, SGD(0.05, 0.9, 0.001))


def test_batch_norm_is_refused_by_name(small):
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 6 * 6, 3)
    )
    x, y = np.zeros((4, 1, 8, 8), np.float32), np.zeros(4, int)
    with pytest.raises(UserError, match="is a batch-norm, and this core was built without"):
        Trainer(network, small, SGD(0.05)).fit(x, y)
