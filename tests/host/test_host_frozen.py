"""Training with frozen parameters: against PyTorch's requires_grad, and what is left out of it."""

from collections import Counter

import numpy as np
import pytest
from frozen_cases import (
    CASES,
    MOVING,
    NORMS,
    PLAIN,
    SHAPE,
    check_sections,
    check_steps,
    conv,
    network,
)
from graph_in_torch import GraphInTorch
from training_cases import data

from eftrain.driver import Driver
from eftrain.errors import UserError
from eftrain.graph import (
    Graph,
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


def step(name, config="4x4", sgd=MOVING):
    layers, trained = CASES[name]
    return Schedule(network(layers, trained), CoreConfig.parse(config), sgd).training_step(4)


def memory(name, sgd=MOVING):
    schedule = Schedule(network(*CASES[name]), CoreConfig.parse("4x4"), sgd)
    return Job(schedule, [Section("fit", "train", 12, 4)], 0, 1 << 24).memory


@pytest.mark.parametrize("name", CASES)
def test_three_steps_with_momentum(make_device, name):
    check_steps(make_device("4x4"), name)


@pytest.mark.parametrize("name", ["last layer", "norms: last layer", "residual: the projection"])
def test_sections_follow_each_other(make_device, name):
    check_sections(make_device("4x4"), name)


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
