"""``eftrain profile``."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from ..checks import check_count
from ..display import TimeLeftColumn
from ..files import check_files, write_files
from ..network_file import HELP, load_network
from .options import Array, Batch, Format, core


def command(
    network: Annotated[str, typer.Argument(help=HELP, metavar="NETWORK")] = "digits",
    array: Array = "8x8",
    format: Format = "fp32",
    batch: Batch = 16,
    interval: Annotated[int, typer.Option(help="Cycles between two samples.")] = 256,
    output: Annotated[
        Path, typer.Option(help="The trace, for https://ui.perfetto.dev.", metavar="FILE")
    ] = Path("build/profile.json"),
):
    """Run one training step on the simulated gateware; show what the array waited for.

    The pictures are random numbers: what takes how long does not depend on them.
    """
    # Imported late, for the sake of the other commands.
    from ..profile.run import plan_profile, profile

    config = core(array, format)
    check_count(batch, "batch")
    check_count(interval, "interval")
    check_files([output])
    step = plan_profile(*load_network(network), config, batch)
    console = Console(highlight=False)
    console.print(
        f"One training step of {step.network} at batch {batch} on sim: {config.array} array, "
        f"{config.format}; about {step.cycles:,} cycles.",
        soft_wrap=True,
    )
    bar = Progress(
        TextColumn("simulating"),
        BarColumn(),
        TimeLeftColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    line = bar.add_task("", total=step.cycles)
    with bar:
        found = profile(
            step,
            interval,
            on_status=lambda text: console.print(text, markup=False),
            on_sample=lambda sample: bar.update(line, completed=sample.cycles),
        )
    write_files({output: json.dumps(found.trace) + "\n"})
    _show(found, console)
    console.print(f"Wrote {output}; open it at https://ui.perfetto.dev.", soft_wrap=True)


def _show(found, console):
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("the array")
    table.add_column("cycles", justify="right")
    table.add_column("", justify="right")
    for text, cycles in found.breakdown:
        table.add_row(text, f"{cycles:,}", f"{cycles / found.cycles:.1%}")
    table.add_row("all cycles", f"{found.cycles:,}", "100.0%")
    console.print("")
    console.print(table)
    console.print("")
