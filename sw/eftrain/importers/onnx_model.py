"""Import of ONNX files: what each operator means."""

from dataclasses import replace

import numpy as np

from ..graph import PICTURE
from .builder import GraphBuilder
from .onnx_file import OnnxFile
from .onnx_node import Groups, OnnxNode, describe
from .values import Parameter, Place, unsupported

__all__ = ["from_onnx"]


def from_onnx(path):
    """Turn an ONNX file into a ``Graph``, with its weights.

    Layers are named after the parameters of PyTorch's modules where the file has these names, and
    otherwise after the file's nodes. All parameters are trainable: ONNX does not say.

    Batch-norm is imported as one that is trained and dropout as one that drops, whether the file
    was exported for training or not. A softmax at the end is left out, as the loss has its own.

    Parameters
    ----------
    path : str or pathlib.Path
        Opset 13 to the newest of the installed onnx package, IR version 3 to its newest.

    Returns
    -------
    Graph

    Raises
    ------
    UserError
        If the file cannot be read or is damaged, its opset is out of range, sizes other than the
        batch are dynamic, or an operator or one of its options is unsupported; names the node, and
        the line of the user's code where the file has it.
    """
    return _Import(OnnxFile(path)).graph()


class _Import:
    """Walks the nodes once.

    Attributes
    ----------
    values : dict
        Name to the builder's value, or to ``Groups``.
    """

    def __init__(self, file):
        self.file, self.builder = file, GraphBuilder(file.input_shape)
        self.values = {file.input: PICTURE}
        self.torch = file.model.producer_name == "pytorch"

    def graph(self):
        self._refuse_unknown()
        for node in self.file.nodes:
            if node.op_type not in _OPERATORS:  # Works on shapes that onnx cannot infer.
                raise unsupported([describe(node)])
            self.values[node.output[0]] = _OPERATORS[node.op_type](self, OnnxNode(node, self))
        if self.file.output not in self.values:
            raise self.file.error("gives a constant; give a network that gives its class scores")
        return self.builder.finish(self.value(self.file.output, Place("output")))

    def _refuse_unknown(self):
        # Behind an unknown operator, shapes are unknown too.
        computed = set(self.file.constants)
        unknown = []
        for node in self.file.nodes:
            inputs = [name for name in node.input if name]
            if node.op_type == "CastLike":
                inputs = inputs[:1]
            if node.op_type == "Shape" or inputs and computed.issuperset(inputs):
                computed |= set(node.output)
            elif node.domain not in ("", "ai.onnx") or node.op_type not in _OPERATORS:
                unknown.append(describe(node))
        if unknown:
            raise unsupported(unknown)

    def value(self, name, place):
        """The builder's value of this name."""
        value = self.values.get(name)
        if value is None:
            raise self.builder.error(
                place, f"works on {name!r}, which is no result of a layer; use layers' results"
            )
        if isinstance(value, Groups):
            raise self.builder.error(
                place, f"reads {name!r}, which is only a part of a group-norm; export the whole one"
            )
        return value


def _operator(*names):
    def add(function):
        _OPERATORS.update(dict.fromkeys(names, lambda owner, node: function(node, node.builder)))
        return function

    return add


_OPERATORS = {}
"""Operator to what translates it."""


@_operator("Conv")
def _conv(node, builder):
    weight, x = node.parameter(1), node.x()
    if len(builder.shape(x)) != 3 or weight.values.ndim != 4:
        raise node.error("is no convolution of pictures; the supported form is two-dimensional")
    stride, padding = node.window(x, weight.values.shape[2:])
    dilation = tuple(node.get("dilations", (1, 1)))
    sizes = (stride, padding, dilation, node.get("group", 1))
    return builder.conv(node.place, x, weight, node.bias(2), *sizes)


@_operator("Gemm")
def _gemm(node, builder):
    for option, supported in (("transA", 0), ("alpha", 1.0), ("beta", 1.0)):
        builder.require(node.place, option, node.get(option, supported), supported)
    turned = node.get("transB", 0)
    weight = node.parameter(1, lambda values: values if turned else values.T)
    return builder.linear(node.place, node.x(), weight, node.bias(2))


@_operator("MatMul")
def _matmul(node, builder):
    return builder.linear(node.place, node.x(), node.parameter(1, np.transpose), None)


@_operator("BatchNormalization")
def _batch_norm(node, builder):
    found = [node.parameter(index) for index in range(1, 5)]
    # Statistics are no parameters: of two equal ones nothing can be told.
    found[2:] = [Parameter(statistic.values) for statistic in found[2:]]
    # ONNX weighs the running statistics, PyTorch the batch.
    momentum = round(1 - node.get("momentum", 0.9), 7)
    return builder.batch_norm(node.place, node.x(), found, node.get("epsilon", 1e-5), momentum)


