"""``eftrain build``."""

from pathlib import Path
from typing import Annotated

import typer

from ..boards import BOARDS
from .options import Network, file_option


def command(
    network: Network,
    board: Annotated[str, typer.Option(help=f"Board: {', '.join(BOARDS)}.")],
    array: Annotated[
        str | None, typer.Option(help="Array; by default the board's own.", metavar="ROWSxLANES")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="Operands: fp32 or bf16; by default the board's own.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Pictures a step.")] = 16,
    epochs: Annotated[int, typer.Option(help="Times each picture is used.")] = 2,
    learning_rate: Annotated[float, typer.Option(help="Learning rate of SGD.")] = 0.05,
    momentum: Annotated[float, typer.Option(help="Momentum of SGD.")] = 0.6,
    seed: Annotated[int, typer.Option(help="Seed of the pictures' order.")] = 0,
    data: file_option("Pictures: an .npz file with x, y, x_test, y_test (digits: bundled).") = None,
    weights: file_option("Weights to start from (digits: the base network's).") = None,
    bitstream: Annotated[
        Path | None,
        typer.Option(
            help="Folder that `eftrain bitstream` wrote; by default its own.", metavar="FOLDER"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder to write; by default build/BOARD-NETWORK.", metavar="FOLDER"),
    ] = None,
):
    """Write the folder with which a board trains a network: copy it there and start run.sh."""
    from ..board_folder import BuildSettings, prepare, write

    settings = BuildSettings(
        network=network, board=board, array=array, format=format, epochs=epochs, batch_size=batch,
        learning_rate=learning_rate, momentum=momentum, seed=seed, data=data, weights=weights,
        bitstream=bitstream, output=output,
    )  # fmt: skip
    run = prepare(settings, on_status=print)
    write(run, settings.folder)
    print(
        f"Wrote {settings.folder}: {run.title} for {run.artefact.board}, {run.artefact.array} "
        f"{run.artefact.format}, {run.memory_bytes / 2**20:.1f} MiB of device memory."
    )
    serial = BOARDS[board].serial
    where = "--device serial:PORT here" if serial else "on the board, as root"
    print(f"Start {settings.folder}/run.sh {where}; it needs Python 3.10 or newer and numpy.")
