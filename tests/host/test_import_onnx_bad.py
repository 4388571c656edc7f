"""ONNX files that cannot be imported are refused in one sentence that names the place."""

import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from test_host_bad_input import assert_sentence
from test_import_onnx import FILES, NEWEST, export, head, model, node, small, weight
from torch import nn

from eftrain.errors import UserError
from eftrain.importers.onnx_model import from_onnx
from eftrain.network_file import load_network


def refused(path, message):
    with pytest.raises(UserError, match=message) as error:
        from_onnx(path)
    text = str(error.value).replace(str(path), "net.onnx")
    assert text.endswith(".") and "\n" not in text and len(text) < 320, text


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.onnx"


# -- files -----------------------------------------------------------------------------------------


def test_missing_files(path):
    refused(path, "^There is no ONNX file .*net.onnx; check the path")


def test_folders(tmp_path):
    refused(tmp_path, "cannot be read: Is a directory; check the path")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no ONNX network; copy or export it again"),
        (b"network", "is no ONNX file, or only a part of one; copy"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "is no ONNX file, or only a part of one; copy"),
        (bytes(1000), "is no ONNX file, or only a part of one; copy"),
    ],
)
def test_files_of_something_else(path, content, message):
    path.write_bytes(content)
    refused(path, message)


def test_truncated_files(path):
    content = (FILES / "paddle2onnx_net.onnx").read_bytes()
    for length in range(1, len(content), 97):
        path.write_bytes(content[:length])
        refused(path, "part of one|holds no ONNX network|is no valid ONNX network|has no opset")


def test_damaged_files(path):
    """Whatever one changed byte does, it is an import or one sentence."""
    content = (FILES / "tf2onnx_keras.onnx").read_bytes()
    generator = np.random.default_rng(0)
    sentences = 0
    for position in generator.integers(0, len(content), 300):
        damaged = bytearray(content)
        damaged[position] ^= 1 << generator.integers(8)
        path.write_bytes(damaged)
        try:
            from_onnx(path)
        except UserError as error:
            sentences += 1
            text = str(error)
            assert text.endswith(".") and "\n" not in text, text
    assert sentences > 20


def test_weights_of_another_length(path):
    made = small(NEWEST)
    made.graph.initializer[0].raw_data = b"1234"
    path.write_bytes(made.SerializeToString())
    refused(path, r"is no valid ONNX network|has a damaged weight 'w'")


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_external_weights_that_cannot_be_read(path, damage):
    onnx.save(small(NEWEST), path, save_as_external_data=True, location="net.data",
              size_threshold=0)  # fmt: skip
    data = path.with_name("net.data")
    if damage == "missing":
        data.unlink()
    else:
        data.write_bytes(data.read_bytes()[:50])
    refused(path, "keeps its weights in a file of its own that cannot be read|damaged weight")


def test_external_weights_elsewhere_are_not_read(path, tmp_path):
    onnx.save(small(NEWEST), path, save_as_external_data=True, location="net.data",
              size_threshold=0)  # fmt: skip
    made = onnx.load(path, load_external_data=False)
    for tensor in made.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../net.data"
    (tmp_path / "folder").mkdir()
    inner = tmp_path / "folder" / "net.onnx"
    inner.write_bytes(made.SerializeToString())
    refused(inner, "keeps its weights in a file of its own that cannot be read")


# -- versions and shapes ---------------------------------------------------------------------------


def changed(path, change):
    made = small(18)
    change(made)
    path.write_bytes(made.SerializeToString())


@pytest.mark.parametrize("opset", [9, 12, NEWEST + 1])
def test_opsets_out_of_range(path, opset):
    changed(path, lambda made: setattr(made.opset_import[0], "version", opset))
    refused(path, f"has opset {opset}; opsets 13 to {NEWEST} can be read, so export it again with")


@pytest.mark.parametrize("ir", [2, onnx.IR_VERSION + 1])
def test_ir_versions_out_of_range(path, ir):
    changed(path, lambda made: setattr(made, "ir_version", ir))
    refused(path, f"has IR version {ir}; versions 3 to {onnx.IR_VERSION} can be read")


def test_files_without_opset(path):
    changed(path, lambda made: made.ClearField("opset_import"))
    refused(path, "has no opset; opsets 13 to")


def dimensions(made):
    return made.graph.input[0].type.tensor_type.shape.dim


@pytest.mark.parametrize(("change", "message"), [
    (lambda made: setattr(dimensions(made)[2], "dim_param", "height"),
     "has an input 'x' whose dimension 2 'height' is dynamic; export it with a fixed size"),
    (lambda made: dimensions(made)[3].Clear(), "'x' whose dimension 3 is dynamic"),
    (lambda made: dimensions(made).pop(), "'x' of 3 dimensions; export it for pictures"),
    (lambda made: setattr(made.graph.input[0].type.tensor_type, "elem_type", TensorProto.INT64),
     "has an input 'x' that is no float"),
    (lambda made: made.graph.input.append(
        helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])),
     r"takes 2 inputs \('x', 'z'\); give a network of one"),
    (lambda made: made.graph.output.append(
        helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 4, 8, 8])),
     r"gives 2 results of float \('scores', 'c'\)"),
    (lambda made: setattr(made.graph.node[2], "op_type", "Rleu"), "is no valid ONNX network"),
    (lambda made: setattr(dimensions(made)[1], "dim_value", 5),
     r"^a_node \(Conv\) takes 3 channels but receives 5"),
    (lambda made: made.graph.node[0].attribute[0].CopyFrom(
        helper.make_attribute("pads", [1, 1, 0, 0])),
     r"^a_node \(Conv\) has pads \[1, 1, 0, 0\]; the supported form is equal on opposite sides"),
    (lambda made: made.graph.initializer[-2].dims.__setitem__(0, 2),
     "damaged weight|no valid ONNX"),
    (lambda made: made.graph.node[5].attribute.append(helper.make_attribute("transB", 1)),
     r"has layers that do not fit together \(\(op_type:Gemm, node name: scores_node\): "),
])  # fmt: skip
def test_networks_of_other_forms(path, change, message):
    changed(path, change)
    refused(path, message)


