"""Pickles of plain data and numpy arrays, read without running anything that they ask for.

``pickle`` calls whatever a file names. Here the few names that a file of arrays needs stand for
classes that only keep what they are given, and every other name is refused; arrays are made
afterwards, of bytes.
"""

import pickle

import numpy as np

from ..errors import UserError

__all__ = ["load_pickle"]


class _Forbidden(Exception):
    """The name of something that is not to be called."""


class _Inert:
    """Stands for a class or function of numpy's; keeps arguments and state."""

    def __init__(self, *arguments):
        self.arguments, self.state = arguments, None

    def __setstate__(self, state):
        self.state = state


class _Array(_Inert):
    """``numpy.ndarray``, and the function that makes one whose state follows."""


class _Buffer(_Inert):
    """The function that makes an array of a buffer: pickle protocol 5."""


class _Dtype(_Inert):
    """``numpy.dtype``."""


class _Text(_Inert):
    """``_codecs.encode``: how Python 3 writes bytes for Python 2."""


_ALLOWED = {("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Dtype, ("_codecs", "encode"): _Text}
for _core in ("numpy.core", "numpy._core"):  # Before and since numpy 2.
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = _Array
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _Buffer


_SHOWN = 80
"""Characters of a refused name that a message shows."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        try:
            return _ALLOWED[module, name]
        except KeyError:
            # What the file says is shown, but not as it is: it may be long, or steer a terminal.
            raise _Forbidden(ascii(f"{module}.{name}")[1:-1][:_SHOWN]) from None


def load_pickle(path):
    """The dict in a pickle file: text keys; arrays of bytes, lists, numbers and text.

    Text of Python 2 is bytes; keys are decoded.

    Raises
    ------
    UserError
        If the file is missing, damaged, asks for anything but arrays of bytes, or holds no dict.
    """
    try:
        with open(path, "rb") as file:
            content = _Unpickler(file, encoding="bytes").load()
        if not isinstance(content, dict):
            raise UserError(f"{path} holds no dict of arrays; get the file again.")
        return {_text(key): _value(value) for key, value in content.items()}
    except UserError:
        raise
    except _Forbidden as error:
        raise UserError(
            f"{path} asks to run {error}, which no file of pictures needs; do not trust it, and "
            "get the file from its original place."
        ) from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({(error.strerror or str(error)).lower()}); check it."
        ) from None
    except (EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path} ends too early or is no pickle ({' '.join(str(error).split())}); get the file "
            "again."
        ) from None
    except Exception:  # Damaged pickles raise all kinds.
        raise UserError(f"{path} is damaged; get the file again.") from None


def _text(key):
    key = _value(key)
    return key.decode("latin1") if isinstance(key, bytes) else key


def _value(value):
    """What stood-in objects stand for."""
    if isinstance(value, _Text):
        text, encoding = value.arguments
        if encoding not in ("latin1", b"latin1"):
            raise ValueError(f"bytes are encoded as {encoding}")
        return text.encode("latin1")
    if isinstance(value, _Buffer):
        data, dtype, shape, order = value.arguments
        return _bytes(data, dtype, shape, order not in ("C", b"C"))
    if isinstance(value, _Array):
        _, shape, dtype, by_columns, data = value.state
        return _bytes(data, dtype, shape, by_columns)
    if isinstance(value, list):
        return [_value(item) for item in value]
    return value


def _bytes(data, dtype, shape, by_columns):
    if dtype.arguments[0] not in ("u1", b"u1"):
        raise ValueError(f"an array of {dtype.arguments[0]}")
    array = np.frombuffer(_value(data), np.uint8)
    return array.reshape(shape, order="F" if by_columns else "C")
