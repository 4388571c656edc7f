"""One door for pictures of every source."""

import os
from pathlib import Path

from ..errors import UserError
from .cifar import cifar_versions, open_cifar
from .folder import open_folder, visible
from .idx import has_idx, open_idx
from .map_style import is_map_style, open_map_style
from .npz import open_npz

__all__ = ["open_dataset"]

KINDS = (
    "an .npz file, a folder with one sub-folder of pictures a class, or the folder of MNIST's or "
    "CIFAR's files"
)
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z")


def open_dataset(source, shape, classes=None, *, test=None, skip_bad=False, any_values=False):
    """Read pictures and labels, whatever they lie in; docs/data.md has the rules.

    Parameters
    ----------
    source : path, or map-style data set
        An ``.npz`` file, a folder with one sub-folder of pictures a class, a folder with MNIST's or
        CIFAR's files, or an object with a length and items (picture, label), such as a
        ``torch.utils.data.Dataset``.
    shape : tuple
        What the network takes, (channels, rows, columns), or (values,). Picture files, MNIST's and
        CIFAR's pictures and Pillow images are brought to it; arrays must have it.
    classes : int, optional
        Classes of the network, which the data must fit.
    test : map-style data set, optional
        To test on, if ``source`` is one; other sources name their own.
    skip_bad : bool
        Leave out pictures that cannot be read; they are named in ``Dataset.skipped``.
    any_values : bool
        Take floating-point pictures as they are, even outside of 0 to 1: normalised already.

    Returns
    -------
    Dataset
        Pictures in fp32 from 0 to 1, not normalised.

    Raises
    ------
    UserError
        If the source is of no kind named here, or is damaged or does not fit the network.
    """
    shape = _checked_shape(shape)
    if isinstance(source, (str, os.PathLike)):
        if test is not None:
            raise UserError(
                f"test goes with a data set object only; put the pictures to test on into {source}."
            )
        return _open_path(Path(source), shape, classes, skip_bad, any_values)
    for what, part in {"data": source, **({} if test is None else {"test data": test})}.items():
        if not is_map_style(part) or isinstance(part, (str, bytes)):
            raise UserError(
                f"The {what} is a {type(part).__name__}; give {KINDS}, or a data set with a length "
                "and items."
            )
    return open_map_style(source, test, shape, classes, skip_bad, any_values)


def _checked_shape(shape):
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if len(shape) not in (1, 3):
        raise UserError(f"shape is {shape}; give (channels, rows, columns).")
    return shape


def _open_path(path, shape, classes, skip_bad, any_values):
    if not path.exists():
        raise UserError(f"There is no data file or folder {path}; check the path.")
    if path.is_dir():
        return _open_folder(path, shape, classes, skip_bad)
    if has_idx([path.name]) or cifar_versions([path.name]):
        raise UserError(f"{path} is one of several files; give the folder that they are in.")
    if path.suffix.lower() in ARCHIVES:
        raise UserError(f"{path} is an archive; unpack it, and give the folder.")
    if path.suffix.lower() != ".npz":
        raise UserError(f"{path} is no data that is known here; give {KINDS}.")
    return open_npz(path, shape, classes, any_values)


def _open_folder(path, shape, classes, skip_bad):
    folders, files = visible(path)
    names = [file.name for file in files]
    readers = {version.title: (open_cifar, version) for version in cifar_versions(names)}
    if has_idx(names):
        readers["MNIST (IDX)"] = (open_idx,)
    if folders:
        readers["folders of classes"] = (open_folder,)
    if len(readers) > 1:
        raise UserError(f"{path} has {' and '.join(readers)}; give a folder with one of them.")
    if not readers:
        found = f"has only other files ({names[0]}, ...)" if names else "is empty"
        raise UserError(f"{path} {found}; give {KINDS}.")
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise UserError(
            f"{path} has pictures of 1 or 3 channels but the network takes {shape}; give a network "
            "of pictures, or arrays in an .npz file."
        )
    ((reader, *arguments),) = readers.values()
    if reader is open_folder:
        return open_folder(path, shape, classes, skip_bad)
    return reader(path, *arguments, shape, classes)