@_operator("GroupNormalization")
def _group_norm(node, builder):
    # Before opset 21 a scale belonged to a group; onnx's checker refuses that form, now deprecated.
    sizes = (node.parameter(1), node.parameter(2), node.get("epsilon", 1e-5))
    return builder.group_norm(node.place, node.x(), node.get("num_groups"), *sizes)


@_operator("InstanceNormalization")
def _instance_norm(node, builder):
    value = node.groups()
    plain = (node.constant(1) == 1).all() and (node.constant(2) == 0).all()
    if value is None or value.eps is not None or not plain:
        raise node.error("is no part of a group-norm; use GroupNorm or BatchNorm2d")
    return replace(value, eps=node.get("epsilon", 1e-5))


@_operator("Mul")
def _mul(node, builder):
    value = node.groups()
    if value is None or not value.whole or value.weight is not None:
        raise unsupported([describe(node.node)])
    return replace(value, weight=_per_channel(node, builder, value))


def _per_channel(node, builder, value):
    channels = builder.shape(value.source)[0]
    if node.constant(1).shape not in ((channels, 1, 1), (1, channels, 1, 1)):
        raise node.error("has other values than one a channel; use GroupNorm as it is")
    return node.parameter(1, lambda values: values.reshape(-1))


@_operator("Add")
def _add(node, builder):
    value = node.groups()
    if value is not None and value.weight is not None:
        bias = _per_channel(node, builder, value)
        sizes = (value.groups, value.weight, bias, value.eps)
        return builder.group_norm(node.place, value.source, *sizes)
    constants = [node.input(index) in node.owner.file.constants for index in (0, 1)]
    if any(constants):
        constant = constants.index(True)
        return builder.add_constant(node.place, node.x(1 - constant), node.parameter(constant))
    return builder.add(node.place, node.x(0), node.x(1))


@_operator("Relu")
def _relu(node, builder):
    return builder.relu(node.place, node.x())


@_operator("Clip")
def _clip(node, builder):
    return builder.clip(node.place, node.x(), node.number(1), node.number(2))


@_operator("LeakyRelu")
def _leaky_relu(node, builder):
    return builder.leaky_relu(node.place, node.x(), node.get("alpha", 0.01))


@_operator("MaxPool")
def _max_pool(node, builder):
    x, kernel = node.x(), node.get("kernel_shape")
    stride, padding = node.window(x, kernel)
    options = (tuple(node.get("dilations", (1, 1))), node.get("ceil_mode", 0))
    return builder.max_pool(node.place, x, kernel, stride, padding, *options)


@_operator("AveragePool")
def _average_pool(node, builder):
    x, kernel = node.x(), node.get("kernel_shape")
    builder.require(node.place, "dilations", tuple(node.get("dilations", (1, 1))), 1)
    stride, padding = node.window(x, kernel)
    return builder.avg_pool(node.place, x, kernel, stride, padding, node.get("ceil_mode", 0))


@_operator("GlobalAveragePool")
def _global_average_pool(node, builder):
    return builder.global_avg_pool(node.place, node.x())


@_operator("ReduceMean")
def _reduce_mean(node, builder):
    axes = node.get("axes")
    if axes is None:  # An input since opset 18.
        given = node.constant(1)
        axes = range(len(builder.shape(node.x())) + 1) if given is None else given.tolist()
    return builder.mean(node.place, node.x(), tuple(axes), node.get("keepdims", 1))


@_operator("Flatten")
def _flatten(node, builder):
    x = node.x()
    rank = len(builder.shape(x)) + 1
    builder.require(node.place, "axis", node.get("axis", 1) % rank, 1)
    return builder.flatten(node.place, x)


@_operator("Reshape", "Squeeze")
def _reshape(node, builder):
    file, value = node.owner.file, node.groups()
    shape = file.shape(node.node.output[0])
    if value is not None:
        if value.eps is None or shape != (file.batch, *builder.shape(value.source)):
            raise node.error("reads a part of a group-norm; use GroupNorm as it is")
        return replace(value, whole=True)
    x = node.x()
    channels, *pixels = builder.shape(x)
    if shape and pixels and len(shape) == 3 and shape[0] == file.batch:
        return Groups(x, shape[1])
    return builder.reshape(node.place, x, shape, file.batch)


@_operator("Dropout")
def _dropout(node, builder):
    return builder.dropout(node.place, node.x(), node.number(1, 0.5))


@_operator("Identity")
def _identity(node, builder):
    return node.x()


@_operator("Cast")
def _cast(node, builder):
    builder.require(node.place, "to", node.get("to"), 1)  # float32, which all values here are.
    return node.x()


@_operator("Softmax", "LogSoftmax")
def _softmax(node, builder):
    return builder.softmax(node.place, node.x(), node.get("axis", -1))
