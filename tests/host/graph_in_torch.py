"""A ``Graph`` as a PyTorch module, whose parameters have the names of the host package."""

import torch.nn.functional as F
from torch import nn

from eftrain.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GroupNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU6,
)


class GraphInTorch(nn.Module):
    """Runs the layers in order; ``state_dict`` names are those of ``Trainer.state_dict``."""

    def __init__(self, graph):
        super().__init__()
        self.nodes = graph.nodes
        for index, node in enumerate(graph.nodes):
            module = _module(node.layer)
            if module is not None:
                self.add_module(str(index), module)

    def forward(self, x):
        return self.results(x)[-1]

    def results(self, x):
        """The input and the result of every layer."""
        results = [x]
        for index, node in enumerate(self.nodes):
            inputs = [results[source + 1] for source in node.inputs]
            results.append(self._apply_layer(index, node.layer, *inputs))
        return results

    def _apply_layer(self, index, layer, x, other=None):
        if str(index) in self._modules:
            return self._modules[str(index)](x)
        if isinstance(layer, Add):
            return x + other
        if isinstance(layer, MaxPool2d):
            return F.max_pool2d(x, layer.kernel_size, layer.stride, layer.padding)
        if isinstance(layer, AvgPool2d):
            return F.avg_pool2d(x, layer.window(x.shape[1:]))
        if isinstance(layer, ReLU6):
            return F.relu6(x)
        if isinstance(layer, LeakyReLU):
            return F.leaky_relu(x, layer.negative_slope)
        if isinstance(layer, Dropout):
            return F.dropout(x, layer.p, self.training)
        return x.flatten(1) if isinstance(layer, Flatten) else F.relu(x)

    def values(self):
        """Name to array of parameters and running statistics."""
        return {
            name: value.numpy() for name, value in self.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }


class FrozenBatchNorm(nn.BatchNorm2d):
    """A batch-norm that is in evaluation mode whatever the network's mode is."""

    def train(self, mode=True):
        return super().train(False)


def _module(layer):
    if isinstance(layer, Conv2d):
        sizes = (layer.kernel_size, layer.stride, layer.padding)
        options = {"groups": layer.groups, "bias": layer.bias}
        return nn.Conv2d(layer.in_channels, layer.out_channels, *sizes, **options)
    if isinstance(layer, Linear):
        return nn.Linear(layer.in_features, layer.out_features, layer.bias)
    if isinstance(layer, GroupNorm):
        return nn.GroupNorm(layer.num_groups, layer.num_channels, layer.eps)
    if isinstance(layer, BatchNorm2d):
        kind = FrozenBatchNorm if layer.frozen else nn.BatchNorm2d
        module = kind(layer.num_features, layer.eps, layer.momentum)
        # Scales of both signs, so that pooling takes minima too.
        nn.init.normal_(module.weight)
        nn.init.normal_(module.bias, std=0.3)
        return module
    return None
