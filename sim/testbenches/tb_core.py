"""The whole core trains a network through cocotbext-axi; ``test_core_cocotb.py`` runs it.

The top is a :class:`eftrain_hdl.core.Core`. The host package's own ``Trainer`` and ``Driver`` do
the work; what it must come to is in the file that the environment variable ``EXPECTED`` names.
"""

import os
import random

import cocotb
import numpy as np
from cocotb.task import bridge
from cocotb.utils import get_sim_time

from eftrain.graph import Conv2d, Flatten, Graph, Linear, MaxPool2d, ReLU
from eftrain.optim import SGD
from eftrain.trainer import Trainer
from sim.cocotb_device import CocotbDevice

SEED = 20220311
MEMORY = {"memory_base": 0x1000_0000, "memory_size": 1 << 20}
"""The same on every device, so that programs are the same too."""


def train(device):
    """Three steps, the last with a smaller batch, of a small network with every kind of pass.

    Parameters
    ----------
    device : :class:`eftrain.devices.Device`

    Returns
    -------
    :class:`dict`
        Names to arrays: the trained weights, and what the result records hold.
    """
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((5, 1, 6, 6)).astype(np.float32)
    y = rng.integers(0, 3, len(x))
    layers = [
        Conv2d(1, 5, 3, padding=1), ReLU(), MaxPool2d(),
        Conv2d(5, 4, 2, stride=2, padding=1), ReLU(), Flatten(), Linear(16, 3),
    ]  # fmt: skip
    sgd = SGD(0.1, momentum=0.9, weight_decay=0.01)
    trainer = Trainer(Graph(x.shape[1:], layers), device, sgd, seed=SEED)
    before = trainer.state_dict()
    history = trainer.fit(x, y, epochs=1, batch_size=2)
    after = trainer.state_dict()
    for name, value in before.items():
        assert not np.array_equal(value, after[name]), f"{name} was not trained"
    return after | {
        "loss": np.array([step.loss for step in history.steps], np.float32),
        "correct": np.array([step.correct for step in history.steps]),
        "images": np.array([step.images for step in history.steps]),
    }


def assert_same_bits(found, path):
    """The arrays of ``found`` are those of the file at ``path``, to the bit."""
    with np.load(path) as expected:
        assert set(found) == set(expected)
        for name, value in expected.items():
            assert found[name].tobytes() == value.tobytes(), (
                f"{name} differs:\n{found[name]}\ninstead of\n{value}"
            )


async def _train_and_compare(device):
    """Returns how long it took, in nanoseconds."""
    await device.reset()
    begin = get_sim_time("ns")
    found = await bridge(train)(device)
    assert_same_bits(found, os.environ["EXPECTED"])
    return get_sim_time("ns") - begin


@cocotb.test()
async def training(dut):
    """No channel is ever held back."""
    await _train_and_compare(CocotbDevice(dut, **MEMORY))


@cocotb.test()
async def training_with_stalls(dut):
    """Every channel is idle or held back in random cycles; more of them, more time."""
    device = CocotbDevice(dut, **MEMORY)
    rng = random.Random(SEED)
    times = []
    for probability in (0, 0.3, 0.7):
        device.set_stalls(rng, probability)
        times.append(await _train_and_compare(device))
    smooth, some, many = times
    assert 1.02 * smooth < some and 1.3 * smooth < many, times