# -- operators -------------------------------------------------------------------------------------


def test_all_unsupported_operators_are_named(path):
    tail, constants = head(3 * 64)
    nodes = [node("Sigmoid", "x", "a"), node("Sin", "a", "y"), *tail]
    onnx.save(model(nodes, constants), path)
    refused(path, r"^Operators Sigmoid \(node 'a_node'\) and Sin \(node 'y_node'\) are not support")


def test_operators_of_other_domains(path):
    tail, constants = head(3 * 64)
    made = model([helper.make_node("Relu", ["x"], ["y"], domain="own"), *tail], constants)
    made.opset_import.append(helper.make_opsetid("own", 1))
    onnx.save(made, path)
    refused(path, r"Operator own.Relu \(node ''\) is not supported")


def test_the_line_of_the_module_is_named(path):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return torch.sigmoid(self.layer(x))

    export(Gated(), (4,), path, 18)
    refused(path, r"Sigmoid \(node 'node_sigmoid' at test_import_onnx_bad.py line \d+\) is not")


W = {"w": weight(4, 3, 3, 3)}


@pytest.mark.parametrize(("nodes", "constants", "message"), [
    ([node("Conv", "x w", "y", dilations=[2, 2])], W, "has dilation=2; the supported form is"),
    ([node("Conv", "x w", "y", strides=[2, 2], auto_pad="SAME_UPPER")], W,
     r"has pads \[0, 0, 1, 1\]; the supported form is equal on opposite sides"),
    ([node("MaxPool", "x", "y", kernel_shape=[2, 2])], {}, "has stride 1 over rows; use 2 or 3"),
    ([node("MaxPool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)], {},
     "has ceil_mode=True"),
    ([node("AveragePool", "x", "y", kernel_shape=[2, 2])], {}, "has stride=1; .* stride=2"),
    ([node("Clip", "x low high", "y")], {"low": np.float32(0), "high": np.float32(1)},
     "keeps values from 0.0 to 1.0; the supported form is ReLU6"),
    ([node("InstanceNormalization", "x w w", "y")], {"w": np.ones(3, np.float32)},
     "is no part of a group-norm"),
    ([node("Mul", "x w", "y")], {"w": np.float32(2)}, r"Operator Mul \(node 'y_node'\) is not"),
    ([node("Add", "x w", "y")], {"w": np.float32(2)}, "adds a constant that is no bias"),
    ([node("ReduceMean", "x axes", "y", keepdims=1)], {"axes": np.array([1])},
     r"takes the mean over axes \(1,\); the supported form is over 2 and 3"),
    ([node("Softmax", "x", "y")], {}, "has axis -1; the supported form is over class scores"),
    ([node("Cast", "x", "h", to=10), node("Cast", "h", "y", to=1)], {}, "has to=10"),
    ([node("Transpose", "x", "y", perm=[0, 2, 3, 1])], {}, "Operator Transpose"),
    ([node("Reshape", "x split", "g"), node("Relu", "g", "r"), node("Reshape", "r whole", "y")],
     {"split": np.array([0, 3, -1]), "whole": np.array([0, 3, 8, 8])},
     "reads 'g', which is only a part of a group-norm"),
    ([node("Conv", "x n", "y")], {"n": np.full((4, 3, 1, 1), np.nan, np.float32)},
     "has a weight with NaN or Inf"),
    ([node("Conv", "x w", "a"), node("Conv", "a v", "b"), node("Conv", "b v", "y")],
     W | {"v": weight(4, 4, 1, 1)}, "shares its weight with b_node; give it parameters"),
    ([node("RandomNormal", "", "r", shape=[2, 3, 8, 8]), node("Add", "x r", "y")], {},
     "Operator RandomNormal"),
])  # fmt: skip
def test_operators_and_options_that_are_refused(path, nodes, constants, message):
    probe = model(nodes, constants, outputs=["y"])
    probe.graph.output[0].type.tensor_type.ClearField("shape")
    result = onnx.shape_inference.infer_shapes(probe).graph.output[0].type.tensor_type
    sizes = [size.dim_value for size in result.shape.dim][1:]
    tail, more = head(int(np.prod(sizes)) if all(sizes) and sizes else 192)
    onnx.save(model([*nodes, *tail], constants | more), path)
    refused(path, message)


def test_networks_that_end_early(path):
    onnx.save(model([node("Relu", "x", "scores")], {}), path)
    refused(path, "no Conv2d or Linear layer|results? of")


# -- the command line ------------------------------------------------------------------------------


def test_network_files():
    title, graph = load_network(str(FILES / "tf2onnx_keras.onnx"))
    assert title == "tf2onnx_keras" and graph.classes == 4
    with pytest.raises(UserError, match="There is no ONNX file nowhere.onnx") as error:
        load_network("nowhere.onnx")
    assert_sentence(error)


def test_layers_without_names_get_conventional_ones(path):
    made = small(18)
    made.producer_name = "pytorch"  # Whose nodes' names say nothing.
    onnx.save(made, path)
    assert load_network(str(path))[1].names == {0: "conv1", 3: "avgpool", 6: "fc"}


def test_without_the_onnx_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    message = r"need the package onnx, which is not installed; run `pip install 'eftrain\[onnx\]'`"
    with pytest.raises(UserError, match=message) as error:
        from_onnx("net.onnx")
    assert_sentence(error)
