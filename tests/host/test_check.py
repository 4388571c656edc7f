"""``eftrain check``: every layer, what stands against training, memory, cycles, and its page."""

import json
import re
from pathlib import Path

import pytest

from eftrain import cli
from eftrain.errors import UserError
from eftrain.graph import (
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Graph,
    GroupNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    ReLU6,
    select,
)
from eftrain.job import MAX_BATCH, Job, Section
from eftrain.networks import digits
from eftrain.plan.check import Verdict, check_network
from eftrain.plan.footprint import KINDS
from eftrain.plan.report import OPTIMIZER, plan_step
from eftrain.plan.schedule import Schedule
from eftrain_hdl.config import CoreConfig

PAGE = (Path(__file__).parents[2] / "docs/check.md").read_text()
CORE = CoreConfig.parse("4x4")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def small(frozen=()):
    """Two convolutions with batch-norm, and class scores."""
    layers = [
        Conv2d(2, 5, 3), BatchNorm2d(5), ReLU(), MaxPool2d(), Conv2d(5, 6, 3, padding=1),
        BatchNorm2d(6), ReLU(), Flatten(), Linear(54, 3),
    ]  # fmt: skip
    return Graph((2, 8, 8), layers, trainable=dict.fromkeys(frozen, False))


def check(graph, batch=4, config=CORE, **options):
    return check_network("net", graph, config, batch, **options)


# -- layers ----------------------------------------------------------------------------------------


def test_a_network_that_can_be_trained():
    found = check(small())
    assert found.verdict is Verdict.TRAINABLE and not found.problems and not found.limits
    assert [layer.kind for layer in found.layers][:3] == ["Conv2d", "BatchNorm2d", "ReLU"]
    assert [layer.shape for layer in found.layers] == small().shapes[1:]
    sizes = [layer.parameters for layer in found.layers]
    assert sizes == [95, 10, 0, 0, 276, 12, 0, 0, 165]
    assert all(layer.forward for layer in found.layers)
    training = [layer.training for layer in found.layers]
    assert training == ["trained", "trained", "", "", "trained", "trained", "", "", "trained"]


def test_no_layer_hides_the_next():
    layers = [
        Conv2d(4, 8, 3, padding=1, groups=2), BatchNorm2d(8), ReLU6(), MaxPool2d(3),
        GroupNorm(2, 8), BatchNorm2d(8), LeakyReLU(), Conv2d(8, 4, 3, padding=1), BatchNorm2d(4),
        Dropout(), Flatten(), Linear(16, 3),
    ]  # fmt: skip
    graph = Graph((4, 8, 8), layers, trainable={"8.bias": False})
    found = check(graph)
    assert found.verdict is Verdict.NOT_TRAINABLE and found.step is None
    said = "\n".join(found.problems)
    for number, words in (
        (0, "has 2 groups"), (2, "use ReLU"), (3, "use kernel_size=2 and stride=2"),
        (4, "is a GroupNorm"), (5, "does not follow a Conv2d"), (6, "use ReLU"),
        (8, "train both or neither"), (9, "use the network without it"),
    ):  # fmt: skip
        (line,) = re.findall(rf"^layer {number} .*", said, re.MULTILINE)
        assert words in line and line.endswith(".")
    assert [line.split()[1] for line in found.problems] == list("02345689")
    runs = [layer.forward for layer in found.layers]
    assert [number for number, yes in enumerate(runs) if not yes] == [0, 2, 3, 4, 5, 6, 9]
    refused = [i for i, layer in enumerate(found.layers) if layer.training == "not trainable"]
    assert refused == [0, 2, 3, 4, 5, 6, 8, 9]


def test_layers_that_do_not_fit_the_buffers():
    config = CoreConfig.parse("4x4", accumulator_depth=256)
    wide = Conv2d(4, 4, 11, padding=5)
    # The taps of the first convolution are folded into channels, so that it fits.
    layers = [Conv2d(2, 4, 11, padding=5), ReLU(), wide, wide, Flatten(), Linear(4 * 64, 3)]
    for graph, others in (
        (Graph((2, 8, 8), layers), 0),
        (Graph((2, 8, 8), [layers[0], ReLU6(), *layers[2:]]), 1),
    ):
        found = check(graph, config=config)
        assert found.verdict is Verdict.NOT_TRAINABLE
        misfits = [line for line in found.problems if "CONV_WU pass needs 48" in line]
        assert [line.split(" (")[0] for line in misfits] == ["layer 2", "layer 3"]
        assert len(found.problems) == 2 + others
        assert [found.layers[i].forward for i in (0, 2, 3)] == [True] * 3
        training = [found.layers[i].training for i in (0, 2, 3)]
        assert training == ["trained", "not trainable", "not trainable"]
    # A frozen layer has no such pass.
    assert check(select(Graph((2, 8, 8), layers), "last:1"), config=config).step


