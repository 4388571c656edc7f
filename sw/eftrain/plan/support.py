"""Which layers of a graph the device does not run yet."""

from ..errors import UserError
from ..graph import BatchNorm2d, Conv2d, Dropout, GroupNorm, LeakyReLU, MaxPool2d, ReLU6

__all__ = ["check_layers", "check_trainable"]

_NOT_YET = {
    GroupNorm: "BatchNorm2d after a Conv2d",
    ReLU6: "ReLU",
    LeakyReLU: "ReLU",
    Dropout: "the network without it",
}
"""Layer to the nearest one that runs."""


def check_layers(graph):
    """Refuse layers that a graph may have and the device does not run.

    Raises
    ------
    UserError
        Names the first one, what is unsupported and the nearest form that is supported.
    """
    for index, node in enumerate(graph.nodes):
        if problem := _problem(node.layer):
            what, nearest = problem
            raise UserError(
                f"{graph.layer_name(index)} {what}, which the device does not run yet; "
                f"use {nearest}."
            )


def _problem(layer):
    """``(what is unsupported, nearest form)`` or None."""
    if type(layer) in _NOT_YET:
        return f"is a {layer.kind}", _NOT_YET[type(layer)]
    if isinstance(layer, Conv2d) and layer.groups > 1:
        return f"has {layer.groups} groups", "groups=1"
    if isinstance(layer, BatchNorm2d) and layer.frozen:
        return "has frozen statistics", "frozen=False"
    if isinstance(layer, MaxPool2d):
        for name, runs in (("kernel_size", (2, 2)), ("stride", (2, 2)), ("padding", (0, 0))):
            found = getattr(layer, name)
            if found != runs:
                return f"has {name}={found}", f"{name}={runs[0]}"
    return None


def check_trainable(graph):
    """Refuse parameters that training must leave alone: a training step moves all of them.

    Raises
    ------
    UserError
        Names the first one.
    """
    if graph.frozen:
        index, kind = graph.frozen[0].split(".")
        others = len(graph.frozen) - 1
        more = f" (and {others} more)" if others else ""
        raise UserError(
            f"{graph.layer_name(int(index))} has a {kind} with requires_grad=False{more}, but "
            "frozen parameters are not supported by the Trainer yet; set requires_grad=True."
        )
