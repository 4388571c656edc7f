"""Builds a ``Graph`` operation by operation; importers translate their operators into its calls.

Everything that decides which layers a network gets, what they are called and what is refused is
here, so that a network gives the same graph whatever format it arrives in.
"""

import numpy as np

from ..errors import UserError
from ..graph import (
    PICTURE,
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Graph,
    GroupNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    Node,
    ReLU,
    ReLU6,
    as_nodes,
)
from .values import Parameter, Place, Scores

__all__ = ["GraphBuilder"]


class GraphBuilder:
    """Collects layers. Values are numbers of layers, ``PICTURE`` for the network's input.

    Parameters
    ----------
    input_shape : tuple of int
        One picture (C, H, W), or (N,).
    """

    def __init__(self, input_shape):
        self.layers, self.weights, self.names, self.trainable = [], {}, {}, {}
        self._shapes = {PICTURE: tuple(input_shape)}
        self._places = {}
        self._owners = {}

    def shape(self, value):
        """Of one picture's value, without the batch."""
        return self._shapes[value]

    def where(self, place):
        """How messages name the operation that would come next."""
        name = place.name or f"layer {len(self.layers)}"
        return f"{name} ({place.kind}){place.line}"

    def error(self, place, problem):
        """The error to raise; ``problem`` follows the name of the layer."""
        return UserError(f"{self.where(place)} {problem}.")

    def require(self, place, option, value, supported):
        """Refuse a ``value`` that is not the ``supported`` one; pairs may be given as integers."""
        if _same(value) != supported:
            raise self.error(
                place,
                f"has {option}={_same(value)!r}; the supported form is {option}={supported!r}",
            )

    # -- layers with parameters --------------------------------------------------------------------

    def conv(self, place, x, weight, bias, stride, padding, dilation, groups):
        """``padding`` is a pair, or the text ``"same"``."""
        self._matrix(place, weight, 4)
        self.require(place, "dilation", dilation, 1)
        out_channels, in_channels, *kernel = weight.values.shape
        if padding == "same":
            padding = self._same_padding(place, kernel, stride)
        sizes = (tuple(kernel), tuple(stride), tuple(padding), bias is not None, groups)
        layer = self._make(place, Conv2d, in_channels * groups, out_channels, *sizes)
        return self._add(place, layer, (x,), weight=weight, bias=bias)

    def linear(self, place, x, weight, bias):
        """``weight`` is (outputs, inputs)."""
        self._matrix(place, weight, 2)
        out_features, in_features = weight.values.shape
        layer = self._make(place, Linear, in_features, out_features, bias is not None)
        return self._add(place, layer, (x,), weight=weight, bias=bias)

    def batch_norm(self, place, x, parameters, eps, momentum, frozen=False):
        """``parameters``: weight, bias, running mean and running variance."""
        weight, bias, mean, variance = parameters
        if mean is None or variance is None:
            raise self.error(place, "has track_running_stats=False; keep its running statistics")
        self._affine(place, weight, bias)
        layer = self._make(place, BatchNorm2d, weight.values.size, eps, momentum, frozen)
        statistics = {"running_mean": mean, "running_var": variance}
        return self._add(place, layer, (x,), weight=weight, bias=bias, **statistics)

    def group_norm(self, place, x, groups, weight, bias, eps):
        self._affine(place, weight, bias)
        layer = self._make(place, GroupNorm, groups, weight.values.size, eps)
        return self._add(place, layer, (x,), weight=weight, bias=bias)

    def add_constant(self, place, x, constant):
        """A bias of its own, behind a convolution or fully connected layer without one."""
        last = len(self.layers) - 1
        layer = self._layer(last) if x == last and last >= 0 else None
        values = constant.values
        fits = isinstance(layer, (Conv2d, Linear)) and not layer.bias
        if fits:
            channels = layer.weight_shape[0]
            trailing = (1,) * (len(self.shape(x)) - 1)
            fits = values.size == channels and values.shape in _leading((channels, *trailing))
        if not fits:
            raise self.error(
                place,
                "adds a constant that is no bias of a convolution or fully connected layer; leave "
                "it out",
            )
        inputs, owner = as_nodes(self.layers)[last].inputs, self._places[last]
        weight = Parameter(self.weights[f"{last}.weight"], None, self.trainable[f"{last}.weight"])
        self.layers.pop()
        sizes = {**vars(layer), "bias": True}
        bias = Parameter(values.reshape(-1), constant.key, constant.trainable)
        return self._add(owner, type(layer)(**sizes), inputs, weight=weight, bias=bias)

    # -- layers without ----------------------------------------------------------------------------

    def relu(self, place, x):
        return self._add(place, ReLU(), (x,))

    def clip(self, place, x, low, high):
        """Values below ``low`` and above ``high`` become these; None: no bound."""
        if low != 0 or high not in (6, None):
            raise self.error(
                place, f"keeps values from {low} to {high}; the supported form is ReLU6, 0 to 6"
            )
        return self._add(place, ReLU() if high is None else ReLU6(), (x,))

    def leaky_relu(self, place, x, slope):
        return self._add(place, self._make(place, LeakyReLU, slope), (x,))

    def dropout(self, place, x, p):
        return self._add(place, self._make(place, Dropout, p), (x,))

    def max_pool(self, place, x, kernel, stride, padding, dilation, ceil_mode):
        self.require(place, "dilation", dilation, 1)
        self.require(place, "ceil_mode", bool(ceil_mode), False)
        layer = self._make(place, MaxPool2d, tuple(kernel), tuple(stride), tuple(padding))
        return self._add(place, layer, (x,))

    def avg_pool(self, place, x, kernel, stride, padding, ceil_mode):
        self.require(place, "stride", stride, _same(kernel))
        self.require(place, "padding", padding, 0)
        self.require(place, "ceil_mode", bool(ceil_mode), False)
        return self._add(place, self._make(place, AvgPool2d, tuple(kernel)), (x,))

    def global_avg_pool(self, place, x):
        return self._add(place, AvgPool2d(), (x,))

    def mean(self, place, x, axes, keepdims):
        """Over axes of the batch [N, C, H, W]."""
        self._plain(place, x)
        rank = len(self.shape(x)) + 1
        if rank != 4 or sorted(axis % rank for axis in axes) != [2, 3]:
            raise self.error(
                place, f"takes the mean over axes {tuple(axes)}; the supported form is over 2 and 3"
            )
        x = self.global_avg_pool(place, x)
        return x if keepdims else self.flatten(Place("Flatten", None, place.line), x)

    def add(self, place, x, y):
        return self._add(place, Add(), (x, y))

    def flatten(self, place, x):
        return self._add(place, Flatten(), (x,))

    def reshape(self, place, x, shape, batch):
        """``shape`` of the whole batch of ``batch`` pictures; None: unknown."""
        self._plain(place, x)
        found = self.shape(x)
        if shape is not None and tuple(shape) == (batch, *found):
            return x
        if shape is None or tuple(shape) != (batch, int(np.prod(found))):
            text = "an unknown shape" if shape is None else f"the shape {tuple(shape)}"
            raise self.error(
                place,
                f"gives {text} from {(batch, *found)}; the supported form is flatten(x, 1), with a "
                "vector for each picture",
            )
        return self.flatten(place, x)

    def softmax(self, place, x, axis):
        """Only at the end of the network, where it is left out."""
        self._plain(place, x)
        if len(self.shape(x)) != 1 or axis not in (1, -1):
            raise self.error(place, f"has axis {axis}; the supported form is over class scores")
        return Scores(x)

    # -- the whole ---------------------------------------------------------------------------------

    def finish(self, output):
        """The ``Graph`` that ends in the value ``output``."""
        output = output.source if isinstance(output, Scores) else output
        if output != len(self.layers) - 1:
            raise UserError(
                "The model does not return the result of its last layer; give a model that returns "
                "its class scores alone."
            )
        return Graph(self._shapes[PICTURE], self.layers, self.weights, self.names, self.trainable)

    def _layer(self, index):
        return as_nodes(self.layers)[index].layer

    def _plain(self, place, *values):
        if any(isinstance(value, Scores) for value in values):
            raise self.error(
                place, "reads a softmax, which is supported only at the end; leave the softmax out"
            )

    def _make(self, place, kind, *values):
        try:
            return kind(*values)
        except UserError as error:
            raise UserError(f"{self.where(place)}: {error}") from None

    def _matrix(self, place, weight, rank):
        if weight is None or weight.values.ndim != rank:
            raise self.error(
                place, f"has a weight that is no stored array of rank {rank}; use a plain layer"
            )

    def _affine(self, place, weight, bias):
        if weight is None or bias is None:
            raise self.error(
                place,
                "has affine=False or lacks scale or offset; the supported form is affine=True",
            )

    def _same_padding(self, place, kernel, stride):
        if any(size % 2 == 0 for size in kernel) or _same(stride) != 1:
            raise self.error(
                place, "has padding='same' that is not equal on both sides; give it as a number"
            )
        return tuple(size // 2 for size in kernel)

    def _add(self, place, layer, inputs, **parameters):
        self._plain(place, *inputs)
        index = len(self.layers)
        for kind, parameter in parameters.items():
            if parameter is not None:
                self._store(place, index, kind, parameter)
        shape = layer.output_shape(*(self._shapes[value] for value in inputs))
        if isinstance(shape, str):
            raise self.error(place, shape)
        if place.name and place.name not in self.names.values():
            self.names[index] = place.name
        self.layers.append(layer if inputs == (index - 1,) else Node(layer, inputs))
        self._shapes[index] = shape
        self._places[index] = place
        return index

    def _store(self, place, index, kind, parameter):
        owner = self._owners.setdefault(parameter.key, index) if parameter.key else index
        if owner != index:
            name = self.names.get(owner) or f"layer {owner}"
            raise self.error(place, f"shares its {kind} with {name}; give it parameters of its own")
        with np.errstate(over="ignore"):
            values = np.array(parameter.values, np.float32)
        if not np.isfinite(values).all():
            raise self.error(place, f"has a {kind} with NaN or Inf; choose other values")
        self.weights[f"{index}.{kind}"] = values
        if not kind.startswith("running_"):
            self.trainable[f"{index}.{kind}"] = parameter.trainable


def _same(value):
    """A pair of two equal integers as one of them."""
    if isinstance(value, (tuple, list)):
        return value[0] if len(set(value)) == 1 else tuple(value)
    return value


def _leading(shape):
    """``shape`` and what broadcasts alike: with ones in front, as constants are stored."""
    return ((*shape,), (1, *shape))
