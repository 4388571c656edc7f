"""Normalisation of pictures: ``(x - mean) / std``, channel by channel.

Networks expect the one that they were trained with.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import UserError

__all__ = ["PRESETS", "Normalisation", "declared_normalisation", "find_normalisation"]


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel, for pictures from 0 to 1.

    Parameters
    ----------
    mean, std : sequence of float
        One value a channel, or a single one for all channels.

    Raises
    ------
    UserError
        If they differ in length, or one is not finite in fp32, or a ``std`` is not above 0.
    """

    mean: tuple
    std: tuple

    def __post_init__(self):
        for name in ("mean", "std"):
            object.__setattr__(self, name, _values(getattr(self, name), name))
        if len(self.mean) != len(self.std):
            raise UserError(
                f"The normalisation has {len(self.mean)} means and {len(self.std)} standard "
                "deviations; give as many of each."
            )
        if not all(np.float32(value) > 0 for value in self.std):
            raise UserError(
                f"The normalisation's std holds {min(self.std):g}; give numbers above 0."
            )

    @classmethod
    def parse(cls, text):
        """From a preset's name, or text such as ``0.49,0.48,0.45/0.25,0.24,0.26``: mean/std.

        Raises
        ------
        UserError
            If it is neither.
        """
        if text in PRESETS:
            return PRESETS[text]
        try:
            mean, std = ([float(value) for value in part.split(",")] for part in text.split("/"))
        except ValueError:
            raise UserError(
                f"The normalisation {text!r} is not written MEAN,.../STD,...; for example "
                f"0.5,0.5,0.5/0.25,0.25,0.25, or one of {', '.join(PRESETS)}."
            ) from None
        return cls(mean, std)

    def check(self, shape):
        """Raise ``UserError`` unless it fits samples of this shape, (C, H, W)."""
        if len(self.mean) not in (1, shape[0]) or len(shape) != 3:
            network = (
                f"pictures of {shape[0]} channels" if len(shape) == 3 else f"vectors of {shape[0]}"
            )
            raise UserError(
                f"The normalisation has {len(self.mean)} channels but the network takes "
                f"{network}; give a mean and std for each channel, or one for all."
            )

    def apply(self, x, out=None):
        """``(x - mean) / std`` in fp32; each of the two operations is rounded.

        Parameters
        ----------
        x : fp32 array ``[N, C, H, W]``
        out : array, optional
            Where to write; ``x`` itself saves the memory of another.

        Raises
        ------
        UserError
            If ``x`` has another number of channels.
        """
        self.check(x.shape[1:])
        mean, std = (
            np.asarray(values, np.float32)[:, None, None] for values in (self.mean, self.std)
        )
        out = np.subtract(x, mean, out=out)
        return np.divide(out, std, out=out)


def _values(values, name):
    try:
        array = np.atleast_1d(np.asarray(values, np.float64))
        with np.errstate(over="ignore"):
            legal = array.ndim == 1 and array.size and np.isfinite(array.astype(np.float32)).all()
    except (TypeError, ValueError, RuntimeError):
        legal = False
    if not legal:
        text = " ".join(repr(values).split())
        raise UserError(
            f"The normalisation's {name} is {text}; give one number a channel, finite in fp32."
        )
    return tuple(float(value) for value in array)


PRESETS = {
    "none": Normalisation((0.0,), (1.0,)),
    "mnist": Normalisation((0.1307,), (0.3081,)),
    "cifar10": Normalisation((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "imagenet": Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Those of the data sets that published networks are commonly trained on."""


def find_normalisation(given=None, model=None, dataset=None):
    """The normalisation to use: the given one, else the model's, else the data's, else None.

    Parameters
    ----------
    given : Normalisation, pair or str, optional
        ``(mean, std)``, or text as for ``Normalisation.parse``.
    model : optional
        Its attribute ``normalisation`` is taken, in the same forms; else ``mean`` and ``std`` of
        its dict ``pretrained_cfg`` or ``default_cfg``, where timm's networks have them.
    dataset : Dataset, optional

    Raises
    ------
    UserError
        If the one that was found is of another form.
    """
    if given is not None:
        return _made(given)
    declared = declared_normalisation(model)
    if declared is not None:
        return _made(declared)
    return dataset.normalisation if dataset is not None else None


def declared_normalisation(model):
    """What a model's attributes say, as ``find_normalisation`` reads them, unchecked; or None."""
    if getattr(model, "normalisation", None) is not None:
        return model.normalisation
    for name in ("pretrained_cfg", "default_cfg"):
        settings = getattr(model, name, None)
        if isinstance(settings, dict) and {"mean", "std"} <= settings.keys():
            return settings["mean"], settings["std"]
    return None


def _made(value):
    if isinstance(value, Normalisation):
        return value
    if isinstance(value, str):
        return Normalisation.parse(value)
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return Normalisation(*value)
    raise UserError(
        f"The normalisation is a {type(value).__name__}; give a Normalisation, a pair of mean and "
        f"std, or one of {', '.join(PRESETS)}."
    )
