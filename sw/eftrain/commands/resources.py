"""``eftrain resources``."""

from typing import Annotated

import typer

from .options import Array, Format, file_option


def command(
    array: Array = "8x8",
    format: Format = "fp32",
    target: Annotated[
        str, typer.Option(help="FPGA family: xcup (UltraScale+), xc7 (7-series) or ecp5.")
    ] = "xcup",
    part: Annotated[
        str | None,
        typer.Option(help="Also give the share of a board's part: zcu102, pynq-z1 or ulx3s."),
    ] = None,
    batch_norm: Annotated[bool, typer.Option(help="With the units for batch-norm.")] = True,
    json: file_option("Also write the numbers as JSON.") = None,
):
    """Estimate with yosys what a core takes of an FPGA; nothing is placed or timed."""
    from ..resources import run

    run(array=array, format=format, target=target, part=part, batch_norm=batch_norm, json=json)
