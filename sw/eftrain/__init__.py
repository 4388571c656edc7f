"""Trains convolutional networks on the eftrain accelerator.

Everything here needs numpy only; PyTorch is imported where a PyTorch model is given, onnx where
an ONNX file is, the simulator where :class:`eftrain.devices.sim.SimDevice` is used.
"""

from .errors import UserError
from .graph import (
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
)
from .importers.onnx_model import from_onnx
from .importers.torch_module import from_torch
from .optim import SGD
from .trainer import Trainer

__all__ = [
    "SGD",
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
    "Trainer",
    "UserError",
    "from_onnx",
    "from_torch",
]
