"""Fifty training steps on the simulated core against PyTorch, and twice the same bits."""

import numpy as np
import pytest
import torch
from torch import nn
from training_cases import check_awkward_layers, check_fifty_steps, data, train_in_torch

from eftrain.optim import SGD
from eftrain.trainer import Trainer

SEED = 20220324
EPOCHS, BATCH, SAMPLES = 10, 4, 20
STEPS = EPOCHS * SAMPLES // BATCH


def net():
    torch.manual_seed(SEED)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 4 * 4, 5),
    )  # fmt: skip


def fit(device, sgd):
    print(f"seed {SEED}")
    x, y = data(SAMPLES, (1, 8, 8), 5, SEED)
    trainer = Trainer(net(), device, sgd, seed=SEED)
    history = trainer.fit(x, y, EPOCHS, BATCH, shuffle=False)
    assert len(history.steps) == STEPS
    return history, trainer.state_dict()


def losses_in_torch(sgd):
    x, y = data(SAMPLES, (1, 8, 8), 5, SEED)
    return np.array([loss for loss, _ in train_in_torch(net(), x, y, EPOCHS, BATCH, sgd)])


@pytest.mark.parametrize(
    "sgd", [SGD(0.05), SGD(0.02, 0.9, 0.001)], ids=["plain", "momentum"]
)
def test_losses_of_fifty_steps(device, sgd):
    history, _ = fit(device, sgd)
    expected = losses_in_torch(sgd)
    error = np.abs(np.array(history.losses) - expected) / expected
    assert error.max() <= 1e-4, f"step {error.argmax() + 1}: {error.max():.1e}"
    # It is learning that is compared: the last epoch is better than the first.
    assert expected[-5:].mean() < 0.9 * expected[:5].mean()


def test_fifty_steps_of_the_host_tests(device):
    check_fifty_steps(device, SGD(0.05, 0.9, 0.001))


def test_awkward_layers(device):
    check_awkward_layers(device, (15, 13))


def test_two_runs_give_the_same_bits(device, fresh_device):
    sgd = SGD(0.02, 0.9)
    runs = [fit(device, sgd) for device in (device, fresh_device, fresh_device)]
    for history, weights in runs[1:]:
        # Without the cycles: a refresh of the memory may come at another moment.
        for found, expected in zip(history.steps, runs[0][0].steps, strict=True):
            assert (found.loss, found.correct) == (expected.loss, expected.correct)
        for name, value in weights.items():
            assert value.tobytes() == runs[0][1][name].tobytes(), name


def test_bf16_learns_like_fp32(bf16_device):
    """bf16 keeps 8 bits: each loss within 5 % of the first, and training gets as far."""
    sgd = SGD(0.05)
    history, _ = fit(bf16_device, sgd)
    losses, expected = np.array(history.losses), losses_in_torch(sgd)
    assert np.abs(losses - expected).max() <= 0.05 * expected[0]
    assert (losses != expected.astype(np.float32)).any()
