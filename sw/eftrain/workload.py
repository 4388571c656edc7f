"""How much a run has to compute: dense multiply-adds, counted as the literature does."""

import numpy as np

from .graph import PICTURE, Conv2d, Linear

__all__ = ["Workload", "forward_macs", "training_macs"]


class Workload:
    """Base of tasks: what progress bars and reports count.

    A task has ``graph``, ``settings.epochs``, and ``counts``, the pictures to train and to test on.
    """

    @property
    def dense_macs(self):
        """Multiply-adds of the training; see ``training_macs``."""
        return training_macs(self.graph) * self.counts[0] * self.settings.epochs

    def work(self, section, images):
        """Multiply-adds of some images in one section; what a progress bar counts."""
        macs = training_macs if section == "train" else forward_macs
        return macs(self.graph) * images

    @property
    def total_work(self):
        """``work`` of the whole run: the training, and a test before and after it."""
        return self.dense_macs + 2 * self.work("test", self.counts[1])


def forward_macs(graph):
    """Dense multiply-adds of one image's forward pass: convolutions and fully connected layers."""
    return sum(_layer_macs(graph).values())


def training_macs(graph):
    """Dense multiply-adds of training on one image.

    Forward pass, input gradient of every layer behind one that is trained, and weight gradient of
    every layer whose weight is trained, each counted with its padding, as in EF-Train (Tang et al.,
    TODAES 2022).
    """
    behind = {PICTURE: False}
    for index, node in enumerate(graph.nodes):
        trained = bool(graph.trained(index))
        behind[index] = trained or any(behind[source] for source in node.inputs)
    total = 0
    for index, macs in _layer_macs(graph).items():
        (source,) = graph.nodes[index].inputs
        total += macs * (1 + behind[source] + ("weight" in graph.trained(index)))
    return total


def _layer_macs(graph):
    """Layer number to multiply-adds of one image."""
    macs = {}
    for index, (node, output) in enumerate(zip(graph.nodes, graph.shapes[1:], strict=True)):
        if isinstance(node.layer, Conv2d):
            macs[index] = int(np.prod(node.layer.weight_shape)) * output[1] * output[2]
        elif isinstance(node.layer, Linear):
            macs[index] = int(np.prod(node.layer.weight_shape))
    return macs
