"""A folder of pictures with one sub-folder a class, as a whole or in ``train`` and ``test``."""

import os
from pathlib import Path

import numpy as np

from ..errors import UserError
from .dataset import Dataset, Split, check_class_count
from .pictures import READ, SUFFIXES, BadPicture, pillow, read_picture

__all__ = ["open_folder", "visible"]

TRAIN, TESTS = "train", ("test", "val")
"""Sub-folders of the two sets; the first of ``TESTS`` that is there is used."""

_CLUTTER = {"thumbs.db", "desktop.ini", "__macosx"}


def visible(folder):
    """Sub-folders and files of a folder, sorted by name, without what systems put there.

    Raises
    ------
    UserError
        If the folder cannot be read.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be read ({(error.strerror or str(error)).lower()}); check its "
            "permissions."
        ) from None
    entries = [
        entry
        for entry in entries
        if not entry.name.startswith(".") and entry.name.lower() not in _CLUTTER
    ]
    folders = [Path(entry.path) for entry in entries if entry.is_dir()]
    return folders, [Path(entry.path) for entry in entries if not entry.is_dir()]


def open_folder(folder, shape, classes=None, skip_bad=False):
    """The ``Dataset`` of a folder; classes are numbered in the order of their sorted names.

    Parameters and errors as of ``open_dataset``.
    """
    pillow(f"Reading the pictures in {folder}")
    train, test = _sets(folder)
    files = _classes(train)
    names = tuple(files)
    check_class_count(len(names), classes, str(train))
    test_files = _classes(test) if test is not None else {}
    for name in test_files:
        if name not in files:
            raise UserError(
                f"{test} has the class {name!r}, which {train} has not; give both the same classes."
            )
    skipped = []
    splits = [_read(part, names, shape, skip_bad, skipped) for part in (files, test_files) if part]
    return Dataset(
        train=splits[0],
        test=splits[1] if len(splits) > 1 else None,
        class_names=names,
        skipped=tuple(skipped),
    )


def _sets(folder):
    """Folders of the pictures to train and to test on, the second of them None if absent."""
    folders, files = visible(folder)
    parts = {path.name: path for path in folders}
    # A class may have the name `train` too; it then holds pictures.
    if TRAIN not in parts or not visible(parts[TRAIN])[0]:
        return folder, None
    others = [name for name in parts if name not in (TRAIN, *TESTS)]
    if others:
        raise UserError(
            f"{folder} has {TRAIN} beside the folder {others[0]}; put every class into {TRAIN}, "
            f"and into {' or '.join(TESTS)}."
        )
    _check_loose(folder, files)
    return parts[TRAIN], next((parts[name] for name in TESTS if name in parts), None)


def _classes(folder):
    """Class name to its files."""
    folders, files = visible(folder)
    if not folders:
        raise UserError(
            f"{folder} has no sub-folders; give a folder with one sub-folder of pictures a class."
        )
    _check_loose(folder, files)
    classes = {}
    for path in folders:
        inner, classes[path.name] = visible(path)
        if inner:
            raise UserError(
                f"{path} has a sub-folder ({inner[0].name}); put the pictures of a class into its "
                "folder itself."
            )
        if not classes[path.name]:
            raise UserError(f"{path} has no pictures; add some, or remove the folder.")
    return classes


def _check_loose(folder, files):
    """Raise ``UserError`` if a folder of folders has pictures of its own."""
    loose = [path.name for path in files if path.suffix.lower() in SUFFIXES]
    if loose:
        raise UserError(
            f"{folder} has pictures beside its sub-folders ({loose[0]}); put every picture into "
            "the folder of its class."
        )


def _read(classes, names, shape, skip_bad, skipped):
    x = np.empty((sum(map(len, classes.values())), *shape), np.float32)
    y = np.empty(len(x), np.int64)
    count = 0
    for name, files in classes.items():
        before, number = count, names.index(name)
        for path in files:
            try:
                if path.suffix.lower() not in SUFFIXES:
                    raise BadPicture(f"{path} is no {READ} picture")
                x[count] = read_picture(path, shape)
            except BadPicture as error:
                if not skip_bad:
                    raise
                skipped.append(error.what)
                continue
            y[count] = number
            count += 1
        if count == before:
            raise UserError(
                f"{files[0].parent} has no picture that can be used; add some, or remove the "
                "folder."
            )
    return Split(x[:count], y[:count])
