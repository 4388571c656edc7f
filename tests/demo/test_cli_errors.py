"""The command line on bad input: exit code 2, one sentence, no traceback, nothing written."""

import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from eftrain import cli, report
from eftrain.devices import DeviceError
from eftrain.graph import Flatten, Linear
from eftrain.networks import digits
from eftrain.weights_file import save_weights


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Each test runs in a folder of its own, with a cache that holds no model."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EFTRAIN_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def no_device(sim_opens):
    """Fails the test if the command gets as far as opening a device."""

    def never(config, on_status):
        raise AssertionError("a device was opened")

    sim_opens(never)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def refused(capsys, *arguments, code=2):
    """Run ``eftrain personalize``; check how it was refused, and return the sentence."""
    root = os.path.dirname(os.getcwd())
    before = [(path, entries) for path, _, entries in os.walk(root)]
    assert cli.main(["personalize", *map(str, arguments)]) == code
    assert [(path, entries) for path, _, entries in os.walk(root)] == before
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    assert captured.err.startswith("eftrain: ")
    sentence = captured.err.removeprefix("eftrain: ").removesuffix("\n")
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def dataset(path="data.npz", **changes):
    generator = np.random.default_rng(0)
    arrays = {
        "x": generator.random((6, 1, 8, 8), np.float32),
        "y": np.arange(6),
        "x_test": generator.random((4, 1, 8, 8), np.float32),
        "y_test": np.arange(4),
    } | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--device", "zcu999"], "'zcu999' is unknown; choose one of sim"),
        (["--device", "serial:"], "names no port; give one, for example serial:/dev/ttyUSB0"),
        (["--device", "ulx3s"], "hangs on a serial port; name the port"),
        (["--samples", "0"], "samples is 0"),
        (["--format", "fp64"], "'fp64' is unknown; choose one of fp32, bf16"),
        (["--array", "6x6"], "6x6 is no multiple of the channel group 4"),
        (["--array", "8x16"], "nearest that is supported is"),
        (["--array", "big"], "not written ROWSxLANES; for example 8x8"),
        (["--epochs", "0"], "epochs is 0"),
        (["--epochs", "many"], "--epochs"),
        (["--batch-size", "-3"], "batch_size is -3"),
        (["--learning-rate", "0"], "above 0"),
        (["--learning-rate", "nan"], "above 0"),
        (["--learning-rate", "1e300"], "1e+300, too large for fp32"),
        (["--learning-rate", "1e-60"], "1e-60, which is 0 in fp32; choose a number above 0"),
        (["--weights", "."], "not a readable safetensors"),
        (["--momentum", "1"], "below 1"),
        (["--seed", "-1"], "0 or more"),
        (["--weights", "nowhere.safetensors"], "no weight file nowhere.safetensors"),
        (["--data", "nowhere.npz"], "no data file nowhere.npz"),
        (["--colour", "blue"], "--colour"),
    ],
)
def test_options(no_device, capsys, arguments, words):
    assert words in refused(capsys, *arguments)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"x": np.full((6, 1, 8, 8), np.nan)}, "nan at sample 0"),
        ({"x_test": np.full((4, 1, 8, 8), np.inf)}, "x_test holds inf"),
        ({"y": np.array([0, 1, 2, 10, 4, 5])}, "label 10 at sample 3"),
        ({"y_test": np.array([0, 1, -1, 3])}, "label -1 at sample 2"),
        ({"y": np.arange(5)}, "for 6 samples"),
        ({"y": np.arange(6) / 2}, "give integer class numbers"),
        ({"x": np.zeros((6, 1, 28, 28))}, "1x28x28 but the network takes 1x8x8"),
        ({"x": np.zeros((6, 28, 28))}, "1x28x28 but the network takes 1x8x8"),
        ({"x": np.zeros((0, 1, 8, 8)), "y": np.zeros(0, int)}, "x is empty"),
        ({"x": np.array([np.zeros(3), np.zeros(2)], dtype=object)}, "ragged"),
        ({"x_test": None, "y_test": None}, "no x_test and no y_test"),
    ],
)
def test_data(no_device, capsys, changes, words):
    assert words in refused(capsys, "--data", dataset(**changes))


@pytest.mark.parametrize("content", [b"", b"these are no arrays"])
def test_data_file_of_another_kind(no_device, capsys, empty_folder, content):
    (empty_folder / "data.npz").write_bytes(content)
    assert "not a readable .npz file" in refused(capsys, "--data", "data.npz")


