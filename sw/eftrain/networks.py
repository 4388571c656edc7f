"""The networks that come with the package, by name."""

from .graph import Conv2d, Flatten, Graph, Linear, MaxPool2d, ReLU


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
    return Graph((1, 8, 8), layers, weights)
