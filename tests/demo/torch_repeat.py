"""The demo's run in PyTorch: the same weights, batches and order as on the device."""

import torch

from eftrain.checks import permutation
from eftrain.data.train_digits_base import network


def load(graph):
    """The demo's network in PyTorch with the graph's weights."""
    module = network()
    module.load_state_dict({name: torch.tensor(value) for name, value in graph.weights.items()})
    return module


def accuracy(module, x, y):
    with torch.no_grad():
        found = module(torch.tensor(x)).argmax(dim=1).numpy()
    return float((found == y).mean())


def repeat(task):
    """Train as ``task`` says; returns the module, and loss and correct count of every step."""
    settings = task.settings
    torch.set_num_threads(1)
    module = load(task.graph)
    optimizer = torch.optim.SGD(
        module.parameters(), lr=settings.learning_rate, momentum=settings.momentum
    )
    x, y = task.train
    order = permutation(len(x), settings.seed)
    x, y = torch.tensor(x[order]), torch.tensor(y[order].astype("int64"))
    steps = []
    for _ in range(settings.epochs):
        for pictures, labels in zip(
            x.split(settings.batch_size), y.split(settings.batch_size), strict=True
        ):
            scores = module(pictures)
            loss = torch.nn.functional.cross_entropy(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps.append((loss.item(), int((scores.argmax(dim=1) == labels).sum())))
    return module, steps
