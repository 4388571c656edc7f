"""What docs/import.md says: its table of layers, its ranges, its example and its errors."""

import re
from pathlib import Path

import onnx
import pytest
import torch
from test_import_onnx import NEWEST, model, node, small
from torch import nn

from eftrain.errors import UserError
from eftrain.graph import LAYERS, AvgPool2d, Conv2d, Flatten, Graph, Linear, MaxPool2d, ReLU6
from eftrain.graph import BatchNorm2d as Norm
from eftrain.importers.onnx_file import MIN_IR, MIN_OPSET
from eftrain.importers.onnx_model import _OPERATORS as ONNX_OPERATORS
from eftrain.importers.onnx_model import from_onnx
from eftrain.importers.torch_module import from_torch
from eftrain.optim import SGD
from eftrain.plan.schedule import Schedule
from eftrain.plan.support import check_layers
from eftrain_hdl.config import CoreConfig

PAGE = (Path(__file__).parents[2] / "docs/import.md").read_text()
ROW = r"^\| (`\w+(?:\(\))?`.*?) \| (.*?) \| (.*?) \| (yes|no)\b.*? \|$"
ROWS = re.findall(ROW, PAGE, re.MULTILINE)


def test_the_example_works():
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {}
    exec(program, names)
    assert names["graph"].classes == 10


def test_the_table_has_all_layers_and_operators():
    assert {re.match(r"`(\w+)", row[0]).group(1) for row in ROWS} == {k.kind for k in LAYERS}
    named = set(re.findall(r"`(\w+)`", " ".join(row[2] for row in ROWS)))
    # Identity, Cast and the softmax give no layer.
    assert set(ONNX_OPERATORS) - named == {"Identity", "Cast", "Softmax", "LogSoftmax"}
    assert named <= set(ONNX_OPERATORS)


EXAMPLES = {
    "Conv2d": [Conv2d(4, 4, 3)],
    "Conv2d with": [Conv2d(4, 4, 3, groups=2)],
    "BatchNorm2d": [Conv2d(4, 4, 3), Norm(4)],
    "BatchNorm2d with": [Conv2d(4, 4, 3), Norm(4, frozen=True)],
    "AvgPool2d of": [AvgPool2d()],
    "MaxPool2d of": [MaxPool2d(2)],
    "MaxPool2d with": [MaxPool2d(2, stride=3)],
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_device_runs_what_the_table_says(row):
    words = row[0].replace("`", "").replace("()", "").split()
    kind = next(kind for kind in LAYERS if kind.kind == words[0])
    layers = EXAMPLES.get(" ".join(words[:2]))
    if layers is None:
        # None of these depends on its options.
        values = {"Linear": (144, 4), "GroupNorm": (2, 4), "AvgPool2d": (2,)}
        layers = [kind(*values.get(kind.kind, ()))]
        layers = [Flatten(), *layers] if kind is Linear else layers
        layers = [Conv2d(4, 4, 1), layers[0]] if kind.kind == "GroupNorm" else layers
    if getattr(kind, "inputs", 1) == 2:
        assert row[3] == "yes"  # A sum needs two layers; test_host_norm.py trains some.
        return
    shape = (4, 6, 6)
    for layer in layers:
        shape = layer.output_shape(shape)
    tail = [Flatten()] if len(shape) == 3 else []
    tail.append(Linear(torch.Size(shape).numel(), 2))
    graph = Graph((4, 6, 6), [*layers, *tail])
    if row[3] == "yes":
        check_layers(graph)
    else:
        with pytest.raises(UserError, match="does not run yet"):
            check_layers(graph)


def test_the_ranges():
    assert f"| opset | {MIN_OPSET} to {NEWEST}, the newest of onnx 1.23" in PAGE
    assert f"| IR version | {MIN_IR} to {onnx.IR_VERSION}, likewise |" in PAGE


def errors(tmp_path):
    """The errors that the page shows, in its order."""

    class Gated(nn.Module):
        def forward(self, x):
            return torch.sigmoid(x) * 2

    class Dilated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3, dilation=2)

        def forward(self, x):
            return self.conv(x)

    path = tmp_path / "wide.onnx"
    yield lambda: from_torch(Gated(), (1, 8, 8))
    yield lambda: from_torch(Dilated(), (1, 8, 8))
    made = small(MIN_OPSET)
    made.opset_import[0].version = 12
    onnx.save(made, path)
    yield lambda: from_onnx(path)
    made = model([node("Relu", "x", "scores")], {})
    made.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(made, path)
    yield lambda: from_onnx(path)
    path.write_bytes(b"not an ONNX file")
    yield lambda: from_onnx(path)
    tail = [Flatten(), Linear(8 * 36, 4)]
    yield lambda: check_layers(Graph((1, 8, 8), [Conv2d(1, 8, 3), ReLU6(), *tail]))
    graph = Graph((1, 8, 8), [Conv2d(1, 8, 3), Norm(8), *tail], trainable={"1.weight": False})
    yield lambda: Schedule(graph, CoreConfig(), SGD(0.01)).training_step(4)


def test_the_errors_are_those_shown(tmp_path):
    (shown,) = re.findall(r"<!-- errors -->\n```\n(.*?)```", PAGE, re.DOTALL)
    found = []
    for make in errors(tmp_path):
        with pytest.raises(UserError) as error:
            make()
        text = str(error.value).replace(f"{tmp_path}/", "")
        found.append(re.sub(r"test_import_docs.py line \d+", "model.py line 10", text))
    assert found == shown.splitlines()
