"""Weight files: safetensors with a description of the network in the metadata, or numpy's ``.npz``.

The suffix of the name chooses: ``.npz`` holds the same arrays and the description as the array
``network``, and needs nothing but numpy, so a board can read and write it.
"""

import io
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from .errors import UserError
from .graph import describe, parameter_shapes

NPZ = ".npz"
DESCRIPTION = "network"


def save_weights(path, layers, values):
    """Write ``values`` (name to fp32 array).

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    path = _path(path)
    encode = _to_npz if path.suffix == NPZ else _to_safetensors
    try:
        path.write_bytes(encode(values, describe(layers)))
    except OSError as error:
        raise UserError(
            f"Cannot write weights to {path}: {error.strerror}; choose a folder you may write to."
        ) from error


def load_weights(path, layers):
    """Read the weights of this network: name to fp32 array.

    Files without a description, as other programs write them, are accepted if all names and shapes
    are those of the network.

    Raises
    ------
    UserError
        If the file is missing, is no file of its kind, or belongs to another network.
    """
    path = _path(path)
    try:
        values, found = (_from_npz if path.suffix == NPZ else _from_safetensors)(path)
        if any(value.dtype.kind not in "fiu" for value in values.values()):
            raise TypeError("not one of numpy's own numbers")
    except FileNotFoundError as error:
        raise UserError(f"There is no weight file {path}; check the path.") from error
    except TypeError as error:
        # Such as bfloat16, which numpy knows only if another package has taught it.
        raise UserError(
            f"{path} holds a number format that cannot be read; save it as float32."
        ) from error
    expected = parameter_shapes(layers)
    shapes = {name: value.shape for name, value in values.items()}
    if (found or describe(layers)) != describe(layers) or shapes != expected:
        other = f" ({found})" if found else ""
        raise UserError(
            f"{path} holds the weights of another network{other}; load it into that network or "
            "choose a file of this one."
        )
    with np.errstate(over="ignore"):
        values = {name: value.astype(np.float32) for name, value in values.items()}
    if not all(np.isfinite(value).all() for value in values.values()):
        raise UserError(f"{path} holds weights that are NaN or Inf in fp32; choose another file.")
    return values


def _to_safetensors(values, description):
    from safetensors.numpy import save

    # One key only: safetensors writes several in no fixed order; equal weights give equal files.
    return save(values, {DESCRIPTION: description})


def _from_safetensors(path):
    """Arrays by name, and the description or None."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise UserError(
            f"{path} needs the package safetensors, which is not installed; install it, or save "
            "the weights as .npz."
        ) from None
    try:
        with safe_open(path, framework="np") as file:
            values = {name: file.get_tensor(name) for name in file.keys()}
            return values, (file.metadata() or {}).get(DESCRIPTION)
    except FileNotFoundError:
        raise
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} is not a readable safetensors file; save it again with Trainer.save."
        ) from error


def _to_npz(values, description):
    file = io.BytesIO()
    np.savez(file, **values, **{DESCRIPTION: np.array(description)})
    return file.getvalue()


def _from_npz(path):
    """As :func:`_from_safetensors`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {name: file[name] for name in file.files}
            if not all(isinstance(value, np.ndarray) for value in values.values()):
                raise ValueError("a member is no array")
    except FileNotFoundError:
        raise
    # A file with a single array (.npy) is no context manager.
    except (OSError, ValueError, EOFError, BadZipFile, AttributeError, TypeError) as error:
        raise UserError(
            f"{path} is not a readable .npz file of weights; save it again with Trainer.save."
        ) from error
    description = values.pop(DESCRIPTION, None)
    return values, None if description is None else str(description)


def _path(value):
    try:
        return Path(value)
    except TypeError:
        raise UserError(
            f"The path of the weight file is a {type(value).__name__}; give a string or a "
            "pathlib.Path."
        ) from None
