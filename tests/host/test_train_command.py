"""``eftrain train``: what it shows and writes, what it refuses, and its page."""

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from data_files import save
from isa_interpreter import InterpretedDevice
from train_cases import arrays, folders, model

from eftrain import cli, report
from eftrain.finetune import Settings, prepare
from eftrain.network_file import load_network
from eftrain.weights_file import load_weights

PAGE = (Path(__file__).parents[2] / "docs/train.md").read_text()
FILES = ["curve.png", "history.csv", "result.json", "trained.safetensors"]
SMALL = ["--array", "4x4", "--batch-size", "4", "--epochs", "2", "--output", "out"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "120")
    return folder


@pytest.fixture
def interpreted(sim_opens):
    """Run on the interpreter instead of the simulator."""
    sim_opens(lambda config, on_status: on_status("Building.") or InterpretedDevice(config))


def train(*arguments, data="data.npz"):
    return cli.main(["train", "net.py", "--data", data, *SMALL, *arguments])


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_and_what_is_shown(interpreted, folder, capsys):
    model(), folders(folder / "pictures")
    (folder / "pictures" / "test" / "ant" / "bad.png").write_bytes(b"")
    options = ["--lr-schedule", "step:1:0.5", "--learning-rate", "0.1", "--seed", "3"]
    options += ["--train", "last:2", "--weight-decay", "0.001", "--augment", "flip", "--skip-bad"]
    assert train(*options, "--normalise", "0.5/0.25", data="pictures") == 0
    shown = capsys.readouterr().out
    for words in (
        "Training net on 8 pictures, testing on 4, on sim: 4x4 array, fp32.\n",
        "1 picture was left out: pictures/test/ant/bad.png is no PNG", "Building.", "test before",
        "epoch 1/2", "cycles so far  lr 0.1\n", "cycles so far  lr 0.05\n", "test after",
        "accuracy after, 4 test pictures",
        "Wrote result.json, history.csv, curve.png and trained.safetensors to out.",
    ):  # fmt: skip
        assert words in shown

    found = json.loads((folder / "out" / "result.json").read_text())
    assert sorted(content(folder / "out")) == FILES
    expected = {
        "model": "net", "array": "4x4", "format": "fp32", "device": "sim", "seed": 3, "epochs": 2,
        "batch_size": 4, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.001,
        "lr_schedule": "step:1:0.5", "train": "last:2", "augment": "flip", "steps": 4,
        "normalisation": {"mean": [0.5], "std": [0.25]}, "pictures": 8, "test_pictures": 4,
        "class_names": ["ant", "bee"],
        "trained_parameters": ["5.weight", "5.bias", "7.weight", "7.bias"],
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert len(found["skipped"]) == 1 and found["cycles"] > 0
    # By hand: forward passes, what last:2 trains, and the input gradient of the last layer.
    assert found["dense_macs"] == 16 * (36 * 36 + 2 * 36 * 5 + 3 * 5 * 2)
    assert [epoch["learning_rate"] for epoch in found["per_epoch"]] == [0.1, 0.05]

    with open(folder / "out" / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    cycles = [int(row["cycles"]) for row in rows]
    assert cycles == sorted(cycles) and cycles[-1] <= found["cycles"]
    for number, epoch in enumerate(found["per_epoch"]):
        part = rows[2 * number : 2 * number + 2]
        assert epoch["loss"] == pytest.approx(np.mean([float(row["loss"]) for row in part]))
        assert epoch["accuracy"] * 8 == pytest.approx(sum(int(row["correct"]) for row in part))
    assert (folder / "out" / "curve.png").read_bytes().startswith(b"\x89PNG\r\n")
    _, graph = load_network("net.py")
    weights = load_weights("out/trained.safetensors", graph.layers)
    changed = [name for name in graph.trainable if (weights[name] != graph.weights[name]).any()]
    assert changed == found["trained_parameters"]


def test_equal_seeds_write_equal_files_and_others_do_not(interpreted, folder):
    model(), arrays()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert train("--seed", str(seed), "--augment", "flip,crop=1", "--output", name) == 0
    assert content(folder / "a") == content(folder / "b")
    for name in ("history.csv", "trained.safetensors"):
        assert content(folder / "a")[name] != content(folder / "c")[name]


def test_the_new_weights_can_be_trained_further(interpreted, folder):
    model(), arrays(classes=3)
    assert train("--classes", "3") == 0
    more = ["--classes", "3", "--weights", "out/trained.safetensors", "--output", "more"]
    assert train(*more) == 0
    losses = [
        json.loads((folder / name / "result.json").read_text())["per_epoch"][0]["loss"]
        for name in ("out", "more")
    ]
    assert losses[1] < losses[0]


def test_without_test_pictures(interpreted, folder, capsys):
    model(), arrays(test=0)
    assert train() == 0
    shown = capsys.readouterr().out
    assert "Training net on 11 pictures, on sim" in shown and "test" not in shown
    assert sorted(content(folder / "out")) == FILES


def test_a_failure_keeps_the_files_of_an_earlier_run(interpreted, folder, monkeypatch, capsys):
    model(), arrays()
    assert train() == 0
    before = content(folder / "out")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "draw", full)
    assert train("--seed", "1") == 2
    assert "no space left" in capsys.readouterr().err
    assert content(folder / "out") == before


# -- what is refused -------------------------------------------------------------------------------


@pytest.fixture
def refused(sim_opens, capsys):
    """Runs the command; checks that nothing ran or was written, and gives the sentence."""

    def never(config, on_status):
        raise AssertionError("a device was opened")

    sim_opens(never)

    def run(*arguments):
        def tree():
            return [(path, sorted(names), sorted(files)) for path, names, files in os.walk(".")]

        before = tree()
        assert cli.main(["train", *map(str, arguments)]) == 2
        assert tree() == before
        captured = capsys.readouterr()
        assert captured.out == "" and "Traceback" not in captured.err
        assert captured.err.startswith("eftrain: ") and captured.err.endswith(".\n")
        assert captured.err.count("\n") == 1
        return captured.err.removeprefix("eftrain: ").removesuffix("\n")

    return run


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--epochs", "0"], "epochs is 0; give"),
        (["--batch-size", "0"], "batch_size is 0; give"),
        (["--batch-size", "many"], "--batch-size"),
        (["--learning-rate", "0"], "above 0"),
        (["--momentum", "1"], "below 1"),
        (["--weight-decay", "-1"], "0 or above"),
        (["--lr-schedule", "linear"], "schedule 'linear' is unknown; give constant"),
        (["--lr-schedule", "step:1", "--epochs", "99"], "fall to 0 in fp32 before epoch 99; give"),
        (["--augment", "rotate"], "augmentation 'rotate' is unknown; give none"),
        (["--augment", "crop=6"], "crop is 6"),
        (["--normalise", "0.5"], "'0.5' is not written MEAN,.../STD,..."),
        (["--normalise", "imagenet"], "has 3 channels but the network takes pictures of 1"),
        (["--seed", "-1"], "seed is -1"),
        (["--device", "fpga"], "'fpga' is unknown; choose one of sim"),
        (["--array", "6x6"], "6x6"),
        (["--format", "fp64"], "'fp64' is unknown"),
        (["--train", "conv"], "'conv' matches no layer; choose from body"),
        (["--train", "last:9"], "more than the 4 layers"),
        (["--classes", "0"], "classes is 0"),
        (["--weights", "none.npz"], "no weight file none.npz"),
        (["--weights", "data.npz"], "holds the weights of another network"),
        (["--output", "net.py"], "output folder net.py cannot be written"),
        (["--output", "net.py/below"], "output folder net.py/below cannot be written"),
        (["--data", "none.npz"], "no data file or folder none.npz"),
        (["--data", "net.py"], "net.py is no data that is known here"),
    ],
)
def test_options(refused, arguments, words):
    model(), arrays()
    assert words in refused("net.py", "--data", "data.npz", *arguments)