def test_more_classes_than_the_loss_unit_holds():
    found = check(Graph((4,), [Linear(4, 5000)]))
    (problem,) = found.problems
    assert "5000 classes" in problem and found.layers[0].forward is False


def test_a_batch_of_one_picture_without_variance():
    layers = [Conv2d(1, 3, 4), BatchNorm2d(3), Flatten(), Linear(3, 2)]
    (problem,) = check(Graph((1, 4, 4), layers), batch=1).problems
    assert "one value a channel in a batch of one picture" in problem


def test_what_is_only_partly_trained():
    graph = Graph((1, 6, 6), [Conv2d(1, 4, 3), ReLU(), Conv2d(4, 4, 3), Flatten(), Linear(16, 3)])
    marks = {"0.weight": False, "2.bias": False, "4.weight": False, "4.bias": False}
    found = check(Graph((1, 6, 6), graph.layers, trainable=marks))
    training = [found.layers[index].training for index in (0, 2, 4)]
    assert training == ["bias only", "weight only", "frozen"]
    assert found.verdict is Verdict.LIMITED
    assert found.limits == [
        "4 of 6 weights and biases have requires_grad=False and stay as they are; --train all "
        "trains them."
    ]
    assert check(Graph((1, 6, 6), graph.layers, trainable=marks), chosen=True).verdict == 0


def test_a_bias_that_a_norm_takes_off():
    found = check(small(frozen=["0.weight"]), chosen=True)
    assert found.verdict is Verdict.LIMITED
    assert found.limits == [
        "layer 0 (Conv2d) has a bias in front of a batch-norm, whose gradient is zero, so it stays "
        "as it is; train layer 1 (BatchNorm2d) instead."
    ]


def test_nothing_to_train():
    (problem,) = check(small(frozen=small().trainable)).problems
    assert "nothing to train" in problem


# -- memory and cycles -----------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["all", "last:1", "last:3", "bias"])
def test_memory_is_that_of_the_program(text):
    graph = select(digits() if text == "bias" else small(), text)
    step = check(graph, chosen=True).step
    schedule = Schedule(graph, CORE, OPTIMIZER)
    memory = Job(schedule, [Section("fit", "train", 4, 4)], 0, 1 << 24).memory
    assert tuple(step.footprint) == KINDS and min(step.footprint.values()) >= 0
    assert sum(step.footprint.values()) == memory.used
    regions = {region["name"]: region["bytes"] for region in memory.report()}
    assert step.footprint["program"] == regions["program"]
    moving = sum(size for name, size in regions.items() if name.startswith("momentum."))
    records = sum(
        regions[stage.norm.parameters] // 4 for stage in schedule.stages
        if stage.norm and stage.norm.trained
    ) + regions.get("biases", 0) // 4  # fmt: skip
    assert step.footprint["optimiser state"] == moving + records


def test_frozen_layers_keep_nothing_for_a_backward_pass():
    graph = small()
    full, last = check(graph).step, check(select(graph, "last:1"), chosen=True).step
    # The input of the last layer is what its weight gradient reads.
    assert last.footprint["activations kept"] == 4 * 8 * 9 * 4
    for kind in ("activations kept", "gradients", "optimiser state", "program"):
        assert last.footprint[kind] < full.footprint[kind]
    assert last.cycles < full.cycles


def test_savings_are_differences_of_plans():
    graph = digits()
    found = check(graph)
    assert [saving.train for saving in found.savings] == ["last:1", "last:2"]
    for saving in found.savings:
        step = plan_step("", select(graph, saving.train), CORE, 4)
        assert found.step.cycles - step.cycles == saving.cycles > 0
        used = sum(step.footprint.values())
        assert sum(found.step.footprint.values()) - used == saving.bytes > 0
    # What is frozen already saves nothing more, and one layer has no others.
    assert [s.train for s in check(select(graph, "last:2"), chosen=True).savings] == ["last:1"]
    assert not check(select(graph, "last:1"), chosen=True).savings
    assert not check(select(graph, "conv1"), chosen=True).savings
    assert not check(Graph((4,), [Linear(4, 2)])).savings


@pytest.mark.parametrize("size", [200_000, 1 << 20])
def test_a_batch_that_is_too_large(size):
    found = check(digits(), batch=100, size=size)
    assert found.verdict is Verdict.LIMITED and found.batch == 100
    (limit,) = found.limits
    fitting = int(re.search(r"^A batch of 100 is more than .* memory hold; (\d+) fits", limit)[1])
    assert found.step.batch == fitting < 100
    with pytest.raises(UserError, match="of device memory but the device has"):
        plan_step("", digits(), CORE, fitting + 1, size=size)


def test_a_batch_that_no_descriptor_can_say():
    found = check(Graph((4,), [Linear(4, 2)]), batch=70_000)
    assert found.step.batch == MAX_BATCH
    assert found.limits[0].startswith("A batch of 70000 is more than a descriptor can say; 65535")


def test_a_memory_that_holds_no_picture():
    (problem,) = check(digits(), size=20_000).problems
    assert problem.startswith("A step with one picture does not fit")


