"""Bit-exact model of :class:`~eftrain_hdl.datapath.epilogue.Epilogue`."""

import numpy as np

from ..isa import Flag
from .diagonal import DiagonalCollector
from .epilogue_lanes import NEGATIVE_ZERO, ONE, EpilogueLanes
from .pooling import MaxPool, MaxUnpool, is_positive_model

__all__ = ["epilogue_model"]


def epilogue_model(
    acc,
    side,
    *,
    flags=(),
    is_wu=False,
    is_update=False,
    learning_rate=0,
    momentum=0,
    weight_decay=0,
    block_start=None,
    diagonal=None,
):
    """Bit-exact model of one descriptor.

    Parameters
    ----------
    acc, side : uint32 arrays of shape (vectors, T)
        Both streams in full; vectors of ``side`` in the order the hardware takes them.
    flags : iterable of Flag
    is_wu, is_update : bool
    learning_rate, momentum, weight_decay : int
        fp32 bits.
    block_start, diagonal : sequences of bool, optional
        One for each *acc* vector; none is set by default.

    Returns
    -------
    uint32 array of shape (vectors, T)
    """
    flags = set(flags)
    acc = np.asarray(acc, np.uint32)
    group = acc.shape[1]
    side = np.asarray(side, np.uint32).reshape(-1, group)
    if diagonal is not None:
        acc = DiagonalCollector.model(acc, diagonal)
    if Flag.UNPOOL in flags:
        acc = MaxUnpool.model(acc, side, masked=Flag.SIDE_MASK in flags)

    neutral = np.full_like(acc, NEGATIVE_ZERO)
    inner_factor, inner_side = ONE, neutral
    outer_factor, outer_side = ONE, neutral
    if is_update:
        turns = 2 if Flag.MOMENTUM in flags else 1
        weights = side.reshape(len(acc), turns, group)[:, 0]
        if turns == 2:
            velocities = side.reshape(len(acc), turns, group)[:, 1]
            acc, _ = EpilogueLanes.model(acc, weight_decay, weights, ONE, neutral)
            inner_factor, inner_side = momentum, velocities
        else:
            inner_factor, inner_side = weight_decay, weights
        outer_factor, outer_side = learning_rate ^ (1 << 31), weights
    elif Flag.BIAS in flags and not is_wu:
        # Take the bias vectors out of the side stream and spread each over its block.
        starts = np.flatnonzero(block_start)
        per_vector = 1 if flags & {Flag.SIDE_ADD, Flag.SIDE_MASK} else 0
        places = starts * per_vector + np.arange(len(starts))
        inner_side = side[places][np.cumsum(block_start) - 1]
        side = np.delete(side, places, axis=0)
    if Flag.SIDE_ADD in flags:
        outer_side = side

    inner, result = EpilogueLanes.model(acc, inner_factor, inner_side, outer_factor, outer_side)
    if Flag.SIDE_MASK in flags and Flag.UNPOOL not in flags:
        result = np.where(is_positive_model(side), result, np.uint32(0))
    if Flag.RELU in flags:
        result = np.where(result >> 31, np.uint32(0), result)
    if Flag.POOL in flags:
        result = MaxPool.model(result)
    if is_update and Flag.MOMENTUM in flags:
        result = np.stack([result, inner], axis=1).reshape(-1, group)
    return result