def test_arguments_that_are_missing(refused):
    model(), arrays()
    assert "--data" in refused("net.py")
    assert "MODEL" in refused("--data", "data.npz")
    assert "no network 'vgg17'" in refused("vgg17", "--data", "data.npz")


@pytest.mark.parametrize("options", [[], ["--classes", "4"]])
def test_another_number_of_classes_names_the_option(refused, folder, options):
    model(), folders(folder / "pictures", names=("ant", "bee", "cow"))
    sentence = refused("net.py", "--data", "pictures", *options)
    assert "has 3 classes but the network has" in sentence
    assert "give --classes 3 for a new last layer" in sentence
    arrays(classes=3)
    assert "give --classes 3" in refused("net.py", "--data", "data.npz")


def test_pictures_that_cannot_be_read(refused, folder):
    model(), folders(folder / "pictures")
    (folder / "pictures" / "train" / "ant" / "bad.png").write_bytes(b"")
    assert "leave it out with --skip-bad" in refused("net.py", "--data", "pictures")


def test_what_check_calls_a_problem(refused):
    arrays()
    model(activation="ReLU6")
    sentence = refused("net.py", "--data", "data.npz")
    assert sentence == "act is a ReLU6, which the device does not run yet; use ReLU."
    model(activation="ReLU6", pool="MaxPool2d(3)", more="net.neck = nn.Linear(16, 5)")
    sentence = refused("net.py", "--data", "data.npz")
    assert sentence.startswith("act is a ReLU6") and sentence.endswith("use ReLU; `eftrain check` "
        "lists 1 more problem.")  # fmt: skip
    model(more="net.norm.weight.requires_grad_(False)")
    assert "train both or neither" in refused("net.py", "--data", "data.npz")
    model(more="net.requires_grad_(False)")
    assert "nothing to train" in refused("net.py", "--data", "data.npz")
    # The last batch of an epoch has one picture, of which this batch-norm has no variance.
    more = "net.body = nn.Conv2d(1, 4, 6, bias=False); net.neck = nn.Linear(4, 5)"
    model(pool="Identity()", more=more)
    arrays(train=9)
    sentence = refused("net.py", "--data", "data.npz", "--batch-size", "4")
    assert "one value a channel in a batch of one picture" in sentence


