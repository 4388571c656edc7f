"""Serial line: bytes to and from 8 data bits, no parity, one stop bit."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["MIN_CYCLES_PER_BIT", "UartReceiver", "UartTransmitter", "baud_step"]

MIN_CYCLES_PER_BIT = 4
"""Fewest clock cycles a bit that the receiver can sample."""

MAX_CYCLES_PER_BIT = 1 << 16

DATA_BITS = 8
FRAME_BITS = DATA_BITS + 2


def baud_step(clock_hz, baud):
    """Fractional divisor: a phase of ``bits`` bits that grows by ``step`` a cycle wraps every bit.

    The error of the rate is below 2**-12 of it: less than a hundredth of a bit in a character.

    Returns
    -------
    tuple of int
        (bits, step).

    Raises
    ------
    ValueError
        If a bit would take fewer than ``MIN_CYCLES_PER_BIT`` cycles, or more than 65,536.
    """
    if not isinstance(clock_hz, int) or not isinstance(baud, int) or clock_hz < 1 or baud < 1:
        raise ValueError(
            f"clock_hz and baud must be positive integers, not {clock_hz!r} and {baud!r}."
        )
    if not MIN_CYCLES_PER_BIT * baud <= clock_hz <= MAX_CYCLES_PER_BIT * baud:
        raise ValueError(
            f"{baud} baud at {clock_hz} Hz is {clock_hz / baud:.1f} cycles a bit; it must be "
            f"{MIN_CYCLES_PER_BIT} to {MAX_CYCLES_PER_BIT}."
        )
    bits = (clock_hz // baud).bit_length() + 12
    return bits, round((baud << bits) / clock_hz)


class UartReceiver(wiring.Component):
    """Receives bytes from a serial line.

    Two synchronising registers and the majority of three samples stand in front of the logic, so a
    glitch of one clock cycle is not seen. A bit is sampled once, near its middle; each start bit
    starts the timing anew.

    *Latency*: ``o.valid`` is high for one cycle, half a bit into the stop bit.
    *Backpressure*: none; a byte is there for one cycle.
    *Errors*: a character whose stop bit is low gives ``error`` for one cycle, instead of a byte.
    A line that stays low (break) gives one error; the next character begins after it was high.

    Parameters
    ----------
    clock_hz, baud : int
        See :func:`baud_step`.

    Members
    -------
    rx : In(1)
        The line, asynchronous.
    o : Out(stream.Signature(8, always_ready=True))
        Bytes.
    error : Out(1)
        Pulse: framing error.
    """

    def __init__(self, *, clock_hz, baud):
        self._phase_bits, self._step = baud_step(clock_hz, baud)
        super().__init__(
            {
                "rx": In(1, init=1),
                "o": Out(stream.Signature(DATA_BITS, always_ready=True)),
                "error": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        sampled = Signal(init=1)
        m.submodules.synchroniser = FFSynchronizer(self.rx, sampled, init=1)
        history = Signal(2, init=0b11)
        line = Signal(init=1)
        a, b, c = sampled, history[0], history[1]
        m.d.sync += [history.eq(Cat(sampled, history[0])), line.eq((a & b) | (a & c) | (b & c))]

        phase = Signal(self._phase_bits)
        wrapped = Signal(self._phase_bits + 1)
        tick = wrapped[self._phase_bits]
        m.d.comb += wrapped.eq(phase + self._step)
        m.d.sync += phase.eq(wrapped)

        count = Signal(range(FRAME_BITS))
        bits = Signal(DATA_BITS)
        m.d.sync += [self.o.valid.eq(0), self.error.eq(0)]
        m.d.comb += self.o.payload.eq(bits)
        with m.FSM():
            with m.State("IDLE"):
                # Half a bit to the middle of the start bit; the start was seen, on average, half
                # a cycle late.
                m.d.sync += [
                    phase.eq((1 << self._phase_bits - 1) + self._step // 2),
                    count.eq(0),
                ]
                with m.If(~line):
                    m.next = "CHARACTER"
            with m.State("CHARACTER"), m.If(tick):
                m.d.sync += count.eq(count + 1)
                with m.If(count == 0):
                    with m.If(line):
                        m.next = "IDLE"
                with m.Elif(count == FRAME_BITS - 1):
                    m.d.sync += [self.o.valid.eq(line), self.error.eq(~line)]
                    m.next = "RECOVER"
                with m.Else():
                    m.d.sync += bits.eq(Cat(bits[1:], line))
            with m.State("RECOVER"), m.If(line):
                m.next = "IDLE"
        return m


class UartTransmitter(wiring.Component):
    """Sends bytes over a serial line.

    *Latency*: the start bit begins the cycle after a byte was accepted. *Throughput*: a byte in
    ten bits, without pauses. *Backpressure*: ``i.ready`` is low while a character is sent.

    Parameters
    ----------
    clock_hz, baud : int
        See :func:`baud_step`.

    Members
    -------
    i : In(stream.Signature(8))
        Bytes.
    tx : Out(1)
        The line; high when idle. From a register.
    """

    def __init__(self, *, clock_hz, baud):
        self._phase_bits, self._step = baud_step(clock_hz, baud)
        super().__init__({"i": In(stream.Signature(DATA_BITS)), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        phase = Signal(self._phase_bits)
        wrapped = Signal(self._phase_bits + 1)
        left = Signal(range(FRAME_BITS + 1))
        # The bit on the line is the lowest; ones follow the stop bit.
        bits = Signal(FRAME_BITS - 1, init=-1)
        tick = wrapped[self._phase_bits]
        m.d.comb += [
            wrapped.eq(phase + self._step),
            self.i.ready.eq((left == 0) | ((left == 1) & tick)),
        ]
        m.d.comb += self.tx.eq(bits[0])
        # The phase runs on from character to character, so that the rate stays exact.
        m.d.sync += phase.eq(wrapped)
        with m.If(left == 0):
            m.d.sync += phase.eq(0)
        with m.If(tick & (left != 0)):
            m.d.sync += [left.eq(left - 1), bits.eq(Cat(bits[1:], Const(1, 1)))]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [left.eq(FRAME_BITS), bits.eq(Cat(Const(0, 1), self.i.payload))]
        return m
