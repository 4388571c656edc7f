"""What a run shows: status lines, a progress bar, one line a stage, a table."""

import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from .report import WEIGHTS_FILE


class Display:
    """Follows one run; a context manager around it.

    The bar counts multiply-adds, so that it moves evenly through testing and training. Where the
    output is no terminal there is no bar, only the lines.

    Parameters
    ----------
    task : eftrain.workload.Workload
        Of ``personalize`` or ``finetune``.
    console : rich.console.Console, optional
    action : str
        What is done with the pictures; begins the first line.
    weights_file : str
        Named at the end.
    note : callable, optional
        Gives what is added to the line of an epoch, from its number.
    """

    def __init__(
        self,
        task,
        console=None,
        *,
        action="Adapting to",
        weights_file=WEIGHTS_FILE,
        note=None,
    ):
        self._task = task
        self._action, self._weights_file, self._note = action, weights_file, note
        self._console = console or Console(highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[numbers]}", table_column=Column(no_wrap=True)),
            TimeLeftColumn(table_column=Column(no_wrap=True)),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._bar = None
        self._stage = None
        self._done = 0
        self._started = None
        self.seconds = 0.0

    def __enter__(self):
        task, settings = self._task, self._task.settings
        images, tests = task.counts
        testing = f"testing on {tests}, " if tests else ""
        self._print(
            f"{self._action} {images} pictures, {testing}on {settings.device}: "
            f"{task.config.array} array, {task.config.format}."
        )
        batches = -(-images // settings.batch_size)
        self._steps = batches * settings.epochs
        return self

    def __exit__(self, kind, *exception):
        if kind is None:
            self._end_stage()
        self._progress.stop()
        if self._started is not None:
            self.seconds = time.monotonic() - self._started

    def status(self, line):
        """Show a step of the device's build."""
        self._print(line)

    def step(self, step):
        """Count one batch."""
        if self._bar is None:
            self._started = time.monotonic()
            self._progress.start()
            self._bar = self._progress.add_task("", total=self._task.total_work, numbers="")
        name = f"epoch {step.epoch}/{self._task.settings.epochs}"
        if step.section != "train":
            name = f"test {step.section}"
        if self._stage is None or self._stage.name != name:
            self._end_stage()
            note = self._note(step.epoch) if self._note and step.section == "train" else ""
            self._stage = _Stage(name, note)
        self._stage.add(step)
        self._done += self._task.work(step.section, step.images)
        numbers = f"{self._stage.numbers}  {step.cycles / 1e6:.1f} Mcycles"
        if step.section == "train":
            numbers = f"step {step.step}/{self._steps}  {numbers}"
        self._progress.update(self._bar, description=name, completed=self._done, numbers=numbers)

    def finish(self, result):
        """Show the table and where the files are."""
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
        for row in self._rows(result):
            table.add_row(*row)
        self._print("")
        self._console.print(table)
        self._print("")
        if result.history.nonfinite:
            self._print("Inf or NaN appeared on the device: try a smaller --learning-rate.")
        folder = result.task.settings.output
        self._print(
            f"Wrote result.json, history.csv, curve.png and {self._weights_file} to {folder}."
        )

    def _rows(self, result):
        history = result.history
        tests = result.task.counts[1]
        if tests:
            yield f"accuracy before, {tests} test pictures", f"{history.before['accuracy']:.1%}"
            yield f"accuracy after, {tests} test pictures", f"{history.after['accuracy']:.1%}"
        yield "training steps", f"{len(history.steps)}"
        yield "cycles, tests included" if tests else "cycles", f"{history.cycles:,}"
        yield "multiply-adds of the training", f"{result.task.dense_macs:,}"
        yield "time of the simulation", f"{self.seconds:.0f} s"

    def _end_stage(self):
        if self._stage is not None:
            self._print(self._stage.line)
            self._stage = None

    def _print(self, line):
        self._console.print(escape(line), soft_wrap=True)


class TimeLeftColumn(TimeRemainingColumn):
    """Remaining time, said to be that."""

    def render(self, task):
        return Text.assemble(super().render(task), " left")


class _Stage:
    """Running means of one test or one epoch."""

    def __init__(self, name, note=""):
        self.name, self._note = name, note
        self._loss = 0.0
        self._correct = 0
        self._images = 0
        self._cycles = 0

    def add(self, step):
        self._loss += step.loss * step.images
        self._correct += step.correct
        self._images += step.images
        self._cycles = step.cycles

    @property
    def numbers(self):
        return f"loss {self._loss / self._images:.3f}  accuracy {self._correct / self._images:.1%}"

    @property
    def line(self):
        cycles = f"{self._cycles:>12,} cycles so far"
        return f"  {self.name:<11}  {self.numbers:<27} {cycles}{self._note}"
