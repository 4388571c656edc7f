"""A small network and pictures for ``eftrain train``, and the same run in PyTorch."""

import numpy as np
import torch
import torch.nn.functional as F
from data_files import pixels, save
from graph_in_torch import GraphInTorch

from eftrain.data import Batches

MODEL = """
import torch
from torch import nn

def network():
    torch.manual_seed(3)
    net = nn.Sequential()
    net.add_module("body", nn.Conv2d(1, 4, 3, padding=1, bias=False))
    net.add_module("norm", nn.BatchNorm2d(4))
    net.add_module("act", nn.{activation}())
    net.add_module("pool", nn.{pool})
    net.add_module("flat", nn.Flatten())
    net.add_module("neck", nn.Linear(36, 5))
    net.add_module("act2", nn.ReLU())
    net.add_module("head", nn.Linear(5, 2))
    {more}
    return net, (1, 6, 6)
"""


def model(activation="ReLU", pool="MaxPool2d(2)", more=""):
    """Write ``net.py``."""
    with open("net.py", "w") as file:
        file.write(MODEL.format(activation=activation, pool=pool, more=more))
    return "net.py"


def arrays(train=11, test=5, classes=2, **more):
    """Write ``data.npz``: pictures of which the brighter half is the class."""
    content = dict(more)
    for end, count, seed in (("", train, 0), ("_test", test, 1)):
        if count:
            y = np.arange(count) % classes
            x = np.random.default_rng(seed).random((count, 1, 6, 6), np.float32) / 2
            x[y == 1, :, 3:] += 0.5
            content |= {f"x{end}": x, f"y{end}": y}
    np.savez("data.npz", **content)
    return "data.npz"


def folders(path, each=4, test=2, names=("ant", "bee")):
    """Write grey PNG pictures of another size than the network's."""
    for part, count in (("train", each), ("test", test)):
        for number, name in enumerate(names):
            for index, picture in enumerate(pixels(count, 1, 8, 7, seed=number)[:, 0]):
                picture[4 * (number % 2) :][:4] |= 128
                save(path / part / name / f"{index}.png", picture)
    return str(path)


def module_of(task):
    """The task's network in PyTorch, with its weights and what is frozen."""
    module = GraphInTorch(task.graph)
    state = {name: torch.tensor(value) for name, value in task.graph.weights.items()}
    module.load_state_dict(state, strict=False)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(task.graph.trainable[name])
    return module


def score(module, test):
    """Loss and accuracy in evaluation mode."""
    module.eval()
    with torch.no_grad():
        scores = module(torch.tensor(test[0]))
    labels = torch.tensor(test[1])
    module.train()
    right = (scores.argmax(1) == labels).double().mean()
    return {"loss": float(F.cross_entropy(scores, labels)), "accuracy": float(right)}


def repeat(task, scheduler=None):
    """Train in PyTorch on the batches that the task's data give.

    Parameters
    ----------
    task : eftrain.finetune.Task
    scheduler : callable, optional
        Makes a scheduler of ``torch.optim.lr_scheduler`` from the optimiser.

    Returns
    -------
    tuple
        Module, ``[(learning rate, mean loss, accuracy)]`` of the epochs, and the test scores before
        and after.
    """
    settings, module = task.settings, module_of(task)
    optimizer = torch.optim.SGD(
        [parameter for parameter in module.parameters() if parameter.requires_grad],
        settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay,
    )  # fmt: skip
    scheduler = scheduler(optimizer) if scheduler else None
    made = task.batches
    batches = Batches(
        made.split, settings.batch_size, settings.seed,
        augment=made.augment, normalisation=made.normalisation,
    )  # fmt: skip
    scores = [score(module, task.test)] if task.test else []
    epochs = []
    for _ in range(settings.epochs):
        loss_sum = right = 0
        for x, y in batches:
            labels = torch.tensor(y)
            found = module(torch.tensor(x))
            loss = F.cross_entropy(found, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(y)
            right += int((found.argmax(1) == labels).sum())
        epochs.append((optimizer.param_groups[0]["lr"], loss_sum / batches.images,
                       right / batches.images))  # fmt: skip
        if scheduler:
            scheduler.step()
    scores += [score(module, task.test)] if task.test else []
    return module, epochs, scores
