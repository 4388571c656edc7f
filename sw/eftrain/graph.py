"""The network description: layers, what each of them reads, and shape inference.

Layers say nothing about the device; ``plan`` turns them into passes.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from eftrain_hdl.isa import MAX_KERNEL, MAX_STRIDE

from .errors import UserError

MAX_GRID = (1 << 16) - 1
"""Rows or columns a descriptor can say."""

PICTURE = -1
"""Number of the network's input where layers are numbered from 0."""


def _pair(value, where):
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not all(isinstance(v, (int, np.integer)) for v in pair):
        raise UserError(f"{where} is {value!r}; give an integer or a pair of integers.")
    return tuple(int(v) for v in pair)


def _positive(value, where):
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise UserError(f"{where} is {value!r}; give an integer of 1 or more.")
    return int(value)


@dataclass(frozen=True)
class Conv2d:
    """Convolution; kernel size, stride and padding are an int or a (rows, cols) pair."""

    in_channels: int
    out_channels: int
    kernel_size: int | tuple
    stride: int | tuple = 1
    padding: int | tuple = 0
    bias: bool = True

    kind = "Conv2d"

    def __post_init__(self):
        for name in ("in_channels", "out_channels"):
            object.__setattr__(self, name, _positive(getattr(self, name), f"Conv2d {name}"))
        for name in ("kernel_size", "stride", "padding"):
            object.__setattr__(self, name, _pair(getattr(self, name), f"Conv2d {name}"))
        object.__setattr__(self, "bias", bool(self.bias))

    @property
    def weight_shape(self):
        return (self.out_channels, self.in_channels, *self.kernel_size)

    def output_shape(self, shape):
        """Shape (C, H, W) that follows ``shape``; a string says what is unsupported."""
        if len(shape) != 3:
            return f"takes pictures (C, H, W) but receives a vector of {shape[0]}"
        if shape[0] != self.in_channels:
            return f"takes {self.in_channels} channels but receives {shape[0]}"
        sizes = []
        for axis, size in zip(("rows", "columns"), range(2), strict=True):
            kernel, stride, pad = (self.kernel_size[size], self.stride[size], self.padding[size])
            if not 1 <= kernel <= MAX_KERNEL:
                return f"has {kernel} kernel {axis}; the device takes 1 to {MAX_KERNEL}"
            if not 1 <= stride <= MAX_STRIDE:
                return f"has stride {stride} over {axis}; the device takes 1 to {MAX_STRIDE}"
            if not 0 <= pad < kernel:
                return f"has padding {pad} over {axis}; the device takes 0 to {kernel - 1}"
            padded = shape[1 + size] + 2 * pad
            if padded < kernel:
                return (
                    f"has {kernel} kernel {axis} but its input has {shape[1 + size]} "
                    f"(padded {padded}); use a smaller kernel or larger pictures"
                )
            sizes.append((padded - kernel) // stride + 1)
        return (self.out_channels, *sizes)


@dataclass(frozen=True)
class Linear:
    """Fully connected layer on a vector of ``in_features``."""

    in_features: int
    out_features: int
    bias: bool = True

    kind = "Linear"

    def __post_init__(self):
        for name in ("in_features", "out_features"):
            object.__setattr__(self, name, _positive(getattr(self, name), f"Linear {name}"))
        object.__setattr__(self, "bias", bool(self.bias))

    @property
    def weight_shape(self):
        return (self.out_features, self.in_features)

    def output_shape(self, shape):
        """Shape (features,) that follows ``shape``; a string says what is unsupported."""
        if len(shape) != 1:
            return f"takes a vector but receives pictures {shape}; put a Flatten before it"
        if shape[0] != self.in_features:
            return f"takes {self.in_features} features but receives {shape[0]}"
        return (self.out_features,)


@dataclass(frozen=True)
class ReLU:
    """Negative values become zero."""

    kind = "ReLU"

    def output_shape(self, shape):
        return shape


@dataclass(frozen=True)
class MaxPool2d:
    """Maximum over 2x2 windows with stride 2; an odd last row or column is left out."""

    kernel_size: int | tuple = 2

    kind = "MaxPool2d"

    def __post_init__(self):
        object.__setattr__(self, "kernel_size", _pair(self.kernel_size, "MaxPool2d kernel_size"))

    def output_shape(self, shape):
        """Shape (C, H//2, W//2) that follows ``shape``; a string says what is unsupported."""
        if self.kernel_size != (2, 2):
            return f"has windows of {self.kernel_size}; the device pools 2x2"
        if len(shape) != 3:
            return f"takes pictures (C, H, W) but receives a vector of {shape[0]}"
        if min(shape[1:]) < 2:
            return f"needs pictures of at least 2x2 but receives {shape[1]}x{shape[2]}"
        return (shape[0], shape[1] // 2, shape[2] // 2)


@dataclass(frozen=True)
class AvgPool2d:
    """Mean over windows as far apart as they are large; None: one window, the whole picture."""

    kernel_size: int | tuple | None = None

    kind = "AvgPool2d"

    def __post_init__(self):
        if self.kernel_size is not None:
            size = _pair(self.kernel_size, "AvgPool2d kernel_size")
            object.__setattr__(self, "kernel_size", size)

    def window(self, shape):
        """(rows, columns) of a window on pictures of ``shape`` (C, H, W)."""
        return self.kernel_size or shape[1:]

    def output_shape(self, shape):
        """Shape (C, rows, columns) that follows ``shape``; a string says what is unsupported."""
        if len(shape) != 3:
            return f"takes pictures (C, H, W) but receives a vector of {shape[0]}"
        sizes = []
        for axis, size, kernel in zip(
            ("rows", "columns"), shape[1:], self.window(shape), strict=True
        ):
            if not 1 <= kernel <= MAX_KERNEL:
                return f"has windows of {kernel} {axis}; the device takes 1 to {MAX_KERNEL}"
            if size < kernel:
                return f"has windows of {kernel} {axis} but its input has {size}"
            sizes.append(size // kernel)
            if sizes[-1] > 1 and kernel > MAX_STRIDE:
                return (
                    f"has several windows of {kernel} {axis}; the device takes windows of up to "
                    f"{MAX_STRIDE}, or a single one of up to {MAX_KERNEL}"
                )
        return (shape[0], *sizes)


@dataclass(frozen=True)
class BatchNorm2d:
    """Batch normalisation of each channel with a scale and an offset that are trained.

    Parameters
    ----------
    num_features : int
    eps : float
        Added to the variance.
    momentum : float
        Weight of a batch in the running statistics, 0 to 1.
    """

    num_features: int
    eps: float = 1e-5
    momentum: float = 0.1

    kind = "BatchNorm2d"

    def __post_init__(self):
        features = _positive(self.num_features, "BatchNorm2d num_features")
        object.__setattr__(self, "num_features", features)
        for name, legal, need in (
            ("eps", lambda v: v > 0, "above 0"),
            ("momentum", lambda v: 0 <= v <= 1, "from 0 to 1"),
        ):
            value = getattr(self, name)
            number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
            with np.errstate(over="ignore"):
                if not number or not (np.isfinite(np.float32(value)) and legal(np.float32(value))):
                    raise UserError(f"BatchNorm2d {name} is {value!r}; give a number {need}.")
            object.__setattr__(self, name, float(value))

    def output_shape(self, shape):
        if len(shape) != 3:
            return f"takes pictures (C, H, W) but receives a vector of {shape[0]}"
        if shape[0] != self.num_features:
            return f"takes {self.num_features} channels but receives {shape[0]}"
        return shape


@dataclass(frozen=True)
class Add:
    """The sum of two layers of one shape."""

    kind = "Add"
    inputs = 2

    def output_shape(self, shape, other):
        if shape != other:
            return f"adds layers of shapes {shape} and {other}; make them equal"
        return shape


@dataclass(frozen=True)
class Flatten:
    """(C, H, W) becomes a vector of C*H*W."""

    kind = "Flatten"

    def output_shape(self, shape):
        return (prod(shape),)


LAYERS = (Conv2d, Linear, BatchNorm2d, ReLU, MaxPool2d, AvgPool2d, Add, Flatten)


@dataclass(frozen=True)
class Node:
    """A layer together with the numbers of the layers it reads.

    Parameters
    ----------
    layer : layer
    inputs : int or tuple of int
        Each below the layer's own number; ``PICTURE`` (-1) is the network's input.
    """

    layer: object
    inputs: int | tuple

    def __post_init__(self):
        if isinstance(self.inputs, (int, np.integer)):
            object.__setattr__(self, "inputs", (int(self.inputs),))


def layer_name(index, layer):
    """How messages name a layer without a name, for example ``layer 3 (Conv2d)``."""
    return f"layer {index} ({getattr(layer, 'kind', type(layer).__name__)})"


class Graph:
    """Layers without cycles that end in class scores.

    Parameters
    ----------
    input_shape : tuple of int
        One picture (C, H, W), or (N,) for vectors.
    layers : list
        Of layers, each reading the one before it, and of ``Node`` where a layer reads others.
    weights : dict, optional
        Name ``"<layer number>.weight"``, ``.bias``, ``.running_mean`` or ``.running_var`` to fp32
        array in PyTorch's layout; layers without an entry are initialised by the ``Trainer``.
    names : dict, optional
        Layer number to the name that tables and messages give the layer, for example ``"conv1_1"``.

    Attributes
    ----------
    nodes : list of Node
        One a layer.
    shapes : list of tuple
        ``shapes[i + 1]`` is what layer ``i`` gives; the first entry is the network's input, the
        last its output ``(classes,)``.

    Raises
    ------
    UserError
        If a layer, shape, weight or name is unsupported; names the layer by index and kind.
    """

    def __init__(self, input_shape, layers, weights=None, names=None):
        shape = tuple(input_shape) if isinstance(input_shape, (tuple, list)) else (input_shape,)
        if not isinstance(layers, (tuple, list)):
            raise UserError(f"The layers are a {type(layers).__name__}; give a list of layers.")
        if len(shape) not in (1, 3):
            raise UserError(f"input_shape is {shape}; give (channels, rows, columns).")
        shape = tuple(_positive(size, "input_shape entry") for size in shape)
        if max(shape[1:], default=0) > MAX_GRID:
            raise UserError(
                f"input_shape is {shape}; a picture has at most {MAX_GRID} rows or columns."
            )
        self.layers = list(layers)
        self.nodes = as_nodes(self.layers)
        self.shapes = [shape]
        for index, node in enumerate(self.nodes):
            _check_node(index, node)
            shape = node.layer.output_shape(*(self.shapes[source + 1] for source in node.inputs))
            if isinstance(shape, str):
                raise UserError(f"{layer_name(index, node.layer)} {shape}.")
            self.shapes.append(shape)
        self._check_ends(shape)
        if not isinstance(weights, dict | None):
            raise UserError(
                f"The weights are a {type(weights).__name__}; give a dict of name to array."
            )
        self.weights = self._checked(weights or {})
        self.names = _checked_names(names or {}, len(self.nodes))

    def _check_ends(self, shape):
        if not any(isinstance(node.layer, (Conv2d, Linear)) for node in self.nodes):
            raise UserError("The network has no Conv2d or Linear layer, so nothing to train.")
        if len(shape) != 1:
            raise UserError(
                f"The network ends in pictures {shape}; end it with Flatten and Linear."
            )
        read = {source for node in self.nodes for source in node.inputs}
        for index, node in enumerate(self.nodes[:-1]):
            if index not in read:
                raise UserError(
                    f"{layer_name(index, node.layer)} is read by no other layer; leave it out."
                )

    @property
    def input_shape(self):
        return self.shapes[0]

    @property
    def classes(self):
        return self.shapes[-1][0]

    def layer_name(self, index):
        """The layer's name, by default for example ``layer 3 (Conv2d)``."""
        return self.names.get(index) or layer_name(index, self.nodes[index].layer)

    @property
    def parameter_shapes(self):
        """Name to shape of every weight and bias, in layer order."""
        return parameter_shapes(self.layers)

    def _checked(self, weights):
        expected, checked = self.parameter_shapes, {}
        for name, value in weights.items():
            if name not in expected:
                raise UserError(f"Weight {name!r} belongs to no layer of this network.")
            try:
                array = np.asarray(value)
            except (TypeError, ValueError, RuntimeError):
                # Ragged, or a PyTorch tensor that is not plain numbers in the host's memory.
                raise UserError(
                    f"Weight {name!r} is a {type(value).__name__} that cannot be read as an array; "
                    "give a numpy array."
                ) from None
            if array.shape != expected[name]:
                raise UserError(
                    f"Weight {name!r} has shape {array.shape}; the network takes {expected[name]}."
                )
            if array.dtype.kind not in "fiu":
                raise UserError(f"Weight {name!r} holds something else than finite numbers.")
            with np.errstate(over="ignore"):
                checked[name] = np.array(array, np.float32)
            if not np.isfinite(checked[name]).all():
                raise UserError(
                    f"Weight {name!r} holds something else than finite numbers in fp32."
                )
        return checked


def _checked_names(names, layers):
    if not isinstance(names, dict):
        raise UserError(f"The names are a {type(names).__name__}; give a dict of number to name.")
    for index, name in names.items():
        if not isinstance(index, int) or not 0 <= index < layers:
            raise UserError(f"The name {name!r} is for layer {index!r}, which does not exist.")
        if not isinstance(name, str) or not name or list(names.values()).count(name) > 1:
            raise UserError(f"Layer {index} has the name {name!r}; give a text of its own.")
    return dict(names)


def as_nodes(layers):
    """Every entry of ``layers`` as a ``Node``."""
    return [
        layer if isinstance(layer, Node) else Node(layer, index - 1)
        for index, layer in enumerate(layers)
    ]


def _check_node(index, node):
    where = layer_name(index, node.layer)
    if not isinstance(node.layer, LAYERS):
        kinds = ", ".join(kind.__name__ for kind in LAYERS)
        raise UserError(f"{where} is not supported; use {kinds}.")
    expected = getattr(node.layer, "inputs", 1)
    if not isinstance(node.inputs, (tuple, list)) or len(node.inputs) != expected:
        raise UserError(
            f"{where} has inputs {node.inputs!r}; name {expected} of the layers before it with a "
            "Node."
        )
    for source in node.inputs:
        if not isinstance(source, (int, np.integer)) or not PICTURE <= source < index:
            raise UserError(
                f"{where} reads layer {source!r}; give the number of a layer before it, or "
                f"{PICTURE} for the network's input."
            )


def parameter_shapes(layers):
    """Name to shape of everything that belongs to ``layers``, in layer order."""
    shapes = {}
    for index, node in enumerate(as_nodes(layers)):
        layer = node.layer
        if isinstance(layer, (Conv2d, Linear)):
            shapes[f"{index}.weight"] = layer.weight_shape
            if layer.bias:
                shapes[f"{index}.bias"] = layer.weight_shape[:1]
        elif isinstance(layer, BatchNorm2d):
            for name in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{index}.{name}"] = (layer.num_features,)
    return shapes


def describe(layers):
    """One line that names every layer with its sizes; equal for equal networks."""
    return " > ".join(repr(layer) for layer in layers)


def initial_weights(layers, seed):
    """PyTorch's default initialisation as fp32 arrays by name.

    Convolutions and fully connected layers: uniform within 1/sqrt(fan in). Batch-norm: one for
    ``weight`` and ``running_var``, zero for the others.
    """
    generator = np.random.default_rng(seed)
    shapes, nodes = parameter_shapes(layers), as_nodes(layers)
    weights = {}
    for name, shape in shapes.items():
        index, kind = name.split(".")
        if isinstance(nodes[int(index)].layer, BatchNorm2d):
            value = 1 if kind in ("weight", "running_var") else 0
            weights[name] = np.full(shape, value, np.float32)
            continue
        bound = prod(shapes[f"{index}.weight"][1:]) ** -0.5
        weights[name] = generator.uniform(-bound, bound, shape).astype(np.float32)
    return weights
