"""The host's end of a board: a serial line that reaches registers and memory."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..memory.axi import AxiLiteSignature, AxiReadSignature, AxiWriteSignature
from ..serial_protocol import MAX_PAYLOAD, MEMORY_ALIGNMENT, SERIAL_VERSION
from .executor import Executor
from .framing import Deframer, Framer
from .register_port import ADDRESS_BITS
from .uart import UartReceiver, UartTransmitter, baud_step

__all__ = ["ByteBridge", "SerialBridge"]

MIN_TIMEOUT_CYCLES = 1024
"""More than the longest burst takes with a memory that is never busy."""


class ByteBridge(wiring.Component):
    """The bridge without its serial line: bytes in, bytes out.

    Parameters
    ----------
    clock_hz, memory_base, memory_size, id_bits, timeout_cycles
        As in :class:`SerialBridge`.

    Members
    -------
    i : In(stream.Signature(8, always_ready=True))
        Bytes from the host.
    error : In(1)
        A byte from the host was lost here.
    o : Out(stream.Signature(8))
        Bytes to the host.
    ctrl, read, write, irq, core_reset
        As in :class:`SerialBridge`.
    """

    def __init__(self, *, clock_hz, memory_base, memory_size, id_bits=2, timeout_cycles=1 << 16):
        _check_parameters(memory_base, memory_size, timeout_cycles)
        self._id_bits = id_bits
        self._hello = {
            "version": SERIAL_VERSION,
            "clock_hz": clock_hz,
            "memory_base": memory_base,
            "memory_size": memory_size,
            "max_payload": MAX_PAYLOAD,
            "timeout_cycles": timeout_cycles,
        }
        super().__init__(
            {
                "i": In(stream.Signature(8, always_ready=True)),
                "error": In(1),
                "o": Out(stream.Signature(8)),
                **_system_ports(id_bits),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.deframer = deframer = Deframer()
        m.submodules.executor = executor = Executor(id_bits=self._id_bits, hello=self._hello)
        m.submodules.framer = framer = Framer()
        connect(m, flipped(self.i), deframer.i)
        connect(m, deframer.o, executor.i)
        connect(m, executor.o, framer.i)
        connect(m, framer.o, flipped(self.o))
        m.d.comb += deframer.error.eq(self.error)
        _connect_system(m, self, executor)
        return m


class SerialBridge(wiring.Component):
    """Lets a host reach registers and memory over a serial line, as ``docs/serial.md`` says.

    Each request is done once and answered. What arrives while a request is being done is dropped:
    the host repeats what is not answered.

    *Throughput*: that of the line, less headers and turn-around (see ``docs/serial.md``).

    *Errors*: every request ends. A bus that does not answer within ``timeout_cycles`` gives
    TIMEOUT; the access stays on the bus, as AXI demands, without effect on later replies, and
    further ones to the same bus also give TIMEOUT until it is answered or the host sends RESET.
    RESET clears the bridge's own bus ports too, so ``core_reset`` must reset *everything* behind
    ``ctrl``, ``read`` and ``write``, interconnect and memory controller included.

    Parameters
    ----------
    clock_hz, baud : int
        Rates of the clock and of the serial line; at least 4 cycles a bit.
    memory_base, memory_size : int
        Memory that the host is told of. Other addresses are passed on too: memory answers DECERR.
    id_bits : int
        Width of the ids of ``read`` and ``write``; all are zero.
    timeout_cycles : int
        Longest that an access may take, at least 1,024.

    Members
    -------
    rx, tx : In(1), Out(1)
        The serial line, idle high; ``rx`` may be asynchronous.
    ctrl : Out(AxiLiteSignature(12))
        To the core's registers.
    read, write : Out(AxiReadSignature(32, 128, id_bits)), Out(AxiWriteSignature(32, 128, id_bits))
        To memory; bursts of up to 64 beats that do not cross 4 KiB, one at a time.
    irq : In(1)
        The core's interrupt, for WAIT.
    core_reset : Out(1)
        High for 16 cycles on RESET. From a register.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """

    def __init__(
        self, *, clock_hz, baud, memory_base, memory_size, id_bits=2, timeout_cycles=1 << 16
    ):
        baud_step(clock_hz, baud)
        _check_parameters(memory_base, memory_size, timeout_cycles)
        self._line = {"clock_hz": clock_hz, "baud": baud}
        self._system = {
            "clock_hz": clock_hz,
            "memory_base": memory_base,
            "memory_size": memory_size,
            "id_bits": id_bits,
            "timeout_cycles": timeout_cycles,
        }
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), **_system_ports(id_bits)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(**self._line)
        m.submodules.transmitter = transmitter = UartTransmitter(**self._line)
        m.submodules.bridge = bridge = ByteBridge(**self._system)
        connect(m, receiver.o, bridge.i)
        connect(m, bridge.o, transmitter.i)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            bridge.error.eq(receiver.error),
            self.tx.eq(transmitter.tx),
        ]
        _connect_system(m, self, bridge)
        return m


def _check_parameters(memory_base, memory_size, timeout_cycles):
    """Raise ``ValueError`` unless these are legal parameters of a bridge."""
    if not MIN_TIMEOUT_CYCLES <= timeout_cycles < 1 << 32:
        raise ValueError(
            f"timeout_cycles must be from {MIN_TIMEOUT_CYCLES} to 2**32 - 1, not "
            f"{timeout_cycles!r}."
        )
    if memory_base % MEMORY_ALIGNMENT or memory_size % MEMORY_ALIGNMENT or memory_size <= 0:
        raise ValueError(
            f"memory_base {memory_base!r} and memory_size {memory_size!r} must be multiples of "
            f"{MEMORY_ALIGNMENT}."
        )
    if memory_base < 0 or memory_base + memory_size > 1 << 32:
        raise ValueError(
            f"Memory of {memory_size} bytes from {memory_base:#x} on does not end below 2**32."
        )


def _system_ports(id_bits):
    """Ports towards the system behind the bridge."""
    return {
        "ctrl": Out(AxiLiteSignature(ADDRESS_BITS)),
        "read": Out(AxiReadSignature(32, 128, id_bits)),
        "write": Out(AxiWriteSignature(32, 128, id_bits)),
        "irq": In(1),
        "core_reset": Out(1),
    }


def _connect_system(m, outer, inner):
    for name in ("ctrl", "read", "write"):
        connect(m, getattr(inner, name), flipped(getattr(outer, name)))
    m.d.comb += [inner.irq.eq(outer.irq), outer.core_reset.eq(inner.core_reset)]
