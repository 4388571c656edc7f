"""``eftrain personalize``."""

from pathlib import Path
from typing import Annotated

import typer

from .. import report
from ..devices.open import NAMES
from ..display import Display
from ..personalize import Settings, personalize, prepare

DEFAULTS = Settings()


def command(
    array: Annotated[
        str | None,
        typer.Option(help="Array size; by default the device's, or 8x8.", metavar="ROWSxLANES"),
    ] = DEFAULTS.array,
    format: Annotated[
        str | None, typer.Option(help="Number format: fp32 or bf16; by default the device's.")
    ] = DEFAULTS.format,
    device: Annotated[
        str, typer.Option(help=f"Where to run: {', '.join(NAMES)}.", metavar="DEVICE")
    ] = DEFAULTS.device,
    samples: Annotated[
        int | None, typer.Option(help="Use only so many pictures of each set.", metavar="N")
    ] = DEFAULTS.samples,
    epochs: Annotated[int, typer.Option(help="Times each picture is used.")] = DEFAULTS.epochs,
    batch_size: Annotated[int, typer.Option(help="Pictures a step.")] = DEFAULTS.batch_size,
    learning_rate: Annotated[
        float, typer.Option(help="Learning rate of SGD.")
    ] = DEFAULTS.learning_rate,
    momentum: Annotated[float, typer.Option(help="Momentum of SGD.")] = DEFAULTS.momentum,
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
    output: Annotated[
        Path, typer.Option(help="Folder of the results.", metavar="FOLDER")
    ] = DEFAULTS.output,
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
