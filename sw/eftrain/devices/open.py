"""Devices by the names that the command line gives them.

============== ====================================================================================
``sim``        the simulated core on the benchmark memory, any array
``ulx3s-sim``  a simulated ULX3S: core, SDRAM and serial line, through a pseudo-terminal
``serial:PORT`` a board on a serial port, for example ``serial:/dev/ttyUSB0``
``zcu102``     a core on the logic of this computer, a ZCU102
``pynq-z1``    the same on a PYNQ-Z1
============== ====================================================================================

What a device needs is imported when it is opened: a Zynq has neither a simulator nor pyserial.
"""

from collections.abc import Callable
from dataclasses import dataclass

from eftrain_hdl.config import CoreConfig

from ..boards import BOARDS
from ..errors import UserError

__all__ = ["NAMES", "Target", "resolve"]

SERIAL = "serial:"
SIMULATED = "-sim"

MEMORY_BASE, MEMORY_SIZE = 0x1000_0000, 64 << 20
"""Memory of the ``sim`` device."""

DEFAULT_CORE = ("8x8", "fp32")
"""Array and format of the ``sim`` device."""


@dataclass(frozen=True)
class Target:
    """A device that is not open yet.

    Attributes
    ----------
    name : str
    open : callable
        ``open(config, on_status)`` gives the :class:`Device`. A device with a core of its own is
        not changed by ``config``, which the driver compares with it.
    core : callable or None
        ``core(array, format)`` gives the ``CoreConfig``, where None stands for the device's own; if
        that is known without opening it.
    memory : tuple or None
        Address and bytes of its memory, if they are.
    """

    name: str
    open: Callable
    core: Callable | None = None
    memory: tuple | None = None

    def config(self, array=None, format=None):
        """The core to plan for: as asked, else as the device has it.

        Raises
        ------
        UserError
            If there is no such core.
        DeviceError
            If the device must be asked and does not answer.
        """
        if self.core:
            return self.core(array, format)
        _any_core(array, format)
        found = self._ask()
        if array not in (None, found.array) or format not in (None, found.format):
            raise UserError(
                f"{self.name} has a {found.array} {found.format} core; leave out --array and "
                "--format, or load another bitstream."
            )
        return found

    def _ask(self):
        from ..driver import Driver

        with self.open(None, None) as device:
            return Driver(device).config


def _any_core(array, format):
    try:
        return CoreConfig.parse(array or DEFAULT_CORE[0], format or DEFAULT_CORE[1])
    except ValueError as error:
        raise UserError(str(error)) from None


def _open_sim(config, on_status):
    from .sim import SimDevice

    return SimDevice(config, on_status=on_status)


def _simulated_board(board):
    def open_device(config, on_status):
        from .board_sim import BoardSimDevice

        return BoardSimDevice(board, config, on_status=on_status)

    return open_device


def _serial(port):
    def open_device(config, on_status):
        from .serial import SerialDevice

        return SerialDevice(port)

    return open_device


def _on_chip(board):
    def open_device(config, on_status):
        from .pynq import PynqDevice, available
        from .uio import UioDevice

        kind = PynqDevice if available() else UioDevice
        return kind(clock_hz=board.clock_hz)

    return open_device


def _targets():
    yield Target("sim", _open_sim, _any_core, (MEMORY_BASE, MEMORY_SIZE))
    for board in BOARDS.values():
        if board.serial:
            memory = board.memory_base, board.memory_size
            name = board.name + SIMULATED
            yield Target(name, _simulated_board(board), board.core, memory)
        else:
            yield Target(board.name, _on_chip(board))


TARGETS = {target.name: target for target in _targets()}
"""Name to :class:`Target`, of all but the serial ports."""

NAMES = (*TARGETS, f"{SERIAL}PORT")
"""For help and error texts."""


def resolve(name):
    """The :class:`Target` of this name; ``UserError`` that lists all if there is none."""
    if name.startswith(SERIAL):
        port = name.removeprefix(SERIAL)
        if not port:
            raise UserError(
                "The device 'serial:' names no port; give one, for example serial:/dev/ttyUSB0."
            )
        return Target(name, _serial(port))
    if name in BOARDS and BOARDS[name].serial:
        raise UserError(
            f"The board {name} hangs on a serial port; name the port, for example "
            f"--device serial:/dev/ttyUSB0, or use --device {name}{SIMULATED}."
        )
    if name not in TARGETS:
        raise UserError(f"Device {name!r} is unknown; choose one of {', '.join(NAMES)}.")
    return TARGETS[name]
