"""``eftrain plan``."""

import json as json_format

from rich.console import Console
from rich.table import Table

from ..checks import check_count
from ..files import check_files, write_files
from ..network_file import load_network
from ..plan.report import CLOCK_HZ, plan_step
from .options import Array, Batch, Format, Network, core, file_option


def command(
    network: Network,
    array: Array = "16x16",
    format: Format = "fp32",
    batch: Batch = 16,
    csv: file_option("Also write the rows as CSV.") = None,
    json: file_option("Also write rows, totals and memory as JSON.") = None,
):
    """Predict the cycles and memory of one training step; nothing is run."""
    config = core(array, format)
    check_count(batch, "batch")
    check_files([path for path in (csv, json) if path])
    step = plan_step(*load_network(network), config, batch)
    files = {}
    if csv:
        files[csv] = step.as_csv()
    if json:
        files[json] = json_format.dumps(step.as_dict(), indent=2) + "\n"
    write_files(files)
    show(step, Console(highlight=False))
    for path in files:
        print(f"Wrote {path}.")


def show(step, console):
    """Print the table of a ``StepPlan``, its totals and its memory."""
    console.print(
        f"One training step of {step.network} at batch {step.batch}, predicted for a "
        f"{step.config.array} array, {step.config.format}.\n",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("layer", "pass"):
        table.add_column(name, no_wrap=True)
    for name in ("cycles", "array", "GFLOPS", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("bound by", no_wrap=True)
    for row in step.rows:
        table.add_row(
            row.layer,
            row.kind,
            f"{row.cycles:,}",
            f"{row.share:.1%}",
            f"{row.gflops:.1f}" if row.macs else "",
            f"{sum(row.port_bytes.values()) / 1e6:,.2f}" if row.port_bytes else "",
            row.bound,
        )
    console.print(table)
    moved = sum(sum(row.port_bytes.values()) for row in step.rows)
    memory = {name: size / 2**20 for name, size in step.memory.items()}
    parts = ", ".join(f"{name} {size:.1f}" for name, size in memory.items())
    milliseconds = 1e3 * step.cycles / CLOCK_HZ
    for line in (
        "",
        f"cycles       {step.cycles:,}, {milliseconds:,.1f} ms at 100 MHz",
        f"dense MACs   {step.macs:,}, {step.gflops:.1f} nominal GFLOPS",
        f"array share  {step.share:.1%} of the cycles",
        f"moved        {moved / 1e6:,.1f} MB",
        f"memory       {sum(memory.values()):,.1f} MiB: {parts}",
    ):
        console.print(line, soft_wrap=True, markup=False)
    if any(row.share > 1 for row in step.rows):
        console.print(
            "\nA pass begins while the one before it drains, and only the cycles that it adds are "
            "its own: the array's share of those can exceed 100%.",
            soft_wrap=True,
        )
