"""Whole training runs to compare with PyTorch; every check takes any ``Device``.

The same runs are made on the interpreter and on the simulated core.
"""

import numpy as np
import torch
import torch.nn.functional as F
from layer_cases import assert_close, random
from torch import nn

from eftrain.optim import SGD
from eftrain.trainer import Trainer


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(5 * 3 * 2, 4),
    )


def awkward_net():
    """Odd pooling, a ReLU after a pool and after the scores, no biases, strides."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(2, 9, 3, stride=2, padding=1, bias=False), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(9, 3, (1, 2)), nn.ReLU(), nn.Conv2d(3, 4, 2, padding=1), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3, bias=False), nn.ReLU(),
    )


def data(samples, shape, classes, seed=0):
    labels = np.random.default_rng(seed).integers(0, classes, samples)
    x = random(samples, *shape, seed=seed) + 0.3 * labels[:, None, None, None]
    return x.astype(np.float32), labels


def train_in_torch(net, x, y, epochs, batch, sgd):
    """Losses and correct counts of the same batches in PyTorch."""
    optimizer = torch.optim.SGD(
        net.parameters(), sgd.lr, sgd.momentum, weight_decay=sgd.weight_decay
    )
    steps = []
    for _ in range(epochs):
        for start in range(0, len(x), batch):
            labels = torch.tensor(y[start:start + batch])
            scores = net(torch.tensor(x[start:start + batch]))
            loss = F.cross_entropy(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps.append((loss.item(), int((scores.argmax(1) == labels).sum())))
    return steps


def score_in_torch(net, x, y):
    with torch.no_grad():
        scores = net(torch.tensor(x))
    loss = float(F.cross_entropy(scores, torch.tensor(y)))
    return {"loss": loss, "accuracy": float((scores.argmax(1).numpy() == y).mean())}


def check_fifty_steps(device, sgd):
    """Loss and correct count of every step, and the weights after the last."""
    net = small_net()
    x, y = data(38, (1, 6, 5), 4)
    trainer = Trainer(net, device, sgd)
    history = trainer.fit(x, y, epochs=10, batch_size=8, shuffle=False)
    expected = train_in_torch(net, x, y, 10, 8, sgd)
    assert len(history.steps) == 50
    for step, (loss, correct) in zip(history.steps, expected, strict=True):
        assert abs(step.loss - loss) <= 1e-4 * abs(loss), step
        assert step.correct == correct
    assert [step.images for step in history.steps[:5]] == [8, 8, 8, 8, 6]
    assert history.steps[-1].epoch == 10 and history.steps[-1].step == 50
    for name, value in trainer.state_dict().items():
        assert_close(value, net.state_dict()[name], 1e-4, name)


def check_awkward_layers(device, size):
    """Nine steps of ``awkward_net`` on pictures of ``size``."""
    net, sgd = awkward_net(), SGD(0.1, 0.5)
    last = nn.Sequential(*list(net)[:9])(torch.zeros(1, 2, *size)).shape[1]
    net[9] = nn.Linear(last, 6)
    x, y = data(10, (2, *size), 3)
    trainer = Trainer(net, device, sgd)
    history = trainer.fit(x, y, epochs=3, batch_size=4, shuffle=False)
    expected = train_in_torch(net, x, y, 3, 4, sgd)
    assert np.allclose(history.losses, [loss for loss, _ in expected], rtol=1e-4)
    for name, value in trainer.state_dict().items():
        assert_close(value, net.state_dict()[name], 1e-4, name)
