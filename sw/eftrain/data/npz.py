"""Arrays in numpy's ``.npz`` files: pictures, labels, and what goes with them."""

import zlib
from zipfile import BadZipFile

import numpy as np

from ..errors import UserError
from .arrays import to_split
from .dataset import Dataset, names_of_numbers
from .normalisation import Normalisation

__all__ = ["open_npz", "read_data"]

TRAIN, TEST = ("x", "y"), ("x_test", "y_test")
NORMALISATION = ("mean", "std")

_DAMAGE = BadZipFile, RuntimeError, zlib.error
"""Raised for damaged .zip files; RuntimeError for encryption and methods that do not exist."""


def read_data(path):
    """Arrays of a user's file, by the suffix of their names: ``{"": (x, y), "_test": (x, y)}``.

    Raises
    ------
    UserError
        If the file or one of the four arrays is missing or damaged.
    """
    arrays = _read(path, TRAIN + TEST)
    return {suffix: (arrays[f"x{suffix}"], arrays[f"y{suffix}"]) for suffix in ("", "_test")}


def open_npz(path, shape, classes=None, any_values=False):
    """The ``Dataset`` of a file with x and y, and, if there, x_test and y_test, mean and std.

    Parameters and errors as of ``open_dataset``.
    """
    arrays = _read(path, TRAIN, optional=(TEST, NORMALISATION))
    splits = []
    for x, y in (TRAIN, TEST):
        if x in arrays:
            names = f"{x} in {path}", f"{y} in {path}"
            # Taken out of the dict, so that the second set need not wait for the first to be freed.
            pair = arrays.pop(x), arrays.pop(y)
            splits.append(to_split(*pair, shape, classes, names, any_values))
            del pair
    found = max(int(split.y.max()) + 1 for split in splits)
    normalisation = None
    if "mean" in arrays:
        normalisation = Normalisation(arrays["mean"], arrays["std"])
    return Dataset(
        train=splits[0],
        test=splits[1] if len(splits) > 1 else None,
        class_names=names_of_numbers(classes or found),
        normalisation=normalisation,
    )


def _read(path, names, optional=()):
    """Arrays by name, as they are, but grey pictures get their channel.

    ``optional`` are groups of names that may be absent, though not in part.
    """
    wanted = f"save {', '.join(names)} with np.savez"
    try:
        file = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"There is no data file {path}; check the path.") from None
    except (OSError, ValueError, EOFError, *_DAMAGE):
        raise UserError(f"{path} is not a readable .npz file; {wanted}.") from None
    if isinstance(file, np.ndarray):
        raise UserError(f"{path} holds a single array; {wanted}.")
    with file:
        for group in optional:
            if any(name in file.files for name in group):
                names = names + group
        missing = [name for name in names if name not in file.files]
        if missing:
            wanted = f"save {', '.join(names)} with np.savez"
            raise UserError(f"{path} has no {' and no '.join(missing)}; {wanted}.")
        arrays = {name: _read_array(file, name, path) for name in names}
    for name in ("x", "x_test"):
        if name in arrays and arrays[name].ndim == 3:  # Grey pictures without the channel.
            arrays[name] = arrays[name][:, None]
    return arrays


def _read_array(file, name, path):
    try:
        array = file[name]
    except ValueError:
        raise UserError(
            f"{name} in {path} is ragged or not numeric; give all samples the same shape."
        ) from None
    except (OSError, EOFError, *_DAMAGE):
        array = None
    if not isinstance(array, np.ndarray):  # numpy hands out members of other formats as bytes.
        raise UserError(f"{name} in {path} is damaged; save the file again.")
    return array
