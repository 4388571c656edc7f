"""Runs beside the model: what is run, how values are checked, how results are kept.

On the interpreter, which computes but does not count cycles as the gateware does.
"""

from dataclasses import replace

import numpy as np
import pytest
from isa_interpreter import InterpretedDevice

from eftrain.bench.benchmark import load_measured, save_measured
from eftrain.bench.measure import ALL, Measured, current, measure, merged, tasks_of, worst
from eftrain.bench.rtl import check, random_tensors, run_passes
from eftrain.errors import UserError
from eftrain.plan.layout import FeatureMap
from eftrain.plan.passes import Finish, Tile, finish_gradient
from eftrain.plan.report import plan_step
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.isa import Flag

CONFIG = CoreConfig.parse("4x4")

NETWORK = """
from eftrain.graph import BatchNorm2d, Conv2d, Flatten, Graph, Linear, MaxPool2d, ReLU

def network():
    return Graph((3, 8, 8), [
        Conv2d(3, 6, 3, padding=1, bias=False), BatchNorm2d(6), ReLU(),
        Conv2d(6, 8, 3, padding=1, bias=False), BatchNorm2d(8), ReLU(), MaxPool2d(2),
        Conv2d(8, 8, 3, 2, 1), ReLU(), Flatten(), Linear(32, 5),
    ])
"""


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "small.py"
    path.write_text(NETWORK)
    return str(path)


def interpreted(config, memory_size):
    return InterpretedDevice(config)


def measured(**changes):
    one = Measured(
        "vgg16", "16x16", "fp32", 1, "conv1_1", "FP", True, 1009, 1000, "write", 0.5, 1e-6, "0123"
    )
    return replace(one, **changes)


def test_layers_run_all_their_passes(network):
    tasks = tasks_of(["conv3", "conv1", "conv3"], network, CONFIG, 2, network, 1)
    assert [(task.layer, task.kind) for task in tasks] == [
        ("conv1", "FP"), ("conv3", "FP"), ("conv3", "BP"), ("conv3", "WU"), ("conv1", "WU"),
    ]  # fmt: skip
    assert all(task.cycles > 0 and task.batch == 2 for task in tasks)


def test_whole_steps_of_several_networks(network):
    batches = {"digits": 2, network: 3}
    tasks = tasks_of([ALL, "digits:all", ALL, "cifar-1x:all"], network, CONFIG, 1, network, batches)
    found = [(task.network, task.layer, task.batch) for task in tasks]
    assert found == [(network, ALL, 3), ("digits", ALL, 2), ("cifar-1x", ALL, 1)]


def test_unknown_layers_are_refused(network):
    with pytest.raises(UserError, match="no layer 'conv9' .* choose from conv1, conv2, .*, or all"):
        tasks_of(["conv9"], network, CONFIG, 1, network, 1)


def test_values_of_passes_and_of_a_step_are_checked(network):
    layers = ["conv1", "conv2", "conv3", "fc", ALL]
    rows = [
        row
        for task in tasks_of(layers, network, CONFIG, 2, network, 2)
        for row in measure(task, interpreted)
    ]
    alone = [row for row in rows if row.alone]
    assert len(alone) == 3 * 4 - 1 and all(row.values_right and row.error < 1e-5 for row in alone)
    step = [row for row in rows if not row.alone]
    assert step[-1].kind == ALL and step[-1].values_right and step[-1].error < 1e-4
    assert sum(row.rtl_cycles for row in step[:-1]) == step[-1].rtl_cycles
    # The same runs are recognised later.
    assert current(rows) == rows
    assert current([replace(row, digest="") for row in rows]) == []


def test_a_wrong_value_is_an_error(network):
    task = tasks_of(["conv2"], network, CONFIG, 1, network, 1)[0]

    class Wrong(InterpretedDevice):
        def read_memory(self, address, size):
            words = np.frombuffer(super().read_memory(address, size), np.float32) * 1.001
            return words.astype(np.float32).tobytes()

    row = measure(task, lambda config, memory_size: Wrong(config))[0]
    assert row.values_right is False and row.error == pytest.approx(1e-3, rel=0.1)


@pytest.mark.parametrize("windows", [False, True])
def test_sums_of_a_gradient(windows):
    """SUMS behind a mask, with and without un-pooling."""
    dy, mask = (FeatureMap(name, (6, 4, 6), CONFIG.group) for name in ("dy", "mask"))
    large, dx = (FeatureMap(name, (6, 8, 12), CONFIG.group) for name in ("large", "dx"))
    finish = Finish(mask=mask, windows=large if windows else None)
    one = finish_gradient("layer", 2, dy, dx if windows else replace(dx, shape=dy.shape), finish)
    one = replace(
        one, flags=one.flags | {Flag.SUMS}, bases={"statistics": "sums"}, tile=Tile(1, 1, 2, 6)
    )
    before = random_tensors([one], CONFIG.group)
    after = run_passes(InterpretedDevice(CONFIG), [one], before).tensors
    errors = check([one], CONFIG.group, before, after)
    assert set(errors) == {"dx", "sums"} and max(errors.values()) < 1e-6


def test_a_missing_value_is_an_infinite_error():
    from eftrain.networks import digits

    step = plan_step("digits", digits(), CONFIG, 2)
    one = step.passes[0]
    before = random_tensors([one], CONFIG.group)
    after = before | {one.output.tensor: np.full_like(before[one.output.tensor], np.nan)}
    assert check([one], CONFIG.group, before, after)[one.output.tensor] == np.inf


def test_newer_runs_replace_earlier_ones():
    first, other = measured(), measured(layer="conv1_2")
    again = measured(rtl_cycles=990)
    assert merged([first, other], [again]) == [again, other]
    steps = [measured(alone=False, layer=name) for name in ("b", "a")]
    newer = [measured(alone=False, layer=name) for name in ("d", "c")]
    # A step is replaced as a whole and keeps its order.
    assert merged([*steps, first], newer) == [*newer, first]


def test_the_worst_is_named():
    rows = [measured(), measured(kind="BP", cycles=985), measured(kind="WU", cycles=1001)]
    assert worst(rows).title == "vgg16 batch 1, conv1_1 BP"


def test_kept_runs_come_back(tmp_path):
    rows = [measured(), measured(layer=ALL, kind=ALL, alone=False, network="cifar-1x")]
    save_measured(tmp_path, rows[:1])
    save_measured(tmp_path, rows[1:])
    assert sorted(load_measured(tmp_path), key=lambda row: row.network) == rows[::-1]
    assert load_measured(tmp_path / "nowhere") == []
    for text in ("{", "[]", '{"rows": [{"layer": 1}]}'):
        (tmp_path / "rtl.json").write_text(text)
        with pytest.raises(UserError, match="delete it and run `make bench-rtl`"):
            load_measured(tmp_path)
