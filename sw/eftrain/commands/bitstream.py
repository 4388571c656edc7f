"""``eftrain bitstream``."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    board: Annotated[
        str,
        typer.Argument(
            help="Board: ulx3s, zcu102, pynq-z1, or a module or class of amaranth-boards with an "
            "ECP5-85F."
        ),
    ],
    array: Annotated[
        str | None, typer.Option(help="Array, ROWSxLANES; the board's own if it is not given.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(help="Operands: fp32 or bf16; the board's own if it is not given."),
    ] = None,
    batch_norm: Annotated[
        bool | None,
        typer.Option(help="Units for batch-norm; as the part has room if it is not given."),
    ] = None,
    clock: Annotated[
        float | None,
        typer.Option(metavar="MHZ", help="Clock to ask for; the board's own if it is not given."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=1, help="Seed of placement (ECP5); without it, up to four are tried."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results; build/BOARD if it is not given.")
    ] = None,
    project_only: Annotated[
        bool, typer.Option("--project-only", help="Write the Vivado project and stop (Zynq).")
    ] = False,
):
    """Build the bitstream of a board (or, without Vivado, the project for a Zynq board)."""
    from ..bitstream import run

    run(
        board, array=array, format=format, batch_norm=batch_norm, clock=clock, seed=seed,
        output=output, project_only=project_only,
    )  # fmt: skip
