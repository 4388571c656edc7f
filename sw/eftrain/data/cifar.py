"""CIFAR-10 and CIFAR-100 in the formats of their authors: the python and the binary version.

A picture is 3,072 bytes: its red, green and blue rows. The binary version puts the label, of
CIFAR-100 two, before each picture; the python version has pickled dicts of many. See Krizhevsky,
"The CIFAR-10 dataset", https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from .arrays import to_labels
from .dataset import Dataset, Split, check_class_count
from .inert_pickle import load_pickle
from .pictures import from_bytes

__all__ = ["cifar_versions", "open_cifar"]

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Version:
    """One of the four forms.

    Parameters
    ----------
    title : str
    train, test : tuple of str
        Names of the files.
    names : str
        Of the file with the classes' names.
    classes : int
    labels : tuple of str
        Labels before each picture, or keys of the dict; the last is the one that is used.
    key : str, optional
        Of the names' dict; None in the binary versions.
    """

    title: str
    train: tuple
    test: tuple
    names: str
    classes: int
    labels: tuple
    key: str | None = None


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))

VERSIONS = (
    Version("CIFAR-10 (python)", _BATCHES, ("test_batch",), "batches.meta", 10, ("labels",),
            "label_names"),
    Version("CIFAR-10 (binary)", tuple(f"{name}.bin" for name in _BATCHES), ("test_batch.bin",),
            "batches.meta.txt", 10, ("label",)),
    Version("CIFAR-100 (python)", ("train",), ("test",), "meta", 100, ("fine_labels",),
            "fine_label_names"),
    Version("CIFAR-100 (binary)", ("train.bin",), ("test.bin",), "fine_label_names.txt", 100,
            ("coarse", "fine")),
)  # fmt: skip


def cifar_versions(names):
    """The versions that files of these names belong to."""
    return [
        version for version in VERSIONS if not {*version.train, *version.test}.isdisjoint(names)
    ]


def open_cifar(folder, version, shape, classes=None):
    """The ``Dataset`` of a folder with the files of one version; those to test on may be absent.

    Parameters and errors as of ``open_dataset``.
    """
    check_class_count(version.classes, classes, f"{version.title} in {folder}")
    test = None
    if all((folder / name).is_file() for name in version.test):
        test = _split(folder, version, version.test, shape)
    return Dataset(
        train=_split(folder, version, version.train, shape),
        test=test,
        class_names=_class_names(folder, version),
    )


def _split(folder, version, files, shape):
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} has no {' and no '.join(missing)}; put {version.title} there as a whole."
        )
    read = _binary if version.key is None else _pickled
    parts, labels = zip(*(read(folder / name, version) for name in files), strict=True)
    return Split(from_bytes(list(parts), shape, str(folder)), np.concatenate(labels))


def _binary(path, version):
    size = len(version.labels) + PIXELS
    content = np.frombuffer(_read(path), np.uint8)
    if content.size == 0 or content.size % size:
        raise UserError(
            f"{path} has {content.size} bytes; expected a multiple of {size}, the bytes of a "
            f"picture of {version.title}, so get the file again."
        )
    records = content.reshape(-1, size)
    pictures, labels = records[:, -PIXELS:], records[:, -PIXELS - 1]
    return pictures.reshape(-1, *SHAPE), _labels(labels, len(pictures), version, path)


def _pickled(path, version):
    content, key = load_pickle(path), version.labels[-1]
    missing = [name for name in ("data", key) if name not in content]
    if missing:
        raise UserError(
            f"{path} has no {' and no '.join(missing)}, so it is no batch of {version.title}; get "
            "the file again."
        )
    pictures = content["data"]
    if not isinstance(pictures, np.ndarray) or pictures.shape[1:] != (PIXELS,) or not len(pictures):
        found = getattr(pictures, "shape", type(pictures).__name__)
        raise UserError(
            f"data in {path} is {found}; expected bytes of shape (pictures, {PIXELS}), so get the "
            "file again."
        )
    return pictures.reshape(-1, *SHAPE), _labels(content[key], len(pictures), version, path)


def _labels(labels, pictures, version, path):
    what = f"The labels in {path}"
    labels = to_labels(labels, pictures, None, what)
    if labels.max() >= version.classes:
        place = int(np.argmax(labels >= version.classes))
        raise UserError(
            f"{what} have {labels[place]} at picture {place}; {version.title} has classes 0 to "
            f"{version.classes - 1}, so get the file again."
        )
    return labels


def _class_names(folder, version):
    path = folder / version.names
    if not path.is_file():
        return tuple(str(number) for number in range(version.classes))
    if version.key is None:
        names = _read(path).decode("utf-8", "replace").split()
    else:
        names = load_pickle(path).get(version.key)
        names = names if isinstance(names, list) else []
        names = [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
                 for name in names]  # fmt: skip
    if len(names) != version.classes:
        raise UserError(
            f"{path} names {len(names)} classes; {version.title} has {version.classes}, so get the "
            "file again."
        )
    return tuple(names)


def _read(path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({(error.strerror or str(error)).lower()}); check it."
        ) from None
