"""Weight files: safetensors with a description of the network in the metadata."""

from pathlib import Path

import numpy as np

from .errors import UserError
from .graph import describe, parameter_shapes


def save_weights(path, layers, values):
    """Write ``values`` (name to fp32 array).

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    from safetensors.numpy import save

    path = _path(path)
    # One key only: safetensors writes several in no fixed order; equal weights give equal files.
    metadata = {"network": describe(layers)}
    try:
        path.write_bytes(save(values, metadata))
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
        If the file is missing, is no safetensors file, or belongs to another network.
    """
    from safetensors import SafetensorError, safe_open

    path = _path(path)
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            values = {name: file.get_tensor(name) for name in file.keys()}
        if any(value.dtype.kind not in "fiu" for value in values.values()):
            raise TypeError("not one of numpy's own numbers")
    except FileNotFoundError as error:
        raise UserError(f"There is no weight file {path}; check the path.") from error
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} is not a readable safetensors file; save it again with Trainer.save."
        ) from error
    except TypeError as error:
        # Such as bfloat16, which numpy knows only if another package has taught it.
        raise UserError(
            f"{path} holds a number format that cannot be read; save it as float32."
        ) from error
    expected = parameter_shapes(layers)
    described = metadata.get("network", describe(layers))
    shapes = {name: value.shape for name, value in values.items()}
    if described != describe(layers) or shapes != expected:
        other = f" ({metadata['network']})" if "network" in metadata else ""
        raise UserError(
            f"{path} holds the weights of another network{other}; load it into that network or "
            "choose a file of this one."
        )
    with np.errstate(over="ignore"):
        values = {name: value.astype(np.float32) for name, value in values.items()}
    if not all(np.isfinite(value).all() for value in values.values()):
        raise UserError(f"{path} holds weights that are NaN or Inf in fp32; choose another file.")
    return values


def _path(value):
    try:
        return Path(value)
    except TypeError:
        raise UserError(
            f"The path of the weight file is a {type(value).__name__}; give a string or a "
            "pathlib.Path."
        ) from None
