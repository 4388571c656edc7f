"""``eftrain doctor``: what is there, what is missing, and whether the device works.

On a board without the ``eftrain`` command: ``python3 -m eftrain.doctor``. Needs numpy only.
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from eftrain_hdl.isa import ISA_VERSION

from . import selftest
from .artefact import Artefact
from .board_program import ON_CHIP, open_board
from .board_run import RUN, BoardRun
from .boards import BOARDS
from .devices.base import DeviceError
from .devices.open import resolve
from .driver import Driver
from .errors import UserError

__all__ = ["Check", "examine", "main", "show"]

OK, MISSING, WRONG, SKIPPED = "ok", "missing", "wrong", "-"

CLOCK_TOLERANCE = 0.01


@dataclass(frozen=True)
class Check:
    """A finding.

    Attributes
    ----------
    name : str
    status : str
        ``ok``, ``missing``, ``wrong``, or ``-`` where it does not apply.
    text : str
        One sentence, or what was found; how to mend it, if it is not fine.
    """

    name: str
    status: str
    text: str

    @property
    def failed(self):
        return self.status in (MISSING, WRONG)

    def __str__(self):
        return f"{self.status:<8} {self.name:<20} {self.text}"


def examine(device="sim", *, artefact=None, array=None, format=None, root="/", open_device=None,
            on_status=None, clock=time.monotonic, sleep=time.sleep):  # fmt: skip
    """Look at everything in order.

    Parameters
    ----------
    device : str
        ``uio``, ``pynq``, or a name of ``devices.open``.
    artefact : path, optional
        Folder that ``eftrain bitstream`` or ``eftrain build`` wrote, to compare the device with.
    array, format : str, optional
        Of the simulated core.
    root : path
        Where ``dev``, ``sys`` and ``proc`` are.
    open_device : callable, optional
        Gives the device, instead of ``device``.
    on_status : callable, optional
        Called with a line of text while a simulated device is built.
    clock, sleep : callable
        For tests.

    Yields
    ------
    Check

    Raises
    ------
    UserError
        If there is no such device.
    """
    doctor = _Doctor(device, array, format, root, open_device, on_status, (clock, sleep))
    yield from doctor.artefact(artefact)
    if doctor.on_chip:
        for check in doctor.nodes():
            doctor.reachable &= check.status != MISSING
            yield check
    yield from doctor.device()


class _Doctor:
    """One examination; keeps what the later checks need."""

    def __init__(self, name, array, format, root, open_device, on_status, clock):
        board = BOARDS.get(name)
        self.on_chip = name in ON_CHIP or bool(board) and not board.serial
        self._target = None if self.on_chip else resolve(name)
        self._name, self._core, self._root = name, (array, format), Path(root)
        self._simulated = name.endswith("sim")
        self._open_device, self._on_status, self._clock = open_device, on_status, clock
        self._artefact = None
        self._needed = None
        self.reachable = True

    def artefact(self, folder):
        if folder is None:
            text = "none given; with --artefact FOLDER the device is compared with its bitstream"
            yield Check("artefact", SKIPPED, text)
            return
        try:
            self._artefact = artefact = Artefact.read(folder)
            artefact.verify()
            if (Path(folder) / RUN).is_file():
                self._needed = BoardRun.read(folder).memory_bytes
        except UserError as error:
            yield Check("artefact", WRONG, str(error))
            return
        yield Check("artefact", OK, _describe(artefact))

    def nodes(self):
        """Driver nodes, permissions and memory of Linux."""
        from .devices.linux import owner, permission_help, read_number
        from .devices.pynq import available
        from .devices.udmabuf import cma_free, cma_total, find_buffers
        from .devices.uio import find_uio

        if self._name == "pynq" or self._name not in ON_CHIP and available():
            yield Check("driver nodes", SKIPPED, "PYNQ is used, which needs none")
            return
        buffers, paths = find_buffers(self._root), []
        try:
            paths.append(find_uio(self._root))
            if not paths[0].exists():
                raise DeviceError(f"There is no {paths[0]}; start udev, or make the node by hand.")
            yield Check("registers", OK, str(paths[0]))
        except DeviceError as error:
            yield Check("registers", MISSING, str(error))
        total, free = cma_total(self._root), cma_free(self._root)
        cma = f"CMA {total >> 20} MiB, {free >> 20} MiB free" if total and free is not None else ""
        if not buffers:
            text = "There is no /sys/class/u-dma-buf; load the u-dma-buf module and the overlay"
            asked = self._artefact.memory["size"] if self._artefact else 0
            if not cma or total < asked:
                cma = cma or "the kernel has no CMA"
                text += f"; {cma}: boot with cma={max(asked, 64 << 20) >> 20}M or more"
            yield Check("buffer", MISSING, f"{text}.")
        else:
            yield self._buffer(buffers[0], read_number, cma)
            paths += [self._root / "dev" / buffers[0].name]
            paths += [buffers[0] / name for name in ("sync_for_cpu", "sync_for_device")]
        refused = [path for path in paths if path.exists() and not _usable(path)]
        for path in refused:
            text = f"{path} may not be written ({owner(path)}); {permission_help(path)}."
            yield Check("permissions", WRONG, text)
        if paths and not refused:
            yield Check("permissions", OK, f"{len(paths)} files may be read and written")

    def _buffer(self, attributes, read_number, cma):
        from .devices.mapped import check_buffer

        try:
            address, size = (read_number(attributes / name) for name in ("phys_addr", "size"))
            check_buffer(f"The buffer {attributes.name}", address, size)
        except DeviceError as error:
            return Check("buffer", WRONG, str(error))
        text = f"{attributes.name}: {size / 2**20:.1f} MiB at 0x{address:08x}{cma and ', '}{cma}"
        if self._needed and size < self._needed:
            needed = f"the run needs {self._needed / 2**20:.1f} MiB"
            text += f"; {needed}: enlarge its size in the overlay, and cma= if that is too small."
            return Check("buffer", WRONG, text)
        return Check("buffer", OK, text)

    def device(self):
        """The device itself: identity, clock, memory, ports, a layer."""
        if not self.reachable:
            yield Check("device", SKIPPED, "not opened, because of what is missing")
            return
        try:
            device = (self._open_device or self._open)()
        except (DeviceError, UserError) as error:
            yield Check("device", WRONG, str(error))
            return
        with device:
            try:
                config = Driver(device).config
            except DeviceError as error:
                yield Check("device", WRONG, str(error))
                return
            text = f"{device.name}: {config.array} {config.format}, ISA version {ISA_VERSION}"
            yield Check("device", OK, text)
            yield self._bitstream(device)
            yield self._measured_clock(device)
            yield _attempt("interrupt", lambda: selftest.check_interrupt(device))
            yield _attempt("memory", lambda: selftest.walk_memory(device))
            for port in selftest.PORTS:
                yield _attempt(f"{port} port", lambda port=port: selftest.check_port(device, port))
            yield _attempt("one layer", lambda: selftest.check_layer(device))

    def _open(self):
        if self._artefact:
            size = max(4, -(-(self._needed or 0) >> 20)) << 20
            return open_board(
                self._artefact, self._name, size=size, root=self._root, on_status=self._on_status
            )
        if self.on_chip:
            from .devices.pynq import PynqDevice, available
            from .devices.uio import UioDevice

            if self._name == "pynq" or self._name not in ON_CHIP and available():
                return PynqDevice()
            return UioDevice(root=self._root)
        config = self._target.config(*self._core) if self._target.core else None
        return self._target.open(config, self._on_status)

    def _bitstream(self, device):
        name = "bitstream"
        if self._artefact is None:
            return Check(name, SKIPPED, "nothing to compare with; give --artefact FOLDER")

        def compare():
            Driver(device).require(self._artefact.config)
            if self._name == "sim":
                return "same array, format and buffers; a simulated core has no build"
            self._artefact.check_device(device)
            return f"build {self._artefact.build}, as in the artefact"

        return _attempt(name, compare)

    def _measured_clock(self, device):
        if self._simulated:
            return Check("clock", SKIPPED, "a simulated clock has no frequency")
        hertz = selftest.measure_clock(device, *self._clock)
        text = f"{hertz / 1e6:.2f} MHz"
        if self._artefact is None:
            status = WRONG if hertz == 0 else OK
            return Check("clock", status, f"{text}; not compared, as there is no artefact")
        asked = self._artefact.clock_hz
        if abs(hertz / asked - 1) <= CLOCK_TOLERANCE:
            return Check("clock", OK, f"{text}, asked for {asked / 1e6:.2f}")
        fix = "set the clock of the logic (the overlay does), timing holds for that one only"
        return Check("clock", WRONG, f"{text} instead of {asked / 1e6:.2f}; {fix}.")


def _attempt(name, function):
    try:
        text = function()
        return Check(name, OK if text else SKIPPED, text or "this device does not use one")
    except (DeviceError, UserError) as error:
        return Check(name, WRONG, str(error))


def _describe(artefact):
    return (
        f"{artefact.board}, {artefact.array} {artefact.format}, {artefact.clock_hz / 1e6:g} MHz, "
        f"build {artefact.build}" + ("" if artefact.bitstream else ", without a bitstream")
    )


def _usable(path):
    # Write-only attributes are written, nothing else.
    return os.access(path, os.W_OK)


def show(checks, say=print):
    """Print one line a check and a last one; returns the exit code."""
    failed = 0
    for check in checks:
        say(str(check))
        failed += check.failed
    say("Everything is fine." if not failed else f"{failed} of the checks failed.")
    return 1 if failed else 0


def main(arguments=None, **options):
    """Run the command line; returns the exit code: 0 all fine, 1 something is not, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="python3 -m eftrain.doctor", description="Check a device and what it needs."
    )
    parser.add_argument(
        "--device",
        help="uio, pynq, serial:PORT or a board; by default the artefact's board, or uio",
    )
    parser.add_argument("--artefact", type=Path, help="folder to compare the device with")
    parser.add_argument("--root", default="/", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    try:
        device = given.device or _default_device(given.artefact)
        return show(examine(device, artefact=given.artefact, root=given.root, **options))
    except UserError as error:
        print(f"eftrain: {error}", file=sys.stderr)
        return 2


def _default_device(folder):
    try:
        return Artefact.read(folder).board if folder else ON_CHIP[0]
    except UserError:
        return ON_CHIP[0]  # The first check says what is wrong with it.


if __name__ == "__main__":
    sys.exit(main())
