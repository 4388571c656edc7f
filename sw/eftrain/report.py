"""What a run leaves behind: numbers, the history, a picture and the weights.

============================ ======================================================================
``result.json``              the numbers of ``summary``
``history.csv``              one line a training step: step, loss, correct, cycles
``curve.png``                loss and accuracy over the steps
``personalised.safetensors`` the new weights, named as in PyTorch
============================ ======================================================================

Those are the files of ``eftrain personalize``; ``eftrain train`` adds to the numbers and calls its
weights ``trained.safetensors``.

A board, which has neither matplotlib nor safetensors, writes no picture, and ``personalised.npz``.
"""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .errors import UserError

WEIGHTS_FILE = "personalised.safetensors"


@dataclass(frozen=True)
class Result:
    """A finished run: its task (a ``Workload``), history, and the trainer with the new weights."""

    task: object
    history: object
    trainer: object


def summary(result):
    """The numbers of a run.

    ``accuracy_before`` and ``accuracy_after`` are fractions of the test pictures, None if there are
    none. ``cycles`` are the device's from doorbell to interrupt, both tests included.
    ``dense_macs`` are those of the training steps alone, see ``workload.training_macs``.
    ``batch_size`` is the one that was used, no larger than the number of training pictures.
    """
    task, history = result.task, result.history
    settings = task.settings
    return {
        "accuracy_before": history.before and history.before["accuracy"],
        "accuracy_after": history.after and history.after["accuracy"],
        "steps": len(history.steps),
        "cycles": history.cycles,
        "dense_macs": task.dense_macs,
        "array": task.config.array,
        "format": task.config.format,
        "device": settings.device,
        "seed": settings.seed,
        "epochs": settings.epochs,
        "batch_size": min(settings.batch_size, task.counts[0]),
        "learning_rate": settings.learning_rate,
        "momentum": settings.momentum,
    }


def check_output(folder):
    """Raise ``UserError`` unless files can be written to ``folder``; leaves nothing behind."""
    folder = Path(folder)
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    try:
        # Tried, not asked: permissions, read-only mounts and full disks all answer this way.
        os.rmdir(tempfile.mkdtemp(prefix=".eftrain-", dir=place))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"The output folder {folder} cannot be written ({place}: {reason}); choose another "
            "with --output."
        ) from None


def write(result, folder, *, numbers=None, picture=True, weights_file=WEIGHTS_FILE):
    """Write all files of a run into ``folder``, which is made if it is not there.

    ``numbers`` are what ``result.json`` gets, by default those of ``summary``. Without ``picture``
    and with a ``weights_file`` that ends in ``.npz`` it needs numpy only. The files are made in a
    folder next to it and moved when all are complete, so that a failure leaves the files of an
    earlier run as they were.

    Raises
    ------
    UserError
        If the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
        try:
            text = json.dumps(numbers or summary(result), indent=2) + "\n"
            (staging / "result.json").write_text(text, encoding="utf-8")
            result.history.to_csv(staging / "history.csv")
            if picture:
                draw(result, staging / "curve.png")
            result.trainer.save(staging / weights_file)
            for path in sorted(staging.iterdir()):
                os.replace(path, folder / path.name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"The results cannot be written to {folder} ({reason}); choose another folder with "
            "--output."
        ) from error


def draw(result, path):
    """Draw loss and accuracy over the training steps into a PNG file."""
    # Without pyplot no window system is asked for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    history, settings = result.history, result.task.settings
    steps = [step.step for step in history.steps]
    blue, orange, grey = "#1f5fa8", "#d9730d", "#8a8f98"
    figure = Figure(figsize=(7.2, 5.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True)
    config = result.task.config
    figure.suptitle(
        f"Trained on the device: {config.array} array, {config.format}, {settings.device}",
        fontsize=11,
    )

    upper.plot(steps, history.losses, ".", color=blue, alpha=0.45, label="batch")
    upper.plot(steps, _smooth(history.losses), color=blue, label="running mean")
    upper.set_ylabel("loss")
    upper.set_ylim(bottom=0)
    upper.legend(frameon=False, fontsize=9)

    batches = [100 * step.correct / step.images for step in history.steps]
    lower.plot(steps, batches, ".", color=orange, alpha=0.45, label="batch, before its update")
    lower.plot(steps, _smooth(batches), color=orange, label="running mean")
    for name, score, style in (("before", history.before, ":"), ("after", history.after, "--")):
        if score is None:
            continue
        accuracy = 100 * score["accuracy"]
        label = f"test pictures {name}: {accuracy:.1f} %"
        lower.axhline(accuracy, color=grey, linestyle=style, linewidth=1.2, label=label)
    lower.set_ylabel("accuracy (%)")
    lower.set_xlabel("training step")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    lower.set_ylim(0, 102)
    lower.legend(frameon=False, fontsize=9, loc="lower right")

    ends = {step.epoch: step.step for step in history.steps}
    for axes in (upper, lower):
        for end in list(ends.values())[:-1]:
            axes.axvline(end + 0.5, color=grey, linewidth=0.6, alpha=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.2)
    # No version of the drawing library, so that equal runs draw equal files.
    figure.savefig(path, format="png", metadata={"Software": None})


def _smooth(values, keep=0.8):
    """Exponential running mean that starts without bias."""
    means, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        means.append(total / weight)
    return means
