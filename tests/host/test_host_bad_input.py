"""Every user mistake is one sentence that names the place; no program is started."""

import numpy as np
import pytest
import torch
from torch import nn

from eftrain.errors import UserError
from eftrain.graph import Conv2d, Flatten, Graph, Linear, MaxPool2d, ReLU
from eftrain.importers.torch_module import from_torch
from eftrain.optim import SGD
from eftrain.plan.schedule import Schedule
from eftrain.trainer import Trainer
from eftrain_hdl.config import CoreConfig

LAYERS = [Conv2d(1, 3, 3), ReLU(), MaxPool2d(2), Flatten(), Linear(12, 4)]


@pytest.fixture
def trainer(make_device):
    return Trainer(Graph((1, 6, 6), LAYERS), make_device(), SGD(0.1))


def good(samples=4):
    return np.zeros((samples, 1, 6, 6), np.float32), np.arange(samples) % 4


def assert_sentence(error):
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text and len(text) < 300, text


@pytest.mark.parametrize(("shape", "layers", "message"), [
    ((1, 6, 6), [Conv2d(2, 3, 3), Flatten()], r"layer 0 \(Conv2d\) takes 2 channels"),
    ((1, 6, 6), [Conv2d(1, 3, 12)], r"layer 0 \(Conv2d\) has 12 kernel rows"),
    ((1, 6, 6), [Conv2d(1, 3, 3, stride=(1, 5))], r"stride 5 over columns"),
    ((1, 6, 6), [Conv2d(1, 3, 3, padding=3)], r"padding 3 over rows"),
    ((1, 6, 6), [Conv2d(1, 3, 7)], r"7 kernel rows but its input has 6"),
    ((1, 6, 6), [ReLU(), MaxPool2d(4)], r"layer 1 \(MaxPool2d\) has windows of 4 rows"),
    ((1, 1, 6), [MaxPool2d(2)], r"layer 0 \(MaxPool2d\) needs pictures of at least 2x2"),
    ((1, 6, 6), [Linear(36, 4)], r"layer 0 \(Linear\) takes a vector"),
    ((1, 6, 6), [Flatten(), Linear(30, 4)], r"takes 30 features but receives 36"),
    ((1, 6, 6), [Flatten(), Conv2d(36, 4, 1)], r"takes pictures"),
    ((1, 6, 6), [Flatten(), Linear(36, 4), "dropout"], r"layer 2 \(str\) is not supported"),
    ((1, 6, 6), [Flatten()], "nothing to train"),
    ((1, 6, 6), [Conv2d(1, 3, 3)], "ends in pictures"),
    ((6, 6), LAYERS, "input_shape is"),
    (6, LAYERS, r"layer 0 \(Conv2d\) takes pictures"),
    ((1, 6, 6), None, "layers are a NoneType; give a list"),
    ((1, 6, 6), Conv2d(1, 3, 3), "layers are a Conv2d; give a list"),
    ((1, 6, 6), [Conv2d(1, 3, 3, stride=-1)], "stride -1 over rows"),
    ((1, 0, 6), LAYERS, "input_shape entry is 0"),
])
def test_networks(shape, layers, message):
    with pytest.raises(UserError, match=message) as error:
        Graph(shape, layers)
    assert_sentence(error)


def _filled(layer, value):
    nn.init.constant_(layer.weight, value)
    return layer


@pytest.mark.parametrize(("layer", "message"), [
    (nn.Conv2d(1, 2, 3, dilation=2), "dilation"),
    (nn.Conv2d(2, 2, 3, groups=2), r"in layer 1 \(Conv2d\) \(Given groups=2"),
    (nn.Conv2d(1, 2, 2, padding="same"), "padding='same'"),
    (nn.Conv2d(1, 2, 3, padding_mode="reflect", padding=1), r"Operator pad \(node pad of layer 1"),
    (nn.MaxPool2d(2, stride=1), "stride"),
    (nn.MaxPool2d(2, ceil_mode=True), "ceil_mode"),
    (nn.Flatten(0), "start_dim"),
    (nn.Dropout2d(), r"Operator feature_dropout \(node feature_dropout of layer 1 \(Dropout2d\)\)"),
    (nn.LazyLinear(4), r"layer 1 \(LazyLinear\) is not supported"),
    (_filled(nn.Linear(6, 2), np.nan), r"layer 1 \(Linear\) has a weight with NaN"),
    (nn.InstanceNorm2d(1), r"Operator instance_norm"),
    (nn.BatchNorm2d(2), r"in layer 1 \(BatchNorm2d\) \(running_mean should contain"),
    (nn.ReLU6(), "nothing to train"),
    (nn.Hardtanh(-1, 6), r"layer 1 \(Hardtanh\) keeps values from -1 to 6; .* ReLU6, 0 to 6"),
])
def test_torch_layers(layer, message):
    with pytest.raises(UserError, match=message) as error:
        from_torch(nn.Sequential(nn.ReLU(), layer), (1, 6, 6))
    assert "layer 1" in str(error.value) or "nothing to train" in message
    assert_sentence(error)


