"""The runs of ``eftrain bench --rtl`` and ``eftrain profile``, scaled: a small core, small maps.

Kinds of layers and of passes are those of the full-size runs: batch-norm on load and on the drain,
pooling that commutes with it, un-pooling, the update. Cycles agree with the model within 1 %.
"""

import json

import pytest

from eftrain import cli
from eftrain.bench.benchmark import load_measured
from eftrain.bench.measure import ALL, STEP, measure, tasks_of
from eftrain.bench.tables import PASS_LIMIT
from eftrain.devices.sim import SimDevice
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.isa import STALLS

CONFIG = CoreConfig.parse("4x4")

NETWORK = """
from eftrain.graph import AvgPool2d, BatchNorm2d, Conv2d, Flatten, Graph, Linear, MaxPool2d, ReLU

def network():
    layers, channels = [], 3
    for width in (8, 16):
        for _ in range(2):
            layers += [Conv2d(channels, width, 3, padding=1, bias=False), BatchNorm2d(width)]
            layers.append(ReLU())
            channels = width
        layers.append(MaxPool2d(2))
    return Graph((3, 16, 16), [*layers, AvgPool2d(4), Flatten(), Linear(16, 10)])
"""


@pytest.fixture(autouse=True)
def network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.py").write_text(NETWORK)
    return "small.py"


ONE_BEAT_LIMIT = 0.015
"""For passes of bursts of one and two beats, whose order on a shared port decides: a small array
with more weights than pixels."""


def close(row, limit=PASS_LIMIT):
    return abs(row.deviation) <= limit


def report(row):
    return f"{row.title}: model {row.cycles}, RTL {row.rtl_cycles}, {row.deviation:+.2%}"


def test_passes_alone(network):
    layers = ["conv1_1", "conv1_2", "conv2_1", "conv2_2"]
    rows = [
        row
        for task in tasks_of(layers, network, CONFIG, 2, network, 1)
        for row in measure(task, SimDevice)
    ]
    assert len(rows) == 3 * 4 - 1
    assert not [(row.title, row.error) for row in rows if not row.values_right]
    assert not [report(row) for row in rows if not close(row)]
    assert all(0 < row.array_share <= 1 for row in rows)


def test_a_whole_step():
    [task] = tasks_of([ALL], "vgg16", CONFIG, 1, "digits", 4)
    rows = measure(task, SimDevice)
    whole = rows[-1]
    assert whole.title == f"digits batch 4, {STEP}" and whole.values_right, whole.error
    assert close(whole), report(whole)
    short = {("fc", "BP"), ("fc", "WU")}
    limits = [ONE_BEAT_LIMIT if (row.layer, row.kind) in short else PASS_LIMIT for row in rows]
    off = [row for row, limit in zip(rows, limits, strict=True) if not close(row, limit)]
    assert not [report(row) for row in off]
    assert sum(row.rtl_cycles for row in rows[:-1]) == whole.rtl_cycles


def test_runs_are_kept(network, capsys, monkeypatch, tmp_path):
    # The predictions of the four networks have a test of their own.
    monkeypatch.setattr("eftrain.bench.benchmark.report", lambda *arguments: Nothing())
    monkeypatch.setattr("eftrain.commands.bench._show", lambda *arguments: None)
    arguments = ["bench", "--array", "4x4", "--network", network, "--batch", "1"]
    assert cli.main([*arguments, "--rtl", "conv1_1", "--jobs", "2", "--output", "out"]) == 0
    assert "small.py batch 1, conv1_1 FP: " in capsys.readouterr().out
    assert [row.kind for row in load_measured(tmp_path / "out")] == ["FP", "WU"]


class Nothing:
    def write(self, page):
        return []


def test_profile(network, capsys, tmp_path):
    arguments = ["profile", network, "--array", "4x4", "--batch", "2", "--output", "trace.json"]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines() if line.rstrip().endswith("%")]
    counts = {" ".join(line[:-2]): int(line[-2].replace(",", "")) for line in lines}
    total = counts.pop("all cycles")
    assert sum(counts.values()) == total and counts["computed"] > 0
    assert len(counts) == 1 + len(STALLS)
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = {event["name"] for event in events if event["ph"] == "X"}
    assert {"conv1_1 FP", "conv2_2 BP", "conv1_1 WU", "loss"} <= names
    assert {event["tid"] for event in events if event["ph"] == "X"} == {1, 2, 3}
