"""Import of ``torch.nn.Sequential``; the only module of the package that needs PyTorch."""

import numpy as np

from .errors import UserError
from .graph import Conv2d, Flatten, Graph, Linear, MaxPool2d, ReLU, layer_name


def is_torch_module(model):
    """True for a ``torch.nn.Module``; does not import PyTorch."""
    return any(base.__module__.startswith("torch.nn") for base in type(model).__mro__)


def from_torch(module, input_shape):
    """Turn a ``torch.nn.Sequential`` into a ``Graph``, copying its weights.

    Parameters
    ----------
    module : torch.nn.Sequential
    input_shape : tuple of int
        One picture (C, H, W).

    Raises
    ------
    UserError
        If a layer or one of its options is unsupported; names the layer by index and kind.
    """
    layers, weights = import_layers(module)
    return Graph(input_shape, layers, weights)


def import_layers(module):
    """``(layers, weights)`` of a ``torch.nn.Sequential``, before its input shape is known."""
    import torch.nn as nn

    if not isinstance(module, nn.Sequential):
        raise UserError(
            f"The model is a {type(module).__name__}; give an eftrain.Graph or torch.nn.Sequential."
        )
    layers, weights, seen = [], {}, {}
    for index, child in enumerate(module):
        layers.append(_convert(index, child, nn))
        for name, value in child.named_parameters():
            if seen.setdefault(id(value), index) != index:
                raise UserError(
                    f"{layer_name(index, child)} shares its {name} with layer {seen[id(value)]}; "
                    "give it parameters of its own."
                )
            if value.is_meta:
                raise UserError(
                    f"{layer_name(index, child)} has a {name} on the meta device, without numbers; "
                    "make the model on the CPU."
                )
            array = value.detach().float().cpu().numpy()
            if not np.isfinite(array).all():
                raise UserError(
                    f"{layer_name(index, child)} has a {name} with NaN or Inf; choose other values."
                )
            weights[f"{index}.{name}"] = array.copy()
    return layers, weights


def _convert(index, child, nn):
    where = layer_name(index, child)

    def require(option, *supported):
        value = getattr(child, option)
        if value not in supported:
            raise UserError(
                f"{where} has {option}={value!r}; the device takes {option}={supported[0]!r}."
            )

    # Exact types, because a subclass may compute something else.
    if type(child) is nn.Conv2d:
        require("dilation", (1, 1))
        require("groups", 1)
        require("padding_mode", "zeros")
        if child.padding == "same":
            raise UserError(f"{where} has padding='same'; give the padding as a number.")
        padding = 0 if child.padding == "valid" else child.padding
        return Conv2d(
            child.in_channels,
            child.out_channels,
            child.kernel_size,
            child.stride,
            padding,
            child.bias is not None,
        )
    if type(child) is nn.Linear:
        return Linear(child.in_features, child.out_features, child.bias is not None)
    if type(child) is nn.ReLU:
        return ReLU()
    if type(child) is nn.MaxPool2d:
        require("stride", 2, (2, 2))
        require("padding", 0, (0, 0))
        require("dilation", 1, (1, 1))
        require("ceil_mode", False)
        require("return_indices", False)
        return MaxPool2d(child.kernel_size)
    if type(child) is nn.Flatten:
        require("start_dim", 1)
        require("end_dim", -1)
        return Flatten()
    raise UserError(f"{where} is not supported; use Conv2d, ReLU, MaxPool2d, Flatten or Linear.")
