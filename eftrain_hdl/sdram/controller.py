"""SDRAM controller with an AXI4 port."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..memory.axi import AxiReadSignature, AxiWriteSignature
from .beat_scheduler import BeatScheduler
from .burst_cursor import BEAT_BYTES_LOG2
from .pins import SdramPins
from .read_channel import ReadChannel
from .sequencer import Sequencer
from .timing import MAX_POSTPONED
from .write_channel import WriteChannel

__all__ = ["SdramController"]


class SdramController(wiring.Component):
    """A 16-bit SDRAM behind a 128-bit AXI4 port.

    ```
     AR ─► burst cursor ─┐                ┌─► command, address ─► pins
                         ├─► scheduler ─► sequencer
     AW ─► burst cursor ─┘                ├─► W store ─► data pins
      W ─► W store       R ◄─ R store ◄───┴── data pins
    ```

    One beat is one burst of eight words. Answers are in order on each side, and a write response
    means that later reads see what was written. Byte strobes become ``dqm``. Bursts are INCR with
    beats of 16 bytes, up to 256 of them; the low four address bits are ignored. A burst outside of
    the memory is answered with DECERR, one of another kind with SLVERR; neither writes anything.

    A reset may come at any time: memory keeps what it holds, but for a beat that is being written.
    Masters, arbiters and controller are reset together.

    *Throughput*: the data pins move a word a cycle, a beat in 8 cycles, but for refresh (1.3 %),
    changes of direction and rows that follow another row of the same bank at once. Simulated at 50
    MHz, refresh included, all streams in the same bank: one read or one write 98.7 %, four reads
    and one write in bursts of 64 beats 98.2 %, four reads and two writes in bursts of 16 beats
    96.5 %, of 4 beats 88.4 %. *Latency* from AR to the first beat, memory idle, at 50 MHz: 29
    cycles, 26 if the row is open.
    *Backpressure*: 128 beats each way are stored; a master that takes no read data does not stop
    writes, and the other way round.

    Parameters
    ----------
    part : :class:`SdramPart`
        What is on the board.
    clock_hz : :class:`int`
        Clock of the ``sync`` domain, which the SDRAM shares.
    base : :class:`int`
        Address of the first byte on the bus; a multiple of ``part.size``.
    id_bits : :class:`int`
        Width of AXI ids.
    capture : :class:`int`
        Cycles between output registers and ``dq_i``, beyond the CAS latency: with ``capture`` 0
        the first word is on ``dq_i`` so many cycles after the READ left these pins as the CAS
        latency says. Each further I/O register, out or in, adds 1; a clock that reaches the SDRAM
        half a period ahead (inverted) takes 1 off. At least -1.
    max_postponed : :class:`int`
        Refresh intervals that beats may go before, 1 to 8.

    Members
    -------
    read : :py:`In(AxiReadSignature(32, 128, id_bits))`
    write : :py:`In(AxiWriteSignature(32, 128, id_bits))`
    pins : :py:`Out(SdramPins())`
        All outputs are registers, but for ``cke``, which is constant.

    Raises
    ------
    :exc:`ValueError`
        If a parameter is out of range, or the part is not made for so fast a clock.
    """

    def __init__(
        self, part, clock_hz, *, id_bits=1, base=0, capture=0, max_postponed=MAX_POSTPONED
    ):
        if not isinstance(capture, int) or not -1 <= capture <= 8:
            raise ValueError(f"capture must be an integer from -1 to 8, not {capture!r}.")
        if not isinstance(max_postponed, int) or not 1 <= max_postponed <= MAX_POSTPONED:
            raise ValueError(
                f"max_postponed must be an integer from 1 to {MAX_POSTPONED}, not "
                f"{max_postponed!r}."
            )
        if base % part.size or not 0 <= base <= (1 << 32) - part.size:
            raise ValueError(
                f"base must be a 32-bit multiple of the memory's {part.size} bytes, not {base:#x}."
            )
        self.part = part
        self.cycles = part.cycles(clock_hz)
        self._capture = capture
        self._max_postponed = max_postponed
        self._sides = {"base": base, "size": part.size, "id_bits": id_bits}
        super().__init__(
            {
                "read": In(AxiReadSignature(32, 128, id_bits)),
                "write": In(AxiWriteSignature(32, 128, id_bits)),
                "pins": Out(SdramPins()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        pins = self.pins
        address_bits = (self.part.size - 1).bit_length() - BEAT_BYTES_LOG2
        m.submodules.read_channel = read = ReadChannel(**self._sides)
        m.submodules.write_channel = write = WriteChannel(**self._sides)
        m.submodules.scheduler = scheduler = BeatScheduler(address_bits)
        m.submodules.sequencer = sequencer = Sequencer(
            part=self.part,
            cycles=self.cycles,
            address_bits=address_bits,
            max_postponed=self._max_postponed,
        )
        connect(m, flipped(self.read), read.bus)
        connect(m, flipped(self.write), write.bus)
        connect(m, read.beat, scheduler.read)
        connect(m, write.beat, scheduler.write)
        connect(m, scheduler.o, sequencer.beat)
        m.d.comb += scheduler.pressing.eq(write.pressing)

        # Written words leave the store a cycle after they are asked for, as the command leaves the
        # sequencer, and reach the pins with it.
        driving = Signal()
        m.d.comb += write.next.eq(sequencer.writing)
        m.d.comb += pins.cke.eq(1)
        m.d.sync += [
            pins.cs_n.eq(0),
            Cat(pins.we_n, pins.cas_n, pins.ras_n).eq(sequencer.command),
            pins.ba.eq(sequencer.bank),
            pins.a.eq(sequencer.address),
            driving.eq(sequencer.writing),
            pins.dq_oe.eq(driving),
            pins.dq_o.eq(write.word),
            # High until the memory is ready also masks what a reset left of a burst.
            pins.dqm.eq(
                Mux(
                    driving,
                    ~write.strobe | sequencer.masked.replicate(2),
                    ~sequencer.ready.replicate(2),
                )
            ),
        ]

        # Read words come so much later than they were asked for: two cycles to the pins, the
        # SDRAM, the board, and one into a register here.
        delay = 2 + self.cycles.cas_latency + self._capture + 1
        waiting = Signal(delay)
        m.d.sync += [
            waiting.eq(Cat(sequencer.reading, waiting)),
            read.word.eq(pins.dq_i),
        ]
        m.d.comb += read.word_valid.eq(waiting[-1])
        return m
