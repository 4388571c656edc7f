"""What fine-tuning changes of a network: which parameters are trained, and how many classes."""

import dataclasses
from difflib import get_close_matches
from fnmatch import fnmatchcase

from ..errors import UserError
from .layers import Linear
from .network import Graph
from .node import Node
from .parameters import initial_weights
from .values import positive

__all__ = ["parameter_layers", "select", "with_classes"]

_NAMED = 5
"""Names an error shows at most."""


def select(graph, text):
    """The network with other parameters trained.

    Parameters
    ----------
    graph : Graph
        Its own marks are dropped.
    text : str
        ``all``; ``bias``, the bias of every layer; ``last:N``, the last N layers that have
        parameters; or shell patterns of layer names, separated by commas, such as ``layer3.*,fc``.

    Returns
    -------
    Graph
        With the weights and names of ``graph``.

    Raises
    ------
    UserError
        If ``text`` selects no parameters, or a part of it does not.
    """
    layers = parameter_layers(graph)
    text = text.strip()
    if text == "bias":
        trained = {name for name in graph.trainable if name.endswith(".bias")}
        if not trained:
            raise UserError("The network has no biases; train layers, for example last:1.")
    else:
        if text == "all":
            chosen = set(layers)
        elif text.startswith("last:"):
            chosen = _last(layers, text)
        else:
            chosen = _matching(graph, layers, text)
        trained = {name for name in graph.trainable if int(name.split(".")[0]) in chosen}
    trainable = {name: name in trained for name in graph.trainable}
    return Graph(graph.input_shape, graph.layers, graph.weights, graph.names, trainable)


def with_classes(graph, classes, seed=0):
    """The network with a new last layer for another number of classes.

    Parameters
    ----------
    graph : Graph
        Ends in a Linear layer.
    classes : int
    seed : int
        For the new layer's weights, which are PyTorch's default initialisation. They are trained.

    Returns
    -------
    Graph
        Everything else is as in ``graph``.

    Raises
    ------
    UserError
        If the last layer is not a Linear layer, or ``classes`` is not 1 or more.
    """
    last = len(graph.nodes) - 1
    layer = graph.nodes[last].layer
    if not isinstance(layer, Linear):
        raise UserError(
            f"The network ends in {graph.layer_name(last)}, a {layer.kind}, so it has no class "
            "scores to replace; end it with a Linear layer."
        )
    head = dataclasses.replace(layer, out_features=positive(classes, "classes"))
    entry = graph.layers[last]
    layers = [*graph.layers[:last], Node(head, entry.inputs) if isinstance(entry, Node) else head]
    new = initial_weights([head], seed)
    weights = graph.weights | {f"{last}.{name.split('.')[1]}": new[name] for name in new}
    trainable = graph.trainable | {name: True for name in weights if name.startswith(f"{last}.")}
    return Graph(graph.input_shape, layers, weights, graph.names, trainable)


def parameter_layers(graph):
    """Numbers of the layers that have parameters, in order."""
    return list(dict.fromkeys(int(name.split(".")[0]) for name in graph.trainable))


def _last(layers, text):
    number = text.removeprefix("last:")
    if not (number.isascii() and number.isdigit() and int(number)):
        raise UserError(f"{text!r} has no number of layers; give for example last:1.")
    if int(number) > len(layers):
        raise UserError(
            f"{text!r} is more than the {len(layers)} layers of the network that have parameters; "
            "give all."
        )
    return set(layers[-int(number) :])


def _matching(graph, layers, text):
    names = {index: graph.layer_name(index) for index in range(len(graph.nodes))}
    chosen = set()
    for pattern in text.split(","):
        pattern = pattern.strip()
        matching = {index for index, name in names.items() if fnmatchcase(name, pattern)}
        if not matching & set(layers):
            raise UserError(_no_match(pattern, bool(matching), [names[i] for i in layers]))
        chosen |= matching
    return chosen


def _no_match(pattern, empty, names):
    """Why ``pattern`` selects nothing; ``empty``: it only matches layers without parameters."""
    near = get_close_matches(pattern, names, _NAMED, 0.4)
    more = ", …" if not near and len(names) > _NAMED else ""
    shown = ", ".join(near or names[:_NAMED]) + more
    what = "matches only layers without parameters" if empty else "matches no layer"
    return f"{pattern!r} {what}; choose from {shown}, or give all, bias or last:N."
