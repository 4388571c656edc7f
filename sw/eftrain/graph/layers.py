"""Convolution, fully connected layers, and those that work on each value alone."""

from dataclasses import dataclass, field
from math import prod

from eftrain_hdl.isa import MAX_KERNEL, MAX_STRIDE

from ..errors import UserError
from .values import LATER, Layer, number, other_channels, pair, positive, set_field


@dataclass(frozen=True, repr=False)
class Conv2d(Layer):
    """Convolution; kernel size, stride and padding are an int or a (rows, cols) pair.

    With ``groups`` the channels fall into so many parts that are convolved on their own;
    ``groups=in_channels`` is a depthwise convolution.
    """

    in_channels: int
    out_channels: int
    kernel_size: int | tuple
    stride: int | tuple = 1
    padding: int | tuple = 0
    bias: bool = True
    groups: int = field(default=1, metadata=LATER)

    kind = "Conv2d"

    def __post_init__(self):
        for name in ("in_channels", "out_channels", "groups"):
            set_field(self, name, positive(getattr(self, name), f"Conv2d {name}"))
        for name in ("kernel_size", "stride", "padding"):
            set_field(self, name, pair(getattr(self, name), f"Conv2d {name}"))
        set_field(self, "bias", bool(self.bias))
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise UserError(
                    f"Conv2d {name} is {getattr(self, name)}, which {self.groups} groups do not "
                    "divide; give a multiple."
                )

    @property
    def weight_shape(self):
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def output_shape(self, shape):
        """Shape (C, H, W) that follows ``shape``; a string says what is unsupported."""
        if problem := other_channels(shape, self.in_channels):
            return problem
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


@dataclass(frozen=True, repr=False)
class Linear(Layer):
    """Fully connected layer on a vector of ``in_features``."""

    in_features: int
    out_features: int
    bias: bool = True

    kind = "Linear"

    def __post_init__(self):
        for name in ("in_features", "out_features"):
            set_field(self, name, positive(getattr(self, name), f"Linear {name}"))
        set_field(self, "bias", bool(self.bias))

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


class _Elementwise(Layer):
    """A layer whose result has the shape of its input."""

    def output_shape(self, shape):
        return shape


@dataclass(frozen=True, repr=False)
class ReLU(_Elementwise):
    """Negative values become zero."""

    kind = "ReLU"


@dataclass(frozen=True, repr=False)
class ReLU6(_Elementwise):
    """Negative values become zero, values above 6 become 6."""

    kind = "ReLU6"


@dataclass(frozen=True, repr=False)
class LeakyReLU(_Elementwise):
    """Negative values are multiplied by ``negative_slope``."""

    negative_slope: float = 0.01

    kind = "LeakyReLU"

    def __post_init__(self):
        slope = number(self.negative_slope, "LeakyReLU negative_slope")
        set_field(self, "negative_slope", slope)


@dataclass(frozen=True, repr=False)
class Dropout(_Elementwise):
    """In training each value becomes zero with probability ``p``, others grow by 1/(1 - p)."""

    p: float = 0.5

    kind = "Dropout"

    def __post_init__(self):
        set_field(self, "p", number(self.p, "Dropout p", " from 0 to 1", lambda p: 0 <= p <= 1))


@dataclass(frozen=True, repr=False)
class Add(Layer):
    """The sum of two layers of one shape."""

    kind = "Add"
    inputs = 2

    def output_shape(self, shape, other):
        if shape != other:
            return f"adds layers of shapes {shape} and {other}; make them equal"
        return shape


@dataclass(frozen=True, repr=False)
class Flatten(Layer):
    """(C, H, W) becomes a vector of C*H*W."""

    kind = "Flatten"

    def output_shape(self, shape):
        return (prod(shape),)
