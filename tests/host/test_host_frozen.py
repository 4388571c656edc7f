"""Training with frozen parameters: against PyTorch's requires_grad, and what is left out of it."""

from collections import Counter

import numpy as np
import pytest
import torch
from graph_in_torch import GraphInTorch
from layer_cases import assert_close
from training_cases import data, train_in_torch

from eftrain.driver import Driver
from eftrain.errors import UserError
from eftrain.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Graph,
    Linear,
    MaxPool2d,
    Node,
    ReLU,
)
from eftrain.job import Job, Section
from eftrain.optim import SGD
from eftrain.plan.liveness import share
from eftrain.plan.passes import LayerPass, Operand
from eftrain.plan.schedule import Schedule
from eftrain.plan.stages import BIASES
from eftrain.trainer import Trainer
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.isa import Flag, Opcode

MOVING = SGD(0.05, 0.9, 0.01)
SHAPE = (2, 6, 6)


def conv(inputs, outputs, bias=True):
    return Conv2d(inputs, outputs, 3, padding=1, bias=bias)


PLAIN = [conv(2, 5), ReLU(), MaxPool2d(), conv(5, 6), ReLU(), Flatten(), Linear(54, 5), ReLU(),
         Linear(5, 3)]  # fmt: skip
NORMS = [conv(2, 5, False), BatchNorm2d(5), ReLU(), MaxPool2d(), conv(5, 6, False), BatchNorm2d(6),
         ReLU(), AvgPool2d(), Flatten(), Linear(6, 3)]  # fmt: skip
RESIDUAL = [
    conv(2, 5, False), BatchNorm2d(5), ReLU(), conv(5, 5, False), BatchNorm2d(5), ReLU(),
    conv(5, 5, False), BatchNorm2d(5), Node(Add(), (7, 2)), ReLU(),
    Conv2d(5, 6, 3, 2, 1, bias=False), BatchNorm2d(6), Conv2d(5, 6, 1, 2, bias=False),
    BatchNorm2d(6), Node(Add(), (11, 13)), ReLU(), AvgPool2d(), Flatten(), Linear(6, 3),
]  # fmt: skip
RESIDUAL[12] = Node(RESIDUAL[12], 9)
UNNORMED = [conv(2, 4), ReLU(), conv(4, 4), Node(Add(), (2, 1)), ReLU(), conv(4, 4), Flatten(),
            Linear(144, 3)]  # fmt: skip

CASES = {
    # Layers, and the parameters that are trained.
    "last layer": (PLAIN, "8.weight 8.bias"),
    "last two": (PLAIN, "6.weight 6.bias 8.weight 8.bias"),
    "a middle layer": (PLAIN, "3.weight 3.bias"),
    "the first layer": (PLAIN, "0.weight 0.bias"),
    "weights without biases": (PLAIN, "0.weight 3.weight 6.weight 8.weight"),
    "biases": (PLAIN, "0.bias 3.bias 6.bias 8.bias"),
    "one bias": (PLAIN, "6.bias"),
    "weights and biases mixed": (PLAIN, "0.bias 3.weight 8.weight 8.bias"),
    "norms: last layer": (NORMS, "9.weight 9.bias"),
    "norms: the first convolution": (NORMS, "0.weight"),
    "norms: convolutions": (NORMS, "0.weight 4.weight 9.weight 9.bias"),
    "norms: batch-norms": (NORMS, "1.weight 1.bias 5.weight 5.bias"),
    "norms: a bias": (NORMS, "9.bias"),
    "residual: last layer": (RESIDUAL, "18.weight 18.bias"),
    "residual: the projection": (RESIDUAL, "12.weight"),
    "residual: the last block": (
        RESIDUAL,
        "10.weight 11.weight 11.bias 12.weight 13.weight 13.bias 18.weight 18.bias",
    ),
    "residual: below the shortcut": (RESIDUAL, "0.weight 18.bias"),
    "residual: inside a block": (RESIDUAL, "3.weight 4.weight 4.bias"),
    "sums: biases": (UNNORMED, "0.bias 2.bias 5.bias 7.bias"),
    "sums: behind the sum": (UNNORMED, "5.bias 7.weight"),
}


def network(layers, trained):
    """A Graph that trains the named parameters only."""
    graph = Graph(SHAPE, layers)
    unknown = set(trained.split()) - set(graph.trainable)
    assert not unknown
    trainable = {name: name in trained.split() for name in graph.trainable}
    return Graph(SHAPE, layers, trainable=trainable)


def step(name, config="4x4", sgd=MOVING):
    layers, trained = CASES[name]
    return Schedule(network(layers, trained), CoreConfig.parse(config), sgd).training_step(4)


