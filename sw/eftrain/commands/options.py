"""Options that several commands share, and what they mean."""

from pathlib import Path
from typing import Annotated

import typer

from eftrain_hdl.config import CoreConfig

from ..errors import UserError
from ..network_file import HELP

Array = Annotated[str, typer.Option(help="Array size: 4x4, 8x8 or 16x16.", metavar="ROWSxLANES")]
Format = Annotated[str, typer.Option(help="Number format of the array: fp32 or bf16.")]
Batch = Annotated[int, typer.Option(help="Pictures a step.")]
Network = Annotated[str, typer.Argument(help=HELP, metavar="NETWORK")]


def core(array, format):
    """The configuration; ``UserError`` if there is no such core."""
    try:
        return CoreConfig.parse(array, format)
    except ValueError as error:
        raise UserError(str(error)) from None


def file_option(text, **options):
    """An optional output file."""
    return Annotated[Path | None, typer.Option(help=text, metavar="FILE", **options)]
