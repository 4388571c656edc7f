"""``eftrain bench``."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from ..checks import check_count
from ..devices import DeviceError
from ..display import TimeLeftColumn
from ..errors import UserError
from ..files import check_files
from .options import Array, Format, core

FOLDER = Path("build/bench")
PAGE = Path("docs/performance.md")
STEP_NETWORK = "cifar-1x"
STEP_BATCHES = {STEP_NETWORK: 8, "resnet20": 8}
"""Pictures of a whole step; few where many layers make a step long."""
LAYER_NETWORK, LAYER_BATCH = "vgg16", 1


def command(
    rtl: Annotated[
        str | None,
        typer.Option(
            help="Run these layers at full size on the simulated gateware first: FP, BP and WU, "
            "values checked; 'all' runs a whole step, 'resnet20:all' one of another network. "
            "Commas between them.",
            metavar="LAYER[,LAYER...]",
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            help="Network of --rtl: a name or a file, as for plan. By default the layers of "
            f"{LAYER_NETWORK}, and a whole step of {STEP_NETWORK}.",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            help=f"Pictures of --rtl; by default {LAYER_BATCH} for layers and "
            f"{' or '.join(f'{count} ({name})' for name, count in STEP_BATCHES.items())} for a "
            "whole step."
        ),
    ] = None,
    array: Array = "16x16",
    format: Format = "fp32",
    jobs: Annotated[int, typer.Option(help="Runs of --rtl at a time.")] = 1,
    output: Annotated[
        Path, typer.Option(help="Folder of JSON files and pictures.", metavar="FOLDER")
    ] = FOLDER,
    page: Annotated[
        Path,
        typer.Option(
            help="Page whose tables and pictures are renewed, if it exists and the core is 16x16 "
            "fp32.",
            metavar="FILE",
        ),
    ] = PAGE,
):
    """Predict the training rate of four networks, and compare model and simulated gateware."""
    # Imported late, for the sake of the other commands: it takes a second.
    from ..bench.benchmark import RTL_FILE, load_measured, report, save_measured
    from ..bench.measure import run_tasks, tasks_of

    config = core(array, format)
    check_count(jobs, "jobs")
    if batch is not None:
        check_count(batch, "batch")
    if rtl is None and (network or batch):
        raise UserError("--network and --batch say what --rtl runs; give --rtl LAYER or all too.")
    check_files([output / RTL_FILE])
    load_measured(output)  # A damaged file is refused before the work.
    console = Console(highlight=False)
    if rtl is not None:
        tasks = tasks_of(
            _layers(rtl), network or LAYER_NETWORK, config, batch or LAYER_BATCH,
            network or STEP_NETWORK, batch or STEP_BATCHES,
        )  # fmt: skip
        runs = run_tasks(tasks, jobs, lambda line: console.print(line, markup=False))
        with _Runs(tasks, console) as display:
            for task, measured in runs:
                save_measured(output, measured)
                display.done(task, measured)
        wrong = [one.title for one in display.measured if one.values_right is False]
        if wrong:
            raise DeviceError(
                f"The simulated gateware gave wrong values in {', '.join(wrong)}; see "
                f"{output / RTL_FILE}."
            )
    renewed = page if page.is_file() and (array, format) == ("16x16", "fp32") else None
    found = report(config, output, lambda one: console.print(f"Predicting {one.title} ..."))
    written = found.write(renewed)
    _show(found, console)
    console.print(f"Wrote {len(written)} files to {output}.", soft_wrap=True)
    if renewed:
        console.print(f"Renewed the tables and pictures of {renewed}.", soft_wrap=True)


def _layers(text):
    layers = [layer.strip() for layer in text.split(",")]
    if not all(layers):
        raise UserError(f"--rtl {text!r} has an empty name; write it like conv1_1,conv2_1.")
    return layers


class _Runs:
    """Progress of runs on the RTL: a line a run, and a bar of predicted cycles."""

    def __init__(self, tasks, console):
        self._console = console
        self._bar = Progress(
            TextColumn("{task.fields[text]}"),
            BarColumn(),
            TimeLeftColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        cycles = sum(task.cycles for task in tasks)
        self._runs, self.measured = len(tasks), []
        self._finished = 0
        self._line = self._bar.add_task("", total=cycles, text=f"0 of {len(tasks)} runs")
        console.print(f"{len(tasks)} runs on the RTL, {cycles / 1e6:,.0f} million cycles.")

    def __enter__(self):
        self._started = time.monotonic()
        self._bar.start()
        return self

    def __exit__(self, *exception):
        self._bar.stop()

    def done(self, task, measured):
        """Count a run and print how the model did."""
        from ..bench.measure import worst

        self._finished += 1
        self.measured += measured
        whole = measured[-1]
        line = (
            f"  {whole.title}: {whole.rtl_cycles:,} cycles, model {whole.deviation:+.2%}, "
            f"error {whole.error:.1e}"
        )
        if len(measured) > 1:
            off = worst(measured)
            line += f"; worst pass {off.layer} {off.kind} {off.deviation:+.2%}"
        self._console.print(line, soft_wrap=True, markup=False)
        text = f"{self._finished} of {self._runs} runs"
        self._bar.update(self._line, advance=task.cycles, text=text)


def _show(found, console):
    from ..bench.tables import peak_sentence, worst_sentence

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("network", no_wrap=True)
    for name in ("batch", "GFLOPS", "target", "EF-Train", "array"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in found.results:
        target = result.target
        reached = "" if target is None or result.plan.gflops >= target else " missed"
        table.add_row(
            result.benchmark.title,
            str(result.plan.batch),
            f"{result.plan.gflops:.1f}",
            "" if target is None else f"{target:.1f}{reached}",
            f"{result.baseline_gflops:.1f}",
            f"{result.plan.share:.1%}",
        )
    console.print("")
    console.print(table)
    console.print("")
    console.print(peak_sentence(found.config), soft_wrap=True)
    if found.measured:
        console.print("Model against RTL: " + worst_sentence(found.measured), soft_wrap=True)
    if found.outdated:
        console.print(
            f"{found.outdated} earlier runs on the RTL are planned differently now and were left "
            "out; make bench-rtl repeats them.",
            soft_wrap=True,
        )
