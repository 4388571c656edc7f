"""Map-style data sets as PyTorch has them: a length, and (picture, label) by number."""

import numpy as np

from ..errors import UserError
from .arrays import MAX_BYTE, check_values, to_labels
from .dataset import Dataset, Split, check_class_count, names_of_numbers
from .pictures import BadPicture, from_image

__all__ = ["is_map_style", "open_map_style"]


def is_map_style(source):
    """Whether it has a length and items."""
    return all(hasattr(type(source), name) for name in ("__len__", "__getitem__"))


def open_map_style(train, test, shape, classes=None, skip_bad=False, any_values=False):
    """The ``Dataset`` of one or two map-style data sets; every item is read once, in order.

    Parameters and errors as of ``open_dataset``.
    """
    names = getattr(train, "classes", None)
    named = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    if named:
        check_class_count(len(names), classes, "The data set")
    skipped = []
    parts = {"data set": train} | ({"test data set": test} if test is not None else {})
    splits = [
        _read(
            part,
            f"the {what}",
            shape,
            None if named else classes,
            any_values,
            skipped if skip_bad else None,
        )
        for what, part in parts.items()
    ]
    found = max(int(split.y.max()) + 1 for split in splits)
    if named and found > len(names):
        raise UserError(
            f"The data set goes up to label {found - 1} but names {len(names)} classes; number "
            "them from 0."
        )
    return Dataset(
        train=splits[0],
        test=splits[1] if test is not None else None,
        class_names=tuple(names) if named else names_of_numbers(classes or found),
        skipped=tuple(skipped),
    )


def _read(source, what, shape, classes, any_values, skipped):
    x = np.empty((len(source), *shape), np.float32)
    labels, count = [], 0
    for number in range(len(x)):
        place = f"Item {number} of {what}"
        try:
            picture, label = _item(source, number, place)
            x[count] = _picture(picture, shape, place, any_values)
        except BadPicture as error:
            if skipped is None:
                raise
            skipped.append(error.what)
            continue
        labels.append(_label(label, place))
        count += 1
    if count == 0:
        raise UserError(f"{what.capitalize()} has no picture that can be used; give at least one.")
    labels = to_labels(labels, count, classes, f"The label of {what}")
    return Split(x[:count], labels)


def _item(source, number, place):
    try:
        item = source[number]
    except Exception as error:  # Whatever a user's data set may do.
        text = " ".join(str(error).split()).rstrip(".")
        text = f"{type(error).__name__}{': ' if text else ''}{text}"
        raise BadPicture(f"{place} cannot be read ({text})") from error
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise UserError(f"{place} is a {type(item).__name__}; give pairs of picture and label.")
    return item


def _picture(picture, shape, place, any_values):
    if hasattr(picture, "getexif"):  # A Pillow image, without importing Pillow to ask.
        if len(shape) != 3:
            raise UserError(f"{place} is an image but the network takes vectors; give arrays.")
        return from_image(picture, shape, place)
    try:
        array = np.asarray(picture)
    except (TypeError, ValueError, RuntimeError):
        array = None
    if array is None or array.dtype.kind not in "fiub":
        raise UserError(
            f"{place} has a {type(picture).__name__} as its picture; give a tensor, an array or a "
            "Pillow image."
        )
    if array.ndim == 2 and len(shape) == 3:  # Grey, without the channel.
        array = array[None]
    if array.shape != shape:
        last = " and put channels first" if array.shape == (*shape[1:], shape[0]) else ""
        raise UserError(
            f"{place} has a picture of shape {array.shape} but the network takes {shape}; resize "
            f"it{last}."
        )
    values = array.astype(np.float32)
    if array.dtype == np.uint8:
        return values / np.float32(MAX_BYTE)
    if not np.isfinite(values).all():
        raise BadPicture(f"{place} has values that are not finite in fp32")
    if len(shape) == 3 and not any_values:
        check_values(values, place)
    return values


def _label(label, place):
    array = np.asarray(label)
    if array.size != 1 or array.dtype.kind not in "iu":
        raise UserError(
            f"{place} has a {type(label).__name__} as its label; give the number of a class."
        )
    return int(array.reshape(()))
