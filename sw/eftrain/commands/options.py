"""Options that several commands share, and what they mean."""

from pathlib import Path
from typing import Annotated

import typer

from eftrain_hdl.config import CoreConfig

from ..devices.open import NAMES
from ..errors import UserError
from ..network_file import HELP

Array = Annotated[str, typer.Option(help="Array size: 4x4, 8x8 or 16x16.", metavar="ROWSxLANES")]
Format = Annotated[str, typer.Option(help="Number format of the array: fp32 or bf16.")]
Batch = Annotated[int, typer.Option(help="Pictures a step.")]
Network = Annotated[str, typer.Argument(help=HELP, metavar="NETWORK")]
Model = Annotated[str, typer.Argument(help=HELP, metavar="MODEL")]

Train = Annotated[
    str | None,
    typer.Option(
        help="What is trained: all, bias, last:N (the last N layers with parameters), or patterns "
        'of layer names such as "layer3.*,fc". Without it, what the file says (requires_grad).',
        metavar="WHAT",
    ),
]
Classes = Annotated[
    int | None, typer.Option(help="Replace the last layer, for so many classes.", metavar="N")
]

# Of commands that run on a device.
DeviceName = Annotated[
    str, typer.Option(help=f"Where to run: {', '.join(NAMES)}.", metavar="DEVICE")
]
DeviceArray = Annotated[
    str | None,
    typer.Option(help="Array size; by default the device's, or 8x8.", metavar="ROWSxLANES"),
]
DeviceFormat = Annotated[
    str | None, typer.Option(help="Number format: fp32 or bf16; by default the device's.")
]
Epochs = Annotated[int, typer.Option(help="Times each picture is used.")]
LearningRate = Annotated[float, typer.Option(help="Learning rate of SGD.")]
Momentum = Annotated[float, typer.Option(help="Momentum of SGD.")]
Output = Annotated[Path, typer.Option(help="Folder of the results.", metavar="FOLDER")]


def core(array, format):
    """The configuration; ``UserError`` if there is no such core."""
    try:
        return CoreConfig.parse(array, format)
    except ValueError as error:
        raise UserError(str(error)) from None


def file_option(text, **options):
    """An optional output file."""
    return Annotated[Path | None, typer.Option(help=text, metavar="FILE", **options)]
