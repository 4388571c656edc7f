"""Packing of a network's named parameters, stage by stage."""

import numpy as np

from eftrain_hdl.isa import PARAMETER_VECTORS

from ..graph import Linear
from ..plan.layout import (
    BETA,
    BETA_MOMENTUM,
    GAMMA,
    GAMMA_MOMENTUM,
    RUNNING_MEAN,
    RUNNING_VAR,
    parameter_bytes,
)
from ..plan.stages import BIASES
from .fold import fold_weights, unfold_weights
from .tensors import pack_bias, pack_weights, unpack_bias, unpack_weights


def _picture(stage):
    return stage.x.shape if isinstance(stage.layer, Linear) else None


def _offset(stage, values):
    """A bias the device leaves out, because a batch-norm takes it off; it moves running means."""
    return values[f"{stage.index}.bias"] if stage.layer.bias else 0


def pack_parameters(stages, values):
    """``{name: bytes}`` of the weights, and biases that lie alone, in ``values`` (PyTorch's shapes
    and names)."""
    packed = {}
    for stage in stages:
        if not stage.trainable:
            continue
        group, weights = stage.y.group, values[stage.weight]
        if stage.fold:
            weights = fold_weights(weights, stage.fold)
        packed[stage.weight] = pack_weights(weights, group, _picture(stage)).tobytes()
        if stage.bias:
            packed[stage.bias] = pack_bias(values[stage.bias], group).tobytes()
    return packed


def unpack_parameters(stages, read):
    """Inverse of ``pack_parameters`` for what is trained; ``read(name)`` returns its bytes."""
    values = {}
    for stage in stages:
        values |= _unpack_stage(stage, read)
    return values


def _unpack_stage(stage, read):
    values = {}
    if stage.trains_weight:
        shape, fold, group = stage.layer.weight_shape, stage.fold, stage.y.group
        if fold:
            folded = (shape[0], stage.x.shape[0], *fold.kernel)
            values[stage.weight] = unfold_weights(
                unpack_weights(read(stage.weight), folded, group), fold
            )
        else:
            values[stage.weight] = unpack_weights(read(stage.weight), shape, group, _picture(stage))
    if stage.bias and stage.trains_bias:
        values[stage.bias] = unpack_bias(read(stage.bias), stage.layer.weight_shape[0])
    return values


def _pack_records(y, rows):
    """Parameter records of the blocks of ``y``; ``rows`` maps vectors to values by channel."""
    records = np.zeros((y.blocks, PARAMETER_VECTORS, y.group), "<f4")
    for row, vector in rows.items():
        records[:, row] = pack_bias(vector, y.group)
    return records.tobytes()


def _unpack_records(data, y):
    """``[vectors][channels]`` of the parameter records of ``y``."""
    records = np.frombuffer(data, "<f4").reshape(y.blocks, PARAMETER_VECTORS, y.group)
    rows = records.transpose(1, 0, 2).reshape(PARAMETER_VECTORS, -1)
    return rows[:, : y.shape[0]].copy()


def pack_biases(stages, values, momentum):
    """``{name: bytes}`` of the biases in parameter records; what is not used there is zero.

    Parameters
    ----------
    values, momentum : dict
        Name to array in PyTorch's shapes.
    """
    packed = b""
    for stage in _recorded(stages):
        name = f"{stage.index}.bias"
        packed += _pack_records(stage.y, {BETA: values[name], BETA_MOMENTUM: momentum[name]})
    return {BIASES: packed} if packed else {}


def unpack_biases(stages, read):
    """``(biases, momentum)`` by name; inverse of ``pack_biases``."""
    stages, values, momentum = _recorded(stages), {}, {}
    data = read(BIASES) if stages else b""
    for stage in stages:
        start, size = (parameter_bytes(n, stage.y.group) for n in (stage.record, stage.y.blocks))
        rows = _unpack_records(data[start : start + size], stage.y)
        values[f"{stage.index}.bias"] = rows[BETA]
        momentum[f"{stage.index}.bias"] = rows[BETA_MOMENTUM]
    return values, momentum


def _recorded(stages):
    """Stages whose biases lie in ``BIASES``, in the order of their records."""
    return [stage for stage in stages if stage.record is not None]


def pack_norms(stages, values, momentum):
    """``{name: bytes}`` of the batch-norm parameter records.

    Parameters
    ----------
    values, momentum : dict
        Name to array in PyTorch's shapes.
    """
    packed = {}
    for stage in stages:
        norm = stage.norm
        if not norm:
            continue
        rows = {
            GAMMA: values[f"{norm.index}.weight"],
            BETA: values[f"{norm.index}.bias"],
            RUNNING_MEAN: values[f"{norm.index}.running_mean"] - _offset(stage, values),
            RUNNING_VAR: values[f"{norm.index}.running_var"],
            GAMMA_MOMENTUM: momentum[f"{norm.index}.weight"],
            BETA_MOMENTUM: momentum[f"{norm.index}.bias"],
        }
        packed[norm.parameters] = _pack_records(stage.y, rows)
    return packed


def unpack_norms(stages, read, values):
    """``(parameters, momentum)`` of the batch-norms by name; inverse of ``pack_norms``.

    Of frozen ones the running statistics alone: the rest is as it was packed.

    Parameters
    ----------
    read : callable
        Returns a tensor's bytes.
    values : dict
        The parameters that were packed.
    """
    parameters, momentum = {}, {}
    for stage in stages:
        norm = stage.norm
        if not norm:
            continue
        rows = _unpack_records(read(norm.parameters), stage.y)
        parameters |= {
            f"{norm.index}.running_mean": rows[RUNNING_MEAN] + _offset(stage, values),
            f"{norm.index}.running_var": rows[RUNNING_VAR],
        }
        if not norm.trained:
            continue
        parameters |= {f"{norm.index}.weight": rows[GAMMA], f"{norm.index}.bias": rows[BETA]}
        momentum |= {
            f"{norm.index}.weight": rows[GAMMA_MOMENTUM],
            f"{norm.index}.bias": rows[BETA_MOMENTUM],
        }
    return parameters, momentum
