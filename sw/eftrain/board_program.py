"""Runs on a board what ``eftrain build`` wrote for it: ``python3 -m eftrain.board_program FOLDER``.

Needs Python and numpy, nothing else. The program of a run holds addresses, and a board learns only
now where its buffer lies; so it is planned here, from network, data and settings, and compared
with ``program.bin``, which was planned where the folder was written, descriptor by descriptor.

================ ==================================================================================
``config.json``  the bitstream that the run is for; see :mod:`eftrain.artefact`
``eftrain.bit``  the bitstream, if there was one; with it ``.hwh`` and ``.dtbo`` or ``.dtso``
``run.json``     network's title and the settings
``network.json`` the layers; see :mod:`eftrain.graph_file`
``weights.npz``  the weights to start from
``data.npz``     x, y, x_test, y_test
``program.bin``  the program for a memory at ``memory_base`` of ``run.json``
``python/``      this package
``run.sh``       starts this module; ``doctor.sh`` starts ``eftrain.doctor``
``results/``     made here: result.json, history.csv, personalised.npz
================ ==================================================================================
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from eftrain_hdl.isa import DESCRIPTOR_BYTES, decode, encode

from . import report
from .artefact import Artefact
from .boards import find
from .checks import check_count, check_labels, check_pictures
from .devices.base import DeviceError
from .devices.open import Target, resolve
from .errors import UserError
from .graph import Graph
from .graph_file import graph_from_json
from .job import Job
from .optim import SGD
from .personalize import Settings, Task, personalize, read_data
from .plan.schedule import Schedule
from .trainer import fit_sections
from .weights_file import load_weights

__all__ = ["BoardRun", "main", "open_on_chip", "relocated", "run"]

RUN, NETWORK, WEIGHTS = "run.json", "network.json", "weights.npz"
DATA, PROGRAM, RESULTS = "data.npz", "program.bin", "results"
OVERLAY, OVERLAY_SOURCE = "eftrain.dtbo", "eftrain.dtso"

ON_CHIP = ("uio", "pynq")
"""Names of the devices for a core on this computer's own logic."""


@dataclass(frozen=True)
class BoardRun:
    """What a folder says.

    Attributes
    ----------
    title : str
    artefact : Artefact
    graph : Graph
        With weights.
    train, test : tuple
        ``(x, y)``.
    epochs, batch_size, seed : int
    learning_rate, momentum : float
    memory_base, memory_bytes : int
        Where ``program.bin`` was planned for, and how much memory the run needs.
    program : bytes
    """

    title: str
    artefact: Artefact
    graph: Graph
    train: tuple
    test: tuple
    epochs: int
    batch_size: int
    seed: int
    learning_rate: float
    momentum: float
    memory_base: int
    memory_bytes: int
    program: bytes

    @classmethod
    def read(cls, folder):
        """Read and check all files of a folder.

        Raises
        ------
        UserError
            If one is missing or damaged, or they do not belong together.
        """
        folder = Path(folder)
        artefact = Artefact.read(folder)
        artefact.verify()
        settings = _settings(folder / RUN)
        layers = graph_from_json(_text(folder / NETWORK), where=str(folder / NETWORK))
        weights = load_weights(folder / WEIGHTS, layers.layers)
        graph = Graph(layers.input_shape, layers.layers, weights, layers.names)
        sets = []
        for suffix, (x, y) in read_data(folder / DATA).items():
            x = check_pictures(x, graph.input_shape, f"x{suffix}")
            sets.append((x, check_labels(y, len(x), graph.classes, f"y{suffix}")))
        program = _bytes(folder / PROGRAM)
        return cls(artefact=artefact, graph=graph, train=sets[0], test=sets[1], program=program,
                   **settings)  # fmt: skip

    @property
    def optimizer(self):
        return SGD(lr=self.learning_rate, momentum=self.momentum)

    def plan(self, base, size):
        """The ``Job`` of this run in ``size`` bytes of memory from ``base`` on."""
        sections = fit_sections(self.epochs, self.batch_size, len(self.train[0]), len(self.test[0]))
        schedule = Schedule(self.graph, self.artefact.config, self.optimizer)
        return Job(schedule, list(sections.values()), base, size)

    def check_program(self, device):
        """Plan for the device's memory, and compare with ``program.bin``.

        Raises
        ------
        UserError
            If the run does not fit the memory, or the two programs differ in more than addresses.
        """
        job = self.plan(device.memory_base, device.memory_size)
        if relocated(self.program, job.memory.base - self.memory_base) != job.program:
            raise UserError(
                f"The program that this package plans is not the one in {PROGRAM}; use the package "
                "in the folder's python/, or write the folder again with `eftrain build`."
            )
        return job


