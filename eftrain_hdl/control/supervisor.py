"""The state of the whole device: runs, errors, resets, the watchdog."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from ..isa import ErrorCode, ErrorUnit

__all__ = ["Supervisor"]


class State(enum.Enum, shape=3):
    """What the device is about."""

    CLEAR = 0
    """Waiting until the datapath has cleared its memories."""
    IDLE = 1
    RUN = 2
    HALT = 3
    """Waiting until no bus transfer is open."""
    RESET = 4


class Supervisor(wiring.Component):
    """Starts programs, and brings the device back to idle after END, an error or a soft reset.

    After an error or a soft reset: ``halt`` until no bus transfer is open, then ``datapath_reset``
    with it for ``reset_cycles``, then wait for ``datapath_ready``; only then is the device not busy
    any more and the error reported. The same wait follows a hardware reset. A soft reset takes
    precedence over everything and can be repeated; it cannot end a transfer that the memory never
    answers, which needs a hardware reset, as the bus must not be left in the middle of a burst.

    *Latency*: ``halt`` rises three cycles after an error, two after a soft reset.

    A ``start`` is ignored while a program runs and while its error is handled. After a hardware or
    soft reset it is remembered until the device is idle, unless another soft reset comes first.

    Members
    -------
    start, soft_reset : In(1)
        Pulses from the host.
    begin : Out(1)
        A program starts: clear counters, sample the parameters.
    running : Out(1)
        From the cycle after ``begin`` to END or error.
    program_finished, program_error, program_index, current, newer : In
        From :class:`Program`.
    unit_error : In(data.ArrayLayout(8, len(ErrorUnit)))
        By :class:`isa.ErrorUnit`, an :class:`isa.ErrorCode` or 0, held until reset.
    unit_newer : In(len(ErrorUnit))
        The error belongs to the newer of the two descriptors in flight.
    progress : In(1)
        A beat moved or the array worked.
    watchdog : In(32)
        Cycles without ``progress`` that stop a program; 0 switches the watchdog off.
    masters_idle, datapath_ready : In(1)
    halt, datapath_reset : Out(1)
        From registers: they reach every master, every register.
    busy, done, failed : Out(1)
        State for the host.
    code, unit, descriptor : Out
        The first error, only valid while ``failed``.
    succeeds, fails : Out(1)
        Pulses at the end of a program, for the interrupt.
    """

    reset_cycles = 8

    start: In(1)
    soft_reset: In(1)
    begin: Out(1)
    running: Out(1)

    program_finished: In(1)
    program_error: In(8)
    program_index: In(32)
    current: In(32)
    newer: In(32)
    unit_error: In(data.ArrayLayout(8, len(ErrorUnit)))
    unit_newer: In(len(ErrorUnit))
    progress: In(1)
    watchdog: In(32)

    masters_idle: In(1)
    datapath_ready: In(1)
    halt: Out(1)
    datapath_reset: Out(1)

    busy: Out(1)
    done: Out(1)
    failed: Out(1)
    code: Out(8)
    unit: Out(8)
    descriptor: Out(32)
    succeeds: Out(1)
    fails: Out(1)

    def elaborate(self, platform):
        m = Module()
        error, code, unit, descriptor = self._first_error(m, self._starved(m))

        remembered = Signal()  # A start that waits for a reset to end.
        by_error = Signal()  # Why the device stops: an error or a soft reset.
        ticks = Signal(range(self.reset_cycles), init=self.reset_cycles - 1)

        state = Signal(State)
        m.d.comb += [
            self.busy.eq((state != State.IDLE) | remembered),
            self.running.eq(state == State.RUN),
        ]
        m.d.sync += [
            self.halt.eq((state == State.HALT) | (state == State.RESET)),
            self.datapath_reset.eq(state == State.RESET),
        ]
        with m.If(self.start & (state != State.RUN) & ~by_error):
            m.d.sync += remembered.eq(1)

        with m.Switch(state):
            with m.Case(State.CLEAR):
                with m.If(self.datapath_ready & ~self.soft_reset):
                    m.d.comb += self.fails.eq(by_error)
                    m.d.sync += [self.failed.eq(by_error), by_error.eq(0), state.eq(State.IDLE)]

            with m.Case(State.IDLE):
                with m.If((self.start | remembered) & ~self.soft_reset):
                    m.d.comb += self.begin.eq(1)
                    m.d.sync += [
                        remembered.eq(0),
                        self.done.eq(0),
                        self.failed.eq(0),
                        state.eq(State.RUN),
                    ]

            with m.Case(State.RUN):
                # Without an enable, which would wait for `error`.
                m.d.sync += [
                    self.code.eq(code),
                    self.unit.eq(unit),
                    self.descriptor.eq(descriptor),
                ]
                with m.If(error):
                    m.d.sync += [by_error.eq(1), state.eq(State.HALT)]
                with m.Elif(self.program_finished & ~self.soft_reset):
                    m.d.comb += self.succeeds.eq(1)
                    m.d.sync += [self.done.eq(1), state.eq(State.IDLE)]

            with m.Case(State.HALT):
                # The masters get some cycles to act on `halt` before their `idle` is believed.
                with m.If(ticks != 0):
                    m.d.sync += ticks.eq(ticks - 1)
                with m.Elif(self.masters_idle):
                    m.d.sync += [ticks.eq(self.reset_cycles - 1), state.eq(State.RESET)]

            with m.Case(State.RESET):
                m.d.sync += ticks.eq(ticks - 1)
                with m.If(ticks == 0):
                    m.d.sync += [ticks.eq(self.reset_cycles - 1), state.eq(State.CLEAR)]

        with m.If(self.soft_reset):
            m.d.sync += [
                # Written together, the two bits mean: reset, then start.
                remembered.eq(self.start),
                by_error.eq(0),
                self.done.eq(0),
                self.failed.eq(0),
                ticks.eq(self.reset_cycles - 1),
                state.eq(State.HALT),
            ]
        return m

    def _starved(self, m):
        """The watchdog: no progress for too long."""
        quiet = Signal(32)
        starved = Signal()
        with m.If(~self.running | self.progress):
            m.d.sync += [quiet.eq(0), starved.eq(0)]
        with m.Else():
            m.d.sync += [
                quiet.eq(quiet + 1),
                starved.eq((self.watchdog != 0) & (quiet >= self.watchdog)),
            ]
        return starved

    def _first_error(self, m, starved):
        """Of several errors in one cycle, that of the lowest unit, then the program's own."""
        # Everything as it was in one and the same cycle: whether an error is the newer descriptor's
        # says nothing about the indices after a `done`.
        seen, raised = Signal.like(self.unit_error), Signal(len(ErrorUnit))
        seen_newer, program_error = Signal.like(self.unit_newer), Signal(8)
        current, newer, program_index = Signal(32), Signal(32), Signal(32)
        m.d.sync += [
            seen.eq(self.unit_error),
            raised.eq(Cat(code != ErrorCode.NONE for code in self.unit_error)),
            seen_newer.eq(self.unit_newer),
            program_error.eq(self.program_error),
            current.eq(self.current),
            newer.eq(self.newer),
            program_index.eq(self.program_index),
        ]
        code, unit, descriptor = Signal(8), Signal(8), Signal(32)
        m.d.comb += descriptor.eq(current)
        with m.If(starved):
            m.d.comb += code.eq(ErrorCode.WATCHDOG)
        with m.If(program_error != ErrorCode.NONE):
            m.d.comb += [code.eq(program_error), descriptor.eq(program_index)]
        for source in reversed(ErrorUnit):
            index = Mux(seen_newer[source], newer, current)
            if source == ErrorUnit.FETCH:
                # Fetching runs ahead of what is in flight.
                index = program_index
            with m.If(raised[source]):
                m.d.comb += [code.eq(seen[source]), unit.eq(source), descriptor.eq(index)]
        error = raised.any() | (program_error != ErrorCode.NONE) | starved
        return error, code, unit, descriptor
