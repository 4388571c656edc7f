"""A simulated board at the other end of a pseudo-terminal.

The whole system on the chip is simulated: serial bridge, core, memory controller, and the SDRAM
beside it. The host's side is not: what talks to the board is :class:`.serial.SerialDevice` on a
terminal, as it does on a desk.

Simulated time passes while a request is being answered and at no other time, so runs repeat to the
cycle, however busy the host is.
"""

import contextlib
import ctypes
import os
import select
import threading
import tty

from eftrain_hdl.config import SystemConfig

from .base import DeviceError
from .serial import SerialDevice

__all__ = ["CYCLES_PER_BIT", "BoardSimDevice", "SimulatedBoard"]

CYCLES_PER_BIT = 4
"""Clock cycles of a bit on the simulated line: a fast line, so that the time goes to the core."""

REPLY_SECONDS = 120
"""How long the host waits for a simulated reply."""

_ABI_VERSION = 1
_CHUNK = 500
"""Cycles between two looks at the terminal."""
_PATIENCE = 20_000_000
"""Cycles without a byte either way after which an unanswered request is given up."""
_FLAG = 0x7E

_POINTER = ctypes.c_void_p
_BYTES = ctypes.c_char_p
_FUNCTIONS = {
    "eftrain_board_abi_version": (ctypes.c_int, ()),
    "eftrain_board_create": (_POINTER, (ctypes.c_double,)),
    "eftrain_board_destroy": (None, (_POINTER,)),
    "eftrain_board_send": (None, (_POINTER, _BYTES, ctypes.c_size_t)),
    "eftrain_board_receive": (ctypes.c_size_t, (_POINTER, _BYTES, ctypes.c_size_t)),
    "eftrain_board_run": (None, (_POINTER, ctypes.c_uint64)),
    "eftrain_board_cycles": (ctypes.c_uint64, (_POINTER,)),
    "eftrain_board_memory": (_POINTER, (_POINTER,)),
    "eftrain_board_violations": (
        ctypes.c_uint32,
        (_POINTER, ctypes.POINTER(ctypes.c_uint32)),
    ),
}


class _FrameCounter:
    """Counts the frames of one direction: whatever is between two flags and not empty."""

    def __init__(self):
        self.frames = 0
        self._open = False

    def see(self, data):
        for byte in data:
            if byte != _FLAG:
                self._open = True
            elif self._open:
                self.frames += 1
                self._open = False


class SimulatedBoard:
    """A board in a thread of its own; the host opens :attr:`port`.

    Parameters
    ----------
    shared_object : path
        What ``sim.build.build_model`` made of a ``SystemConfig``.
    cycles_per_bit : float
        As the system was built for.

    Attributes
    ----------
    port : str
        Path of the terminal.
    """

    def __init__(self, shared_object, cycles_per_bit=CYCLES_PER_BIT):
        self._library = _load(shared_object)
        self._board = self._library.eftrain_board_create(cycles_per_bit)
        if not self._board:
            raise DeviceError("There is not enough memory for the simulated board.")
        self._host_end, self._terminal = os.openpty()
        tty.setraw(self._terminal)
        self.port = os.ttyname(self._terminal)
        self._stopped, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._serve, name="board", daemon=True)
        self._thread.start()

    @property
    def cycles(self):
        """Clock cycles since power-on."""
        return self._library.eftrain_board_cycles(self._board)

    def violations(self):
        """``(count, code of the first one)`` of the rules of the SDRAM's data sheet broken."""
        first = ctypes.c_uint32()
        count = self._library.eftrain_board_violations(self._board, ctypes.byref(first))
        return count, first.value

    def memory(self, size):
        """The first ``size`` bytes of the SDRAM as a writable ``ctypes`` array.

        For what need not take the line: filling large memories in a benchmark. Only between
        requests, while time stands still.
        """
        pointer = self._library.eftrain_board_memory(self._board)
        return (ctypes.c_uint8 * size).from_address(pointer)

    def close(self):
        """Stop the simulation; the terminal goes away like an adapter that is unplugged."""
        if self._board:
            os.write(self._stop, b"x")
            self._thread.join()
            for descriptor in (self._host_end, self._terminal, self._stopped, self._stop):
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            self._library.eftrain_board_destroy(self._board)
            self._board = None

    def _serve(self):
        requests, replies = _FrameCounter(), _FrameCounter()
        buffer = ctypes.create_string_buffer(4096)
        quiet = 0
        while True:
            busy = requests.frames > replies.frames and quiet < _PATIENCE
            ready, _, _ = select.select(
                [self._host_end, self._stopped], [], [], 0 if busy else None
            )
            if self._stopped in ready:
                return
            if ready:
                data = os.read(self._host_end, len(buffer))
                if requests.frames == replies.frames or quiet >= _PATIENCE:
                    replies.frames = requests.frames
                requests.see(data)
                self._library.eftrain_board_send(self._board, data, len(data))
                quiet = 0
                continue
            self._library.eftrain_board_run(self._board, _CHUNK)
            count = self._library.eftrain_board_receive(self._board, buffer, len(buffer))
            quiet = 0 if count else quiet + _CHUNK
            replies.see(buffer.raw[:count])
            os.write(self._host_end, buffer.raw[:count])


class BoardSimDevice(SerialDevice):
    """A simulated board behind the serial driver.

    Parameters
    ----------
    board : eftrain.boards.Board
    config : CoreConfig, optional
        The board's default one if it is not given.
    on_status : callable, optional
        Called with one line of text as each step of a build begins.

    Raises
    ------
    DeviceError
        If the model cannot be loaded, or does not answer.
    sim.toolchain.ToolchainError
        If a program that the build needs is missing.
    """

    def __init__(self, board, config=None, *, on_status=None):
        self.simulation = None
        core = config or board.core()
        system = SystemConfig(
            core=core, clock_hz=board.clock_hz, baud=board.clock_hz // CYCLES_PER_BIT
        )
        self.simulation = SimulatedBoard(_build(system, on_status))
        try:
            super().__init__(self.simulation.port, timeout=REPLY_SECONDS, name=f"{board.name}-sim")
        except BaseException:
            self.simulation.close()
            raise

    def wait(self, cycles):
        interrupt = super().wait(cycles)
        count, first = self.simulation.violations()
        if count:
            raise DeviceError(
                f"The memory controller broke {count} rules of the SDRAM's data sheet, the first "
                f"with code {first} in sim/sdram_model.sv."
            )
        return interrupt

    def close(self):
        super().close()
        if self.simulation:
            self.simulation.close()


def _load(path):
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise DeviceError(f"The model {path} cannot be loaded: {error}.") from None
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    if library.eftrain_board_abi_version() != _ABI_VERSION:
        raise DeviceError(f"The model {path} has another version of the interface: build it again.")
    return library


def _build(config, on_status):
    # Imported late: a board has neither the simulator nor what it needs.
    try:
        from sim.build import build_model
    except ModuleNotFoundError as error:
        if error.name not in ("sim", "sim.build"):
            raise
        raise DeviceError(
            "The simulator is not part of this installation: run from a checkout of the project."
        ) from None
    return build_model(config, on_status=on_status)