def test_torch_layers_that_share_weights():
    layer = nn.Linear(36, 36)
    with pytest.raises(UserError, match=r"layer 2 \(Linear\) shares its weight with layer 1"):
        from_torch(nn.Sequential(nn.Flatten(), layer, layer), (1, 6, 6))


def test_torch_weights_of_other_formats():
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4)).bfloat16()
    weights = from_torch(model, (1, 6, 6)).weights
    assert np.array_equal(weights["1.weight"], model[1].weight.detach().float().numpy())


def test_models(make_device):
    for model in (nn.Linear, "model"):
        for make in (lambda m: Trainer(m, make_device()), lambda m: from_torch(m, (3,))):
            with pytest.raises(UserError, match="torch.nn.Sequential") as error:
                make(model)
            assert_sentence(error)
    with pytest.raises(UserError, match="belongs to no layer"):
        Graph((1, 6, 6), LAYERS, {"1.weight": np.zeros(3)})
    with pytest.raises(UserError, match="has shape"):
        Graph((1, 6, 6), LAYERS, {"0.bias": np.zeros(4)})
    for value in (np.nan, "a", 1e300):
        with pytest.raises(UserError, match="else than finite numbers"):
            Graph((1, 6, 6), LAYERS, {"0.bias": np.full(3, value)})


@pytest.mark.parametrize("weights", [[np.zeros(3)], [], "weights.safetensors", np.zeros(3)])
def test_weights_that_are_no_dict(weights):
    with pytest.raises(UserError, match="give a dict of name to array") as error:
        Graph((1, 6, 6), LAYERS, weights)
    assert_sentence(error)


@pytest.mark.parametrize("value", [
    torch.zeros(3, device="meta"), torch.zeros(3, requires_grad=True), [[1.0, 2.0], [3.0]],
])
def test_weights_that_are_no_array(value):
    with pytest.raises(UserError, match="'0.bias' is a .* that cannot be read") as error:
        Graph((1, 6, 6), LAYERS, {"0.bias": value})
    assert_sentence(error)


def test_tensors_without_numbers(make_device, trainer):
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4, device="meta"))
    for make in (lambda: from_torch(model, (1, 6, 6)), lambda: Trainer(model, make_device())):
        with pytest.raises(UserError, match=r"layer 1 .* has a weight on the meta device") as error:
            make()
        assert_sentence(error)
    x, y = (torch.tensor(array, device="meta") for array in good())
    for pair in ((x, good()[1]), (good()[0], y)):
        with pytest.raises(UserError, match="is a Tensor that cannot be read") as error:
            trainer.fit(*pair)
        assert_sentence(error)


@pytest.mark.parametrize("path", [None, 3, b"weights"])
def test_weight_files_that_are_no_path(trainer, path):
    for call in (trainer.save, trainer.load):
        with pytest.raises(UserError, match="give a string or a pathlib.Path") as error:
            call(path)
        assert_sentence(error)


def _with(array, index, value):
    array = array.astype(type(value)) if isinstance(value, float) else array
    array[index] = value
    return array


@pytest.mark.parametrize(("x", "y", "message"), [
    (_with(good()[0], (2, 0, 1, 1), np.nan), good()[1], "x holds nan at sample 2"),
    (_with(good()[0], (1, 0, 1, 1), np.inf), good()[1], "x holds inf at sample 1"),
    (_with(good()[0], (1, 0, 1, 1), 1e300), good()[1], "x holds inf at sample 1"),
    (np.zeros((4, 1, 5, 6)), good()[1], "samples of 1x5x6 but the network takes 1x6x6"),
    (np.zeros((4, 36)), good()[1], "samples of 36 but"),
    (np.zeros((0, 1, 6, 6)), np.zeros(0, int), "x is empty"),
    ([], [], "x is empty"),
    (3.0, good()[1], "x is a single value"),
    (torch.zeros(4, 1, 6, 6, requires_grad=True), good()[1], "x is a Tensor that cannot be read"),
    ([[1.0, 2.0], [1.0]], [0, 1], "x is ragged"),
    (np.full((4, 1, 6, 6), "a"), good()[1], "give numbers"),
    (good()[0], np.array([0, 1, 4, 3]), "label 4 at sample 2; the network has classes 0 to 3"),
    (good()[0], np.array([0, -1, 2, 3]), "label -1 at sample 1"),
    (good()[0], np.array([0.0, 1, 2, 3]), "integer class numbers"),
    (good()[0], np.arange(3), "one label a sample"),
    (good()[0], [[1], [1, 2]], "y is ragged"),
])
def test_data(trainer, x, y, message):
    for call in (trainer.fit, trainer.evaluate):
        with pytest.raises(UserError, match=message) as error:
            call(x, y)
        assert_sentence(error)


@pytest.mark.parametrize("value", [0, -1, 2.5, "8", True])
def test_counts(trainer, value):
    x, y = good()
    for call in (
        lambda: trainer.fit(x, y, epochs=value), lambda: trainer.fit(x, y, batch_size=value),
        lambda: trainer.evaluate(x, y, batch_size=value), lambda: trainer.predict(x, value),
    ):
        with pytest.raises(UserError, match="integer of 1 or more") as error:
            call()
        assert_sentence(error)


