"""What of a graph the device does not run, or not train, yet."""

from ..errors import UserError
from ..graph import BatchNorm2d, Conv2d, Dropout, GroupNorm, LeakyReLU, MaxPool2d, ReLU6

__all__ = ["check_layers", "layer_problems", "untrainable"]

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
    for _, problem in layer_problems(graph):
        raise UserError(problem)


def layer_problems(graph):
    """``[(layer number, sentence)]`` of all layers that the device does not run."""
    found = []
    for index, node in enumerate(graph.nodes):
        if problem := _problem(node.layer):
            what, nearest = problem
            name = graph.layer_name(index)
            sentence = f"{name} {what}, which the device does not run yet; use {nearest}."
            found.append((index, sentence))
    return found


def _problem(layer):
    """``(what is unsupported, nearest form)`` or None."""
    if type(layer) in _NOT_YET:
        return f"is a {layer.kind}", _NOT_YET[type(layer)]
    if isinstance(layer, Conv2d) and layer.groups > 1:
        return f"has {layer.groups} groups", "groups=1"
    if isinstance(layer, BatchNorm2d) and layer.frozen:
        return "has frozen statistics", "frozen=False"
    if isinstance(layer, MaxPool2d):
        runs = {"kernel_size": 2, "stride": 2, "padding": 0}
        other = [name for name, size in runs.items() if getattr(layer, name) != (size, size)]
        if other:
            found = " and ".join(f"{name}={getattr(layer, name)}" for name in other)
            return f"has {found}", " and ".join(f"{name}={runs[name]}" for name in other)
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
    list of (int or None, str)
        Layer number and sentence; empty if the device can.
    """
    problems = []
    for stage in stages:
        if stage.norm and len(graph.trained(stage.norm.index)) == 1:
            (kind,) = graph.trained(stage.norm.index)
            other = {"weight": "bias", "bias": "weight"}[kind]
            sentence = (
                f"{stage.norm.name} has a {other} with requires_grad=False and a {kind} that is "
                "trained, but the device updates both of a batch-norm together; train both or "
                "neither."
            )
            problems.append((stage.norm.index, sentence))
        if stage.trains_bias and not stage.trains_weight and not config.batch_norm:
            sentence = (
                f"{stage.name} trains its bias without its weight, and this core was built without "
                "the batch-norm units that do so; use a core with batch-norm, or train both or "
                "neither."
            )
            problems.append((stage.index, sentence))
    if not any(stage.trains for stage in stages):
        sentence = (
            "All parameters of the network have requires_grad=False, so there is nothing to train; "
            "set requires_grad=True for some."
        )
        problems.append((None, sentence))
    return problems