def test_data_file_with_damaged_arrays(no_device, capsys):
    with zipfile.ZipFile("data.npz", "w") as file:
        for name in ("x", "y", "x_test", "y_test"):
            file.writestr(f"{name}.npy", "these are no arrays")
    assert "x in data.npz is damaged" in refused(capsys, "--data", "data.npz")


@pytest.mark.parametrize(
    "arguments, largest",
    [
        (["--epochs", "100000000"], "records"),
        (["--epochs", "100000", "--batch-size", "1"], "records"),
    ],
)
def test_run_larger_than_the_memory(no_device, capsys, arguments, largest):
    sentence = refused(capsys, *arguments)
    assert "of device memory but the device has 64.0 MiB" in sentence
    assert f"largest: {largest}" in sentence


def test_run_larger_than_the_memory_of_a_board(no_device, capsys):
    samples = 40_000
    path = dataset(x=np.zeros((samples, 1, 8, 8), np.float32), y=np.zeros(samples, int))
    sentence = refused(capsys, "--data", path, "--device", "ulx3s-sim")
    assert "of device memory but the device has 32.0 MiB" in sentence


@pytest.mark.parametrize("array", ["4x4", "16x16"])
def test_pictures_larger_than_the_memory(no_device, capsys, array):
    samples = 150_000
    path = dataset(x=np.zeros((samples, 1, 8, 8), np.float32), y=np.zeros(samples, int))
    sentence = refused(capsys, "--data", path, "--array", array)
    assert "largest: images.train" in sentence


def test_data_file_with_one_array(no_device, capsys):
    np.save("data.npy", np.zeros(3))
    assert "single array" in refused(capsys, "--data", "data.npy")


def test_weights_of_another_network(no_device, capsys):
    layers = [Flatten(), Linear(64, 10)]
    values = {"1.weight": np.zeros((10, 64), np.float32), "1.bias": np.zeros(10, np.float32)}
    save_weights("other.safetensors", layers, values)
    assert "another network" in refused(capsys, "--weights", "other.safetensors")


def test_weights_that_are_no_weights(no_device, capsys, empty_folder):
    (empty_folder / "other.safetensors").write_text("no weights")
    assert "not a readable safetensors" in refused(capsys, "--weights", "other.safetensors")


def test_weights_of_another_number_format(no_device, capsys):
    shapes = digits().parameter_shapes
    cases = ((0, torch.bfloat16, "number format"), (1e300, torch.float64, "NaN or Inf in fp32"))
    for value, kind, words in cases:
        tensors = {name: torch.full(shape, value, dtype=kind) for name, shape in shapes.items()}
        save_file(tensors, "other.safetensors")
        assert words in refused(capsys, "--weights", "other.safetensors")


@pytest.mark.parametrize("output", ["file", "file/below/it"])
def test_output_where_a_file_is(no_device, capsys, empty_folder, output):
    (empty_folder / "file").write_text("mine")
    assert f"output folder {output} cannot be written" in refused(capsys, "--output", output)
    assert (empty_folder / "file").read_text() == "mine"


def test_output_without_permission(no_device, capsys, monkeypatch):
    def refuse(**arguments):
        raise PermissionError(13, "Permission denied")

    # Not by mode bits: the tests may run as root, who may write anywhere.
    monkeypatch.setattr(report.tempfile, "mkdtemp", refuse)
    assert "permission denied" in refused(capsys, "--output", "locked/demo")


def test_missing_compiler(capsys, monkeypatch, empty_folder):
    monkeypatch.setenv("PATH", str(empty_folder))
    sentence = refused(capsys)
    assert "C++ compiler" in sentence and "install" in sentence


def test_device_that_fails(capsys, sim_opens):
    def broken(config, on_status):
        raise DeviceError("The device does not answer.")

    sim_opens(broken)
    assert refused(capsys, code=1) == "The device does not answer."


def test_interrupt(capsys, sim_opens):
    def interrupted(config, on_status):
        raise KeyboardInterrupt

    sim_opens(interrupted)
    assert "no results were written" in refused(capsys, code=130)


def test_as_a_program(empty_folder):
    def run(*arguments):
        command = [sys.executable, "-m", "eftrain.cli", *arguments]
        path = os.pathsep.join(filter(None, sys.path))
        return subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
        )

    done = run("personalize", "--array", "6x6", "--output", str(empty_folder / "out"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "6x6" in done.stderr
    assert files(empty_folder) == []
    assert run("--version").stdout.startswith("eftrain ")
    assert "personalize" in run().stdout
