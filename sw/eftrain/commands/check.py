"""``eftrain check``."""

import json as json_format

from rich.console import Console
from rich.table import Table

from ..checks import check_count
from ..files import check_files, write_files
from ..graph import select, with_classes
from ..network_file import load_network
from ..plan.check import Verdict, check_network
from ..plan.report import CLOCK_HZ
from .options import Array, Batch, Classes, Format, Model, Train, core, file_option

_VERDICTS = {
    Verdict.TRAINABLE: "can be trained",
    Verdict.LIMITED: "can be trained, with limits",
    Verdict.NOT_TRAINABLE: "cannot be trained",
}


def command(
    model: Model,
    array: Array = "16x16",
    format: Format = "fp32",
    batch: Batch = 16,
    train: Train = None,
    classes: Classes = None,
    json: file_option("Also write all of it as JSON.") = None,
):
    """Say of every layer whether it runs and trains, and what a training step needs; run nothing.

    Exit code: 0 the network can be trained; 1 it can, with the limits listed; 2 it cannot, or the
    input is wrong.
    """
    config = core(array, format)
    check_count(batch, "batch")
    check_files([json] if json else [])
    network, graph = load_network(model)
    if classes is not None:
        graph = with_classes(graph, classes)
    if train is not None:
        graph = select(graph, train)
    found = check_network(network, graph, config, batch, chosen=train is not None)
    if json:
        write_files({json: json_format.dumps(found.as_dict(), indent=2) + "\n"})
    show(found, Console(highlight=False))
    if json:
        print(f"Wrote {json}.")
    return int(found.verdict)


def show(found, console):
    """Print a ``Check``: the answer, the layers, what stands against them, memory and cycles."""

    def line(text=""):
        console.print(text, soft_wrap=True, markup=False)

    core_name = f"a {found.config.array} array, {found.config.format}"
    line(f"{found.network} {_VERDICTS[found.verdict]} on {core_name}.\n")
    _show_layers(found.layers, console)
    for title, sentences in (("Problems", found.problems), ("Limits", found.limits)):
        if sentences:
            line(f"\n{title}:")
        for sentence in sentences:
            line(f"- {sentence}")
    step = found.step
    if not step:
        return
    total = sum(step.footprint.values())
    line(f"\nMemory of a training step at batch {step.batch}:")
    table = _table(("kind", "left"), ("bytes", "right"))
    for kind, size in (*step.footprint.items(), ("total", total)):
        table.add_row(kind, f"{size:,}")
    console.print(table)
    milliseconds = 1e3 * step.cycles / CLOCK_HZ
    line(f"\nCycles a step, predicted: {step.cycles:,}, {milliseconds:,.1f} ms at 100 MHz.")
    for saving in found.savings:
        line(
            f"--train {saving.train} saves {saving.cycles:,} cycles "
            f"({saving.cycles / step.cycles:.0%}) and {saving.bytes:,} bytes "
            f"({saving.bytes / total:.0%})."
        )


def _show_layers(layers, console):
    table = _table(
        ("layer", "left"), ("kind", "left"), ("output", "right"), ("parameters", "right"),
        ("forward", "left"), ("training", "left"),
    )  # fmt: skip
    for layer in layers:
        shape = "x".join(str(size) for size in layer.shape)
        count = f"{layer.parameters:,}" if layer.parameters else ""
        table.add_row(
            layer.name, layer.kind, shape, count, "yes" if layer.forward else "no", layer.training
        )
    console.print(table)


def _table(*columns):
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, side in columns:
        table.add_column(name, justify=side, no_wrap=True)
    return table