def memory(name, sgd=MOVING):
    schedule = Schedule(network(*CASES[name]), CoreConfig.parse("4x4"), sgd)
    return Job(schedule, [Section("fit", "train", 12, 4)], 0, 1 << 24).memory


@pytest.mark.parametrize("name", CASES)
def test_three_steps_with_momentum(make_device, name):
    graph = network(*CASES[name])
    torch.manual_seed(1)
    net = GraphInTorch(graph)
    before = {key: value.copy() for key, value in net.values().items()}
    graph = Graph(SHAPE, graph.layers, before, trainable=graph.trainable)
    for key, parameter in net.named_parameters():
        parameter.requires_grad_(graph.trainable[key])
    x, y = data(11, SHAPE, 3)
    trainer = Trainer(graph, make_device("4x4"), MOVING)
    trainer.fit(x[:8], y[:8], 1, 4, shuffle=False)
    trainer.fit(x[8:], y[8:], 1, 4, shuffle=False)  # Momentum goes on; a smaller batch.
    train_in_torch(net, x, y, 1, 4, MOVING)
    after = trainer.state_dict()
    for key, value in after.items():
        assert_close(value, net.values()[key], 1e-4, key)
        if not graph.trainable.get(key, True):
            assert np.array_equal(value, before[key]), key
        elif "running" not in key:
            assert not np.array_equal(value, before[key]), key


@pytest.mark.parametrize("name", ["last layer", "biases", "norms: convolutions"])
def test_the_device_leaves_frozen_tensors_alone(make_device, name):
    device, graph = make_device("4x4"), network(*CASES[name])
    schedule = Schedule(graph, device.config, MOVING)
    job = Job(schedule, [Section("fit", "train", 8, 4)], device.memory_base, device.memory_size)
    values = GraphInTorch(graph).values()
    zeros = {key: np.zeros_like(value) for key, value in values.items()}
    datasets = {"train": data(8, SHAPE, 3)}
    job.run(Driver(device), values, zeros, datasets)
    uploads, regions, changed = dict(job.uploads(values, zeros, datasets)), job.memory.regions, []
    for key in graph.trainable:
        if key in regions:  # Other biases, and batch-norms, lie in records.
            address = regions[key].address
            if device.read_memory(address, len(uploads[address])) != uploads[address]:
                changed.append(key)
    trained = [key for key in graph.trainable if graph.trainable[key] and key in regions]
    assert changed == trained
    norm = next((stage.norm for stage in schedule.stages if stage.norm), None)
    if norm:
        address = regions[norm.parameters].address
        found = np.frombuffer(device.read_memory(address, len(uploads[address])), "<f4")
        sent = np.frombuffer(uploads[address], "<f4")
        rows = (found == sent).reshape(-1, 8, 4).all(axis=(0, 2))
        assert list(rows) == [True, True, False, False, True, True, False, False]


OPCODES = {
    # Passes behind LOSS.
    "last layer": {Opcode.CONV_WU: 1},
    "last two": {Opcode.CONV_WU: 2, Opcode.CONV_BP: 1},
    "a middle layer": {Opcode.CONV_WU: 1, Opcode.CONV_BP: 2},
    "weights without biases": {Opcode.CONV_WU: 4, Opcode.CONV_BP: 3},
    # The biases behind a drain that can sum, and the scores' from LOSS by a PASS.
    "biases": {Opcode.CONV_BP: 3, Opcode.PASS: 1, Opcode.NORM: 1},
    "norms: last layer": {Opcode.CONV_WU: 1},
    "norms: batch-norms": {Opcode.CONV_BP: 2, Opcode.NORM: 2, Opcode.PASS_BP: 1},
    "residual: last layer": {Opcode.CONV_WU: 1},
    # Of the two addends the frozen one needs no sums, so no NORM.
    "residual: the projection": {
        Opcode.CONV_WU: 1,
        Opcode.CONV_BP: 1,
        Opcode.NORM: 1,
        Opcode.PASS: 1,
        Opcode.PASS_BP: 1,
    },
}


@pytest.mark.parametrize("name", OPCODES)
def test_passes_that_are_left(name):
    passes = step(name)
    (start,) = [i for i, p in enumerate(passes) if p.opcode is Opcode.LOSS]
    assert Counter(p.opcode for p in passes[start + 1 :]) == Counter(OPCODES[name])


def test_frozen_layers_are_not_read_or_written_for_a_backward_pass():
    for name in ("last layer", "norms: last layer", "residual: last layer"):
        passes = step(name)
        parameters = Graph(SHAPE, CASES[name][0]).trainable
        written = {tensor for p in passes for tensor in p.writes() if tensor in parameters}
        assert written == set(CASES[name][1].split())
        assert not any(Flag.KEEP in p.flags for p in passes)
    # All of it is written if the first layer is trained.
    assert any(Flag.KEEP in p.flags for p in step("the first layer"))
    assert any(Flag.TEE in p.flags for p in step("residual: the projection"))


