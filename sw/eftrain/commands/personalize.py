"""``eftrain personalize``."""

from pathlib import Path
from typing import Annotated

import typer

from .. import report
from ..display import Display
from ..personalize import Settings, personalize, prepare
from .options import (
    Batch,
    DeviceArray,
    DeviceFormat,
    DeviceName,
    Epochs,
    LearningRate,
    Momentum,
    Output,
)

DEFAULTS = Settings()


def command(
    array: DeviceArray = DEFAULTS.array,
    format: DeviceFormat = DEFAULTS.format,
    device: DeviceName = DEFAULTS.device,
    samples: Annotated[
        int | None, typer.Option(help="Use only so many pictures of each set.", metavar="N")
    ] = DEFAULTS.samples,
    epochs: Epochs = DEFAULTS.epochs,
    batch_size: Batch = DEFAULTS.batch_size,
    learning_rate: LearningRate = DEFAULTS.learning_rate,
    momentum: Momentum = DEFAULTS.momentum,
    seed: Annotated[int, typer.Option(help="Seed of the pictures' order.")] = DEFAULTS.seed,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Your pictures instead of the bundled ones: an .npz file with x, y, x_test and "
            "y_test; 8x8 pictures from 0 to 1, labels 0 to 9.",
            metavar="FILE.npz",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights to start from, instead of the base network's.", metavar="FILE"),
    ] = None,
    output: Output = DEFAULTS.output,
):
    """Adapt the bundled digit classifier to a new user's handwriting, on the device."""
    settings = Settings(
        array=array, format=format, device=device, samples=samples, epochs=epochs,
        batch_size=batch_size, learning_rate=learning_rate, momentum=momentum, seed=seed,
        data=data, weights=weights, output=output,
    )  # fmt: skip
    report.check_output(settings.output)
    task = prepare(settings)
    with Display(task) as display:
        result = personalize(task, on_status=display.status, on_step=display.step)
    report.write(result, settings.output)
    display.finish(result)
