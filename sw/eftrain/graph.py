"""The network description: a chain of layers with shape inference.

Layers say nothing about the device; ``plan`` turns them into passes.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from eftrain_hdl.isa import MAX_KERNEL, MAX_STRIDE

from .errors import UserError

MAX_GRID = (1 << 16) - 1
"""Rows or columns a descriptor can say."""


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
class Flatten:
    """(C, H, W) becomes a vector of C*H*W."""

    kind = "Flatten"

    def output_shape(self, shape):
        return (prod(shape),)


LAYERS = (Conv2d, Linear, ReLU, MaxPool2d, Flatten)


def layer_name(index, layer):
    """How messages name a layer, for example ``layer 3 (Conv2d)``."""
    return f"layer {index} ({getattr(layer, 'kind', type(layer).__name__)})"


class Graph:
    """A chain of layers that ends in class scores.

    Parameters
    ----------
    input_shape : tuple of int
        One picture (C, H, W), or (N,) for vectors.
    layers : list
        Of ``Conv2d``, ``ReLU``, ``MaxPool2d``, ``Flatten`` and ``Linear``.
    weights : dict, optional
        Name ``"<layer index>.weight"`` or ``.bias`` to fp32 array in PyTorch's layout; layers
        without an entry are initialised by the ``Trainer``.

    Attributes
    ----------
    shapes : list of tuple
        ``shapes[i]`` is the input of layer ``i``; the last entry is the output ``(classes,)``.

    Raises
    ------
    UserError
        If a layer or shape is unsupported; names the layer by index and kind.
    """

    def __init__(self, input_shape, layers, weights=None):
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
        self.shapes = [shape]
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, LAYERS):
                kinds = ", ".join(kind.__name__ for kind in LAYERS)
                raise UserError(f"{layer_name(index, layer)} is not supported; use {kinds}.")
            shape = layer.output_shape(shape)
            if isinstance(shape, str):
                raise UserError(f"{layer_name(index, layer)} {shape}.")
            self.shapes.append(shape)
        if not any(isinstance(layer, (Conv2d, Linear)) for layer in self.layers):
            raise UserError("The network has no Conv2d or Linear layer, so nothing to train.")
        if len(shape) != 1:
            raise UserError(
                f"The network ends in pictures {shape}; end it with Flatten and Linear."
            )
        if not isinstance(weights, dict | None):
            raise UserError(
                f"The weights are a {type(weights).__name__}; give a dict of name to array."
            )
        self.weights = self._checked(weights or {})

    @property
    def input_shape(self):
        return self.shapes[0]

    @property
    def classes(self):
        return self.shapes[-1][0]

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


def parameter_shapes(layers):
    """Name to shape of every weight and bias of ``layers``, in layer order."""
    shapes = {}
    for index, layer in enumerate(layers):
        if isinstance(layer, (Conv2d, Linear)):
            shapes[f"{index}.weight"] = layer.weight_shape
            if layer.bias:
                shapes[f"{index}.bias"] = layer.weight_shape[:1]
    return shapes


def describe(layers):
    """One line that names every layer with its sizes; equal for equal networks."""
    return " > ".join(repr(layer) for layer in layers)


def initial_weights(layers, seed):
    """PyTorch's default initialisation: uniform within 1/sqrt(fan in), as fp32 arrays by name."""
    generator = np.random.default_rng(seed)
    shapes = parameter_shapes(layers)
    weights = {}
    for name, shape in shapes.items():
        fan_in = prod(shapes[name.replace("bias", "weight")][1:])
        bound = fan_in**-0.5
        weights[name] = generator.uniform(-bound, bound, shape).astype(np.float32)
    return weights
