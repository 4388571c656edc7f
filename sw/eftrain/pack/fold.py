"""Packing of a first layer's pictures and weights as ``plan.fold`` lays them out."""

import numpy as np


def fold_pictures(pictures, fold):
    """``[N, C, H, W]`` to the ``[N, C', H', W']`` that the folded convolution reads."""
    (tap_rows, tap_cols), (_, rows, cols) = fold.folded, fold.shape
    # An axis whose taps stay is neither padded nor strided here.
    (row_step, col_step), (row_pad, col_pad) = (
        tuple(
            value if fold.folds(axis) else neutral
            for axis, value in enumerate(getattr(fold.layer, name))
        )
        for name, neutral in (("stride", 1), ("padding", 0))
    )
    padded = np.pad(pictures, ((0, 0), (0, 0), (row_pad,) * 2, (col_pad,) * 2))
    return np.concatenate(
        [
            padded[:, :, kr:, kc:][:, :, ::row_step, ::col_step][:, :, :rows, :cols]
            for kr in range(tap_rows)
            for kc in range(tap_cols)
        ],
        axis=1,
    )


def fold_weights(weights, fold):
    """``[M, C, Kr, Kc]`` to ``[M, C', Kr', Kc']``."""
    outputs, channels = weights.shape[:2]
    (tap_rows, tap_cols), (rows, cols) = fold.folded, fold.kernel
    split = weights.reshape(outputs, channels, rows, tap_rows, cols, tap_cols)
    return split.transpose(0, 3, 5, 1, 2, 4).reshape(outputs, -1, rows, cols)


def unfold_weights(weights, fold):
    """Inverse of ``fold_weights``."""
    (tap_rows, tap_cols), (rows, cols) = fold.folded, fold.kernel
    split = weights.reshape(len(weights), tap_rows, tap_cols, -1, rows, cols)
    return split.transpose(0, 3, 4, 1, 5, 2).reshape(len(weights), -1, *fold.layer.kernel_size)
