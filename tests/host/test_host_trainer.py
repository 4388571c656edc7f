"""Whole runs on the interpreter: training, evaluation, prediction and weight files."""

import csv

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from layer_cases import assert_close, random
from torch import nn

from eftrain.checks import permutation
from eftrain.errors import UserError
from eftrain.graph import Conv2d, Flatten, Graph, Linear, MaxPool2d, ReLU
from eftrain.import_torch import from_torch
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


@pytest.mark.parametrize(("array", "sgd"), [
    ("4x4", SGD(0.1)), ("8x8", SGD(0.05, 0.9, 0.001)),
], ids=["plain", "momentum"])
def test_fifty_steps_match_pytorch(make_device, array, sgd):
    net = small_net()
    x, y = data(38, (1, 6, 5), 4)
    trainer = Trainer(net, make_device(array), sgd)
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


@pytest.mark.parametrize("size", [(14, 14), (15, 13)])
def test_awkward_layers_train_as_in_pytorch(make_device, size):
    net, sgd = awkward_net(), SGD(0.1, 0.5)
    last = nn.Sequential(*list(net)[:9])(torch.zeros(1, 2, *size)).shape[1]
    net[9] = nn.Linear(last, 6)
    x, y = data(10, (2, *size), 3)
    trainer = Trainer(net, make_device(), sgd)
    history = trainer.fit(x, y, epochs=3, batch_size=4, shuffle=False)
    expected = train_in_torch(net, x, y, 3, 4, sgd)
    assert np.allclose(history.losses, [loss for loss, _ in expected], rtol=1e-4)
    for name, value in trainer.state_dict().items():
        assert_close(value, net.state_dict()[name], 1e-4, name)


def test_one_doorbell_evaluates_trains_and_evaluates(make_device):
    net, sgd = small_net(), SGD(0.1, 0.9)
    x, y = data(21, (1, 6, 5), 4)
    test = data(13, (1, 6, 5), 4, seed=5)
    trainer = Trainer(net, make_device(), sgd, seed=3)
    seen = []
    history = trainer.fit(x, y, 2, 8, test=test, on_step=seen.append)
    before = score_in_torch(net, *test)
    order = permutation(len(x), 3)
    train_in_torch(net, x[order], y[order], 2, 8, sgd)
    after = score_in_torch(net, *test)
    for found, expected in ((history.before, before), (history.after, after)):
        assert found["accuracy"] == pytest.approx(expected["accuracy"])
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert [step.section for step in seen] == ["before"] * 2 + ["train"] * 6 + ["after"] * 2
    cycles = [step.cycles for step in seen]
    assert cycles == sorted(cycles) and cycles[0] < cycles[-1] <= history.cycles
    assert trainer.evaluate(*test, batch_size=5)["loss"] == pytest.approx(after["loss"], rel=1e-4)


def test_momentum_goes_on_from_one_fit_to_the_next(make_device):
    net, sgd = small_net(), SGD(0.05, 0.9)
    x, y = data(16, (1, 6, 5), 4)
    twice, once = (Trainer(net, make_device(), sgd) for _ in range(2))
    twice.fit(x, y, 1, 8, shuffle=False)
    twice.fit(x, y, 1, 8, shuffle=False)
    once.fit(x, y, 2, 8, shuffle=False)
    for name, value in once.state_dict().items():
        assert np.array_equal(value, twice.state_dict()[name])


def test_two_runs_write_the_same_history(make_device, tmp_path):
    x, y = data(20, (1, 6, 5), 4)
    files = []
    for run in range(2):
        trainer = Trainer(small_net(), make_device(), SGD(0.1), seed=7)
        trainer.fit(x, y, 2, 8).to_csv(tmp_path / f"{run}.csv")
        files.append((tmp_path / f"{run}.csv").read_text())
    assert files[0] == files[1]
    rows = list(csv.DictReader(files[0].splitlines()))
    assert len(rows) == 6 and list(rows[0]) == ["step", "loss", "correct", "cycles"]


def test_predict(make_device):
    net = small_net()
    x, _ = data(11, (1, 6, 5), 4)
    trainer = Trainer(net, make_device())
    expected = net(torch.tensor(x)).detach().numpy()
    assert_close(trainer.predict(x, batch_size=4, logits=True), expected)
    assert np.array_equal(trainer.predict(x), expected.argmax(1))


def test_dense_macs_count_every_batch(make_device):
    x, y = data(21, (1, 6, 5), 4)
    history = Trainer(small_net(), make_device(), SGD(0.1)).fit(x, y, 3, 8)
    convolution, linear = 30 * 9 * 5, 30 * 4
    # The first layer needs no input gradient.
    assert history.dense_macs == 3 * 21 * (2 * convolution + 3 * linear)


def test_graph_and_sequential_are_the_same_network(make_device, tmp_path):
    layers = [Conv2d(1, 5, 3, padding=1), ReLU(), MaxPool2d(2), Flatten(), Linear(30, 4)]
    net = small_net()
    graph = from_torch(net, (1, 6, 5))
    assert graph.layers == layers and graph.classes == 4
    path = tmp_path / "weights.safetensors"
    Trainer(graph, make_device()).save(path)
    trainer = Trainer(Graph((1, 6, 5), layers), make_device(), seed=9)
    assert not np.array_equal(trainer.state_dict()["0.weight"], graph.weights["0.weight"])
    trainer.load(path)
    for name, value in trainer.state_dict().items():
        assert np.array_equal(value, net.state_dict()[name].numpy())


def test_weights_of_another_network_are_refused(make_device, tmp_path):
    path = tmp_path / "weights.safetensors"
    Trainer(small_net(), make_device()).save(path)
    other = Trainer(Graph((4, 1, 1), [Flatten(), Linear(4, 2)]), make_device())
    with pytest.raises(UserError, match="weights of another network"):
        other.load(path)
    with pytest.raises(UserError, match="no weight file"):
        other.load(tmp_path / "missing")
    (tmp_path / "broken").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a readable safetensors"):
        other.load(tmp_path / "broken")
    with pytest.raises(UserError, match="Cannot write weights"):
        other.save(tmp_path / "no" / "folder")


def test_networks_on_vectors(make_device):
    net = nn.Sequential(nn.Linear(7, 11), nn.ReLU(), nn.Linear(11, 3))
    x, y = random(9, 7), np.arange(9) % 3
    trainer = Trainer(net, make_device(), SGD(0.1))
    history = trainer.fit(x, y, 2, 4, shuffle=False)
    expected = train_in_torch(net, x, y, 2, 4, SGD(0.1))
    assert np.allclose(history.losses, [loss for loss, _ in expected], rtol=1e-4)