def test_a_sum_is_written_only_for_who_needs_it():
    def sums(name):
        return {t for p in step(name) for t in p.writes() if t == "activation.10"}

    assert sums("residual: the last block") and not sums("residual: last layer")


def test_bytes_that_are_left():
    full = Schedule(Graph(SHAPE, PLAIN), CoreConfig.parse("4x4"), MOVING)
    full = Job(full, [Section("fit", "train", 12, 4)], 0, 1 << 24).memory
    found = memory("last layer")
    names = {r["name"] for r in found.report()}
    momentum = {name for name in names if name.startswith("momentum.")}
    assert momentum == {"momentum.8.bias", "momentum.8.weight"}
    assert [n for n in names if n.startswith("gradient.")] == ["gradient.activation.8"]
    assert BIASES not in names and BIASES in full.regions
    # What was pooled is not written, and the pooled map and the scores take turns.
    taken = {"activation.0", "pooled.2", "activation.8"}
    assert not taken & names and taken - {"activation.8"} <= set(full.regions)
    addresses = found.addresses()
    assert addresses["pooled.2"] == addresses["activation.8"] == addresses["shared.1"]
    assert found.regions["shared.1"].nbytes == full.regions["pooled.2"].nbytes
    assert not [r for r in memory("biases").report() if r["name"].startswith("momentum")]
    # A frozen layer's weight has no momentum, though others have.
    assert "momentum.0.weight" not in memory("a middle layer").regions


def test_without_momentum_there_is_none():
    assert not [r for r in memory("last two", SGD(0.1)).report() if "momentum" in r["name"]]


# -- regions that activations share ----------------------------------------------------------------


def chain(length):
    """Passes of which each reads what the one before it writes."""
    return [
        LayerPass(Opcode.CONV_FP, "", stream=Operand(str(i)), output=Operand(str(i + 1)))
        for i in range(length)
    ]


def test_maps_of_a_chain_take_turns():
    sizes = {str(i): 100 - i for i in range(1, 7)}
    groups = share([chain(6)], sizes)
    assert {name for group in groups for name in group} == set(sizes)
    # 1 is used by passes 0 and 1; pass 2 may still overlap with pass 1.
    assert [sorted(group) for group in groups] == [["1", "4"], ["2", "5"], ["3", "6"]]
    assert share([chain(6), [*chain(6), *chain(1)[:0], chain(2)[1]]], {"1": 4, "4": 4}) == [
        {"1": 4}, {"4": 4},
    ]  # fmt: skip


def test_the_next_turn_of_the_loop_counts():
    # Pass 0 writes 1 while the last pass of the turn before, which reads 3, may be unfinished.
    assert share([chain(4)], {"1": 4, "4": 4}) == [{"1": 4}, {"4": 4}]


def test_maps_that_no_pass_uses_are_left_out():
    assert share([chain(2)], {"1": 4, "9": 4}) == [{"1": 4}]


# -- what the device cannot train ------------------------------------------------------------------


@pytest.mark.parametrize(
    "layers, trained, config, message",
    [
        (
            NORMS, "1.bias 9.bias", {},
            r"^layer 1 \(BatchNorm2d\) has a weight with requires_grad=False and a bias that is "
            r"trained, but the device updates both of a batch-norm together; train both or neither",
        ),
        (NORMS, "5.weight", {}, r"^layer 5 \(BatchNorm2d\) has a bias with requires_grad=False"),
        (PLAIN, "8.bias", {"batch_norm": False}, r"^layer 8 \(Linear\) trains its bias without"),
        (PLAIN, "", {}, "^All parameters of the network have requires_grad=False, so"),
        # A bias in front of a batch-norm reaches nothing.
        ([conv(2, 5), *NORMS[1:]], "0.bias", {}, "^All parameters"),
    ],
)  # fmt: skip
def test_what_the_device_cannot_train_is_refused_by_training_only(
    make_device, layers, trained, config, message
):
    trainer = Trainer(network(layers, trained), make_device("4x4", **config), MOVING)
    x, y = data(4, SHAPE, 3)
    if "batch_norm" not in config or layers is PLAIN:
        assert trainer.predict(x).shape == (4,)
    before = trainer.driver.device.words.copy()
    with pytest.raises(UserError, match=message):
        trainer.fit(x, y)
    assert np.array_equal(trainer.driver.device.words, before, equal_nan=True)
