"""Whole runs on the interpreter: training, evaluation, prediction and weight files."""

import csv

import numpy as np
import pytest
import torch
from layer_cases import assert_close, random
from torch import nn
from training_cases import (
    check_awkward_layers,
    check_fifty_steps,
    data,
    score_in_torch,
    small_net,
    train_in_torch,
)

from eftrain.checks import permutation
from eftrain.errors import UserError
from eftrain.graph import Conv2d, Flatten, Graph, Linear, MaxPool2d, ReLU
from eftrain.importers.torch_module import from_torch
from eftrain.optim import SGD
from eftrain.trainer import Trainer


@pytest.mark.parametrize(("array", "sgd"), [
    ("4x4", SGD(0.1)), ("8x8", SGD(0.05, 0.9, 0.001)),
], ids=["plain", "momentum"])
def test_fifty_steps_match_pytorch(make_device, array, sgd):
    check_fifty_steps(make_device(array), sgd)


@pytest.mark.parametrize("size", [(14, 14), (15, 13)])
def test_awkward_layers_train_as_in_pytorch(make_device, size):
    check_awkward_layers(make_device(), size)


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
    # The first layer needs no input gradient. Of its fifth column nothing is pooled, but it counts.
    convolution, linear = 6 * 5 * 9 * 5, 30 * 4
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
    Trainer(from_torch(small_net(), (1, 6, 5)), make_device()).save(path)
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


def test_weights_of_a_module_are_known_with_the_first_data(make_device, tmp_path):
    net = small_net()
    trainer = Trainer(net, make_device())
    for use in (trainer.state_dict, lambda: trainer.save(tmp_path / "weights.npz"),
                lambda: trainer.load(tmp_path / "weights.npz")):  # fmt: skip
        with pytest.raises(UserError, match="not known before the first data; give the Trainer"):
            use()
    expected = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    with torch.no_grad():
        net[0].weight.zero_()  # The Trainer has the module as it was given.
    trainer.predict(data(3, (1, 6, 5), 4)[0])
    for name, value in trainer.state_dict().items():
        assert np.array_equal(value, expected[name])


def test_networks_on_vectors(make_device):
    net = nn.Sequential(nn.Linear(7, 11), nn.ReLU(), nn.Linear(11, 3))
    x, y = random(9, 7), np.arange(9) % 3
    trainer = Trainer(net, make_device(), SGD(0.1))
    history = trainer.fit(x, y, 2, 4, shuffle=False)
    expected = train_in_torch(net, x, y, 2, 4, SGD(0.1))
    assert np.allclose(history.losses, [loss for loss, _ in expected], rtol=1e-4)
