"""EF-Train's model reproduces the figures its authors' equations give (GFLOPS, 16x16, 100 MHz)."""

import pytest

from eftrain.bench.baseline import EFTRAIN_CLOCK_HZ, EFTrainModel, LayerShape

VGG16 = [
    (64, 3, 224), (64, 64, 224), (128, 64, 112), (128, 128, 112), (256, 128, 56), (256, 256, 56),
    (256, 256, 56), (512, 256, 28), (512, 512, 28), (512, 512, 28), (512, 512, 14),
]  # fmt: skip
LAST_REPEATS = 3
"""conv5_1 to conv5_3 are equal."""

CIFAR_1X = [(16, 3, 32), (16, 16, 32), (32, 16, 16), (32, 32, 16), (64, 32, 8), (64, 64, 8)]

PUBLISHED = {
    "FP": [8.2, 44.6, 45.1, 48.0, 48.0, 49.5, 49.5, 49.3, 50.1, 50.1, 49.7],
    "BP": [None, 44.6, 47.9, 48.0, 49.5, 49.5, 49.5, 50.1, 50.1, 50.1, 49.3],
    "WU": [9.6, 50.7, 49.8, 49.8, 48.1, 48.1, 48.1, 49.2, 50.1, 50.1, 49.0],
}
MODEL = EFTrainModel()


def shape(out_channels, in_channels, side):
    return LayerShape(out_channels, in_channels, side, side, 3)


def rate(macs, cycles):
    return 2 * macs / cycles * EFTRAIN_CLOCK_HZ / 1e9


def total_rate(layers, batch):
    macs = cycles = 0
    for kind in PUBLISHED:
        for index, layer in enumerate(layers):
            if kind == "BP" and index == 0:
                continue
            macs += batch * layer.macs
            cycles += MODEL.cycles(layer, kind, batch)
    return rate(macs, cycles)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_vgg16_layer_by_layer(kind):
    for sizes, expected in zip(VGG16, PUBLISHED[kind], strict=True):
        if expected is not None:
            layer = shape(*sizes)
            found = rate(16 * layer.macs, MODEL.cycles(layer, kind, 16))
            assert round(found, 1) == expected, (sizes, found)


def test_totals():
    vgg16 = [shape(*sizes) for sizes in VGG16 + VGG16[-1:] * (LAST_REPEATS - 1)]
    assert round(total_rate(vgg16, 16), 1) == 48.0
    assert round(total_rate([shape(*sizes) for sizes in CIFAR_1X], 128), 1) == 28.2


def test_a_row_that_fits_no_buffer_is_refused():
    with pytest.raises(ValueError, match="exceeds"):
        MODEL.cycles(LayerShape(16, 16, 4, 3000, 3), "FP", 1)
