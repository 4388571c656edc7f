"""MNIST's files, in the IDX format of its authors, as they are or compressed with gzip.

Fashion-MNIST and KMNIST have files of the same names. An IDX file begins with two zero bytes, the
type of its values (8: unsigned bytes) and its number of dimensions, then the dimensions as 32-bit
integers and the values, all of it big-endian. See LeCun et al., "The MNIST database".
"""

import gzip
import zlib
from math import prod

import numpy as np

from ..errors import UserError
from .arrays import to_labels
from .dataset import Dataset, Split, names_of_numbers
from .pictures import from_bytes

__all__ = ["has_idx", "open_idx"]

TRAIN, TEST = "train", "t10k"
PICTURES, LABELS = ("images", 3), ("labels", 1)
"""Part of the files' names, and the number of dimensions."""

_BYTES = 8
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20


def _names(part, kind):
    what, dims = kind
    return [
        f"{part}-{what}{separator}idx{dims}-ubyte{end}" for separator in "-." for end in ("", ".gz")
    ]


def has_idx(names):
    """Whether files of these names have one of MNIST's among them."""
    every = {name for part in (TRAIN, TEST) for kind in (PICTURES, LABELS)
             for name in _names(part, kind)}  # fmt: skip
    return not every.isdisjoint(names)


def open_idx(folder, shape, classes=None):
    """The ``Dataset`` of a folder with MNIST's files; those to test on may be absent.

    Parameters and errors as of ``open_dataset``.
    """
    train = _split(folder, TRAIN, shape, classes)
    present = any((folder / name).is_file() for kind in (PICTURES, LABELS)
                  for name in _names(TEST, kind))  # fmt: skip
    test = _split(folder, TEST, shape, classes) if present else None
    found = max(int(split.y.max()) + 1 for split in (train, test) if split)
    return Dataset(train=train, test=test, class_names=names_of_numbers(classes or found))


def _split(folder, part, shape, classes):
    paths = [_find(folder, part, kind) for kind in (PICTURES, LABELS)]
    pictures, labels = (read_idx(path, kind[1]) for path, kind in
                        zip(paths, (PICTURES, LABELS), strict=True))  # fmt: skip
    if len(pictures) != len(labels):
        raise UserError(
            f"{paths[0]} holds {len(pictures)} pictures but {paths[1].name} {len(labels)} labels; "
            "give files that belong together."
        )
    labels = to_labels(labels, len(labels), classes, str(paths[1]))
    return Split(from_bytes([pictures[:, None]], shape, str(paths[0])), labels)


def _find(folder, part, kind):
    names = _names(part, kind)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder} has no {names[0]} (or .gz); put it beside the other files.")


def read_idx(path, dims):
    """The array of an IDX file of unsigned bytes with this many dimensions.

    Raises
    ------
    UserError
        If it is another file, is empty, or has fewer or more bytes than it says.
    """
    header = 4 + 4 * dims
    try:
        with open(path, "rb") as file:
            packed = file.read(len(_GZIP)) == _GZIP
            file.seek(0)
            with gzip.GzipFile(fileobj=file) if packed else file as content:
                start, _ = _read(content, header)
                magic = start[:4]
                expected = bytes((0, 0, _BYTES, dims))
                if magic != expected:
                    raise UserError(
                        f"{path} begins with 0x{magic.hex()} instead of 0x{expected.hex()}, so it "
                        f"is no IDX file of bytes with {dims} dimensions; get the file again."
                    )
                if len(start) < header:
                    raise _truncated(path, len(start), header)
                shape = tuple(int(size) for size in np.frombuffer(start, ">u4", offset=4))
                if 0 in shape:
                    raise UserError(f"{path} is empty (shape {shape}); get the file again.")
                size = prod(shape)
                # One byte more, to see whether there is one.
                values, damaged = _read(content, size + 1)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({(error.strerror or str(error)).lower()}); get the file again."
        ) from None
    if damaged or len(values) < size:
        raise _truncated(path, header + len(values), header + size)
    if len(values) > size:
        raise UserError(
            f"{path} has more than the {header + size} bytes that it announces; get the file again."
        )
    return np.frombuffer(values, np.uint8).reshape(shape)


def _read(file, limit):
    """Up to ``limit`` bytes, fewer if the file ends before; and if its gzip stream is damaged."""
    result = bytearray()
    try:
        # In pieces: a damaged file may announce any size, and what came before damage is counted.
        while chunk := file.read1(min(_CHUNK, limit - len(result))):
            result += chunk
    except (EOFError, zlib.error):
        return result, True
    return result, False


def _truncated(path, found, expected):
    return UserError(
        f"{path} ends too early or is damaged, after {found} of {expected} bytes (uncompressed); "
        "get the file again."
    )
