"""``eftrain doctor``."""

from pathlib import Path
from typing import Annotated

import typer

from ..devices.open import NAMES


def command(
    device: Annotated[
        str, typer.Option(help=f"What to check: {', '.join(NAMES)}.", metavar="DEVICE")
    ] = "sim",
    artefact: Annotated[
        Path | None,
        typer.Option(
            help="Folder of `eftrain bitstream` or `eftrain build` to compare the device with.",
            metavar="FOLDER",
        ),
    ] = None,
    array: Annotated[
        str | None, typer.Option(help="Array of a simulated device.", metavar="ROWSxLANES")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="Number format of a simulated device: fp32 or bf16.")
    ] = None,
):
    """Check a device and what it needs: one line each, and how to mend what is not fine."""
    from ..doctor import examine, show

    checks = examine(device, artefact=artefact, array=array, format=format, on_status=print)
    # The exit code: 1 if something is not fine.
    return show(checks)
