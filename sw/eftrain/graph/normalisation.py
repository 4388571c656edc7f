"""Batch-norm and group-norm."""

from dataclasses import dataclass, field

from ..errors import UserError
from .values import LATER, Layer, number, other_channels, positive, set_field


def _above_zero(value, where):
    return number(value, where, " above 0", lambda found: found > 0)


@dataclass(frozen=True, repr=False)
class BatchNorm2d(Layer):
    """Batch normalisation of each channel with a scale and an offset that are trained.

    Parameters
    ----------
    num_features : int
    eps : float
        Added to the variance.
    momentum : float
        Weight of a batch in the running statistics, 0 to 1.
    frozen : bool
        Training, too, normalises with the running statistics and leaves them alone.
    """

    num_features: int
    eps: float = 1e-5
    momentum: float = 0.1
    frozen: bool = field(default=False, metadata=LATER)

    kind = "BatchNorm2d"

    def __post_init__(self):
        set_field(self, "num_features", positive(self.num_features, "BatchNorm2d num_features"))
        set_field(self, "eps", _above_zero(self.eps, "BatchNorm2d eps"))
        momentum = number(
            self.momentum, "BatchNorm2d momentum", " from 0 to 1", lambda found: 0 <= found <= 1
        )
        set_field(self, "momentum", momentum)
        set_field(self, "frozen", bool(self.frozen))

    def output_shape(self, shape):
        return other_channels(shape, self.num_features) or shape


@dataclass(frozen=True, repr=False)
class GroupNorm(Layer):
    """Normalisation of each picture over groups of its channels, then scale and offset.

    Parameters
    ----------
    num_groups, num_channels : int
        Channels are split into so many groups of equal size; each channel has a scale and an
        offset that are trained.
    eps : float
        Added to the variance.
    """

    num_groups: int
    num_channels: int
    eps: float = 1e-5

    kind = "GroupNorm"

    def __post_init__(self):
        for name in ("num_groups", "num_channels"):
            set_field(self, name, positive(getattr(self, name), f"GroupNorm {name}"))
        set_field(self, "eps", _above_zero(self.eps, "GroupNorm eps"))
        if self.num_channels % self.num_groups:
            raise UserError(
                f"GroupNorm num_channels is {self.num_channels}, which {self.num_groups} groups do "
                "not divide; give a multiple."
            )

    def output_shape(self, shape):
        return other_channels(shape, self.num_channels) or shape
