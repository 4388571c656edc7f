"""Packing of a network's named parameters, stage by stage."""

from ..graph import Linear
from .tensors import pack_bias, pack_weights, unpack_bias, unpack_weights


def _picture(stage):
    return stage.x.shape if isinstance(stage.layer, Linear) else None


def pack_parameters(stages, values):
    """``{name: bytes}`` of every weight and bias in ``values`` (PyTorch's shapes and names)."""
    packed = {}
    for stage in stages:
        if not stage.trainable:
            continue
        group = stage.x.group
        packed[stage.weight] = pack_weights(values[stage.weight], group, _picture(stage)).tobytes()
        if stage.bias:
            packed[stage.bias] = pack_bias(values[stage.bias], group).tobytes()
    return packed


def unpack_parameters(stages, read):
    """Inverse of ``pack_parameters``; ``read(name)`` returns a tensor's bytes."""
    values = {}
    for stage in stages:
        if not stage.trainable:
            continue
        shape = stage.layer.weight_shape
        values[stage.weight] = unpack_weights(
            read(stage.weight), shape, stage.x.group, _picture(stage)
        )
        if stage.bias:
            values[stage.bias] = unpack_bias(read(stage.bias), shape[0])
    return values
