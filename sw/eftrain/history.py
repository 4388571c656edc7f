"""What a training run reports."""

import csv
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One batch of one section.

    Attributes
    ----------
    section : str
        ``before``, ``train`` or ``after`` of a ``fit``; ``evaluate`` of an evaluation.
    epoch, step : int
        From 1; ``step`` counts on through the epochs of its section.
    loss : float
        Mean over the batch, before the update.
    correct, images : int
    cycles : int
        Device cycles since the doorbell when the step's record was seen.
    """

    section: str
    epoch: int
    step: int
    loss: float
    correct: int
    images: int
    cycles: int


@dataclass(frozen=True)
class History:
    """A finished ``fit``.

    Attributes
    ----------
    steps : list of Step
        The training steps.
    before, after : dict or None
        ``{"loss", "accuracy"}`` on the test data, if ``fit`` was given any.
    cycles, dense_macs : int
        Of the whole program, the evaluations included.
    nonfinite : bool
        Whether an Inf or NaN appeared on the device.
    """

    steps: list
    before: dict | None
    after: dict | None
    cycles: int
    dense_macs: int
    nonfinite: bool

    @property
    def losses(self):
        return [step.loss for step in self.steps]

    def to_csv(self, path):
        """Write one line a training step: step, loss, correct, cycles."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["step", "loss", "correct", "cycles"])
            for step in self.steps:
                writer.writerow([step.step, repr(step.loss), step.correct, step.cycles])


def summary(steps):
    """``{"loss", "accuracy"}``, both means over the images of ``steps``."""
    images = sum(step.images for step in steps)
    return {
        "loss": sum(step.loss * step.images for step in steps) / images,
        "accuracy": sum(step.correct for step in steps) / images,
    }
