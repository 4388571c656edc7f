"""Runs on a board what ``eftrain build`` wrote for it: ``python3 -m eftrain.board_program FOLDER``.

Needs Python and numpy, nothing else. The program of a run holds addresses, and a board learns only
now where its buffer lies; so it is planned here, from network, data and settings, and compared
with ``program.bin``, which was planned where the folder was written, descriptor by descriptor.
What is in the folder: :mod:`eftrain.board_run`.
"""

import argparse
import sys
from pathlib import Path

from . import report
from .board_run import RESULTS, BoardRun
from .boards import BOARDS, find
from .devices.base import DeviceError
from .devices.open import SERIAL, Target, resolve
from .errors import UserError
from .personalize import Settings, Task, personalize

__all__ = ["load", "main", "open_board", "open_on_chip", "run"]

OVERLAY, OVERLAY_SOURCE = "eftrain.dtbo", "eftrain.dtso"

ON_CHIP = ("uio", "pynq")
"""Names of the devices for a core on this computer's own logic."""


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


def open_board(artefact, device=None, *, size=None, root="/", on_status=None):
    """Open the device that is to hold the artefact's core.

    Parameters
    ----------
    artefact : Artefact
    device : str, optional
        ``uio``, ``pynq`` or a name of ``devices.open``; by default the artefact's board.
    size, root
        As for :func:`open_on_chip`.
    on_status : callable, optional
        Called with a line of text while a simulated device is built.
    """
    device = device or artefact.board
    if device in ON_CHIP:
        return open_on_chip(artefact, kind=device, size=size, root=root)
    if device in BOARDS and not BOARDS[device].serial:
        return open_on_chip(artefact, size=size, root=root)
    if device.startswith(SERIAL) and artefact.serial:
        from .devices.serial import SerialDevice

        return SerialDevice(device.removeprefix(SERIAL), baud=artefact.serial["baud"])
    return resolve(device).open(artefact.config, on_status)


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
    eftrain.report.Result
    """
    plan = BoardRun.read(folder)
    artefact = plan.artefact
    report.check_output(Path(folder) / RESULTS)
    if with_bitstream:
        load(artefact, root)
    name = device or artefact.board
    size = max(1, -(-plan.memory_bytes >> 20)) << 20

    def open_checked(config, on_status):
        found = open_device() if open_device else open_board(artefact, name, size=size, root=root)
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

    settings = Settings(
        array=artefact.array, format=artefact.format, device=name, epochs=plan.epochs,
        batch_size=plan.batch_size, learning_rate=plan.learning_rate, momentum=plan.momentum,
        seed=plan.seed, output=Path(folder) / RESULTS,
    )  # fmt: skip
    target = Target(name, open_checked)
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