# -- the command -----------------------------------------------------------------------------------

SMALL = ["--array", "4x4", "--batch", "4"]
MODEL = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    net = nn.Sequential()
    net.add_module("body", nn.Conv2d(1, 4, 3))
    net.add_module("act", nn.{activation}())
    net.add_module("flat", nn.Flatten())
    net.add_module("head", nn.Linear(64, 3))
    net.body.weight.requires_grad_({trained})
    return net, (1, 6, 6)
"""


def model(folder, activation="ReLU", trained=True):
    (folder / "net.py").write_text(MODEL.format(activation=activation, trained=trained))
    return "net.py"


@pytest.mark.parametrize(
    "changes, arguments, code, words",
    [
        ({}, [], 0, "net can be trained on a 4x4 array, fp32."),
        ({}, ["--format", "bf16"], 0, "on a 4x4 array, bf16."),
        ({"trained": False}, [], 1, "1 of 4 weights and biases have requires_grad=False"),
        ({"trained": False}, ["--train", "all"], 0, "net can be trained on"),
        ({"activation": "ReLU6"}, [], 2, "act is a ReLU6, which the device does not run yet; use"),
        ({}, ["--train", "head"], 0, "frozen"),
        ({}, ["--classes", "7"], 0, "455"),
    ],
)
def test_exit_codes(capsys, empty_folder, changes, arguments, code, words):
    assert cli.main(["check", model(empty_folder, **changes), *SMALL, *arguments]) == code
    captured = capsys.readouterr()
    assert words in captured.out and captured.err == ""
    assert ("Cycles a step" in captured.out) == (code < 2)


def test_json_has_the_same_content(capsys, empty_folder):
    arguments = ["check", model(empty_folder, trained=False), *SMALL, "--json", "out/check.json"]
    assert cli.main(arguments) == 1
    shown = capsys.readouterr().out
    found = json.loads((empty_folder / "out" / "check.json").read_text())
    assert found["network"] == "net" and found["verdict"] == "limited" and found["batch"] == 4
    assert f"- {found['limits'][0]}" in shown and found["problems"] == []
    names = [layer["name"] for layer in found["layers"]]
    assert names == ["body", "act", "flat", "head"] and found["layers"][0]["shape"] == [4, 4, 4]
    assert found["layers"][0]["training"] == "bias only" and "bias only" in shown
    assert f"predicted: {found['step']['cycles']:,}," in shown
    for kind, size in found["step"]["memory"].items():
        assert re.search(rf"^{kind} +{size:,} *$", shown, re.MULTILINE)
    for saving in found["savings"]:
        assert f"--train {saving['train']} saves {saving['cycles']:,} cycles" in shown
    assert [saving["train"] for saving in found["savings"]] == ["last:1"][: len(found["savings"])]
    assert shown.endswith("Wrote out/check.json.\n")


def test_json_of_a_network_that_cannot_be_trained(capsys, empty_folder):
    assert cli.main(["check", model(empty_folder, "ReLU6"), *SMALL, "--json", "check.json"]) == 2
    found = json.loads((empty_folder / "check.json").read_text())
    assert found["verdict"] == "not_trainable" and found["step"] is None
    assert found["problems"] and found["layers"][1]["forward"] is False


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["vgg17"], "no network 'vgg17'"),
        (["digits", "--array", "6x6"], "6x6"),
        (["digits", "--batch", "0"], "batch is 0"),
        (["digits", "--train", "conv3"], "'conv3' matches no layer; choose from conv2, conv1"),
        (["digits", "--train", "last:9"], "more than the 3 layers"),
        (["digits", "--classes", "0"], "classes is 0"),
        (["digits", "--json", "."], ". is a folder"),
        ([], "MODEL"),
    ],
)
def test_bad_input(capsys, empty_folder, arguments, words):
    assert cli.main(["check", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and words in captured.err
    assert captured.err.startswith("eftrain: ") and captured.err.endswith(".\n")
    assert list(empty_folder.iterdir()) == []


# -- the page --------------------------------------------------------------------------------------


def test_the_example_is_what_the_command_shows(capsys):
    (line,) = re.findall(r"^eftrain (check digits .*)$", PAGE, re.MULTILINE)
    (example,) = re.findall(r"<!-- example -->\n```\n(.*?)```", PAGE, re.DOTALL)
    assert cli.main(line.split()) == 0
    shown = [text.rstrip() for text in capsys.readouterr().out.splitlines()]
    assert shown == example.splitlines()


def test_the_page_has_all_kinds_and_the_program_works():
    rows = re.findall(r"^\| ([a-z ]+) \| ", PAGE.split("Memory is that of")[1], re.MULTILINE)
    assert rows[: len(KINDS) + 1] == ["kind", *KINDS]
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {}
    exec(program, names)
    graph = names["graph"]
    assert graph.classes == 3 and graph.trained(6) == {"weight", "bias"} and not graph.trained(0)
