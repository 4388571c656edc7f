"""Commands of an SDRAM: initialisation, refresh, rows and columns."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .beat_scheduler import DirectedBeat
from .pins import Command
from .timing import BURST_WORDS, MAX_POSTPONED

__all__ = ["Sequencer"]

_BANK_BITS = 2
_BEAT_WORDS_LOG2 = 3
_INITIAL_REFRESHES = 8
_ALL_BANKS = 1 << 10
_SETTLE = 32
"""Cycles after a reset; more than any of the timing but the pause."""


class Sequencer(wiring.Component):
    """Turns beats into SDRAM commands: one READ or WRITE of eight words each, in order.

    An address is, from the top, row, bank and column, so the banks of a long transfer take turns.
    Rows stay open until another row of the bank is wanted, or a refresh is due. Two beats are in
    work: while the data of one moves, the row of the next is opened. Beats of open rows follow
    each other without an idle cycle on the data pins.

    Refreshes are postponed while there are beats, up to ``max_postponed`` intervals, and then made
    up one after the other; with nothing to do they are not postponed.

    A reset closes all rows and makes up for eight refreshes; the pause of the data sheet comes only
    at power-up. What the memory holds stays, but for a beat that was being written.

    *Latency*: 4 cycles from a beat of an open row to its command at ``command``.
    *Backpressure*: ``beat.ready`` comes from registers and ``beat.valid``.

    Parameters
    ----------
    part : :class:`SdramPart`
    cycles : :class:`SdramCycles`
        Its timing at the clock.
    address_bits : :class:`int`
        Width of an address in beats.
    max_postponed : :class:`int`
        At most :data:`MAX_POSTPONED`.

    Members
    -------
    beat : :py:`In(stream.Signature(DirectedBeat(address_bits)))`
    command, bank, address : :py:`Out(Command)`, :py:`Out(2)`, :py:`Out(13)`
        Registered.
    reading, writing : :py:`Out(1)`
        High for eight cycles from the one *before* the READ or WRITE shows at ``command``.
    masked : :py:`Out(1)`
        The words of the present write must not be written. Valid from the cycle in which the
        command shows, for eight cycles.
    ready : :py:`Out(1)`
        The memory has been initialised.
    """

    def __init__(self, *, part, cycles, address_bits, max_postponed=MAX_POSTPONED):
        if cycles.t_rrd > 4:
            raise ValueError(f"tRRD of {cycles.t_rrd} cycles is longer than rows are apart, 4.")
        self._part = part
        self._cycles = cycles
        self._max_postponed = max_postponed
        if max(cycles.t_rfc, BURST_WORDS + cycles.t_wr, cycles.t_ras) > _SETTLE:
            raise ValueError(f"tRFC, tRAS and tWR may take at most {_SETTLE} cycles.")
        super().__init__(
            {
                "beat": In(stream.Signature(DirectedBeat(address_bits))),
                "command": Out(Command, init=Command.NOP),
                "bank": Out(2),
                "address": Out(13),
                "reading": Out(1),
                "writing": Out(1),
                "masked": Out(1),
                "ready": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cycles = self._cycles
        column_bits = self._part.column_bits - _BEAT_WORDS_LOG2
        wait = Signal(range(max(cycles.t_rfc, cycles.t_mrd, cycles.t_rp, cycles.t_rcd) + 1))

        # The beat whose row is being opened.
        column = Signal(column_bits)
        bank = Signal(_BANK_BITS)
        row = Signal(self._part.row_bits)
        write = Signal()
        refused = Signal()

        # The beat that waits for the data pins.
        queued = Signal()
        queued_column = Signal(column_bits)
        queued_bank = Signal(_BANK_BITS)
        queued_write = Signal()
        queued_refused = Signal()

        # Column commands. Data of a read leaves the SDRAM later than that of a write enters it, and
        # between the two the pins need a cycle in which nobody drives them.
        gap = Signal(range(BURST_WORDS))
        turnaround = Signal(range(BURST_WORDS + cycles.cas_latency + 1))
        # They are zero: registers, for a column command decides on much in the same cycle.
        gap_over, turned = Signal(init=1), Signal(init=1)
        column_now = Signal()
        m.d.comb += column_now.eq(queued & gap_over & (~queued_write | turned))
        reading_on = Signal()
        writing_on = Signal()
        m.d.comb += [
            self.reading.eq((column_now & ~queued_write) | reading_on),
            self.writing.eq((column_now & queued_write) | writing_on),
        ]
        with m.If(gap != 0):
            m.d.sync += gap.eq(gap - 1)
        with m.If(gap == 1):
            m.d.sync += [gap_over.eq(1), reading_on.eq(0), writing_on.eq(0)]
        with m.If(turnaround != 0):
            m.d.sync += turnaround.eq(turnaround - 1)
        with m.If(turnaround == 1):
            m.d.sync += turned.eq(1)
        with m.If(column_now):
            m.d.sync += [
                queued.eq(0),
                gap.eq(BURST_WORDS - 1),
                gap_over.eq(0),
                reading_on.eq(~queued_write),
                writing_on.eq(queued_write),
                self.masked.eq(queued_refused),
            ]
            with m.If(~queued_write):
                m.d.sync += [turnaround.eq(BURST_WORDS + cycles.cas_latency), turned.eq(0)]

        # Cycles until a bank may be precharged.
        locked = [Signal(4, name=f"locked{index}") for index in range(1 << _BANK_BITS)]
        active_now = Signal()
        for index, lock in enumerate(locked):
            with m.If(lock != 0):
                m.d.sync += lock.eq(lock - 1)
            with m.If(column_now & (queued_bank == index)):
                m.d.sync += lock.eq(
                    Mux(queued_write, BURST_WORDS - 2 + cycles.t_wr, BURST_WORDS - 1)
                )
            with m.If(active_now & (bank == index)):
                m.d.sync += lock.eq(cycles.t_ras - 1)
        all_unlocked = Signal()
        m.d.comb += all_unlocked.eq(~Cat(lock.any() for lock in locked).any())

        # Rows.
        rows = Array(Signal(len(row), name=f"row{index}") for index in range(1 << _BANK_BITS))
        opened = Signal(1 << _BANK_BITS)
        is_open = Signal()
        is_hit = Signal()

        # Refresh intervals, also the clock of the power-up pause.
        interval = Signal(range(cycles.refresh_interval))
        tick = Signal()
        m.d.comb += tick.eq(interval == 0)
        m.d.sync += interval.eq(Mux(tick, cycles.refresh_interval - 1, interval - 1))
        pause_intervals = -(-cycles.power_up // cycles.refresh_interval) + 1
        pause = Signal(range(pause_intervals + 1), init=pause_intervals)
        # Set for good, by no reset cleared: from then on a reset needs no pause, only as long as
        # commands from before it may take.
        initialised = Signal(reset_less=True)
        awake = initialised | (pause == 0)
        settle = Signal(range(_SETTLE), init=_SETTLE - 1)
        owed = Signal(4, init=_INITIAL_REFRESHES)
        refresh_now = Signal()
        m.d.sync += owed.eq(owed + (tick & awake) - refresh_now)
        must_refresh = Signal()
        m.d.sync += must_refresh.eq(owed >= self._max_postponed)

        # One command a cycle; that of a column goes before the others.
        command = Signal(Command, init=Command.NOP)
        address = Signal(13)
        m.d.comb += command.eq(Command.NOP)
        with m.If(column_now):
            m.d.sync += [
                self.command.eq(Mux(queued_write, Command.WRITE, Command.READ)),
                self.bank.eq(queued_bank),
                self.address.eq(Cat(Const(0, _BEAT_WORDS_LOG2), queued_column)),
            ]
        with m.Else():
            m.d.sync += [
                self.command.eq(command),
                self.bank.eq(bank),
                self.address.eq(address),
            ]

        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.FSM():
            with m.State("POWER_UP"):
                with m.If(tick):
                    m.d.sync += pause.eq(pause - 1)
                with m.If(settle != 0):
                    m.d.sync += settle.eq(settle - 1)
                with m.Elif(awake):
                    m.next = "PRECHARGE_ALL"
            with m.State("IDLE"):
                idle = ~self.beat.valid & ~queued & gap_over
                with m.If(must_refresh | (idle & (owed != 0))):
                    m.next = "DRAIN"
                with m.Else():
                    m.d.comb += self.beat.ready.eq(1)
                    m.d.sync += [
                        Cat(column, bank, row).eq(self.beat.p.request.address),
                        write.eq(self.beat.p.write),
                        refused.eq(self.beat.p.request.refused),
                    ]
                    with m.If(self.beat.valid):
                        m.next = "LOOK_UP"
            with m.State("LOOK_UP"):
                m.d.sync += [
                    is_open.eq(opened.bit_select(bank, 1)),
                    is_hit.eq(opened.bit_select(bank, 1) & (rows[bank] == row)),
                ]
                m.next = "ROW"
            with m.State("ROW"):
                blocked = Array(lock != 0 for lock in locked)[bank]
                with m.If(is_hit):
                    with m.If(~queued | column_now):
                        m.d.sync += [
                            queued.eq(1),
                            queued_column.eq(column),
                            queued_bank.eq(bank),
                            queued_write.eq(write),
                            queued_refused.eq(refused),
                        ]
                        m.next = "IDLE"
                with m.Elif(~is_open):
                    m.next = "ACTIVATE"
                with m.Elif(~column_now & ~blocked & ~(queued & (queued_bank == bank))):
                    m.d.comb += command.eq(Command.PRECHARGE)
                    m.d.sync += wait.eq(cycles.t_rp - 1)
                    m.next = "ACTIVATE"
            with m.State("ACTIVATE"):
                with m.If((wait == 0) & ~column_now):
                    m.d.comb += [command.eq(Command.ACTIVE), address.eq(row), active_now.eq(1)]
                    m.d.sync += [
                        rows[bank].eq(row),
                        opened.eq(opened | (1 << bank)),
                        # Three cycles pass on the way to the column command as it is.
                        wait.eq(max(cycles.t_rcd - 3, 0)),
                    ]
                    m.next = "OPENING"
            with m.State("OPENING"):
                with m.If(wait == 0):
                    m.d.sync += is_hit.eq(1)
                    m.next = "ROW"
            with m.State("DRAIN"):
                with m.If(~queued & all_unlocked):
                    m.next = "PRECHARGE_ALL"
            with m.State("PRECHARGE_ALL"):
                m.d.comb += [command.eq(Command.PRECHARGE), address.eq(_ALL_BANKS)]
                m.d.sync += [opened.eq(0), wait.eq(cycles.t_rp - 1)]
                m.next = "REFRESH"
            with m.State("REFRESH"):
                with m.If(wait == 0):
                    with m.If(owed != 0):
                        m.d.comb += [command.eq(Command.REFRESH), refresh_now.eq(1)]
                        m.d.sync += wait.eq(cycles.t_rfc - 1)
                    with m.Elif(self.ready):
                        m.next = "IDLE"
                    with m.Else():
                        mode = cycles.cas_latency << 4 | (BURST_WORDS.bit_length() - 1)
                        m.d.comb += [command.eq(Command.MODE), address.eq(mode)]
                        m.d.sync += [
                            wait.eq(cycles.t_mrd - 1),
                            self.ready.eq(1),
                            initialised.eq(1),
                        ]
        return m