def test_test_data_that_is_no_pair(trainer):
    x, y = good()
    for test in ((x,), x, (x, y, y)):
        with pytest.raises(UserError, match="test is no pair") as error:
            trainer.fit(x, y, test=test)
        assert_sentence(error)


def test_more_epochs_than_memory_has_records(trainer):
    with pytest.raises(UserError, match="MiB of device memory") as error:
        trainer.fit(*good(), epochs=1 << 40)
    assert "records" in str(error.value)
    assert_sentence(error)


@pytest.mark.parametrize("sizes", [
    {"lr": 1e300}, {"lr": 1e-60}, {"lr": 1, "momentum": 1 - 1e-12},
    {"lr": 0}, {"lr": -1}, {"lr": float("nan")}, {"lr": "fast"}, {"lr": 1, "momentum": 1},
    {"lr": 1, "weight_decay": -1}, {"lr": 1, "weight_decay": float("inf")},
])
def test_optimizers(sizes):
    with pytest.raises(UserError, match="SGD") as error:
        SGD(**sizes)
    assert_sentence(error)


@pytest.mark.parametrize(("sizes", "message"), [
    ({"lr": 1e300}, "lr is 1e.300, too large for fp32; choose a number above 0"),
    ({"lr": 10**400}, "lr is inf, too large for fp32"),
    ({"lr": 1, "weight_decay": 1e39}, "weight_decay is 1e.39, too large for fp32"),
    ({"lr": 1e-60}, "lr is 1e-60, which is 0 in fp32; choose"),
    ({"lr": 1, "momentum": 1 - 1e-12}, "which is 1 in fp32; choose"),
    ({"lr": -(10**400)}, "lr is -inf; choose"),
    ({"lr": -1e300}, "lr is -1e.300; choose"),
    ({"lr": 0}, "lr is 0; choose"),
])
def test_optimizers_beyond_fp32(sizes, message):
    with pytest.raises(UserError, match=message) as error:
        SGD(**sizes)
    assert_sentence(error)


def test_trainers(make_device):
    net = Graph((1, 6, 6), LAYERS)
    with pytest.raises(UserError, match="seed is -1; give an integer of 0 or more"):
        Trainer(net, make_device(), seed=-1)
    for device in (None, "sim"):
        with pytest.raises(UserError, match="give an eftrain Device"):
            Trainer(net, device)
    with pytest.raises(UserError, match="optimizer is Adam"):
        Trainer(net, make_device(), torch.optim.Adam([torch.zeros(1, requires_grad=True)]))


def test_fit_needs_an_optimizer(make_device):
    with pytest.raises(UserError, match="no optimizer"):
        Trainer(Graph((1, 6, 6), LAYERS), make_device()).fit(*good())


def test_layers_that_fit_no_buffer(make_device):
    net = Graph((1, 16, 16), [ReLU(), Conv2d(1, 3, 11), Flatten(), Linear(108, 2)])
    device = make_device(stream_depth=64)
    with pytest.raises(UserError, match=r"layer 1 \(Conv2d\): its CONV_FP pass") as error:
        Trainer(net, device).predict(np.zeros((1, 1, 16, 16)))
    assert "121 vectors of the stream buffer, which holds 64" in str(error.value)
    assert_sentence(error)


def test_too_many_classes(make_device):
    net = Graph((1, 6, 6), [Flatten(), Linear(36, 65)])
    with pytest.raises(UserError, match="65 classes"):
        Trainer(net, make_device(max_classes=64)).predict(good()[0])


def test_more_blocks_than_a_descriptor_holds():
    net = Graph((4, 300, 300), [Flatten(), Linear(360_000, 2)])
    with pytest.raises(UserError, match=r"layer 1 \(Linear\) has 90000 channel blocks of 4"):
        Schedule(net, CoreConfig.parse("4x4"))


def test_scores_that_are_a_flattened_map(make_device):
    net = Graph((1, 6, 6), [Conv2d(1, 3, 3), Flatten()])
    with pytest.raises(UserError, match="add a Linear layer"):
        Trainer(net, make_device()).predict(good()[0])


def test_runs_that_do_not_fit_the_memory(make_device):
    device = make_device()
    device.memory_size = 1 << 16
    x, y = good(800)
    with pytest.raises(UserError, match="MiB of device memory") as error:
        Trainer(Graph((1, 6, 6), LAYERS), device, SGD(0.1)).fit(x, y)
    assert_sentence(error)


def test_nothing_reaches_the_device_before_the_checks(trainer):
    before = trainer.driver.device.words.copy()
    x, y = good()
    with pytest.raises(UserError):
        trainer.fit(x, y, test=(x, y + 1))
    assert np.array_equal(trainer.driver.device.words, before, equal_nan=True)


def test_torch_tensors_are_data(trainer):
    x, y = good()
    trainer.fit(torch.tensor(x), torch.tensor(y))
