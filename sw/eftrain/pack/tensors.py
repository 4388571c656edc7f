"""Packing of tensors into the DRAM layout and back; see architecture.md, *Data layout*.

All results are C-contiguous little-endian arrays whose bytes are written as they are. Channels that
fill up a group are zero.
"""

import numpy as np

from ..plan.layout import RECORD_BYTES, WORD, ceil_div, label_bytes


def _grouped(array, axis, group):
    """Split ``axis`` into (blocks, group), zero-filled."""
    size = array.shape[axis]
    count = ceil_div(size, group)
    padding = [(0, 0)] * array.ndim
    padding[axis] = (0, count * group - size)
    shape = (*array.shape[:axis], count, group, *array.shape[axis + 1 :])
    return np.pad(np.asarray(array, "<f4"), padding).reshape(shape)


def pack_map(array, group):
    """``[B, C, H, W]`` to ``[B][C/T][H][W][T]``."""
    return np.ascontiguousarray(_grouped(array, 1, group).transpose(0, 1, 3, 4, 2))


def unpack_map(data, images, shape, group):
    """Bytes of ``[B][C/T][H][W][T]`` to ``[B, C, H, W]``; ``shape`` is (C, H, W)."""
    channels, rows, cols = shape
    count = ceil_div(channels, group)
    array = np.frombuffer(data, "<f4").reshape(images, count, rows, cols, group)
    array = array.transpose(0, 1, 4, 2, 3).reshape(images, count * group, rows, cols)
    return np.ascontiguousarray(array[:, :channels])


def pack_weights(array, group, picture=None):
    """Weights to ``[M/T][N/T][Kr*Kc][T of m][T of n]``.

    Parameters
    ----------
    array : ndarray
        ``[M, N, Kr, Kc]``, or ``[M, C*H*W]`` of a fully connected layer.
    picture : tuple, optional
        (C, H, W) of the map a fully connected layer reads; its columns are permuted to the order of
        that map in memory.
    """
    if picture:
        array = array.reshape(-1, *picture)
    array = _grouped(_grouped(array, 1, group), 0, group)
    # A fully connected layer's blocks (n, row, column) lie exactly like a kernel's (n, tap).
    return np.ascontiguousarray(array.transpose(0, 2, 4, 5, 1, 3))


def unpack_weights(data, shape, group, picture=None):
    """Inverse of ``pack_weights``; ``shape`` is the unpacked shape."""
    outputs, inputs = shape[0], picture[0] if picture else shape[1]
    rows, cols = picture[1:] if picture else shape[2:]
    m, n = ceil_div(outputs, group), ceil_div(inputs, group)
    array = np.frombuffer(data, "<f4").reshape(m, n, rows, cols, group, group)
    array = array.transpose(0, 4, 1, 5, 2, 3).reshape(m * group, n * group, rows, cols)
    return np.ascontiguousarray(array[:outputs, :inputs]).reshape(shape)


def pack_bias(array, group):
    """``[M]`` to ``[M/T][T]``."""
    return _grouped(array, 0, group)


def unpack_bias(data, size):
    return np.frombuffer(data, "<f4")[:size].copy()


def pack_labels(labels, batch):
    """Labels as uint32, each batch's starting at a multiple of 16 bytes; returns ``bytes``."""
    stride = label_bytes(batch) // WORD
    count = ceil_div(len(labels), batch)
    padded = np.zeros((count, stride), "<u4")
    for index in range(count):
        part = labels[index * batch : (index + 1) * batch]
        padded[index, : len(part)] = part
    return padded.tobytes()


def unpack_records(data):
    """Result records as a structured array: loss, correct, images, number."""
    kind = np.dtype([("loss", "<f4"), ("correct", "<u4"), ("images", "<u4"), ("number", "<u4")])
    assert kind.itemsize == RECORD_BYTES
    return np.frombuffer(data, kind)
