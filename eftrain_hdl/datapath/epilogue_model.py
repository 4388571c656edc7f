"""Bit-exact model of :class:`~eftrain_hdl.datapath.epilogue.Epilogue`."""

from dataclasses import dataclass

import numpy as np

from ..arithmetic import FloatAdd, FloatMultiply
from ..isa import COEFFICIENT_VECTORS, Flag, Opcode
from .diagonal import DiagonalCollector
from .epilogue_lanes import NEGATIVE_ZERO, ONE, EpilogueLanes
from .pooling import MaxPool, is_negative_model, is_positive_model
from .statistics import StatisticsModel
from .unpooling import MaxUnpool

__all__ = ["DrainedBlock", "epilogue_model", "side_vectors"]


@dataclass(frozen=True)
class DrainedBlock:
    """Vectors of one out block of one tile; what else the drain says about them."""

    vectors: int
    block: int = 0
    group_first: bool = True
    group_last: bool = True


def side_vectors(opcode, flags):
    """``(parameter vectors of a block, side vectors of each vector)``."""
    flags = set(flags)
    if opcode == Opcode.CONV_WU:
        return 0, len(flags & {Flag.UPDATE, Flag.MOMENTUM})
    gradient = Flag.STATISTICS in flags and opcode != Opcode.CONV_FP
    if gradient:
        parameters = COEFFICIENT_VECTORS
    else:
        parameters = int(Flag.BIAS in flags or {Flag.STATISTICS, Flag.POOL} <= flags)
    return parameters, gradient + (Flag.SIDE_MASK in flags)


def epilogue_model(
    acc,
    side=(),
    auxiliary=(),
    *,
    opcode,
    flags=(),
    learning_rate=0,
    momentum=0,
    weight_decay=0,
    blocks=None,
    diagonal=None,
):
    """Bit-exact model of one descriptor.

    Parameters
    ----------
    acc, side, auxiliary : uint32 arrays of shape (vectors, T)
        The streams in full, in the order the hardware takes them.
    opcode : Opcode
    flags : iterable of Flag
    learning_rate, momentum, weight_decay : int
        fp32 bits.
    blocks : sequence of DrainedBlock, optional
        Which vectors of *acc* make a block; by default all make one.
    diagonal : sequence of bool, optional
        One for each *acc* vector; none is set by default.

    Returns
    -------
    o, second : uint32 arrays of shape (words,)
    """
    flags = set(flags)
    acc = np.asarray(acc, np.uint32)
    group = acc.shape[1]
    side = np.asarray(side, np.uint32).reshape(-1, group)
    auxiliary = np.asarray(auxiliary, np.uint32).reshape(-1, group)
    if opcode == Opcode.CONV_WU:
        if diagonal is not None:
            acc = DiagonalCollector.model(acc, diagonal)
        rates = learning_rate, momentum, weight_decay
        return _gradients(acc, side, flags, *rates).ravel(), np.zeros(0, np.uint32)

    gradient = Flag.STATISTICS in flags and opcode != Opcode.CONV_FP
    statistics = StatisticsModel(gradient=opcode != Opcode.CONV_FP)
    parameters, operands = side_vectors(opcode, flags)
    each = 4 if Flag.UNPOOL in flags else int(Flag.ADD in flags)
    o, second = [], []
    for block in blocks or [DrainedBlock(len(acc))]:
        n = block.vectors
        mine, acc = acc[:n], acc[n:]
        record, side = side[:parameters], side[parameters:]
        theirs = side[: n * operands].reshape(n, operands, group)
        side = side[n * operands :]
        more, auxiliary = auxiliary[: n * each], auxiliary[n * each :]

        neutral = np.full_like(mine, NEGATIVE_ZERO)
        bias = record[0] if Flag.BIAS in flags else neutral
        addend = more if Flag.ADD in flags else neutral
        _, z = EpilogueLanes.model(mine, ONE, bias, ONE, addend)
        if Flag.SIDE_MASK in flags:
            z = np.where(is_positive_model(theirs[:, 0]), z, np.uint32(0))
        if gradient and Flag.NORM_MASK in flags:
            normal = FloatAdd.model(record[2], FloatMultiply.model(record[0], theirs[:, -1]))
            z = np.where(is_positive_model(normal), z, np.uint32(0))
        sums = np.zeros(0, np.uint32)
        if flags & {Flag.STATISTICS, Flag.SUMS}:
            sums = statistics.block(
                z,
                *((theirs[:, -1], record[3]) if gradient else ()),
                block=block.block,
                group_first=block.group_first,
                group_last=block.group_last,
            )
        negative = Flag.STATISTICS in flags and len(record) and is_negative_model(record[0])
        if Flag.RELU in flags:
            z = np.where(z >> 31, np.uint32(0), z)
        if Flag.KEEP in flags:
            second.append(z.ravel())
        if Flag.POOL in flags:
            z = MaxPool.model(z, negative)
        if Flag.UNPOOL in flags:
            z = MaxUnpool.model(z, more, negative)
        o += [z.ravel(), sums]
    return np.concatenate(o), np.concatenate(second or [np.zeros(0, np.uint32)])


def _gradients(acc, side, flags, learning_rate, momentum, weight_decay):
    """Weight gradients or, with UPDATE, the new weights (and velocities by turns)."""
    neutral = np.full_like(acc, NEGATIVE_ZERO)
    if Flag.UPDATE not in flags:
        return EpilogueLanes.model(acc, ONE, neutral, ONE, neutral)[1]
    rate = learning_rate ^ (1 << 31)
    if Flag.MOMENTUM not in flags:
        return EpilogueLanes.model(acc, weight_decay, side, rate, side)[1]
    weights, velocities = side[0::2], side[1::2]
    acc, _ = EpilogueLanes.model(acc, weight_decay, weights, ONE, neutral)
    inner, result = EpilogueLanes.model(acc, momentum, velocities, rate, weights)
    return np.stack([result, inner], axis=1)