def _text(path):
    return _bytes(path).decode("utf-8", "replace")


def _bytes(path):
    try:
        return path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"{path} cannot be read ({reason}); copy the folder again, or write it again with "
            "`eftrain build`."
        ) from None


_NUMBERS = {
    "epochs": int, "batch_size": int, "seed": int, "learning_rate": (int, float),
    "momentum": (int, float), "memory_base": int, "memory_bytes": int,
}  # fmt: skip


def _settings(path):
    try:
        entries = json.loads(_text(path))
        settings = {name: entries[name] for name in ("title", *_NUMBERS)}
        if not all(isinstance(settings[name], kind) for name, kind in _NUMBERS.items()):
            raise ValueError("an entry is no number")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} does not describe a run ({type(error).__name__}: {error}); write the folder "
            "again with `eftrain build`."
        ) from None
    for name in ("epochs", "batch_size"):
        check_count(settings[name], name)
    SGD(lr=settings["learning_rate"], momentum=settings["momentum"])
    return settings


def relocated(program, distance):
    """A program whose tensors all lie ``distance`` bytes further on.

    Addresses of zero stay: they belong to tensors that a descriptor does not have.
    """
    result = []
    for place in range(0, len(program), DESCRIPTOR_BYTES):
        opcode, flags, values = decode(program[place : place + DESCRIPTOR_BYTES])
        for name, value in values.items():
            if name.endswith("_base") and value:
                values[name] = value + distance
        result.append(encode(opcode, flags, **values))
    return b"".join(result)


def open_on_chip(artefact, *, kind=None, size=None, root="/"):
    """Open the core on this computer's logic.

    Parameters
    ----------
    artefact : Artefact
    kind : str, optional
        ``"uio"`` or ``"pynq"``; by default PYNQ where it is installed.
    size : int, optional
        Bytes to allocate with PYNQ; the artefact's, if it is not given.
    root : path
        Where ``dev`` and ``sys`` are.
    """
    from .devices.pynq import PynqDevice, available
    from .devices.uio import UioDevice

    if kind == "pynq" or (kind is None and available()):
        return PynqDevice(
            artefact.bitstream_path,
            size=size or artefact.memory["size"],
            clock_hz=artefact.clock_hz,
        )
    return UioDevice(clock_hz=artefact.clock_hz, root=root)


def load(artefact, root="/"):
    """Load the folder's bitstream through the FPGA manager, with its overlay if there is one.

    Raises
    ------
    UserError
        If the folder has no bitstream.
    DeviceError
        If it cannot be loaded.
    """
    from .devices.fpga_manager import compile_overlay, load_bitstream, load_overlay

    bitstream = artefact.bitstream_path
    if bitstream is None:
        raise UserError(
            f"The folder {artefact.folder} has no bitstream; build it with `eftrain bitstream "
            f"{artefact.board}`, then write the folder again."
        )
    overlay, source = (artefact.folder / name for name in (OVERLAY, OVERLAY_SOURCE))
    if source.is_file() and not overlay.is_file():
        compile_overlay(source, overlay)
    if overlay.is_file():
        load_overlay(overlay, bitstream, root)
    else:
        load_bitstream(bitstream, root)


