"""A network as JSON, without its weights: what a board is given instead of the user's Python file.

``{"input_shape": [1, 8, 8], "layers": [{"kind": "Conv2d", "in_channels": 1, ...}, ...], "names":
{"0": "conv1"}, "frozen": ["0.weight"]}``; ``frozen`` only if there are parameters that
training must leave alone. Layers that do not just read the one before have ``inputs``, its numbers.
"""

import dataclasses
import json

from .errors import UserError
from .graph import LAYERS, Graph, Node

__all__ = ["graph_from_json", "graph_to_json"]

_KINDS = {kind.kind: kind for kind in LAYERS}


def graph_to_json(graph):
    """The text."""
    layers = [_entry(layer) for layer in graph.layers]
    content = {"input_shape": graph.input_shape, "layers": layers, "names": graph.names}
    if graph.frozen:
        content["frozen"] = graph.frozen
    return json.dumps(content, indent=2) + "\n"


def graph_from_json(text, weights=None, where="The network file"):
    """The ``Graph``; ``weights`` as for that.

    Raises
    ------
    UserError
        If the text is no network; ``where`` begins the message.
    """
    try:
        content = json.loads(text)
        layers = [_layer(dict(entry)) for entry in content["layers"]]
        names = {int(index): name for index, name in content.get("names", {}).items()}
        trainable = dict.fromkeys(content.get("frozen", []), False)
        shape = content["input_shape"]
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{where} describes no network ({type(error).__name__}: {error}); write it again with "
            "`eftrain build`."
        ) from None
    return Graph(shape, layers, weights, names, trainable)


def _entry(layer):
    # A layer with and without Node are two descriptions in a weight file, so both are kept.
    inputs = {"inputs": layer.inputs} if isinstance(layer, Node) else {}
    layer = layer.layer if inputs else layer
    return {"kind": layer.kind, **inputs, **dataclasses.asdict(layer)}


def _layer(entry):
    kind = _KINDS[entry.pop("kind")]
    inputs = entry.pop("inputs", None)
    layer = kind(**entry)
    return layer if inputs is None else Node(layer, tuple(inputs))
