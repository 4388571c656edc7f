"""Trains the base network of the digits demo: the weights that ship with the package.

Plain PyTorch on the CPU; run once, kept for the record::

    python -m eftrain.data.train_digits_base [FILE]

The 900 base pictures are visited for 30 epochs in batches of 20, each epoch in a new order. One
thread and fixed seeds make two runs on one machine give the same file.
"""

import sys
from pathlib import Path

import numpy as np

from ..networks import digits
from ..weights_file import save_weights
from . import digits as data

EPOCHS = 30
BATCH_SIZE = 20
LEARNING_RATE = 0.02
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-3
SEED = 0


def network():
    """The ``digits`` network of ``eftrain.networks`` in PyTorch, with the same parameter names."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


def train():
    """Train from scratch; returns the module."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    generator = np.random.RandomState(SEED)
    pictures = data.base()
    x, y = torch.tensor(pictures.x), torch.tensor(pictures.y)
    module = network()
    optimizer = torch.optim.SGD(
        module.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    for _ in range(EPOCHS):
        for batch in torch.tensor(generator.permutation(len(y))).split(BATCH_SIZE):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(x[batch]), y[batch]).backward()
            optimizer.step()
    return module


def main(path=data.BASE_WEIGHTS):
    """Train, write the weights, and say how well the network reads both hands."""
    import torch

    module = train()
    values = {name: value.numpy() for name, value in module.state_dict().items()}
    save_weights(path, digits().layers, values)
    adapt, test = data.new_user()
    for name, split in (("base", data.base()), ("adapt", adapt), ("test", test)):
        with torch.no_grad():
            found = module(torch.tensor(split.x)).argmax(dim=1).numpy()
        print(f"{name:>6}: {(found == split.y).mean():.1%} of {len(split.y)} pictures")
    print(f"Wrote {path}.")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:2]))
