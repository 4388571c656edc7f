"""Tile shapes and memory maps."""

import itertools

import pytest

from eftrain.errors import UserError
from eftrain.graph import Conv2d, Flatten, Graph, Linear, MaxPool2d, ReLU
from eftrain.job import Job, Section
from eftrain.networks import digits
from eftrain.optim import SGD
from eftrain.plan.geometry import Geometry
from eftrain.plan.memory import MemoryMap
from eftrain.plan.overlap import mark_loop
from eftrain.plan.schedule import Schedule
from eftrain.plan.search import buffer_use
from eftrain_hdl import isa
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.isa import Flag, Opcode


def vgg():
    sizes = [(3, 64), (64, 64), None, (64, 128), (128, 128), None, (128, 256), (256, 256), None]
    layers = []
    for size in sizes:
        layers += [Conv2d(*size, 3, padding=1), ReLU()] if size else [MaxPool2d()]
    return Graph((3, 224, 224), [*layers, Flatten(), Linear(256 * 28 * 28, 100)])


def alexnet():
    return Graph((3, 227, 227), [
        Conv2d(3, 96, 11, 4), ReLU(), Conv2d(96, 256, 5, padding=2), ReLU(), MaxPool2d(),
        Flatten(), Linear(256 * 27 * 27, 10),
    ])


@pytest.mark.parametrize("array", ["4x4", "8x8", "16x16", "32x32"])
@pytest.mark.parametrize("network", [digits, vgg, alexnet])
def test_every_pass_fits_the_buffers(network, array):
    depth = {"accumulator_depth": 4096} if network is alexnet else {}
    config = CoreConfig.parse(array, **depth)
    for layer_pass in Schedule(network(), config, SGD(0.1, 0.9)).training_step(16):
        if layer_pass.exclusive:
            continue
        for needed, limit in buffer_use(layer_pass, layer_pass.tile, config).values():
            assert 0 < needed <= limit
        if layer_pass.flags & {Flag.STATISTICS, Flag.SUMS}:
            assert layer_pass.tile.out_blocks <= isa.MAX_STATISTICS_BLOCKS


def test_images_of_a_fully_connected_layer_are_joined():
    passes = Schedule(digits(), CoreConfig(), SGD(0.1)).training_step(16)
    dense = [p for p in passes if p.tile and p.layer == "fc"]
    assert len(dense) == 3 and all(p.tile.images > 1 for p in dense)


@pytest.mark.parametrize("kernel, stride, pad", [
    (1, 1, 0), (3, 1, 1), (3, 2, 1), (5, 3, 4), (11, 4, 2), (2, 4, 0), (1, 3, 0),
])
def test_spans_are_the_pixels_that_meet(kernel, stride, pad):
    big = 13
    small = (big + 2 * pad - kernel) // stride + 1
    geometry = Geometry(
        images=1, big=(big, big), small=(small, small), kernel=(kernel, kernel),
        stride=(stride, stride), pad=(pad, pad),
    )
    meet = [
        (p, p * stride + k - pad) for p in range(small) for k in range(kernel)
        if 0 <= p * stride + k - pad < big
    ]
    for start, stop in itertools.combinations(range(small + 1), 2):
        touched = {i for p, i in meet if start <= p < stop}
        low, high = geometry.big_span(0, start, stop)
        assert touched <= set(range(low, high))
        assert {low, high - 1} <= touched
    for start, stop in itertools.combinations(range(big + 1), 2):
        touched = {p for p, i in meet if start <= i < stop}
        low, high = geometry.small_span(0, start, stop)
        assert touched <= set(range(low, high))
        assert len(touched) <= high - low <= len(touched) + 2


def test_regions_are_aligned_disjoint_and_reported():
    schedule = Schedule(digits(), CoreConfig(), SGD(0.1, 0.9))
    job = Job(schedule, [Section("fit", "train", 37, 16, 2)], 0x1000_0010, 1 << 24)
    report = job.memory.report()
    for before, after in itertools.pairwise(report):
        assert before["address"] + before["bytes"] <= after["address"]
    for region in report:
        within = region["address"] % 4096
        assert within == 0 if region["bytes"] >= 4096 else within + region["bytes"] <= 4096
    assert {"program", "records", "0.weight", "momentum.0.weight", "images.train"} <= {
        region["name"] for region in report
    }
    assert job.steps == 6


def test_memory_that_is_too_small_is_named_with_numbers():
    memory = MemoryMap(0, 1 << 20)
    memory.add("small", 4096)
    memory.add("large", 1 << 20)
    with pytest.raises(UserError, match=r"needs 1\.0 MiB .* has 1\.0 MiB \(largest: large"):
        memory.check()


def test_sections_share_memory():
    schedule = Schedule(digits(), CoreConfig(), SGD(0.1))
    test = Section("evaluate", "test", 100, 16)
    once = Job(schedule, [test], 0, 1 << 24)
    twice = Job(schedule, [test, test], 0, 1 << 24)
    assert twice.memory.used - once.memory.used < 16384  # a few more descriptors
    assert twice.dense_macs == 2 * once.dense_macs == 2 * 100 * (
        64 * 9 * 16 + 64 * 9 * 16 * 32 + 512 * 10
    )


# -- AHEAD flags -----------------------------------------------------------------------------------


def ahead(layer_pass):
    return {flag for flag in layer_pass.flags if flag.name.startswith("AHEAD")}


def test_reads_of_what_the_pass_before_writes_wait():
    passes = mark_loop(Schedule(digits(), CoreConfig(), SGD(0.1)).training_step(16))
    stream, stationary, side = Flag.AHEAD_STREAM, Flag.AHEAD_STATIONARY, Flag.AHEAD_SIDE
    found = [(p.opcode, ahead(p)) for p in passes]
    everything = {stream, stationary, side}
    assert found == [
        (Opcode.CONV_FP, everything),  # The NORM of the step before is done when it begins.
        (Opcode.CONV_FP, {stationary, side}),
        (Opcode.CONV_FP, {stationary, side}),
        (Opcode.LOSS, set()),
        (Opcode.CONV_BP, everything),  # LOSS is done when it begins.
        (Opcode.CONV_WU, everything),
        (Opcode.CONV_BP, everything),
        (Opcode.CONV_WU, everything),
        (Opcode.CONV_WU, everything),
        (Opcode.NORM, set()),  # Of the biases.
    ]


def test_the_head_of_a_loop_waits_for_every_pass_that_may_come_before():
    # Without biases the step ends with the update of the weights that the next one begins with.
    net = Graph((1, 8, 8), [Conv2d(1, 16, 8, bias=False), Flatten(), Linear(16, 4, False)])
    schedule = Schedule(net, CoreConfig(), SGD(0.1))
    blob = Job(schedule, [Section("fit", "train", 40, 16, 2)], 0x1000_0000, 1 << 24)._program
    size = isa.DESCRIPTOR_BYTES
    code = [isa.decode(blob[start:start + size]) for start in range(0, len(blob), size)]
    heads = [flags for opcode, flags, _ in code if opcode is Opcode.CONV_FP][::2]
    assert len(heads) == 2
    assert all(Flag.AHEAD_STATIONARY not in flags for flags in heads)
    assert all(Flag.AHEAD_STREAM in flags for flags in heads)
