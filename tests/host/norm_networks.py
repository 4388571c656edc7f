"""PyTorch networks with batch-norm, residual sums and average pooling, small enough to train on
the interpreter."""

import torch
import torch.nn.functional as F
from torch import nn


class Residual(nn.Module):
    """Two convolutions and a shortcut, projected by a strided 1x1 convolution if ``stride`` > 1."""

    def __init__(self, inputs, outputs, stride, bias=False):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=bias)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=bias), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = F.relu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        return F.relu(y + self.shortcut(x))


def resnet(seed=0, bias=False):
    """A stem, an identity block, a projection block and global average pooling."""
    torch.manual_seed(seed)
    return _shuffled(nn.Sequential(
        nn.Conv2d(3, 6, 3, 1, 1, bias=bias), nn.BatchNorm2d(6), nn.ReLU(),
        Residual(6, 6, 1, bias), Residual(6, 9, 2, bias),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(9, 4),
    ))


def vgg(seed=0, bias=False):
    """Convolutions with batch-norm, two of them pooled, and average pooling before the scores."""
    torch.manual_seed(seed)
    return _shuffled(nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1, bias=bias), nn.BatchNorm2d(5), nn.ReLU(),
        nn.Conv2d(5, 9, 3, padding=1, bias=bias), nn.BatchNorm2d(9), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(9, 6, 3, padding=1, bias=bias), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6, 4),
    ))


def _shuffled(net):
    """Scales of both signs, so that pooling takes minima too, and offsets."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias, std=0.3)
    return net
