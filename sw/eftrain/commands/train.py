"""``eftrain train``."""

from pathlib import Path
from typing import Annotated

import typer

from .. import report
from ..display import Display
from ..finetune import WEIGHTS_FILE, Settings, finetune, numbers, prepare
from .options import (
    Batch,
    Classes,
    DeviceArray,
    DeviceFormat,
    DeviceName,
    Epochs,
    LearningRate,
    Model,
    Momentum,
    Output,
    Train,
)

# Any model and data: only the others are used.
DEFAULTS = Settings(model="", data="")


def command(
    model: Model,
    data: Annotated[
        Path,
        typer.Option(
            help="Pictures: a folder with one sub-folder a class, the folder of MNIST's or CIFAR's "
            "files, or an .npz file.",
            metavar="SOURCE",
        ),
    ],
    train: Train = None,
    classes: Classes = None,
    epochs: Epochs = DEFAULTS.epochs,
    batch_size: Batch = DEFAULTS.batch_size,
    learning_rate: LearningRate = DEFAULTS.learning_rate,
    momentum: Momentum = DEFAULTS.momentum,
    weight_decay: Annotated[
        float, typer.Option(help="Weight decay of SGD.")
    ] = DEFAULTS.weight_decay,
    lr_schedule: Annotated[
        str,
        typer.Option(
            help="Learning rate of the epochs: constant; step:N, a tenth after every N epochs; "
            "step:N:FACTOR; or cosine.",
            metavar="SCHEDULE",
        ),
    ] = DEFAULTS.lr_schedule,
    augment: Annotated[
        str,
        typer.Option(
            help="Random changes of training pictures: none, flip, crop=PIXELS, or both with a "
            "comma between.",
            metavar="TEXT",
        ),
    ] = DEFAULTS.augment,
    normalise: Annotated[
        str | None,
        typer.Option(
            help="Normalisation: none, mnist, cifar10, imagenet, or MEAN,.../STD,...; by default "
            "the model's, else the data's, else none.",
            metavar="TEXT",
        ),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out pictures that cannot be read.")
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Seed of new weights, the pictures' order and augmentation.")
    ] = DEFAULTS.seed,
    device: DeviceName = DEFAULTS.device,
    array: DeviceArray = None,
    format: DeviceFormat = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights to start from, instead of the model's.", metavar="FILE"),
    ] = None,
    output: Output = DEFAULTS.output,
):
    """Train a network, or a part of it, on your pictures, on the device."""
    settings = Settings(
        model=model, data=data, train=train, classes=classes, epochs=epochs, batch_size=batch_size,
        learning_rate=learning_rate, momentum=momentum, weight_decay=weight_decay,
        lr_schedule=lr_schedule, augment=augment, normalise=normalise, skip_bad=skip_bad, seed=seed,
        device=device, array=array, format=format, weights=weights, output=output,
    )  # fmt: skip
    report.check_output(settings.output)
    task = prepare(settings)

    def note(epoch):
        return f"  lr {task.optimizer(epoch - 1).lr:.3g}"

    action = f"Training {task.title} on"
    with Display(task, action=action, weights_file=WEIGHTS_FILE, note=note) as display:
        if task.dataset.skipped:
            display.status(task.dataset.skipped_text)
        result = finetune(task, on_status=display.status, on_step=display.step)
    report.write(result, settings.output, numbers=numbers(result), weights_file=WEIGHTS_FILE)
    display.finish(result)
