"""A whole network, checked."""

import numpy as np

from ..errors import UserError
from .layers import Add, Conv2d, Dropout, Flatten, LeakyReLU, Linear, ReLU, ReLU6
from .node import PICTURE, as_nodes, layer_name
from .normalisation import BatchNorm2d, GroupNorm
from .parameters import parameter_names, parameter_shapes
from .pooling import AvgPool2d, MaxPool2d
from .values import positive

MAX_GRID = (1 << 16) - 1
"""Rows or columns a descriptor can say."""

LAYERS = (
    Conv2d,
    Linear,
    BatchNorm2d,
    GroupNorm,
    ReLU,
    ReLU6,
    LeakyReLU,
    MaxPool2d,
    AvgPool2d,
    Add,
    Flatten,
    Dropout,
)


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
    trainable : dict, optional
        Name of a weight or bias to whether training changes it, as PyTorch's ``requires_grad``;
        those without an entry are trained.

    Attributes
    ----------
    nodes : list of Node
        One a layer.
    shapes : list of tuple
        ``shapes[i + 1]`` is what layer ``i`` gives; the first entry is the network's input, the
        last its output ``(classes,)``.
    trainable : dict
        Every parameter's name, in layer order, to True or False.
    normalisation : optional
        What the network was trained with, where that is known, in a form that
        ``data.find_normalisation`` takes; None at first. The device does not apply it.

    Raises
    ------
    UserError
        If a layer, shape, weight or name is unsupported; names the layer by index and kind.
    """

    def __init__(self, input_shape, layers, weights=None, names=None, trainable=None):
        shape = checked_input_shape(input_shape)
        if not isinstance(layers, (tuple, list)):
            raise UserError(f"The layers are a {type(layers).__name__}; give a list of layers.")
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
        self.trainable = _checked_trainable(trainable or {}, self.layers)
        self.normalisation = None

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

    @property
    def frozen(self):
        """Names of the parameters that training must leave alone."""
        return [name for name, trained in self.trainable.items() if not trained]

    def trained(self, index):
        """Which parameters of a layer training changes, as ``{"weight", "bias"}`` or less."""
        kinds = ("weight", "bias")
        return frozenset(kind for kind in kinds if self.trainable.get(f"{index}.{kind}"))

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


def checked_input_shape(input_shape):
    """The shape of one picture, or vector, as a tuple of int; ``UserError`` if it is none."""
    shape = tuple(input_shape) if isinstance(input_shape, (tuple, list)) else (input_shape,)
    if len(shape) not in (1, 3):
        raise UserError(f"input_shape is {shape}; give (channels, rows, columns).")
    shape = tuple(positive(size, "input_shape entry") for size in shape)
    if max(shape[1:], default=0) > MAX_GRID:
        raise UserError(
            f"input_shape is {shape}; a picture has at most {MAX_GRID} rows or columns."
        )
    return shape


def _checked_names(names, layers):
    if not isinstance(names, dict):
        raise UserError(f"The names are a {type(names).__name__}; give a dict of number to name.")
    for index, name in names.items():
        if not isinstance(index, int) or not 0 <= index < layers:
            raise UserError(f"The name {name!r} is for layer {index!r}, which does not exist.")
        if not isinstance(name, str) or not name or list(names.values()).count(name) > 1:
            raise UserError(f"Layer {index} has the name {name!r}; give a text of its own.")
    return dict(names)


def _checked_trainable(trainable, layers):
    if not isinstance(trainable, dict):
        raise UserError(
            f"trainable is a {type(trainable).__name__}; give a dict of parameter name to bool."
        )
    checked = dict.fromkeys(parameter_names(layers), True)
    for name, value in trainable.items():
        if name not in checked:
            raise UserError(f"trainable has {name!r}, which is no parameter of this network.")
        if not isinstance(value, (bool, np.bool_)):
            raise UserError(f"trainable has {value!r} for {name}; give True or False.")
        checked[name] = bool(value)
    return checked


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
