"""Biases whose gradient is summed on a drain: where they lie, which passes carry them, training."""

import numpy as np
import pytest
import torch
from graph_in_torch import GraphInTorch
from layer_cases import assert_close, random
from training_cases import data, train_in_torch

from eftrain.driver import Driver
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
from eftrain.networks import alexnet, digits
from eftrain.optim import SGD
from eftrain.pack.parameters import pack_biases, pack_parameters, unpack_biases
from eftrain.plan.layout import BETA, BETA_MOMENTUM
from eftrain.plan.schedule import Schedule
from eftrain.plan.stages import BIASES
from eftrain.trainer import Trainer
from eftrain_hdl import isa
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.isa import Flag, Opcode

MOVING = SGD(0.05, 0.9, 0.01)


def conv(inputs, outputs, kernel=3, stride=1):
    return Conv2d(inputs, outputs, kernel, stride, kernel // 2)


NETWORKS = {
    # Network, and the opcodes of the passes that sum biases up.
    "pooled": (
        [conv(2, 9), ReLU(), MaxPool2d(), conv(9, 5), ReLU(), Flatten(), Linear(80, 3)],
        [Opcode.CONV_BP, Opcode.CONV_BP],
    ),
    "averaged": ([conv(2, 9), ReLU(), AvgPool2d(4), Flatten(), Linear(36, 3)], [Opcode.PASS_BP]),
    "residual": (
        [conv(2, 6), ReLU(), conv(6, 6), ReLU(), conv(6, 6), Node(Add(), (4, 1)), ReLU(),
         MaxPool2d(), Flatten(), Linear(96, 3)],
        [Opcode.PASS, Opcode.CONV_BP, Opcode.CONV_BP],
    ),
    "shared gradient": (
        [conv(2, 6), conv(6, 6), Node(conv(6, 6), 0), Node(Add(), (1, 2)), ReLU(), Flatten(),
         Linear(384, 3)],
        # The gradient of one addend is that of the sum: no pass of its own.
        [Opcode.CONV_BP, Opcode.CONV_BP],
    ),
    "beside batch-norm": (
        # A bias in front of it would be decayed by PyTorch only.
        [conv(2, 6), ReLU(), Conv2d(6, 6, 3, padding=1, bias=False), BatchNorm2d(6), ReLU(),
         conv(6, 4), ReLU(), Flatten(), Linear(256, 3)],
        [Opcode.CONV_BP, Opcode.CONV_BP],
    ),
    "scores of many pixels": ([conv(2, 3, 8, 1), ReLU(), AvgPool2d(), Flatten()], [Opcode.PASS_BP]),
}  # fmt: skip


def network(name):
    return Graph((2, 8, 8), NETWORKS[name][0])


@pytest.mark.parametrize("name", NETWORKS)
def test_training_with_momentum_and_weight_decay(make_device, name):
    graph = network(name)
    torch.manual_seed(0)
    net = GraphInTorch(graph)
    graph = Graph(graph.input_shape, graph.layers, net.values())
    x, y = data(13, graph.input_shape, 3)
    trainer = Trainer(graph, make_device("4x4"), MOVING)
    # Momentum goes on from one fit to the next.
    losses = [loss for _ in "12" for loss in trainer.fit(x, y, 1, 5, shuffle=False).losses]
    expected = train_in_torch(net, x, y, 2, 5, MOVING)
    assert np.allclose(losses, [loss for loss, _ in expected], rtol=1e-4)
    for key, value in trainer.state_dict().items():
        assert_close(value, net.values()[key], 1e-4, key)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_pass_that_finishes_a_gradient_sums_it(name):
    passes = Schedule(network(name), CoreConfig.parse("4x4"), MOVING).training_step(5)
    assert [p.opcode for p in passes if Flag.SUMS in p.flags] == NETWORKS[name][1]
    summed = [p for p in passes if Flag.SUMS in p.flags]
    offsets = [p.bases["statistics"].offset for p in summed]
    assert offsets == sorted(set(offsets), reverse=True) and offsets[-1] == 0
    *_, last = passes
    assert last.opcode is Opcode.NORM and last.reads()["side"] == set()
    assert last.flags == {Flag.GRADIENT, Flag.UPDATE, Flag.MOMENTUM}
    assert last.scalars["weight_decay"] == MOVING.weight_decay


def test_what_stays_with_the_weight_gradient():
    def taps(graph, array):
        step = Schedule(graph, CoreConfig.parse(array), MOVING).training_step(4)
        return [p.layer for p in step if p.opcode is Opcode.CONV_WU and Flag.BIAS in p.flags]

    assert taps(digits(), "16x16") == ["fc"]  # LOSS cannot sum.
    assert taps(alexnet(), "16x16") == ["fc8", "fc7", "fc6"]  # One pixel, many blocks.
    large = [Conv2d(1, 5, 3), ReLU(), Flatten(), Linear(5 * 24 * 24, 3)]
    names = {0: "flattened", 3: "scores"}
    assert taps(Graph((1, 26, 26), large, names=names), "4x4") == ["scores", "flattened"]


def test_without_optimizer_biases_lie_alone():
    stages = Schedule(digits(), CoreConfig()).stages
    assert [stage.bias for stage in stages if stage.trainable] == ["0.bias", "2.bias", "6.bias"]


def test_records():
    graph = Graph((1, 8, 8), [conv(1, 5), ReLU(), conv(5, 9), ReLU(), Flatten(), Linear(576, 2)])
    stages = Schedule(graph, CoreConfig.parse("4x4"), MOVING).stages
    values = {name: random(*shape) for name, shape in graph.parameter_shapes.items()}
    momentum = {name: 2 * value for name, value in values.items()}
    packed = pack_biases(stages, values, momentum)
    records = np.frombuffer(packed[BIASES], "<f4").reshape(5, 8, 4)
    for index, (start, stop) in {0: (0, 2), 2: (2, 5)}.items():
        for row, source in ((BETA, values), (BETA_MOMENTUM, momentum)):
            bias, lanes = source[f"{index}.bias"], records[start:stop, row].reshape(-1)
            assert np.array_equal(lanes[: len(bias)], bias) and not lanes[len(bias) :].any()
    assert not records[:, [0, 2, 3, 4, 6, 7]].any()
    biases, moving = unpack_biases(stages, packed.get)
    assert set(biases) == set(moving) == {"0.bias", "2.bias"}
    for name, value in biases.items():
        assert np.array_equal(value, values[name])
        assert np.array_equal(moving[name], momentum[name])
    assert set(pack_parameters(stages, values)) == {"0.weight", "2.weight", "5.weight", "5.bias"}


@pytest.mark.parametrize("sgd", [SGD(0.1), MOVING], ids=["plain", "momentum"])
def test_what_is_no_bias_stays_zero_and_forward_passes_read_the_second_vector(make_device, sgd):
    device, graph = make_device("4x4"), network("pooled")
    net = GraphInTorch(graph)
    x, y = data(10, graph.input_shape, 3)
    driver = Driver(device)
    job = Job(
        Schedule(graph, driver.config, sgd), [Section("fit", "train", 10, 5, 2)],
        device.memory_base, device.memory_size,
    )  # fmt: skip
    zeros = {name: np.zeros_like(value) for name, value in net.values().items()}
    outcome = job.run(driver, net.values(), zeros, {"train": (x, y)})
    assert not outcome.nonfinite
    region = job.memory.regions[BIASES]
    records = np.frombuffer(driver.read(region.address, region.nbytes), "<f4").reshape(-1, 8, 4)
    assert records[:, BETA].any() and records[:, BETA_MOMENTUM].any() == bool(sgd.momentum)
    assert not records[:, [0, 2, 3, 4, 6, 7]].any()
    code, size = job._program, isa.DESCRIPTOR_BYTES
    code = [isa.decode(code[start : start + size]) for start in range(0, len(code), size)]
    forward = [values for opcode, _, values in code if opcode is Opcode.CONV_FP]
    for values, record in zip(forward[:2], (0, 3), strict=True):
        assert values["bias_block_stride"] == 8 * 16
        assert values["bias_base"] == region.address + record * 8 * 16 + 16
