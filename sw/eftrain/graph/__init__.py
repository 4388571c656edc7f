"""The network description: layers, what each of them reads, and shape inference.

Layers say nothing about the device; ``plan`` turns them into passes, and refuses those that the
device does not run.
"""

from .layers import Add, Conv2d, Dropout, Flatten, LeakyReLU, Linear, ReLU, ReLU6
from .network import LAYERS, MAX_GRID, Graph, checked_input_shape
from .node import PICTURE, Node, as_nodes, layer_name
from .normalisation import BatchNorm2d, GroupNorm
from .parameters import describe, initial_weights, parameter_names, parameter_shapes
from .pooling import AvgPool2d, MaxPool2d
from .selection import parameter_layers, select, with_classes

__all__ = [
    "LAYERS",
    "MAX_GRID",
    "PICTURE",
    "Add",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "Graph",
    "GroupNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "Node",
    "ReLU",
    "ReLU6",
    "as_nodes",
    "checked_input_shape",
    "describe",
    "initial_weights",
    "layer_name",
    "parameter_layers",
    "parameter_names",
    "parameter_shapes",
    "select",
    "with_classes",
]
