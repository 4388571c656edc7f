"""Everything that is not data: one component from the host's registers to the datapath's start."""

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .. import isa
from ..memory.axi import AxiLiteSignature, BeatLayout, RunLayout
from ..version import VERSION
from .counters import EventCounters
from .descriptor import descriptor_layout
from .program import Program
from .registers import RegisterBlock
from .supervisor import Supervisor

__all__ = ["Control"]

COUNTED = {
    "active": "ACTIVE",
    "stall_stream": "STALL_STREAM",
    "stall_stationary": "STALL_STATIONARY",
    "stall_accumulator": "STALL_ACCUMULATOR",
    "stall_hazard": "STALL_HAZARD",
    "beat_stationary": "BEATS_STATIONARY",
    "beat_stream": "BEATS_STREAM",
    "beat_side": "BEATS_SIDE",
    "beat_write": "BEATS_WRITE",
}
"""Event inputs and the registers that count them."""

EVENTS = (*COUNTED, "nonfinite", "result_written")


def register_constants(config):
    """Values of the registers that describe the core."""
    major, minor, patch = VERSION
    return {
        "ID": isa.PRODUCT_ID,
        "VERSION": patch | minor << 8 | major << 16,
        "ISA_VERSION": isa.ISA_VERSION,
        "ARRAY": config.rows | config.lanes << 16,
        "FORMAT": isa.Format[config.format.upper()] | config.data_bits << 16,
        "STREAM_DEPTH": config.stream_depth,
        "STATIONARY_DEPTH": config.stationary_depth,
        "ACCUMULATOR_DEPTH": config.accumulator_depth,
        "MAX_CLASSES": config.max_classes,
    }


