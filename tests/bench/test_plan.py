"""``eftrain plan``: what it counts, its files, and what it refuses."""

import csv
import json

import pytest

from eftrain import cli
from eftrain.graph import Add, AvgPool2d, BatchNorm2d, Conv2d, Linear, MaxPool2d
from eftrain.networks import NETWORKS
from eftrain.plan.names import conventional_names
from eftrain.plan.report import nominal_gflops, plan_step
from eftrain_hdl.config import CoreConfig

BATCH = 4


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def step():
    return plan_step("digits", NETWORKS["digits"](), CoreConfig.parse("8x8"), BATCH)


@pytest.mark.parametrize(
    "network, first, last",
    [
        ("digits", ["conv1", "conv2"], "fc"),
        ("cifar-1x", ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2"], "fc"),
        ("vgg16", ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2"], "fc"),
        ("alexnet", ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6"], "fc8"),
        ("resnet20", ["conv1", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1"], "fc"),
    ],
)
def test_layers_have_the_names_papers_use(network, first, last):
    graph = NETWORKS[network]()
    trained = [
        graph.names[i] for i, n in enumerate(graph.nodes) if isinstance(n.layer, (Conv2d, Linear))
    ]
    assert trained[: len(first)] == first and trained[-1] == last


def test_names_stand_at_their_layers():
    kinds = {
        "conv": Conv2d, "shortcut": Conv2d, "bn": BatchNorm2d, "add": Add, "pool": MaxPool2d,
        "avgpool": AvgPool2d, "fc": Linear,
    }  # fmt: skip
    for build in NETWORKS.values():
        graph = build()
        for index, node in enumerate(graph.nodes):
            if isinstance(node.layer, tuple(kinds.values())):
                word = graph.names[index].split(".")[-1].split("_bn")
                kind = BatchNorm2d if word[1:] else kinds[word[0].rstrip("_0123456789")]
                assert isinstance(node.layer, kind), graph.names[index]
            else:
                assert index not in graph.names
    names = NETWORKS["resnet20"]().names.values()
    assert {"layer2.0.shortcut", "layer3.0.shortcut", "layer3.2.conv2"} <= set(names)


@pytest.mark.parametrize("network", ["digits", "cifar-1x", "vgg16", "alexnet"])
def test_conventional_names_are_those_of_the_built_in_networks(network):
    graph = NETWORKS[network]()
    for index, name in conventional_names(graph).items():
        if isinstance(graph.nodes[index].layer, Conv2d):
            assert name == graph.names[index]


def test_shortcuts_are_named_apart():
    names = list(conventional_names(NETWORKS["resnet20"]()).values())
    assert {"shortcut1", "shortcut2", "conv19"} <= set(names) and "conv20" not in names


def test_rows_are_the_passes_in_order(step):
    found = [(row.layer, row.kind) for row in step.rows]
    assert found[:4] == [("conv1", "FP"), ("conv2", "FP"), ("fc", "FP"), ("loss", "LOSS")]
    assert found[4:] == [
        ("fc", "BP"), ("fc", "WU"), ("conv2", "BP"), ("conv2", "WU"), ("conv1", "WU"),
        ("biases", "NORM BP"),
    ]  # fmt: skip


@pytest.mark.parametrize("network", ["digits", "cifar-1x", "resnet20", "alexnet"])
def test_dense_macs_are_those_of_convolutions_and_linear_layers(network):
    graph = NETWORKS[network]()
    expected, first = 0, True
    for index, node in enumerate(graph.nodes):
        layer = node.layer
        if isinstance(layer, Linear):
            macs = layer.in_features * layer.out_features
        elif isinstance(layer, Conv2d):
            _, rows, cols = graph.shapes[index + 1]
            taps = layer.kernel_size[0] * layer.kernel_size[1]
            macs = rows * cols * taps * layer.in_channels * layer.out_channels
        else:
            continue
        # No input gradient for the first layer.
        expected += (2 if first else 3) * macs * BATCH
        first = False
    assert plan_step("", graph, CoreConfig.parse("8x8"), BATCH).macs == expected


def test_totals_follow_from_the_rows(step):
    totals, rows = step.as_dict()["totals"], step.as_dict()["rows"]
    assert totals["dense_macs"] == sum(row["dense_macs"] for row in rows)
    assert totals["cycles"] >= sum(row["cycles"] for row in rows) * 0.99
    assert totals["nominal_gflops"] == nominal_gflops(totals["dense_macs"], totals["cycles"])
    assert 0 < totals["array_share"] < 1
    assert nominal_gflops(256, 1) == pytest.approx(51.2)


def test_files(capsys, empty_folder):
    arguments = ["plan", "digits", "--array", "8x8", "--batch", "4"]
    assert cli.main([*arguments, "--csv", "out/plan.csv", "--json", "plan.json"]) == 0
    shown = capsys.readouterr().out
    assert "conv2" in shown and "nominal GFLOPS" in shown and "memory" in shown
    found = json.loads((empty_folder / "plan.json").read_text())
    assert {"cycles", "dense_macs", "nominal_gflops", "array_share"} <= set(found["totals"])
    assert found["memory"]["total"] == sum(found["memory"].values()) / 2 > 0
    for row in found["rows"]:
        assert {"layer", "pass", "cycles", "rtl_cycles", "bound"} <= set(row)
        assert row["rtl_cycles"] is None
    with open(empty_folder / "out" / "plan.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["layer"] for line in lines] == [row["layer"] for row in found["rows"]]
    assert [int(line["cycles"]) for line in lines] == [row["cycles"] for row in found["rows"]]
    assert int(lines[0]["bytes_write"]) == found["rows"][0]["bytes"]["write"]
    first = (empty_folder / "plan.json").read_bytes()
    assert cli.main([*arguments, "--json", "again.json"]) == 0
    assert (empty_folder / "again.json").read_bytes() == first


GRAPH_FILE = """
from eftrain import Conv2d, Flatten, Graph, Linear, ReLU

def network():
    return Graph((1, 6, 6), [Conv2d(1, 4, 3), ReLU(), Flatten(), Linear(64, 3)])
"""
TORCH_FILE = """
import torch.nn as nn

def network():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)), (1, 6, 6)
"""


def test_networks_from_files(capsys, empty_folder):
    shown = []
    for name, text in (("graph", GRAPH_FILE), ("torch", TORCH_FILE)):
        (empty_folder / f"{name}.py").write_text(text)
        assert cli.main(["plan", f"{name}.py", "--array", "4x4"]) == 0
        shown.append(capsys.readouterr().out.replace(f"of {name} at", "of it at"))
    assert shown[0] == shown[1] and "conv1" in shown[0]


def refused(capsys, folder, *arguments):
    """Run the command line; check that it refuses, and return the sentence."""
    before = sorted(folder.rglob("*"))
    assert cli.main([str(argument) for argument in arguments]) == 2
    assert sorted(folder.rglob("*")) == before
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("eftrain: ") and captured.err.endswith(".\n")
    return captured.err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["vgg17"], "no network 'vgg17'; choose one of digits"),
        (["nowhere.py"], "no network file nowhere.py"),
        (["digits", "--array", "6x6"], "6x6 is no multiple of the channel group 4"),
        (["digits", "--format", "fp64"], "'fp64' is unknown; choose one of fp32, bf16"),
        (["digits", "--batch", "0"], "batch is 0"),
        (["digits", "--batch", "many"], "--batch"),
        (["cifar-1x", "--batch", "60000"], "of device memory but the device has 4096.0 MiB"),
        (["digits", "--csv", "."], ". is a folder"),
        (["digits", "--csv", "a", "--json", "a"], "a is given for two files"),
        (["digits", "--json", "/dev/null/a"], "/dev/null/a cannot be written"),
        ([], "NETWORK"),
    ],
)
def test_bad_input(capsys, empty_folder, arguments, words):
    assert words in refused(capsys, empty_folder, "plan", *arguments)


@pytest.mark.parametrize(
    "text, words",
    [
        ("import nowhere_at_all", "cannot be executed: ModuleNotFoundError: No module named"),
        ("def network(:", "cannot be executed: SyntaxError"),
        ("x = 1", "has no function network()"),
        ("def network():\n    return 1 / 0", "fails: ZeroDivisionError"),
        ("def network():\n    return 7", "returns a int; return an eftrain.Graph"),
        (
            "import torch\ndef network():\n    return torch.nn.Linear(2, 2)",
            "a PyTorch module alone",
        ),
        (
            "from eftrain import *\ndef network():\n    return Graph((3,), [Linear(2, 2)])",
            "takes 2 features but receives 3",
        ),
    ],
)
def test_bad_network_files(capsys, empty_folder, text, words):
    (empty_folder / "mine.py").write_text(text)
    assert words in refused(capsys, empty_folder, "plan", "mine.py")
