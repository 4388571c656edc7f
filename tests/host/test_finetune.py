"""Fine-tuning on the interpreter against PyTorch on the same batches."""

import numpy as np
import pytest
import torch
from comparison import assert_close
from isa_interpreter import InterpretedDevice
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR
from train_cases import arrays, folders, model, repeat

from eftrain.data import Normalisation
from eftrain.finetune import Settings, finetune, numbers, prepare
from eftrain.graph import select
from eftrain.networks import digits
from eftrain.weights_file import save_weights
from eftrain.workload import forward_macs, training_macs


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def open_device(config, on_status):
    return InterpretedDevice(config)


def task_of(**settings):
    small = {"array": "4x4", "batch_size": 4, "epochs": 3, "learning_rate": 0.1}
    return prepare(Settings(**{"model": "net.py", "data": "data.npz"} | small | settings))


def run(task, **options):
    return finetune(task, open_device=open_device, **options)


def check_against_pytorch(task, scheduler=None):
    """Loss, accuracy and rate of every epoch, test scores, and final weights; gives the result."""
    result = run(task)
    module, epochs, scores = repeat(task, scheduler)
    found = numbers(result)["per_epoch"]
    assert [epoch["epoch"] for epoch in found] == list(range(1, len(epochs) + 1))
    for epoch, (rate, loss, accuracy) in zip(found, epochs, strict=True):
        assert epoch["learning_rate"] == pytest.approx(rate, rel=1e-6)
        assert epoch["loss"] == pytest.approx(loss, rel=1e-4)
        assert epoch["accuracy"] == pytest.approx(accuracy)
    for one, expected in zip((result.history.before, result.history.after), scores, strict=True):
        assert one["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        assert one["accuracy"] == pytest.approx(expected["accuracy"])
    for name, value in result.trainer.state_dict().items():
        assert_close(value, module.values()[name], 1e-4, name)
    return result


@pytest.mark.parametrize(
    "settings, scheduler",
    [
        ({}, None),
        ({"momentum": 0.0, "weight_decay": 0.01, "seed": 5}, None),
        ({"lr_schedule": "step:1:0.5"}, lambda sgd: StepLR(sgd, 1, 0.5)),
        ({"lr_schedule": "step:2"}, lambda sgd: StepLR(sgd, 2)),
        ({"lr_schedule": "cosine"}, lambda sgd: CosineAnnealingLR(sgd, 3)),
        ({"augment": "flip,crop=1", "normalise": "0.5/0.25"}, None),
    ],
    ids=["plain", "decay", "step", "tenth", "cosine", "augmented"],
)
def test_arrays_as_in_pytorch(settings, scheduler):
    model(), arrays()
    result = check_against_pytorch(task_of(**settings), scheduler)
    before, after = result.task.graph.weights, result.trainer.state_dict()
    assert all((before[name] != after[name]).any() for name in result.task.graph.trainable)


def test_a_folder_of_pictures_as_in_pytorch(folder):
    model()
    folders(folder / "pictures")
    (folder / "pictures" / "train" / "bee" / "bad.png").write_bytes(b"nothing")
    task = task_of(data="pictures", skip_bad=True, momentum=0.5)
    result = check_against_pytorch(task)
    assert result.history.before["accuracy"] * 4 == pytest.approx(
        round(result.history.before["accuracy"] * 4)
    )
    found = numbers(result)
    assert found["pictures"] == 8 and found["test_pictures"] == 4
    assert list(found["class_names"]) == ["ant", "bee"]
    (skipped,) = found["skipped"]
    assert skipped.startswith("pictures/train/bee/bad.png is no PNG")


@pytest.mark.parametrize("text", ["head", "last:2", "bias", "norm,head"])
def test_frozen_parts_keep_their_bits(text):
    # The device trains the bias of a batch-norm with its scale only.
    model(more="del net.norm" if text == "bias" else ""), arrays()
    task = task_of(train=text, weight_decay=0.1)
    result = check_against_pytorch(task)
    before, after = task.graph.weights, result.trainer.state_dict()
    trained = numbers(result)["trained_parameters"]
    assert trained and len(trained) < len(task.graph.trainable)
    for name in task.graph.trainable:
        assert np.array_equal(before[name], after[name]) == (name not in trained), name


def test_what_the_file_freezes_stays_frozen():
    model(more="net.body.requires_grad_(False)"), arrays()
    task = task_of()
    result = run(task)
    for name, value in result.trainer.state_dict().items():
        if name in task.graph.trainable:
            frozen = name.startswith("0.")
            assert np.array_equal(value, task.graph.weights[name]) == frozen, name


def test_a_new_last_layer_for_other_classes():
    model(), arrays(classes=3)
    task = task_of(classes=3, train="last:1", seed=4)
    assert task.graph.classes == 3
    result = check_against_pytorch(task)
    assert result.trainer.state_dict()["7.weight"].shape == (3, 5)
    other = task_of(classes=3, train="last:1", seed=5).graph.weights
    assert not np.array_equal(other["7.weight"], task.graph.weights["7.weight"])


def test_equal_seeds_give_equal_bits():
    model(), arrays()
    options = {"augment": "flip,crop=2", "lr_schedule": "cosine"}
    first, second, other = (run(task_of(seed=seed, **options)) for seed in (1, 1, 2))
    assert first.history == second.history and numbers(first) == numbers(second)
    states = [result.trainer.state_dict() for result in (first, second, other)]
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not np.array_equal(states[0][name], states[2][name]) for name in states[0])


