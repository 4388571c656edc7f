"""The demo on the simulated gateware, against the same run in PyTorch and against itself.

These are whole runs. Models take minutes to build, so most tests share that of the default core.
"""

import pytest
from torch_repeat import accuracy, repeat

from eftrain import report
from eftrain.devices.sim import SimDevice
from eftrain.personalize import Settings, personalize, prepare


def run(**settings):
    return personalize(prepare(Settings(**settings)))


def test_the_defaults_end_where_pytorch_ends():
    result = run()
    scores = report.summary(result)
    assert scores["accuracy_before"] <= 0.60
    assert scores["accuracy_after"] >= 0.90
    assert scores["epochs"] <= 5
    assert not result.history.nonfinite

    module, steps = repeat(result.task)
    assert abs(scores["accuracy_after"] - accuracy(module, *result.task.test)) <= 0.01
    # Step by step only at first: later, rounding has had many steps to grow.
    losses = [loss for loss, _ in steps[:10]]
    assert result.history.losses[:10] == pytest.approx(losses, rel=1e-4)


def test_bf16_learns_as_well():
    result = run(array="16x16", format="bf16")
    assert result.history.after["accuracy"] >= 0.90


def test_two_runs_give_the_same_bits(tmp_path):
    for name in ("first", "second"):
        report.write(run(epochs=1), tmp_path / name)
    for name in ("history.csv", report.WEIGHTS_FILE, "result.json", "curve.png"):
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("first", "second"))
        assert first == second, name


def test_a_built_model_is_found_again():
    config = prepare(Settings()).config
    SimDevice(config).close()
    lines = []
    SimDevice(config, on_status=lines.append).close()
    assert lines == []
