"""Writes files of pictures in the formats of their authors, byte by byte."""

import gzip
import struct

import numpy as np
from PIL import Image


def sentence(error):
    """The text of a caught ``UserError``, checked to be one sentence."""
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text, text
    return text


def pixels(count, channels, rows, cols, seed=0):
    """Random bytes ``[count, channels, rows, cols]``."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, channels, rows, cols), np.uint8)


def scaled(picture):
    """As PyTorch's ToTensor scales bytes: divided by 255 in fp32."""
    return picture.astype(np.float32) / np.float32(255)


def save(path, array, **options):
    """Write an array ``[rows, cols]`` or ``[rows, cols, channels]`` as a picture file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def class_folders(folder, names, each=2, size=(5, 4)):
    """Grey PNG files in one folder a class; gives their pixels by class name."""
    written = {}
    for number, name in enumerate(names):
        written[name] = pixels(each, 1, *size, seed=number)[:, 0]
        for index, picture in enumerate(written[name]):
            save(folder / name / f"{index}.png", picture)
    return written


def idx(array):
    """An IDX file of unsigned bytes: magic number, sizes, values, all of it big-endian."""
    header = b"\0\0\x08" + bytes([array.ndim])
    return header + b"".join(struct.pack(">I", size) for size in array.shape) + array.tobytes()


def write_mnist(folder, part, pictures, labels, end="", separator="-"):
    """The two files of one part (``train`` or ``t10k``)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in ((f"images{separator}idx3", pictures), (f"labels{separator}idx1", labels)):
        content = idx(np.asarray(array, np.uint8))
        content = gzip.compress(content) if end == ".gz" else content
        (folder / f"{part}-{name}-ubyte{end}").write_bytes(content)


def cifar_binary(pictures, *labels):
    """A batch of the binary version: label bytes, then 3,072 bytes, for each picture."""
    rows = zip(*labels, pictures, strict=True)
    return b"".join(bytes(row[:-1]) + row[-1].tobytes() for row in rows)


def python2_pickle(content):
    """A dict as Python 2's cPickle writes it with protocol 2, where text is bytes.

    Values may be lists of small integers, lists of bytes, bytes and uint8 arrays.
    """
    items = b"".join(_string(key) + _opcodes(value) for key, value in content.items())
    return b"\x80\x02}(" + items + b"u."


def _string(data):
    data = data.encode() if isinstance(data, str) else data
    return b"U" + bytes([len(data)]) + data if len(data) < 256 else (
        b"T" + struct.pack("<i", len(data)) + data
    )  # fmt: skip


def _opcodes(value):
    if isinstance(value, bytes):
        return _string(value)
    if isinstance(value, int):
        return b"K" + bytes([value])
    if isinstance(value, list):
        return b"](" + b"".join(map(_opcodes, value)) + b"e"
    shape = b"(" + b"".join(b"J" + struct.pack("<i", size) for size in value.shape) + b"t"
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNN" + b"J\xff\xff\xff\xff" * 2
    dtype += b"K\x00tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    return made + b"(K\x01" + shape + dtype + b"\x89" + _string(value.tobytes()) + b"tb"
