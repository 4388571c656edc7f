"""A layer and what it reads."""

from dataclasses import dataclass

import numpy as np

PICTURE = -1
"""Number of the network's input where layers are numbered from 0."""


@dataclass(frozen=True)
class Node:
    """A layer together with the numbers of the layers it reads.

    Parameters
    ----------
    layer : layer
    inputs : int or tuple of int
        Each below the layer's own number; ``PICTURE`` (-1) is the network's input.
    """

    layer: object
    inputs: int | tuple

    def __post_init__(self):
        if isinstance(self.inputs, (int, np.integer)):
            object.__setattr__(self, "inputs", (int(self.inputs),))


def layer_name(index, layer):
    """How messages name a layer without a name, for example ``layer 3 (Conv2d)``."""
    return f"layer {index} ({getattr(layer, 'kind', type(layer).__name__)})"


def as_nodes(layers):
    """Every entry of ``layers`` as a ``Node``."""
    return [
        layer if isinstance(layer, Node) else Node(layer, index - 1)
        for index, layer in enumerate(layers)
    ]
