"""ONNX files: reading, checking, and the shapes and constants that importing needs."""

import re
from pathlib import Path

import numpy as np

from ..errors import UserError

__all__ = ["MIN_IR", "MIN_OPSET", "OnnxFile"]

MIN_OPSET = 13
"""The newest is that of the installed onnx package."""

MIN_IR = 3
"""The first IR version of released ONNX files; the newest is that of the onnx package."""

BATCH = 2
"""Pictures in the batch where the file leaves their number open."""

_DOMAINS = ("", "ai.onnx")


def _onnx():
    try:
        import onnx
    except ImportError:
        raise UserError(
            "ONNX files need the package onnx, which is not installed; run `pip install "
            "'eftrain[onnx]'`."
        ) from None
    return onnx


class OnnxFile:
    """A checked network with one input, one output, and fixed shapes.

    Attributes
    ----------
    nodes : list of NodeProto
        Those that the output depends on, without those that compute constants, in order.
    input, output : str
        Names of the values.
    input_shape : tuple of int
        Of one picture.
    batch : int
        Pictures in the batch that all other shapes are for.
    constants : dict
        Name to array: initializers, and all that is computed from these and from shapes alone.
    stored : set of str
        Those of the constants that the file holds as initializers.

    Raises
    ------
    UserError
        If the file cannot be read, is damaged, of another version, or has no fixed shape.
    """

    def __init__(self, path):
        self._path = path
        self.model = self._read(Path(path))
        self._check_versions()
        self._check()
        graph = self.model.graph
        self.constants = {}
        for tensor in graph.initializer:
            self.constants[tensor.name] = self._array(tensor)
        self.stored = set(self.constants)
        self.input, self.input_shape, self.batch = self._one_input(graph)
        self.output = self._one_output(graph)
        self.nodes = self._needed(graph.node)
        self._infer()
        # Constants give shapes, and shapes give constants: that of a Reshape is often computed.
        while self._fold():
            self._infer()

    def shape(self, name):
        """Shape of a value, the batch included, or None."""
        return self._shapes.get(name)

    def error(self, problem):
        return UserError(f"{self._path} {problem}.")

    # -- reading -----------------------------------------------------------------------------------

    def _read(self, path):
        onnx = _onnx()
        from google.protobuf.message import DecodeError

        try:
            model = onnx.load(path, load_external_data=False)
        except FileNotFoundError:
            raise UserError(f"There is no ONNX file {path}; check the path.") from None
        except OSError as error:
            raise self.error(f"cannot be read: {error.strerror}; check the path") from None
        except DecodeError:
            raise self.error(
                "is no ONNX file, or only a part of one; copy or export it again"
            ) from None
        if not model.ir_version or not model.HasField("graph"):
            raise self.error("holds no ONNX network; copy or export it again")
        try:
            onnx.load_external_data_for_model(model, str(path.parent))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise self.error(
                f"keeps its weights in a file of its own that cannot be read "
                f"({_first_line(error)}); put that file beside it"
            ) from None
        return model

    def _check_versions(self):
        onnx = _onnx()
        newest = onnx.IR_VERSION
        if not MIN_IR <= self.model.ir_version <= newest:
            raise self.error(
                f"has IR version {self.model.ir_version}; versions {MIN_IR} to {newest} can be "
                "read, so export it with another version of your tool"
            )
        opsets = [one.version for one in self.model.opset_import if one.domain in _DOMAINS]
        newest = onnx.defs.onnx_opset_version()
        if len(opsets) != 1 or not MIN_OPSET <= opsets[0] <= newest:
            found = f"opset {opsets[0]}" if opsets else "no opset"
            raise self.error(
                f"has {found}; opsets {MIN_OPSET} to {newest} can be read, so export it again with "
                "one of them"
            )

    def _check(self):
        onnx = _onnx()
        from onnx import inliner

        try:
            onnx.checker.check_model(self.model)
            if self.model.functions:
                self.model = inliner.inline_local_functions(self.model)
        except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
            raise self.error(
                f"is no valid ONNX network ({_first_line(error)}); export it again"
            ) from None

    def _array(self, tensor):
        try:
            return _onnx().numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            raise self.error(
                f"has a damaged weight {tensor.name!r} ({_first_line(error)}); export it again"
            ) from None

    # -- shapes ------------------------------------------------------------------------------------

    def _one_input(self, graph):
        """``(name, shape of a picture, batch)``; a batch of any size becomes one of ``BATCH``."""
        inputs = [value for value in graph.input if value.name not in self.constants]
        if len(inputs) != 1:
            names = ", ".join(repr(value.name) for value in inputs)
            raise self.error(f"takes {len(inputs)} inputs ({names}); give a network of one")
        (value,) = inputs
        kind = value.type.tensor_type
        if not _is_float(kind.elem_type):
            raise self.error(f"has an input {value.name!r} that is no float; give one of float32")
        if not kind.HasField("shape") or len(kind.shape.dim) not in (2, 4):
            raise self.error(
                f"has an input {value.name!r} of {len(kind.shape.dim)} dimensions; export it for "
                "pictures (N, C, H, W) or vectors (N, features)"
            )
        batch, *sizes = kind.shape.dim
        for axis, size in enumerate(sizes, 1):
            if size.dim_value < 1:
                name = f" {size.dim_param!r}" if size.dim_param else ""
                raise self.error(
                    f"has an input {value.name!r} whose dimension {axis}{name} is dynamic; export "
                    "it with a fixed size, only the batch may vary"
                )
        if batch.dim_value < 1:
            batch.dim_value = BATCH
        return value.name, tuple(size.dim_value for size in sizes), batch.dim_value

    def _infer(self):
        """Shapes of all values, by onnx, for the fixed input."""
        onnx = _onnx()
        graph = self.model.graph
        del graph.node[:]
        graph.node.extend(self.nodes)
        # What the file says of shapes may still have the batch's name in it.
        del graph.value_info[:]
        for value in graph.output:
            value.type.tensor_type.ClearField("shape")
        try:
            inferred = onnx.shape_inference.infer_shapes(
                self.model, check_type=True, strict_mode=True, data_prop=True
            )
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
            raise self.error(
                f"has layers that do not fit together ({_first_line(error)}); export it again"
            ) from None
        self._shapes = {}
        inferred = inferred.graph
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            sizes = [size.dim_value for size in value.type.tensor_type.shape.dim]
            if value.type.tensor_type.HasField("shape") and all(sizes):
                self._shapes[value.name] = tuple(sizes)
        self._shapes |= {name: array.shape for name, array in self.constants.items()}

    def _fold(self):
        """Turn nodes whose results are known into constants; whether there were any."""
        left = [node for node in self.nodes if not self._known(node)]
        found = len(left) < len(self.nodes)
        self.nodes = left
        return found

    def _known(self, node):
        inputs = {name: self.constants.get(name) for name in node.input if name}
        if node.op_type == "Shape" and node.input[0] in self._shapes:
            inputs = {node.input[0]: np.empty(self._shapes[node.input[0]], np.float32)}
        if node.op_type == "CastLike" and inputs[node.input[1]] is None:
            inputs[node.input[1]] = np.float32(0)  # The type of a layer's result.
        # Without inputs there are also random numbers.
        known = inputs or node.op_type == "Constant"
        if not known or any(value is None for value in inputs.values()):
            return False
        onnx = _onnx()
        for name, value in zip(node.output, self._computed(node, inputs), strict=True):
            self.constants[name] = np.asarray(value)
            tensor = onnx.numpy_helper.from_array(self.constants[name], name)
            self.model.graph.initializer.append(tensor)
        return True

    def _computed(self, node, inputs):
        """Results of a node whose inputs are given, by onnx's own definition of it."""
        from onnx import helper
        from onnx.reference import ReferenceEvaluator

        ends = [
            [helper.make_tensor_value_info(name, 0, None) for name in names]
            for names in (inputs, node.output)
        ]
        graph = helper.make_graph([node], "constants", *ends)
        model = helper.make_model(graph, opset_imports=self.model.opset_import)
        try:
            return ReferenceEvaluator(model).run(None, inputs)
        except Exception as error:  # Whatever the values of the file lead to.
            raise self.error(
                f"has a node {node.name!r} ({node.op_type}) whose constants cannot be computed "
                f"({_first_line(error)}); export it again"
            ) from error

    def _one_output(self, graph):
        outputs = [
            value.name for value in graph.output if _is_float(value.type.tensor_type.elem_type)
        ]
        if len(outputs) != 1:
            names = ", ".join(repr(value.name) for value in graph.output)
            raise self.error(
                f"gives {len(outputs)} results of float ({names}); give a network that gives its "
                "class scores alone"
            )
        return outputs[0]

    def _needed(self, nodes):
        wanted, kept = {self.output}, []
        for node in reversed(nodes):
            if wanted & set(node.output):
                wanted |= set(node.input)
                kept.append(node)
        return kept[::-1]


def _is_float(kind):
    types = _onnx().TensorProto
    return kind in (types.FLOAT, types.DOUBLE, types.FLOAT16, types.BFLOAT16)


def _first_line(error):
    text = re.sub(r"\[\w+\] |Inference error\(s\): ", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    text = (lines[0] if lines else type(error).__name__).rstrip(".:")
    return text if len(text) <= 100 else text[:97] + "..."
