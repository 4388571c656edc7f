"""A whole run of the command on the interpreter: what it shows and the files it leaves."""

import csv
import io
import json

import numpy as np
import pytest
from isa_interpreter import InterpretedDevice
from rich.console import Console

from eftrain import cli, report
from eftrain.display import Display
from eftrain.history import Step
from eftrain.networks import digits
from eftrain.personalize import Settings, prepare
from eftrain.weights_file import load_weights
from eftrain.workload import forward_macs, training_macs

FILES = ["curve.png", "history.csv", "personalised.safetensors", "result.json"]


@pytest.fixture
def run(tmp_path, monkeypatch, sim_opens):
    """Runs ``eftrain personalize`` on a few of the digits; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    sim_opens(lambda config, on_status: on_status("Building.") or InterpretedDevice(config))
    task = prepare(Settings())
    (x, y), (x_test, y_test) = task.train, task.test
    np.savez("few.npz", x=x[:10, 0], y=y[:10], x_test=x_test[:6], y_test=y_test[:6])

    def run(*arguments):
        fixed = ["--data", "few.npz", "--epochs", "2", "--batch-size", "4", "--output", "out"]
        return cli.main(["personalize", *fixed, *arguments])

    return run


def test_files(run, tmp_path, capsys):
    assert run("--array", "16x16", "--seed", "3") == 0
    folder = tmp_path / "out"
    assert sorted(path.name for path in folder.iterdir()) == FILES

    result = json.loads((folder / "result.json").read_text())
    assert {name: result[name] for name in ("steps", "array", "format", "device", "seed")} == {
        "steps": 6, "array": "16x16", "format": "fp32", "device": "sim", "seed": 3,
    }  # fmt: skip
    assert result["dense_macs"] == 20 * training_macs(digits())
    assert result["cycles"] > 0
    for name in ("accuracy_before", "accuracy_after"):
        assert result[name] * 6 == pytest.approx(round(result[name] * 6))

    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["step", "loss", "correct", "cycles"]
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    cycles = [int(row["cycles"]) for row in rows]
    assert cycles == sorted(cycles) and cycles[-1] <= result["cycles"]
    assert all(np.isfinite(float(row["loss"])) for row in rows)

    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG\r\n")
    graph = digits()
    weights = load_weights(folder / "personalised.safetensors", graph.layers)
    before = prepare(Settings()).graph.weights
    assert any((weights[name] != before[name]).any() for name in weights)

    shown = capsys.readouterr().out
    for words in ("Building.", "test before", "epoch 2/2", "test after", "accuracy after", "out."):
        assert words in shown


@pytest.mark.parametrize("asked, used", [(4, 4), (10, 10), (64, 10)])
def test_the_batch_size_that_was_used(run, tmp_path, asked, used):
    assert run("--batch-size", str(asked)) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["batch_size"] == used
    assert result["steps"] == result["epochs"] * -(-10 // used)


def test_the_new_weights_can_be_trained_further(run):
    assert run() == 0
    assert run("--weights", "out/personalised.safetensors", "--output", "more") == 0


def test_a_failure_keeps_the_files_of_an_earlier_run(run, tmp_path, monkeypatch, capsys):
    assert run() == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "draw", full)
    assert run("--seed", "1") == 2
    assert "no space left" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_the_bar_counts_all_of_the_work():
    task = prepare(Settings(epochs=3))
    batches = 3 * 400, 2 * 497
    assert task.total_work == (
        batches[0] * training_macs(task.graph) + batches[1] * forward_macs(task.graph)
    )


def test_macs_by_hand():
    convolutions = 64 * 9 * 16, 64 * 9 * 16 * 32
    linear = 5120
    assert forward_macs(digits()) == sum(convolutions) + linear
    assert training_macs(digits()) == 2 * convolutions[0] + 3 * (convolutions[1] + linear)


def test_the_bar_on_a_terminal():
    task = prepare(Settings(epochs=3))
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=80, highlight=False)
    with Display(task, console) as display:
        display.step(Step("before", 1, 1, 2.5, 8, 16, 1_000_000))
        display.step(Step("train", 2, 30, 0.5, 12, 16, 5_250_000))
    shown = output.getvalue()
    for words in ("test before", "epoch 2/3", "step 30/75", "loss 0.500", "75.0%", "5.2 Mcycles"):
        assert words in shown
    assert "left" in shown
