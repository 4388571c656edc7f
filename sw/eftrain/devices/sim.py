"""The simulator as a device: the core's own Verilog, compiled and loaded into this process."""

import ctypes

import numpy as np

from eftrain_hdl.config import CoreConfig

from .base import Device, DeviceError
from .open import MEMORY_BASE, MEMORY_SIZE

__all__ = ["MEMORY_BASE", "MEMORY_SIZE", "SimDevice"]

_ABI_VERSION = 1
_PORTS = ("stationary", "stream", "side", "write")
_RESPONSES = ("OKAY", "EXOKAY", "SLVERR", "DECERR")
_BEAT_BYTES = 16
_CYCLES_A_CALL = 100_000
"""Cycles between two moments at which Ctrl-C is noticed; a fraction of a second."""

_POINTER = ctypes.c_void_p
_FUNCTIONS = {
    "eftrain_abi_version": (ctypes.c_int, ()),
    "eftrain_create": (_POINTER, (ctypes.c_uint64, ctypes.c_uint64)),
    "eftrain_destroy": (None, (_POINTER,)),
    "eftrain_reset": (None, (_POINTER, ctypes.c_uint64)),
    "eftrain_read_register": (
        ctypes.c_int,
        (_POINTER, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32)),
    ),
    "eftrain_write_register": (ctypes.c_int, (_POINTER, ctypes.c_uint32, ctypes.c_uint32)),
    "eftrain_memory": (_POINTER, (_POINTER,)),
    "eftrain_run": (ctypes.c_int, (_POINTER, ctypes.c_uint64)),
    "eftrain_cycles": (ctypes.c_uint64, (_POINTER,)),
    "eftrain_set_fault": (None, (_POINTER, ctypes.c_int, ctypes.c_uint64, ctypes.c_int)),
    "eftrain_set_stalls": (None, (_POINTER, ctypes.c_uint64, ctypes.c_double)),
    "eftrain_protocol_error": (ctypes.c_char_p, (_POINTER,)),
}


def _load(path):
    """The shared object at ``path`` with the types of its functions declared."""
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise DeviceError(f"The model {path} cannot be loaded: {error}.") from None
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    version = library.eftrain_abi_version()
    if version != _ABI_VERSION:
        raise DeviceError(
            f"The model {path} has version {version} of the interface instead of {_ABI_VERSION}: "
            "build it again."
        )
    return library


class SimDevice(Device):
    """A simulated core with its own memory.

    Time stands still except in register accesses, :meth:`wait` and :meth:`reset`, so results are
    the same in every run. Several devices may exist at once.

    Parameters
    ----------
    config : :class:`eftrain_hdl.config.CoreConfig` or :py:`None`
        The core. Building its model takes minutes the first time, a fraction of a second later.
    memory_size, memory_base : :class:`int`
        Bytes of memory and the address of the first one, multiples of 16. Memory takes up room on
        the host only where it is used.
    on_status : callable or :py:`None`
        Called with one line of text as each step of a build begins.
    shared_object : path or :py:`None`
        A model built before, instead of ``config``.

    Raises
    ------
    :exc:`DeviceError`
        If the model cannot be loaded or there is not enough memory.
    :exc:`sim.toolchain.ToolchainError`
        If a program that the build needs is missing.
    """

    name = "sim"

    def __init__(
        self,
        config=None,
        *,
        memory_size=MEMORY_SIZE,
        memory_base=MEMORY_BASE,
        on_status=None,
        shared_object=None,
    ):
        self._model = None
        if (config is None) == (shared_object is None):
            raise ValueError("A SimDevice needs either a config or a shared_object.")
        if config is not None and not isinstance(config, CoreConfig):
            raise ValueError(
                f"The config of a SimDevice is a {type(config).__name__}; give a CoreConfig, for "
                "example CoreConfig.parse('8x8')."
            )
        if memory_size <= 0 or memory_size % _BEAT_BYTES or memory_base % _BEAT_BYTES:
            raise ValueError(
                f"memory_size {memory_size} and memory_base 0x{memory_base:x} must be multiples of "
                f"{_BEAT_BYTES}."
            )
        if memory_base < 0 or memory_base + memory_size > 1 << 32:
            raise ValueError(
                f"Memory of {memory_size} bytes from 0x{memory_base:x} on does not end below 2**32."
            )
        if shared_object is None:
            shared_object = _build(config, on_status)
        self.config = config
        self.memory_base = memory_base
        self.memory_size = memory_size
        self._library = _load(shared_object)
        self._model = self._library.eftrain_create(memory_size, memory_base)
        if not self._model:
            raise DeviceError(f"The host has no {memory_size >> 20} MiB for the device's memory.")
        bytes_type = ctypes.c_uint8 * memory_size
        self._memory = np.ctypeslib.as_array(
            bytes_type.from_address(self._library.eftrain_memory(self._model))
        )
        self._check_protocol()

    def read_register(self, address):
        value = ctypes.c_uint32()
        response = self._library.eftrain_read_register(self._open(), address, ctypes.byref(value))
        self._check_protocol()
        self._check_response("read", address, response)
        return value.value

    def write_register(self, address, value):
        response = self._library.eftrain_write_register(self._open(), address, value)
        self._check_protocol()
        self._check_response("write", address, response)

    def read_memory(self, address, size):
        return self._view(address, size).tobytes()

    def write_memory(self, address, data):
        source = np.frombuffer(data, np.uint8)
        self._view(address, len(source))[:] = source

    def wait(self, cycles):
        model = self._open()
        interrupt = False
        while not interrupt:
            chunk = min(cycles, _CYCLES_A_CALL)
            interrupt = bool(self._library.eftrain_run(model, chunk))
            self._check_protocol()
            cycles -= chunk
            if cycles <= 0:
                break
        return interrupt

    def close(self):
        if self._model:
            self._memory = None
            self._library.eftrain_destroy(self._model)
            self._model = None

    def __del__(self):
        self.close()

    @property
    def cycles(self):
        """Clock cycles since the device was made."""
        return self._library.eftrain_cycles(self._open())

    def reset(self, cycles=16):
        """Hold the hardware reset for some cycles. Memory keeps what it holds."""
        self._library.eftrain_reset(self._open(), cycles)
        self._check_protocol()

    def set_fault(self, port, address, response="SLVERR"):
        """Let memory answer ``response`` to accesses of one port to the beat at ``address``.

        Parameters
        ----------
        port : :class:`str`
            ``"stationary"``, ``"stream"``, ``"side"`` or ``"write"``. Each has one such address.
        address : :class:`int`
        response : :class:`str`
            ``"SLVERR"``, ``"DECERR"``, or ``"OKAY"`` to end it.
        """
        self._library.eftrain_set_fault(
            self._open(), _PORTS.index(port), address, _RESPONSES.index(response)
        )

    def set_stalls(self, seed, probability):
        """Hold every bus channel back in random cycles; ``probability`` 0 ends it."""
        self._library.eftrain_set_stalls(self._open(), seed, probability)

    def _open(self):
        if not self._model:
            raise DeviceError("The simulated device is closed.")
        return self._model

    def _view(self, address, size):
        self._open()
        self.check_range(address, size)
        begin = address - self.memory_base
        return self._memory[begin : begin + size]

    def _check_protocol(self):
        text = self._library.eftrain_protocol_error(self._model).decode()
        if text:
            raise DeviceError(f"The simulated core broke a rule of its buses: {text}.")

    def _check_response(self, kind, address, response):
        if response != 0:
            raise DeviceError(
                f"The device answered {_RESPONSES[response]} to the {kind} of register "
                f"0x{address:03x}."
            )


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
