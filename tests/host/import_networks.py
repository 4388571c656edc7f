"""The networks that must import, as PyTorch modules."""

import torch
import torch.nn.functional as F
from torch import nn


class LeNet5(nn.Module):
    """LeNet-5 on 32x32 grey pictures, with ReLU and max-pooling, and functions in its forward."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(x.size(0), -1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


def cifar_1x():
    """Six 3x3 convolutions of 16, 16, 32, 32, 64, 64 channels."""
    layers, channels = [], 3
    for width in (16, 32, 64):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 10))


class VGG16(nn.Module):
    """VGG-16 with batch-norm for 32x32 pictures, dropout before the scores."""

    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for width, number in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(number):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width)]
                layers.append(nn.ReLU(inplace=True))
                channels = width
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.4), nn.Linear(512, 10))

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += identity
        return self.relu(x)


class ResNet(nn.Module):
    """A stem, stages of basic blocks and global average pooling."""

    def __init__(self, stem, width, blocks):
        super().__init__()
        self.stem, channels, stages = stem, width, []
        for number, count in enumerate(blocks):
            outputs = width << number
            for block in range(count):
                stages.append(BasicBlock(channels, outputs, 2 if number and not block else 1))
                channels = outputs
        self.stages = nn.Sequential(*stages)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, 10)

    def forward(self, x):
        return self.fc(self.avgpool(self.stages(self.stem(x))).flatten(1))


def resnet20():
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return ResNet(stem, 16, (3, 3, 3))


def resnet18():
    stem = nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    )  # fmt: skip
    return ResNet(stem, 64, (2, 2, 2, 2))


def _block(inputs, outputs, kernel=1, stride=1, groups=1):
    padding = kernel // 2
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, and a projection without activation."""

    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        layers = [_block(inputs, hidden)] if expansion > 1 else []
        layers += [_block(hidden, hidden, 3, stride, hidden)]
        layers += [nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 (Sandler et al., 2018, table 2) for 32x32 pictures: the stem has stride 1."""

    STAGES = (
        (1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    )  # fmt: skip

    def __init__(self, width=0.35):
        super().__init__()

        def scaled(channels):
            """The nearest multiple of 8, which may be 10 % smaller at most."""
            found = max(8, int(channels * width + 4) // 8 * 8)
            return found if found >= 0.9 * channels * width else found + 8

        channels = scaled(32)
        layers = [_block(3, channels, 3)]
        for expansion, outputs, count, stride in self.STAGES:
            for number in range(count):
                step = 1 if number else stride
                layers.append(InvertedResidual(channels, scaled(outputs), step, expansion))
                channels = scaled(outputs)
        layers.append(_block(channels, 1280))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 10))

    def forward(self, x):
        return self.classifier(self.features(x).mean([2, 3]))


class EveryLayer(nn.Module):
    """The layers and forms that the others do not have."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, (5, 3), padding="same", groups=1)
        self.norm = nn.GroupNorm(4, 8)
        self.act = nn.LeakyReLU(0.1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.bn = nn.BatchNorm2d(8, eps=1e-3, momentum=0.01)
        self.pool = nn.MaxPool2d(2, 3)
        self.avg = nn.AvgPool2d(2)
        self.drop = nn.Dropout(0.3)
        self.fc1, self.fc2 = nn.Linear(8 * 9, 12, bias=False), nn.Linear(12, 4)

    def forward(self, x):
        x = self.act(self.norm(self.conv(x)))
        x = torch.add(F.relu6(self.bn(self.grouped(x))), x)
        x = self.drop(self.avg(self.pool(x)).flatten(1))
        return self.fc2(F.relu6(self.fc1(x)))


NETWORKS = {
    "LeNet-5": (LeNet5, (1, 32, 32)),
    "CIFAR 1X": (cifar_1x, (3, 32, 32)),
    "VGG-16": (VGG16, (3, 32, 32)),
    "ResNet-20": (resnet20, (3, 32, 32)),
    "ResNet-18": (resnet18, (3, 64, 64)),
    "MobileNetV2": (MobileNetV2, (3, 32, 32)),
    "every layer": (EveryLayer, (3, 20, 20)),
}
"""Name to what makes it, and the shape of a picture."""


def make(name):
    """``(module in training mode, shape)`` with values that no two layers share by chance."""
    torch.manual_seed(0)
    build, shape = NETWORKS[name]
    net = build()
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net, shape
