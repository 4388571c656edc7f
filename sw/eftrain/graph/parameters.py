"""What belongs to layers: shapes of parameters and running statistics, and their first values."""

from math import prod

import numpy as np

from .layers import Conv2d, Linear
from .node import as_nodes
from .normalisation import BatchNorm2d, GroupNorm

STATISTICS = ("running_mean", "running_var")
"""Of a batch-norm; no parameters, because no gradient reaches them."""


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
            for name in ("weight", "bias", *STATISTICS):
                shapes[f"{index}.{name}"] = (layer.num_features,)
        elif isinstance(layer, GroupNorm):
            for name in ("weight", "bias"):
                shapes[f"{index}.{name}"] = (layer.num_channels,)
    return shapes


def parameter_names(layers):
    """Names of what can be trained: ``parameter_shapes`` without the running statistics."""
    return [name for name in parameter_shapes(layers) if not name.endswith(STATISTICS)]


def describe(layers):
    """One line that names every layer with its sizes; equal for equal networks."""
    return " > ".join(repr(layer) for layer in layers)


def initial_weights(layers, seed):
    """PyTorch's default initialisation as fp32 arrays by name.

    Convolutions and fully connected layers: uniform within 1/sqrt(fan in). Batch-norm and
    group-norm: one for ``weight`` and ``running_var``, zero for the others.
    """
    generator = np.random.default_rng(seed)
    shapes, nodes = parameter_shapes(layers), as_nodes(layers)
    weights = {}
    for name, shape in shapes.items():
        index, kind = name.split(".")
        if isinstance(nodes[int(index)].layer, (BatchNorm2d, GroupNorm)):
            value = 1 if kind in ("weight", "running_var") else 0
            weights[name] = np.full(shape, value, np.float32)
            continue
        bound = prod(shapes[f"{index}.weight"][1:]) ** -0.5
        weights[name] = generator.uniform(-bound, bound, shape).astype(np.float32)
    return weights
