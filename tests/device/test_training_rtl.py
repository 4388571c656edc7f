"""Fifty training steps on the simulated core against PyTorch, and twice the same bits."""

import functools

import numpy as np
import pytest
import torch
from torch import nn
from training_cases import check_awkward_layers, check_fifty_steps, data, train_in_torch

from eftrain.devices.sim import SimDevice
from eftrain.optim import SGD
from eftrain.trainer import Trainer

SEED = 20220324
EPOCHS, BATCH, SAMPLES = 10, 4, 20
PLAIN, MOMENTUM = SGD(0.05), SGD(0.02, 0.9, 0.001)


def net():
    torch.manual_seed(SEED)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 4 * 4, 5),
    )  # fmt: skip


def fit(device, sgd, epochs=EPOCHS):
    print(f"seed {SEED}")
    x, y = data(SAMPLES, (1, 8, 8), 5, SEED)
    trainer = Trainer(net(), device, sgd, seed=SEED)
    history = trainer.fit(x, y, epochs, BATCH, shuffle=False)
    assert len(history.steps) == epochs * SAMPLES // BATCH
    return history, trainer.state_dict()


def losses_in_torch(sgd):
    x, y = data(SAMPLES, (1, 8, 8), 5, SEED)
    return np.array([loss for loss, _ in train_in_torch(net(), x, y, EPOCHS, BATCH, sgd)])


@pytest.fixture(scope="module")
def runs(device):
    """Fifty steps with either optimizer, each made when first asked for."""
    return functools.cache(lambda sgd: fit(device, sgd))


@pytest.mark.parametrize("sgd", [PLAIN, MOMENTUM], ids=["plain", "momentum"])
def test_losses_of_fifty_steps(runs, sgd):
    history, _ = runs(sgd)
    expected = losses_in_torch(sgd)
    error = np.abs(np.array(history.losses) - expected) / expected
    assert error.max() <= 1e-4, f"step {error.argmax() + 1}: {error.max():.1e}"
    # It is learning that is compared: the last epoch is better than the first.
    assert expected[-5:].mean() < 0.9 * expected[:5].mean()


def test_fifty_steps_of_the_host_tests(device):
    check_fifty_steps(device, SGD(0.05, 0.9, 0.001))


def test_awkward_layers(device):
    check_awkward_layers(device, (15, 13))


def test_two_runs_give_the_same_bits(runs, fresh_device):
    history, weights = runs(MOMENTUM)
    # A refresh of the memory may come at another moment, so the cycles are not the same.
    again, weights_again = fit(fresh_device, MOMENTUM)
    for found, expected in zip(again.steps, history.steps, strict=True):
        assert (found.loss, found.correct) == (expected.loss, expected.correct)
    for name, value in weights.items():
        assert value.tobytes() == weights_again[name].tobytes(), name


def test_two_runs_on_new_devices_take_the_same_cycles(fp32_model):
    histories = []
    for _ in range(2):
        with SimDevice(shared_object=fp32_model) as device:
            histories.append(fit(device, PLAIN, epochs=1)[0])
    assert histories[0].steps == histories[1].steps
    assert histories[0].cycles == histories[1].cycles


def test_bf16_learns_like_fp32(bf16_device):
    """bf16 keeps 8 bits: each loss within 5 % of the first, and training gets as far."""
    history, _ = fit(bf16_device, PLAIN)
    losses, expected = np.array(history.losses), losses_in_torch(PLAIN)
    assert np.abs(losses - expected).max() <= 0.05 * expected[0]
    assert (losses != expected.astype(np.float32)).any()
