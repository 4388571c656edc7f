"""The networks that come with the package, by name."""

from .errors import UserError
from .graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Graph,
    Linear,
    MaxPool2d,
    Node,
    ReLU,
)


def digits(weights=None):
    """The digit classifier: 8x8 grey pictures, two convolutions, ten classes.

    =============== ============ ===========
    layer           output       parameters
    =============== ============ ===========
    conv 3x3, ReLU  16 x 8 x 8          160
    conv 3x3, ReLU  32 x 8 x 8        4,640
    max-pool 2x2    32 x 4 x 4
    fully connected 10                5,130
    =============== ============ ===========
    """
    layers = [
        Conv2d(1, 16, 3, padding=1),
        ReLU(),
        Conv2d(16, 32, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(512, 10),
    ]
    names = {0: "conv1", 2: "conv2", 4: "pool", 6: "fc"}
    return Graph((1, 8, 8), layers, weights, names)


def cifar_1x(weights=None):
    """The "1X" network for CIFAR-10: six 3x3 convolutions of 16, 16, 32, 32, 64, 64 channels.

    A 2x2 max-pooling follows every second one. From Venkataramanaiah et al., *Automatic Compiler
    Based FPGA Accelerator for CNN Training*, FPL 2019; also a network of the EF-Train paper.
    """
    layers, names, channels = [], {}, 3
    for part, width in enumerate((16, 32, 64), 1):
        for number in (1, 2):
            names[len(layers)] = f"conv{part}_{number}"
            layers += [Conv2d(channels, width, 3, padding=1), ReLU()]
            channels = width
        names[len(layers)] = f"pool{part}"
        layers.append(MaxPool2d(2))
    layers += [Flatten(), Linear(64 * 4 * 4, 10)]
    names[len(layers) - 1] = "fc"
    return Graph((3, 32, 32), layers, weights, names)


def vgg16(weights=None):
    """VGG-16 (configuration D of Simonyan and Zisserman, 2015) with batch-norm, 224x224 pictures.

    Thirteen 3x3 convolutions, each with batch-norm and ReLU, and five 2x2 max-poolings; the mean of
    the last 7x7 map and one fully connected layer, 512 to 1000, stand in for the original three.
    """
    layers, names, channels = [], {}, 3
    for part, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for number in range(1, count + 1):
            names |= {len(layers): f"conv{part}_{number}", len(layers) + 1: f"bn{part}_{number}"}
            layers += [Conv2d(channels, width, 3, padding=1, bias=False), BatchNorm2d(width)]
            layers.append(ReLU())
            channels = width
        names[len(layers)] = f"pool{part}"
        layers.append(MaxPool2d(2))
    names |= {len(layers): "avgpool", len(layers) + 2: "fc"}
    layers += [AvgPool2d(7), Flatten(), Linear(512, 1000)]
    return Graph((3, 224, 224), layers, weights, names)


def alexnet(weights=None):
    """AlexNet (Krizhevsky et al., 2012) for 227x227 pictures, in one group, without local response
    normalisation and dropout.

    The original's 3x3 max-poolings with stride 2 are 2x2 here, which is what the device pools; the
    maps have the same sizes, 55, 27, 13 and 6, because an odd last row or column is left out.
    """
    layers = [
        Conv2d(3, 96, 11, stride=4),
        ReLU(),
        MaxPool2d(2),
        Conv2d(96, 256, 5, padding=2),
        ReLU(),
        MaxPool2d(2),
        Conv2d(256, 384, 3, padding=1),
        ReLU(),
        Conv2d(384, 384, 3, padding=1),
        ReLU(),
        Conv2d(384, 256, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(256 * 6 * 6, 4096),
        ReLU(),
        Linear(4096, 4096),
        ReLU(),
        Linear(4096, 1000),
    ]
    names = {0: "conv1", 2: "pool1", 3: "conv2", 5: "pool2", 6: "conv3", 8: "conv4", 10: "conv5"}
    names |= {12: "pool5", 14: "fc6", 16: "fc7", 18: "fc8"}
    return Graph((3, 227, 227), layers, weights, names)


def resnet20(weights=None):
    """ResNet-20 for CIFAR-10 (He et al., 2016, section 4.2): nine residual blocks of two 3x3
    convolutions with 16, 32 and 64 channels.

    Where the width doubles, the shortcut is a 1x1 convolution with stride 2 and batch-norm (their
    option B). Layers are named by stage and block, for example ``layer2.0.conv1``.
    """
    layers = [Conv2d(3, 16, 3, padding=1, bias=False), BatchNorm2d(16), ReLU()]
    names, channels = {0: "conv1", 1: "bn1"}, 16
    for stage, width in enumerate((16, 32, 64), 1):
        for number in range(3):
            stride = 1 if width == channels else 2
            block = len(layers) - 1  # The ReLU whose result the block reads.
            parts = {1: "conv1", 2: "bn1", 4: "conv2", 5: "bn2"}
            parts |= {6: "shortcut", 7: "shortcut_bn", 8: "add"} if stride > 1 else {6: "add"}
            for distance, part in parts.items():
                names[block + distance] = f"layer{stage}.{number}.{part}"
            layers += [
                Conv2d(channels, width, 3, stride, 1, bias=False),
                BatchNorm2d(width),
                ReLU(),
                Conv2d(width, width, 3, padding=1, bias=False),
                BatchNorm2d(width),
            ]
            main, shortcut = len(layers) - 1, block
            if stride > 1:
                layers += [
                    Node(Conv2d(channels, width, 1, stride, bias=False), block),
                    BatchNorm2d(width),
                ]
                shortcut = len(layers) - 1
            layers += [Node(Add(), (main, shortcut)), ReLU()]
            channels = width
    names |= {len(layers): "avgpool", len(layers) + 2: "fc"}
    layers += [AvgPool2d(8), Flatten(), Linear(64, 10)]
    return Graph((3, 32, 32), layers, weights, names)


NETWORKS = {
    "digits": digits,
    "cifar-1x": cifar_1x,
    "vgg16": vgg16,
    "alexnet": alexnet,
    "resnet20": resnet20,
}
"""Name to builder; every builder takes a dict of weights or None."""


def network(name, weights=None):
    """The network of this name.

    Raises
    ------
    UserError
        If there is none.
    """
    if name not in NETWORKS:
        raise UserError(f"There is no network {name!r}; choose one of {', '.join(NETWORKS)}.")
    return NETWORKS[name](weights)
