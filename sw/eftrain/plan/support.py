"""What of a graph the device does not run, or not train, yet."""

from ..errors import UserError
from ..graph import BatchNorm2d, Conv2d, Dropout, GroupNorm, LeakyReLU, MaxPool2d, ReLU6

__all__ = ["check_layers", "untrainable"]

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


def untrainable(graph, stages, config):
    """Why a training step cannot change exactly the parameters that ``graph`` trains.

    The device updates both parameters of a batch-norm in one operation, and sums the gradient of a
    bias without that of its weights in its batch-norm units.

    Parameters
    ----------
    graph : Graph
    stages : list of Stage
    config : CoreConfig

    Returns
    -------
    list of str
        A sentence each; empty if the device can.
    """
    problems = []
    for stage in stages:
        if stage.norm and len(graph.trained(stage.norm.index)) == 1:
            (kind,) = graph.trained(stage.norm.index)
            other = {"weight": "bias", "bias": "weight"}[kind]
            problems.append(
                f"{stage.norm.name} has a {other} with requires_grad=False and a {kind} that is "
                "trained, but the device updates both of a batch-norm together; train both or "
                "neither."
            )
        if stage.trains_bias and not stage.trains_weight and not config.batch_norm:
            problems.append(
                f"{stage.name} trains its bias without its weight, and this core was built without "
                "the batch-norm units that do so; use a core with batch-norm, or train both or "
                "neither."
            )
    if not any(stage.trains for stage in stages):
        problems.append(
            "All parameters of the network have requires_grad=False, so there is nothing to train; "
            "set requires_grad=True for some."
        )
    return problems
