"""ONNX files give the graph that PyTorch gives, and compute what onnxruntime computes."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from import_networks import NETWORKS, make
from onnx import TensorProto, helper
from test_import_torch import results
from torch import nn
from training_cases import data, small_net, train_in_torch

from eftrain.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GroupNorm,
    Linear,
    MaxPool2d,
    ReLU,
    ReLU6,
)
from eftrain.importers.onnx_file import MIN_IR, MIN_OPSET
from eftrain.importers.onnx_model import from_onnx
from eftrain.importers.torch_module import from_torch
from eftrain.optim import SGD
from eftrain.trainer import Trainer

FILES = Path(__file__).parent / "onnx"
NEWEST = onnx.defs.onnx_opset_version()


def export(net, shape, path, opset, **options):
    """Write ``net`` in the mode it is in; opset 13 by the older exporter, which alone has it.

    In training mode that one runs a batch, which moves the running statistics.
    """
    options = {"dynamo": opset >= 18, "opset_version": opset, "verbose": False} | options
    if options["dynamo"]:
        # Its optimiser would fold batch-norms into convolutions.
        options |= {"optimize": False, "external_data": False}
    else:
        mode = torch.onnx.TrainingMode
        options["training"] = mode.TRAINING if net.training else mode.EVAL
        options["do_constant_folding"] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.zeros(2, *shape),), path, **options)
    return path


def in_onnxruntime(path, x):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})


def assert_same(found, expected, names):
    assert found.input_shape == expected.input_shape
    assert found.nodes == expected.nodes
    assert list(found.weights) == list(expected.weights)
    for name, value in expected.weights.items():
        assert np.array_equal(found.weights[name], value), name
    assert found.trainable == expected.trainable
    with_parameters = {int(name.split(".")[0]) for name in expected.weights}
    for index, name in expected.names.items():
        if names == "all" or index in with_parameters:
            assert found.names.get(index) == name
    assert set(found.names) <= set(expected.names)


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("name", NETWORKS)
def test_both_ways_give_the_same_graph(tmp_path, name, opset):
    net, shape = make(name)
    path = export(net, shape, tmp_path / "net.onnx", opset)
    expected = from_torch(net, shape)
    if name == "every layer" and opset < 18:
        # The parts of a group-norm and a MatMul do not say which module they come from.
        del expected.names[1], expected.names[11]
    assert_same(from_onnx(path), expected, "all" if opset >= 18 else "with parameters")


def test_the_newest_opset_of_the_exporter(tmp_path):
    net, shape = make("every layer")
    path = export(net, shape, tmp_path / "net.onnx", 25)
    assert_same(from_onnx(path), from_torch(net, shape), "all")


@pytest.mark.parametrize("name", NETWORKS)
def test_graphs_compute_what_onnxruntime_computes(tmp_path, name):
    net, shape = make(name)
    path = export(net.eval(), shape, tmp_path / "net.onnx", 18)
    x = torch.randn(2, *shape)
    (expected,) = in_onnxruntime(path, x.numpy())
    graph = from_onnx(path)
    np.testing.assert_allclose(results(graph, x), expected, rtol=1e-4, atol=1e-4)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert sum(isinstance(node.layer, BatchNorm2d) for node in graph.nodes) == norms


@pytest.mark.parametrize("opset", [13, 18])
def test_the_batch_may_be_dynamic(tmp_path, opset):
    net, shape = make("LeNet-5")
    axes = {"dynamic_axes": {"x": {0: "n"}}, "input_names": ["x"]}
    if opset >= 18:
        axes = {"dynamic_shapes": {"x": {0: torch.export.Dim("n")}}}
    path = export(net, shape, tmp_path / "net.onnx", opset, **axes)
    assert onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert_same(from_onnx(path), from_torch(net, shape), "with parameters")


# -- files of other tools --------------------------------------------------------------------------

OTHERS = {
    "skl2onnx_mlp": ((64,), [Linear(64, 32), ReLU(), Linear(32, 10)]),
    "tf2onnx_keras": ((3, 16, 16), [
        Conv2d(3, 8, 3, padding=1), ReLU(), Conv2d(8, 8, 3, padding=1, groups=8), ReLU6(),
        MaxPool2d(2), Conv2d(8, 8, 3, padding=1), Add(), ReLU(), AvgPool2d(), Flatten(),
        Linear(8, 4),
    ]),
    "paddle2onnx_net": ((3, 16, 16), [
        Conv2d(3, 8, 3, 2, 1), ReLU(), MaxPool2d(3, 2, 1), Conv2d(8, 8, 3, padding=1, bias=False),
        BatchNorm2d(8), Add(), ReLU(), AvgPool2d(2), Flatten(), Linear(32, 16), ReLU(),
        Linear(16, 5),
    ]),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_files_of_other_tools(name):
    path = FILES / f"{name}.onnx"
    shape, layers = OTHERS[name]
    graph = from_onnx(path)
    assert graph.input_shape == shape and [node.layer for node in graph.nodes] == layers
    torch.manual_seed(0)
    x = torch.randn(3, *shape)
    expected = in_onnxruntime(path, x.numpy())[-1]
    found = torch.tensor(results(graph, x))
    # Two of them end in a softmax, which the graph leaves out.
    found = found if name == "paddle2onnx_net" else found.softmax(1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_names_of_nodes_where_parameters_have_none():
    names = from_onnx(FILES / "paddle2onnx_net.onnx").names
    assert names[0] == "Conv.0" and names[4] == "BatchNormalization.0"


# -- files made here, one operator at a time -------------------------------------------------------


def weight(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def model(nodes, constants, shape=(3, 8, 8), opset=NEWEST, ir=None, outputs=("scores",)):
    """A checked ONNX model of ``nodes`` on the input ``x``."""
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "classes"])
            for name in outputs
        ],
        tensors,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = ir or helper.find_min_ir_version_for(made.opset_import)
    if made.ir_version < 4:
        for tensor in tensors:
            shape = list(tensor.dims)
            graph_input = helper.make_tensor_value_info(tensor.name, tensor.data_type, shape)
            made.graph.input.append(graph_input)
    return made


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], name=f"{output}_node", **attributes)


def small(opset, **options):
    """A network of the operators whose form depends least on the opset."""
    training = helper.make_node(
        "BatchNormalization", ["a", "scale", "offset", "mean", "var"], ["b", "m", "v"],
        training_mode=1, momentum=0.75, epsilon=1e-3,
    )  # fmt: skip
    if opset < 14:
        training = node("BatchNormalization", "a scale offset mean var", "b", momentum=0.75,
                        epsilon=1e-3)  # fmt: skip
    mean = node("ReduceMean", "c axes", "d", keepdims=0)
    if opset < 18:
        mean = node("ReduceMean", "c", "d", keepdims=0, axes=[-1, -2])
    nodes = [
        node("Conv", "x w", "a", auto_pad="SAME_UPPER"),
        training,
        node("Relu", "b", "c"),
        mean,
        node("Dropout", "d ratio", "e"),
        node("Gemm", "e fc bias", "scores"),
    ]
    constants = {
        "w": weight(4, 3, 3, 3), "scale": weight(4), "offset": weight(4) + 1, "mean": weight(4),
        "var": weight(4) ** 2 + 1, "ratio": np.float32(0.1), "fc": weight(4, 5), "bias": weight(5),
    }  # fmt: skip
    if opset >= 18:
        constants["axes"] = np.array([2, 3])
    return model(nodes, constants, opset=opset, **options)


SMALL = [
    Conv2d(3, 4, 3, padding=1, bias=False), BatchNorm2d(4, 1e-3, 0.25), ReLU(), AvgPool2d(),
    Flatten(), Dropout(0.1), Linear(4, 5),
]  # fmt: skip


@pytest.mark.parametrize("opset", range(MIN_OPSET, NEWEST + 1))
def test_every_opset(tmp_path, opset):
    onnx.save(small(opset), tmp_path / "net.onnx")
    graph = from_onnx(tmp_path / "net.onnx")
    assert graph.layers == SMALL
    assert np.array_equal(graph.weights["6.weight"], weight(4, 5).T)
    assert np.array_equal(graph.weights["1.running_var"], weight(4) ** 2 + 1)


@pytest.mark.parametrize("ir", range(MIN_IR, onnx.IR_VERSION + 1))
def test_every_ir_version(tmp_path, ir):
    onnx.save(small(MIN_OPSET, ir=ir), tmp_path / "net.onnx")
    assert from_onnx(tmp_path / "net.onnx").layers == SMALL


def head(size):
    """Nodes from the value ``y`` with ``size`` values to scores, and their constants."""
    return [node("Flatten", "y", "f"), node("MatMul", "f fc", "scores")], {"fc": weight(size, 2)}


ONES = {"ones": np.ones(2, np.float32), "zeros": np.zeros(2, np.float32)}
NORM = {"scale": weight(4), "offset": weight(4) + 1}
PARTS = [
    node("Reshape", "x split", "a"),
    node("InstanceNormalization", "a ones zeros", "b", epsilon=1e-3),
    node("Shape", "x", "s"),
    node("Reshape", "b s", "c"),
    node("Mul", "c w", "d"),
    node("Add", "d v", "y"),
]
PART_VALUES = ONES | {
    "split": np.array([0, 2, -1]), "w": weight(4).reshape(4, 1, 1),
    "v": (weight(4) + 1).reshape(1, 4, 1, 1),
}  # fmt: skip

FORMS = {
    "group-norm of opset 21": (
        [node("GroupNormalization", "x scale offset", "y", num_groups=2, epsilon=1e-3)],
        NORM, NEWEST, GroupNorm(2, 4, 1e-3),
    ),
    "group-norm in parts": (PARTS, PART_VALUES, 13, GroupNorm(2, 4, 1e-3)),
    "a 3x3 pool with SAME_UPPER": (
        [node("MaxPool", "x", "y", kernel_shape=[3, 3], strides=[3, 3], auto_pad="SAME_LOWER")],
        {}, NEWEST, MaxPool2d(3, 3, (1, 0)),
    ),
    "Clip without a maximum": ([node("Clip", "x low", "y")], {"low": np.float32(0)}, 13, ReLU()),
    "Clip with computed bounds": (
        [node("Constant", "", "three", value_float=3.0), node("Add", "three three", "six"),
         node("Sub", "six six", "low"), node("Clip", "x low six", "y")], {}, 14, ReLU6(),
    ),
    "a convolution with its bias behind it": (
        [node("Conv", "x w", "a"), node("Add", "b a", "y")],
        {"w": weight(4, 4, 1, 1), "b": weight(4).reshape(4, 1, 1)}, NEWEST, Conv2d(4, 4, 1),
    ),
    "the mean by its axes": (
        [node("ReduceMean", "x", "y", axes=[2, 3], keepdims=1)], {}, 13, AvgPool2d(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_operators(tmp_path, form):
    nodes, constants, opset, layer = FORMS[form]
    shape = (4, 7, 6)
    size = int(np.prod(layer.output_shape(shape)))
    tail, more = head(size)
    made = model([*nodes, *tail], constants | more, shape, opset)
    onnx.save(made, tmp_path / "net.onnx")
    graph = from_onnx(tmp_path / "net.onnx")
    assert graph.layers == [layer, Flatten(), Linear(size, 2, bias=False)]
    x = torch.randn(2, *shape)
    if opset == NEWEST:
        # One that onnxruntime has; these operators are older and have not changed.
        made.opset_import[0].version, made.ir_version = 23, 11
        onnx.save(made, tmp_path / "net.onnx")
    (expected,) = in_onnxruntime(tmp_path / "net.onnx", x.numpy())
    np.testing.assert_allclose(results(graph, x), expected, rtol=1e-4, atol=1e-5)


def test_equal_values_that_an_exporter_stores_once_are_no_shared_parameters(tmp_path):
    norm = "one zero zero one"
    tail, more = head(3 * 64)
    nodes = [
        node("BatchNormalization", f"x {norm}", "a"),
        node("BatchNormalization", f"a {norm}", "y"),
    ]
    constants = {"one": np.ones(3, np.float32), "zero": np.zeros(3, np.float32)}
    onnx.save(model([*nodes, *tail], constants | more), tmp_path / "net.onnx")
    assert from_onnx(tmp_path / "net.onnx").layers[:2] == [BatchNorm2d(3)] * 2


def test_weights_in_a_file_of_their_own(tmp_path):
    onnx.save(small(NEWEST), tmp_path / "net.onnx", save_as_external_data=True,
              location="net.data", size_threshold=0)  # fmt: skip
    assert (tmp_path / "net.data").exists()
    graph = from_onnx(tmp_path / "net.onnx")
    assert np.array_equal(graph.weights["0.weight"], weight(4, 3, 3, 3))


def test_local_functions_are_followed(tmp_path):
    body = [helper.make_node("Relu", ["a"], ["b"])]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "Activation", ["a"], ["b"], body, opsets[:1])
    tail, more = head(3 * 64)
    call = helper.make_node("Activation", ["x"], ["y"], domain="own")
    made = model([call, *tail], more, opset=18)
    made.opset_import.append(opsets[1])
    made.functions.append(function)
    onnx.save(made, tmp_path / "net.onnx")
    assert from_onnx(tmp_path / "net.onnx").layers == [ReLU(), Flatten(), Linear(192, 2, False)]


def test_an_imported_file_trains_as_the_module_does(make_device, tmp_path):
    net = small_net()
    graph = from_onnx(export(net, (1, 6, 5), tmp_path / "net.onnx", 18))
    x, y = data(12, (1, 6, 5), 4)
    trainer = Trainer(graph, make_device("4x4"), SGD(0.1))
    history = trainer.fit(x, y, 2, 4, shuffle=False)
    expected = train_in_torch(net, x, y, 2, 4, SGD(0.1))
    assert np.allclose(history.losses, [loss for loss, _ in expected], rtol=1e-4)
    for name, value in net.state_dict().items():
        np.testing.assert_allclose(trainer.state_dict()[name], value, rtol=1e-3, atol=1e-4)