class Control(wiring.Component):
    """Registers, program, counters and supervisor.

    The host's PROGRAM and WINDOW registers are sampled at the doorbell, so that writing them while
    a program runs affects the next one only.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    ctrl : In(AxiLiteSignature(12))
        The host's control port.
    irq : Out(1)
        High while an enabled event is in IRQ_STATUS.
    fetch_run, fetch_beats
        To and from the reader of descriptors; ``fetch_beats`` is always accepted.
    descriptor : Out(descriptor_layout())
        What to execute, with resolved addresses; constant from ``start`` to ``done``.
    start : Out(1)
        Pulse: execute ``descriptor``, which is legal as far as :class:`DescriptorChecker` can tell.
    done : In(1)
        Pulse: executed, every write acknowledged.
    unit_error : In(data.ArrayLayout(8, 7))
        By :class:`isa.ErrorUnit`, an :class:`isa.ErrorCode` or 0, held until ``datapath_reset``.
        A unit that has an error must not pulse ``done`` any more.
    halt : Out(1)
        To every bus master: finish what is open, start nothing.
    masters_idle : In(1)
        Nothing is open on any port.
    datapath_reset : Out(1)
        Synchronous reset of everything but this component, while ``halt``.
    datapath_ready : In(1)
        The datapath can execute. Low from the cycle after ``datapath_reset`` until it has cleared
        its memories.
    window_base, window_limit : Out(32)
        What the bus masters may access. Change only in the cycle a program begins.
    record : Out(32)
        Number of the next result record, from 1; up to date in the cycle after ``result_written``.
    active, stall_*, beat_* : In(1)
        Events, counted in the cycles they are high while a program runs.
    nonfinite, result_written : In(1)
        Events, see STATUS and RESULTS.
    """

    def __init__(self, config):
        self._config = config
        members = {name: In(1) for name in EVENTS}
        super().__init__(
            {
                "ctrl": In(AxiLiteSignature(12)),
                "irq": Out(1),
                "fetch_run": Out(stream.Signature(RunLayout())),
                "fetch_beats": In(stream.Signature(BeatLayout())),
                "descriptor": Out(descriptor_layout()),
                "start": Out(1),
                "done": In(1),
                "unit_error": In(data.ArrayLayout(8, len(isa.ErrorUnit))),
                "halt": Out(1),
                "masters_idle": In(1),
                "datapath_reset": Out(1),
                "datapath_ready": In(1),
                "window_base": Out(32),
                "window_limit": Out(32),
                "record": Out(32, init=1),
                **members,
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.registers = registers = RegisterBlock(
            constants=register_constants(self._config)
        )
        m.submodules.supervisor = supervisor = Supervisor()
        program = Program(max_classes=self._config.max_classes)
        m.submodules.program = ResetInserter({"sync": supervisor.datapath_reset})(program)

        wiring.connect(m, wiring.flipped(self.ctrl), registers.ctrl)
        wiring.connect(m, program.fetch_run, wiring.flipped(self.fetch_run))
        wiring.connect(m, program.fetch_beats, wiring.flipped(self.fetch_beats))

        self._sample_parameters(m, registers, supervisor, program)
        self._count(m, registers, supervisor)
        fetching = self.fetch_beats.valid & self.fetch_beats.ready
        beats = Cat(getattr(self, name) for name in COUNTED if name.startswith("beat")).any()
        m.d.comb += [
            self.descriptor.eq(program.descriptor),
            self.start.eq(program.start & supervisor.running),
            program.done.eq(self.done),
            program.begin.eq(supervisor.begin),
            supervisor.start.eq(registers.control.written.start),
            supervisor.soft_reset.eq(registers.control.written.soft_reset),
            supervisor.program_finished.eq(program.finished),
            supervisor.program_error.eq(program.error),
            supervisor.program_index.eq(program.index),
            supervisor.current.eq(program.current),
            supervisor.unit_error.eq(self.unit_error),
            supervisor.progress.eq(beats | self.active | fetching),
            supervisor.watchdog.eq(registers.watchdog.value),
            supervisor.masters_idle.eq(self.masters_idle),
            supervisor.datapath_ready.eq(self.datapath_ready),
            self.halt.eq(supervisor.halt),
            self.datapath_reset.eq(supervisor.datapath_reset),
        ]
        self._report(m, registers, supervisor, program)
        return m

    def _sample_parameters(self, m, registers, supervisor, program):
        with m.If(supervisor.begin):
            m.d.sync += [
                program.address.eq(registers.program_address.value),
                program.length.eq(registers.program_length.value),
                self.window_base.eq(registers.window_base.value),
                self.window_limit.eq(registers.window_limit.value),
            ]
        locked = Signal()
        with m.If(registers.control.written.lock_window):
            m.d.sync += locked.eq(1)
        m.d.comb += [
            registers.window_base.locked.eq(locked),
            registers.window_limit.locked.eq(locked),
            registers.status.value.window_locked.eq(locked),
        ]

    def _count(self, m, registers, supervisor):
        widths = {"cycles": 64, **dict.fromkeys(COUNTED, 32), "active": 64}
        m.submodules.counters = counters = EventCounters(widths)
        events, counts = counters.events, counters.counts
        m.d.comb += [counters.clear.eq(supervisor.begin), events.cycles.eq(supervisor.running)]
        for name in widths:
            if name != "cycles":
                m.d.comb += getattr(events, name).eq(getattr(self, name) & supervisor.running)
        for name, register in {"cycles": "CYCLES", **COUNTED}.items():
            count = getattr(counts, name)
            register = register.lower()
            if widths[name] == 64:
                m.d.comb += [
                    getattr(registers, f"{register}_low").value.eq(count[:32]),
                    getattr(registers, f"{register}_high").value.eq(count[32:]),
                ]
            else:
                m.d.comb += getattr(registers, register).value.eq(count)

        # Not among the counters, which are late: the next LOSS may start in the next cycle.
        results = registers.results.value
        with m.If(supervisor.begin):
            m.d.sync += [results.eq(0), self.record.eq(1)]
        with m.Elif(self.result_written & supervisor.running):
            m.d.sync += [results.eq(self.record), self.record.eq(self.record + 1)]

    def _report(self, m, registers, supervisor, program):
        status = registers.status.value
        nonfinite = Signal()
        m.d.sync += nonfinite.eq(
            ~supervisor.begin & (nonfinite | (self.nonfinite & supervisor.running))
        )
        current = Signal(32)
        m.d.sync += current.eq(Mux(supervisor.running, program.current, current))
        m.d.comb += [
            status.busy.eq(supervisor.busy),
            status.done.eq(supervisor.done),
            status.error.eq(supervisor.failed),
            status.nonfinite.eq(nonfinite),
            registers.error.value.code.eq(Mux(supervisor.failed, supervisor.code, 0)),
            registers.error.value.unit.eq(Mux(supervisor.failed, supervisor.unit, 0)),
            registers.error_descriptor.value.eq(supervisor.descriptor),
            registers.current_descriptor.value.eq(current),
            registers.irq_status.set.done.eq(supervisor.succeeds),
            registers.irq_status.set.error.eq(supervisor.fails),
            registers.irq_status.clear.eq(supervisor.soft_reset),
        ]
        m.d.sync += self.irq.eq(
            (registers.irq_status.value.as_value() & registers.irq_enable.value.as_value()).any()
        )