def test_steps_and_cycles_count_on():
    model(), arrays()
    seen = []
    result = run(task_of(), on_step=seen.append)
    assert [step.section for step in seen] == ["before"] * 2 + ["train"] * 9 + ["after"] * 2
    train = seen[2:-2]
    assert train == result.history.steps
    assert [step.step for step in train] == list(range(1, 10))
    assert [step.epoch for step in train] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [step.images for step in train] == [4, 4, 3] * 3
    cycles = [step.cycles for step in seen]
    assert cycles == sorted(cycles) and cycles[-1] <= result.history.cycles
    assert result.history.cycles == result.trainer.cycles
    assert not result.history.nonfinite


def test_without_test_pictures():
    model(), arrays(test=0)
    task = task_of()
    result = run(task)
    assert result.history.before is None and result.history.after is None
    found = numbers(result)
    assert found["accuracy_before"] is None and found["accuracy_after"] is None
    assert found["test_pictures"] == 0 and len(found["per_epoch"]) == 3
    assert task.total_work == task.dense_macs


def test_numbers_that_are_not_finite():
    model(), arrays()
    found = run(task_of(learning_rate=1e30, epochs=2))
    assert found.history.nonfinite
    assert np.isfinite(found.history.losses[0]) and not np.isfinite(found.history.losses[-1])
    assert numbers(found)["per_epoch"][-1]["loss"] is None


# -- what the settings mean ------------------------------------------------------------------------


def test_normalisation_is_the_given_one_or_the_models_or_the_datas():
    arrays(mean=np.array([0.1]), std=np.array([0.9]))
    declared = "net.default_cfg = {'mean': (0.25,), 'std': (0.75,)}"
    for more, given, expected in (
        (declared, "mnist", Normalisation.parse("mnist")),
        (declared, None, Normalisation(0.25, 0.75)),
        ("net.normalisation = '0.2/0.3'", None, Normalisation(0.2, 0.3)),
        ("", None, Normalisation(0.1, 0.9)),
    ):
        model(more=more)
        task = task_of(normalise=given, classes=2)
        assert task.batches.normalisation == expected
        with np.load("data.npz") as file:
            assert np.array_equal(task.test[0], expected.apply(file["x_test"]))
    model(), arrays()
    task = task_of()
    assert task.batches.normalisation is None
    with np.load("data.npz") as file:
        assert np.array_equal(task.test[0], file["x_test"])


def test_weights_of_the_model_and_of_an_earlier_run():
    model(), arrays(classes=3)
    first = task_of(classes=3)
    values = {name: np.full_like(value, 0.5) for name, value in first.graph.weights.items()}
    save_weights("three.safetensors", first.graph.layers, values)
    again = task_of(classes=3, weights="three.safetensors").graph
    assert all(np.array_equal(again.weights[name], values[name]) for name in values)
    # Those of the model itself stay below a new last layer.
    arrays()
    own = task_of().graph
    values = {name: np.full_like(value, 0.25) for name, value in own.weights.items()}
    save_weights("two.npz", own.layers, values)
    plain = task_of(weights="two.npz").graph
    assert all(np.array_equal(plain.weights[name], values[name]) for name in values)
    for classes in (3, 2):
        arrays(classes=classes)
        graph = task_of(classes=classes, weights="two.npz", train="last:1").graph
        assert (graph.weights["0.weight"] == 0.25).all()
        assert graph.weights["7.weight"].shape == (classes, 5)
        assert not (graph.weights["7.weight"] == 0.25).any()
        assert graph.names[7] == "head" and graph.trained(7) and not graph.trained(0)


def test_a_data_set_object():
    model()
    pairs = [(torch.full((1, 6, 6), 0.1 * number), number % 2) for number in range(6)]
    assert len(run(task_of(data=pairs, epochs=1)).history.steps) == 2


def test_multiply_adds_of_frozen_layers():
    first, second, last = 64 * 9 * 16, 64 * 9 * 16 * 32, 5120
    graph = digits()
    for text, expected in (
        ("all", 2 * first + 3 * (second + last)),
        ("fc", first + second + 2 * last),
        ("conv2", first + 2 * second + 2 * last),
        ("bias", first + 2 * (second + last)),
    ):
        assert training_macs(select(graph, text)) == expected, text
    assert forward_macs(select(graph, "fc")) == first + second + last
