"""What importers hand to the builder of graphs, and how they name what they find."""

import re
from dataclasses import dataclass

import numpy as np

from ..errors import UserError

__all__ = ["SUPPORTED", "Parameter", "Place", "Scores", "source_line", "unsupported"]

SUPPORTED = (
    "Conv2d, Linear, BatchNorm2d, GroupNorm, ReLU, ReLU6, LeakyReLU, MaxPool2d, AvgPool2d, "
    "AdaptiveAvgPool2d(1), additions, flatten and Dropout"
)


def unsupported(operators):
    """The error for all operators that no layer stands for, at least one; texts that name them."""
    few = operators[:2]
    more = [f"{len(operators) - 2} more"] if len(operators) > 2 else []
    *first, last = few + more
    listed = f"{', '.join(first)} and {last}" if first else last
    many = len(operators) > 1
    return UserError(
        f"Operator{'s' * many} {listed} {'are' if many else 'is'} not supported; use {SUPPORTED}."
    )


def source_line(trace):
    """``" at model.py line 7"`` of the user's code, from the text of a traceback, or nothing."""
    frames = re.findall(r'File "(.*?)", line (\d+)', trace)
    users = [frame for frame in frames if not re.search(r"-packages[/\\]torch[/\\]", frame[0])]
    if not users:
        return ""
    path, number = users[-1]
    name = re.split(r"[/\\]", path)[-1]
    return f" at {name} line {number}"


@dataclass(frozen=True)
class Place:
    """Where the user finds an operation.

    Attributes
    ----------
    kind : str
        Of layer or operator, for example ``"Conv2d"``.
    name : str, optional
        For the layer in tables and messages.
    line : str
        For example ``" at model.py line 7"``, or empty.
    """

    kind: str
    name: str | None = None
    line: str = ""


@dataclass(frozen=True)
class Parameter:
    """Values that belong to a layer.

    Attributes
    ----------
    values : array
    key : object
        Equal for two that are one and the same in the user's network, None if there is no telling.
    trainable : bool
    """

    values: np.ndarray
    key: object = None
    trainable: bool = True


@dataclass(frozen=True)
class Scores:
    """The softmax of a layer's result. The loss has one of its own, so the graph ends before it."""

    source: int
