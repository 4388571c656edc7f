"""Import of PyTorch modules; the only module of the package that needs PyTorch."""

import numpy as np

from .errors import UserError
from .graph import (
    PICTURE,
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Graph,
    Linear,
    MaxPool2d,
    Node,
    ReLU,
    layer_name,
)

NOT_LEARNT = "num_batches_tracked"
"""A counter that the layers here have no use for."""


def is_torch_module(model):
    """True for a ``torch.nn.Module``; does not import PyTorch."""
    return any(base.__module__.startswith("torch.nn") for base in type(model).__mro__)


def from_torch(module, input_shape):
    """Turn a PyTorch module into a ``Graph``, copying its weights.

    Parameters
    ----------
    module : torch.nn.Module
        A ``torch.nn.Sequential``, or a module whose ``forward`` uses the supported layers and
        additions, as residual networks do.
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
    """``(layers, weights)`` of a PyTorch module, before its input shape is known.

    Layers are numbered in the order in which ``forward`` calls them, which in a plain Sequential is
    PyTorch's own numbering.
    """
    import torch.nn as nn

    sequential = isinstance(module, nn.Sequential)
    children = list(module) if sequential else list(module.children())
    if not sequential and not children:
        raise UserError(
            f"The model is a {type(module).__name__}; give an eftrain.Graph or torch.nn.Sequential."
        )
    if sequential and not any(list(child.children()) for child in children):
        calls = [(child, None) for child in children]
    else:
        calls = _trace(module)
    layers, weights, seen = [], {}, {}
    for index, (child, inputs) in enumerate(calls):
        layer = _convert(index, child, nn) if isinstance(child, nn.Module) else child
        layers.append(layer if inputs in (None, (index - 1,)) else Node(layer, inputs))
        if isinstance(child, nn.Module):
            weights |= _weights(index, child, seen)
    return layers, weights


def _weights(index, child, seen):
    """Copies of the child's parameters and running statistics by name."""
    weights = {}
    for name, value in [*child.named_parameters(), *child.named_buffers()]:
        if name == NOT_LEARNT:
            continue
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
    return weights


def _trace(module):
    """``[(module or layer, numbers of its inputs)]`` in the order of the module's ``forward``."""
    import operator

    import torch
    import torch.nn.functional as F
    from torch import fx

    try:
        steps = fx.symbolic_trace(module).graph.nodes
    except Exception as error:  # Whatever the user's forward does with a stand-in for its input.
        raise UserError(
            f"The forward of {type(module).__name__} cannot be followed ({error}); use layers and "
            "additions without conditions on the data."
        ) from error
    adds = (operator.add, operator.iadd, torch.add, "add", "add_")
    relus = (F.relu, torch.relu, torch.relu_, "relu", "relu_")
    numbers, calls = {}, []
    for step in steps:
        if step.op == "output":
            if len(step.args) != 1 or numbers.get(step.args[0]) != len(calls) - 1:
                raise UserError(
                    f"{type(module).__name__} does not return the result of its last layer; give a "
                    "model that returns its class scores."
                )
            continue
        if step.op == "placeholder":
            if PICTURE in numbers.values():
                raise UserError(
                    f"{type(module).__name__} takes several inputs; give a model of one."
                )
            numbers[step] = PICTURE
            continue
        inputs, call = step.args, None
        plain = all(isinstance(value, fx.Node) for value in inputs) and not step.kwargs
        if step.op == "call_module" and plain:
            call = module.get_submodule(step.target)
        elif step.target in adds and plain and len(inputs) == 2:
            call = Add()
        elif step.target in relus and plain | (set(step.kwargs) == {"inplace"}):
            call = ReLU()
        elif step.target in (torch.flatten, "flatten") and inputs[1:] + (
            *step.kwargs.values(),
        ) == (1,):
            inputs, call = inputs[:1], Flatten()
        if call is None:
            raise UserError(
                f"Step {step.name} of {type(module).__name__} is not supported; use modules, "
                "additions, relu and flatten(x, 1)."
            )
        numbers[step] = len(calls)
        calls.append((call, tuple(numbers[value] for value in inputs)))
    return calls


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
    if type(child) is nn.AvgPool2d:
        size = child.kernel_size
        require("stride", size, size if isinstance(size, tuple) else (size, size))
        require("padding", 0, (0, 0))
        require("ceil_mode", False)
        require("divisor_override", None)
        return AvgPool2d(size)
    if type(child) is nn.AdaptiveAvgPool2d:
        require("output_size", 1, (1, 1))
        return AvgPool2d()
    if type(child) is nn.BatchNorm2d:
        require("affine", True)
        require("track_running_stats", True)
        if child.momentum is None:
            raise UserError(f"{where} has momentum=None; give a number, for example 0.1.")
        return BatchNorm2d(child.num_features, child.eps, child.momentum)
    if type(child) is nn.Flatten:
        require("start_dim", 1)
        require("end_dim", -1)
        return Flatten()
    raise UserError(
        f"{where} is not supported; use Conv2d, BatchNorm2d, ReLU, MaxPool2d, AvgPool2d, Flatten "
        "or Linear."
    )