def test_a_data_set_larger_than_the_memory(refused):
    model(), arrays()
    np.savez("data.npz", x=np.zeros((120_000, 1, 6, 6), np.uint8), y=np.zeros(120_000, int))
    sentence = refused("net.py", "--data", "data.npz")
    assert "of device memory but the device has 64.0 MiB (largest: images.train" in sentence


# -- the page --------------------------------------------------------------------------------------


def options_of(text):
    return set(re.findall(r"`(--[a-z-]+)", text))


def test_the_page_has_all_options_and_files():
    import inspect

    from eftrain.commands.train import command

    names = {name.replace("_", "-") for name in inspect.signature(command).parameters}
    table = PAGE.split("## Options")[1].split("##")[0]
    assert options_of(table) == {f"--{name}" for name in names - {"model"}}
    defaults = vars(Settings(model="", data=""))
    rows = re.findall(
        r"^\| `--([a-z-]+)[^|]*` \| .*; default `?([^`|]+?)`? \|$", table, re.MULTILINE
    )
    assert len(rows) >= 8
    for name, value in rows:
        assert str(defaults[name.replace("-", "_")]) == value, name
    assert sorted(re.findall(r"^\| `([a-z]+\.[a-z]+)` \|", PAGE, re.MULTILINE)) == FILES


def test_the_example_is_what_the_command_shows(interpreted, folder, capsys):
    pytest.importorskip("sklearn")
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[:1]
    exec(program, {})
    (line,) = re.findall(r"^eftrain (train digits (?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
    (example,) = re.findall(r"<!-- example -->\n```\n(.*?)```", PAGE, re.DOTALL)
    assert cli.main(line.replace("\\\n", " ").split()) == 0
    shown = capsys.readouterr().out.replace("Building.\n", "")
    # Cycles and time are those of the device.
    shown = re.sub(r" +[\d,]+ cycles so far", "", shown)
    shown = re.sub(r"^(cycles|time).*\n", "", shown, flags=re.MULTILINE)
    assert [text.rstrip() for text in shown.splitlines()] == example.splitlines()
    assert sorted(content(folder / "build" / "train")) == FILES


def test_the_program_of_the_page(folder, sim_opens):
    sim_opens(lambda config, on_status: InterpretedDevice(config))
    for part in ("train", "test"):
        for name, value in (("even", 90), ("odd", 200)):
            save(folder / "pictures" / part / name / "0.png", np.full((8, 8), value, np.uint8))
    program = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
    names = {}
    exec(program, names)
    assert len(names["result"].history.steps) == names["task"].settings.epochs
    assert prepare(names["task"].settings).graph.classes == 2