def run(folder, *, device=None, root="/", with_bitstream=False, open_device=None, say=print):
    """Train as the folder says and write ``results/``.

    Parameters
    ----------
    folder : path
    device : str, optional
        ``uio``, ``pynq`` or a name of ``devices.open``; by default the board's own.
    root : path
        Where ``dev``, ``sys`` and ``lib/firmware`` are.
    with_bitstream : bool
        Load the folder's bitstream first.
    open_device : callable, optional
        Gives the device, instead of ``device``.
    say : callable
        Takes the lines of the output.

    Returns
    -------
    eftrain.personalize.Result
    """
    plan = BoardRun.read(folder)
    artefact = plan.artefact
    report.check_output(Path(folder) / RESULTS)
    if with_bitstream:
        load(artefact, root)
    opened = open_device or _opener(plan, device, root)

    def open_checked(config, on_status):
        found = opened()
        try:
            artefact.check_device(found)
            job = plan.check_program(found)
        except BaseException:
            found.close()
            raise
        say(
            f"{job.descriptors} descriptors, {job.memory.used / 2**20:.1f} of "
            f"{found.memory_size / 2**20:.1f} MiB from 0x{found.memory_base:08x}."
        )
        return found

    name = device or artefact.board
    settings = Settings(
        array=artefact.array, format=artefact.format, device=name, epochs=plan.epochs,
        batch_size=plan.batch_size, learning_rate=plan.learning_rate, momentum=plan.momentum,
        seed=plan.seed, output=Path(folder) / RESULTS,
    )  # fmt: skip
    target = Target(name, open_checked, (artefact.array, artefact.format))
    task = Task(
        settings, target, artefact.config, plan.graph, plan.optimizer, plan.train, plan.test
    )
    say(
        f"{plan.title} on {find(artefact.board).title}, {artefact.array} array, {artefact.format}: "
        f"{len(plan.train[0])} pictures, {len(plan.test[0])} to test, {plan.epochs} epochs."
    )
    result = personalize(task, on_step=_Lines(plan, say))
    report.write(result, settings.output, picture=False, weights_file="personalised.npz")
    before, after = result.history.before["accuracy"], result.history.after["accuracy"]
    say(f"Accuracy {before:.1%} before, {after:.1%} after; {result.history.cycles:,} cycles.")
    say(f"Wrote result.json, history.csv and personalised.npz to {settings.output}.")
    return result


def _opener(plan, device, root):
    """Function without arguments that opens the device."""
    artefact = plan.artefact
    if device in ON_CHIP or device in (None, artefact.board) and not find(artefact.board).serial:
        kind = device if device in ON_CHIP else None
        size = max(1, -(-plan.memory_bytes >> 20)) << 20
        return lambda: open_on_chip(artefact, kind=kind, size=size, root=root)
    target = resolve(device or artefact.board)
    return lambda: target.open(artefact.config, print)


class _Lines:
    """One line a test and an epoch."""

    def __init__(self, plan, say):
        test = -(-len(plan.test[0]) // plan.batch_size)
        train = -(-len(plan.train[0]) // plan.batch_size)
        self._ends = {"before": test, "train": train, "after": test}
        self._epochs, self._say, self._steps = plan.epochs, say, []

    def __call__(self, step):
        self._steps.append(step)
        if step.step % self._ends[step.section]:
            return
        images = sum(s.images for s in self._steps)
        loss = sum(s.loss * s.images for s in self._steps) / images
        right = sum(s.correct for s in self._steps) / images
        name = f"test {step.section}"
        if step.section == "train":
            name = f"epoch {step.epoch}/{self._epochs}"
        self._say(f"  {name:<12} loss {loss:.3f}  accuracy {right:.1%}")
        self._steps = []


def main(arguments=None, **options):
    """Run the command line; returns the exit code as of ``eftrain``: 0, 1, 2 or 130."""
    parser = argparse.ArgumentParser(
        prog="run.sh", description="Train on this board what the folder was written for."
    )
    parser.add_argument("folder", type=Path, help="a folder that `eftrain build` wrote")
    parser.add_argument("--device", help="uio, pynq or serial:PORT; by default the board's own")
    parser.add_argument("--load", action="store_true", help="load the folder's bitstream first")
    parser.add_argument("--root", default="/", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    try:
        run(
            given.folder, device=given.device, root=given.root, with_bitstream=given.load, **options
        )
    except DeviceError as error:
        return _fail(error, 1)
    except UserError as error:
        return _fail(error, 2)
    except KeyboardInterrupt:
        return _fail("Interrupted; no results were written.", 130)
    return 0


def _fail(message, code):
    print(f"eftrain: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
