"""EF-Train's analytical model: what its authors' own schedule gives on the same layers.

Re-implemented from the equations of Tang et al., *EF-Train*, ACM TODAES 27(5), 2022, section 5, and
of the script published with it, with the constants stated there: 4 words a cycle a port, 400 cycles
to start a DMA transfer, double buffering, a tile of whole rows.

All times are cycles. ``load``, ``compute`` and ``store`` of one tile overlap with those of its
neighbours; the first load and the last store of an output tile do not.
"""

from dataclasses import dataclass
from math import ceil

__all__ = ["EFTRAIN_CLOCK_HZ", "EFTrainModel", "LayerShape"]

EFTRAIN_CLOCK_HZ = 100e6


@dataclass(frozen=True)
class LayerShape:
    """A convolution as EF-Train counts it: M output and N input channels, R x C output pixels."""

    out_channels: int
    in_channels: int
    rows: int
    cols: int
    kernel: int
    stride: int = 1

    @property
    def macs(self):
        """Multiply-accumulates of one image."""
        return self.out_channels * self.in_channels * self.rows * self.cols * self.kernel**2

    def backward(self):
        """The input gradient, as the convolution that EF-Train runs for it: on the input's grid,
        with the zeros that a stride inserts multiplied like any other value."""
        return LayerShape(
            self.in_channels,
            self.out_channels,
            self.rows * self.stride,
            self.cols * self.stride,
            self.kernel,
        )


@dataclass(frozen=True)
class EFTrainModel:
    """Cycles of one layer pass.

    Parameters
    ----------
    side : int
        Tm = Tn, the array's rows and lanes.
    port_words, start : int
        Words a cycle of one DMA port; cycles until a transfer moves its first word.
    tile_pixels, tile_input_pixels : int
        Capacity of the output and the input buffer, in pixels of one channel group.
    weight_tiles : int
        Capacity of the weight buffer, in Tm x Tn tiles of 3x3 kernels, as in the released source.
    """

    side: int = 16
    port_words: int = 4
    start: int = 400
    tile_pixels: int = 2016
    tile_input_pixels: int = 2486
    weight_tiles: int = 64

    def cycles(self, layer, kind, batch):
        """Cycles of ``kind`` ("FP", "BP" or "WU") for ``batch`` images with the best row tile.

        ``layer`` is the forward layer for all three.
        """
        shape = layer.backward() if kind == "BP" else layer
        resident = self._resident_channels(shape)
        candidates = [
            self._latency(shape, kind, batch, rows, resident) for rows in self._row_tiles(shape)
        ]
        if not candidates:
            raise ValueError(f"One row of {shape.cols} pixels exceeds EF-Train's tile buffers.")
        return min(candidates)

    def _row_tiles(self, shape):
        halo_cols = (shape.cols - 1) * shape.stride + shape.kernel
        for rows in range(1, shape.rows + 1):
            halo_rows = (rows - 1) * shape.stride + shape.kernel
            too_large = rows * shape.cols > self.tile_pixels
            if too_large or halo_rows * halo_cols > self.tile_input_pixels:
                return
            yield rows

    def _resident_channels(self, shape):
        """Output channels whose weights stay on chip while the batch passes by."""
        side = self.side
        small_kernels = max(1, 3 // shape.kernel) ** 2
        depth = ceil(ceil(shape.in_channels / (2 * side)) / small_kernels)
        limit = self.weight_tiles // depth * side
        choices = {shape.out_channels, *(side * k for k in range(1, shape.out_channels // side))}
        fitting = [channels for channels in choices if channels <= limit]
        return max(fitting) if fitting else min(choices)

    def _latency(self, shape, kind, batch, rows, resident):
        """Sum over the groups of resident output channels; the last one may be smaller."""
        groups = ceil(shape.out_channels / resident)
        rest = shape.out_channels % resident or resident
        full = self._group(shape, kind, batch, rows, resident) if groups > 1 else 0
        return (groups - 1) * full + self._group(shape, kind, batch, rows, rest)

    def _group(self, shape, kind, batch, rows, channels):
        if kind == "WU":
            return self._weight_gradient(shape, batch, rows, channels)
        return self._pixels(shape, kind, batch, rows, channels)

    def _words(self, count):
        return ceil(count / self.port_words)

    def _input_load(self, shape, rows):
        lanes = shape.in_channels if shape.in_channels <= self.port_words else self.side
        height = (rows - 1) * shape.stride + shape.kernel
        width = (shape.cols - 1) * shape.stride + shape.kernel
        return self.start + self._words(lanes) * height * width

    def _pixels(self, shape, kind, batch, rows, channels):
        """FP and BP: output tiles, each a reduction over the input channel groups."""
        side, taps, pixels = self.side, shape.kernel**2, rows * shape.cols
        load = self._input_load(shape, rows)
        compute, store = pixels * taps, self._words(side) * pixels
        if kind == "FP":
            weights = self._words(side * side) * taps
        else:
            weights = self._words(channels * side) * taps + self.start
        reduction = ceil(shape.in_channels / side)
        blocks, row_tiles = ceil(channels / side), ceil(shape.rows / rows)

        def tile(first, last):
            steady = max(load, compute, weights if first else 0)
            return (reduction - 1) * steady + load + (compute if last else max(compute, store))

        finish = store + self.start
        image = (blocks * row_tiles - 1) * tile(False, False) + tile(False, True) + finish
        # The first image also loads the weights: for each output block (FP), or all at once (BP).
        if kind == "FP":
            first = blocks * (row_tiles - 1) * tile(False, False) + (blocks - 1) * tile(True, False)
        else:
            first = (blocks * row_tiles - 1) * tile(False, False)
        return (batch - 1) * image + first + tile(True, True) + finish

    def _weight_gradient(self, shape, batch, rows, channels):
        """WU: tiles of T x T kernels, each a reduction over the pixels."""
        side, taps, pixels = self.side, shape.kernel**2, rows * shape.cols
        load_input = self._input_load(shape, rows)
        load_loss = self._words(side) * pixels + self.start
        load = max(load_input, load_loss)
        compute, store = pixels * taps, self._words(side * side) * taps
        blocks, reduction = ceil(channels / side), ceil(shape.in_channels / side)
        if rows < shape.rows:
            steady = (ceil(shape.rows / rows) - 1) * max(load, compute)
            kernel, stored = steady + load + compute, steady + load + max(compute, store)
            pairs = blocks * reduction
            return ((batch - 1) * pairs + 1) * kernel + (pairs - 1) * stored + store
        # The loss of the whole image fits: it stays while the input channel groups pass by.
        steady = max(load_input, compute)
        image = (reduction - 1) * steady + load + compute
        last = (reduction - 1) * (steady + store) + load + compute + store
        return blocks * ((batch - 1) * image + last)
