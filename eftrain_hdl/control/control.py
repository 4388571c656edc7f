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

REASONS = {name.lower(): name for name in isa.STALLS if name != "STALL_CONTROL"}
"""Event inputs that say why no vector entered the array, and the registers that count them."""

COUNTED = {
    "active": "ACTIVE",
    **REASONS,
    "beat_stationary": "BEATS_STATIONARY",
    "beat_stream": "BEATS_STREAM",
    "beat_side": "BEATS_SIDE",
    "beat_write": "BEATS_WRITE",
}
"""Event inputs and the registers that count them."""

EVENTS = (*COUNTED, "nonfinite", "result_written")

COUNTERS = {
    "CYCLES": 64,
    "ACTIVE": 64,
    **dict.fromkeys([*isa.STALLS, *(n for n in COUNTED.values() if n.startswith("BEATS"))], 32),
}
"""All counters and their widths."""

WHERE = ("CURRENT", "READ", "COMPUTE", "DRAIN")
"""Registers ``*_DESCRIPTOR``: where the program stands."""


def latched_registers():
    """What a read of CYCLES_LOW latches, so that it belongs together."""
    wide = [name for name, width in COUNTERS.items() if width == 64]
    names = [f"{name}_{half}" for name in wide for half in ("LOW", "HIGH")]
    names.remove("CYCLES_LOW")
    names += [name for name in COUNTERS if name not in wide]
    return {"CYCLES_LOW": (*names, *(f"{name}_DESCRIPTOR" for name in WHERE))}


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
        "FEATURES": int(config.batch_norm),
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
    build : In(32)
        What the BUILD register reads as.
    fetch_run, fetch_beats
        To and from the reader of descriptors; ``fetch_beats`` is always accepted.
    descriptors : Out(data.ArrayLayout(descriptor_layout(), 2))
        What to execute, with resolved addresses, in two slots that take turns; constant from
        ``start`` to ``done``.
    start, start_slot : Out(1)
        Pulse: execute the descriptor of that slot, which is legal as far as
        :class:`DescriptorChecker` can tell. LOSS and NORM start when nothing else is in flight, and
        nothing else starts before they are done.
    oldest : Out(1)
        Slot of the oldest descriptor in flight.
    done : In(1)
        Pulse: the oldest descriptor is executed, every write acknowledged.
    waiting : Out(1)
        The next descriptor, or END, waits for those in flight.
    reads_newer, computes_newer : In(1)
        The tile walker, or the array, has come to the newer of two descriptors in flight.
    unit_error : In(data.ArrayLayout(8, len(ErrorUnit)))
        By :class:`isa.ErrorUnit`, an :class:`isa.ErrorCode` or 0, held until ``datapath_reset``.
        A unit that has an error must not pulse ``done`` any more.
    unit_newer : In(len(ErrorUnit))
        The error belongs to the newer of two descriptors in flight.
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
        Events, counted in the cycles they are high while a program runs. At most one of ``active``
        and ``stall_*`` is high; STALL_CONTROL counts the cycles without any.
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
                "build": In(32),
                "fetch_run": Out(stream.Signature(RunLayout())),
                "fetch_beats": In(stream.Signature(BeatLayout())),
                "descriptors": Out(data.ArrayLayout(descriptor_layout(), 2)),
                "start": Out(1),
                "start_slot": Out(1),
                "oldest": Out(1),
                "done": In(1),
                "waiting": Out(1),
                "reads_newer": In(1),
                "computes_newer": In(1),
                "unit_error": In(data.ArrayLayout(8, len(isa.ErrorUnit))),
                "unit_newer": In(len(isa.ErrorUnit)),
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
            constants=register_constants(self._config), latched=latched_registers()
        )
        m.submodules.supervisor = supervisor = Supervisor()
        program = Program(max_classes=self._config.max_classes, batch_norm=self._config.batch_norm)
        m.submodules.program = ResetInserter({"sync": supervisor.datapath_reset})(program)

        wiring.connect(m, wiring.flipped(self.ctrl), registers.ctrl)
        wiring.connect(m, program.fetch_run, wiring.flipped(self.fetch_run))
        wiring.connect(m, program.fetch_beats, wiring.flipped(self.fetch_beats))

        self._sample_parameters(m, registers, supervisor, program)
        self._count(m, registers, supervisor)
        fetching = self.fetch_beats.valid & self.fetch_beats.ready
        beats = Cat(getattr(self, name) for name in COUNTED if name.startswith("beat")).any()
        m.d.comb += [
            self.descriptors.eq(program.descriptors),
            self.start.eq(program.start & supervisor.running),
            self.start_slot.eq(program.start_slot),
            self.oldest.eq(program.oldest),
            self.waiting.eq(program.waiting),
            program.done.eq(self.done),
            program.begin.eq(supervisor.begin),
            supervisor.program_finished.eq(program.finished),
            supervisor.program_error.eq(program.error),
            supervisor.program_index.eq(program.index),
            supervisor.current.eq(program.current),
            supervisor.newer.eq(program.newer),
            supervisor.unit_error.eq(self.unit_error),
            supervisor.unit_newer.eq(self.unit_newer),
            supervisor.progress.eq(beats | self.active | fetching),
            supervisor.watchdog.eq(registers.watchdog.value),
            supervisor.masters_idle.eq(self.masters_idle),
            supervisor.datapath_ready.eq(self.datapath_ready),
            self.halt.eq(supervisor.halt),
            self.datapath_reset.eq(supervisor.datapath_reset),
        ]
        # A register between the decoding of the address and all that a start does.
        m.d.sync += [
            supervisor.start.eq(registers.control.written.start),
            supervisor.soft_reset.eq(registers.control.written.soft_reset),
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
        widths = {name.lower(): width for name, width in COUNTERS.items()}
        m.submodules.counters = counters = EventCounters(widths)
        events = {register.lower(): getattr(self, name) for name, register in COUNTED.items()}
        explained = Cat(self.active, *(getattr(self, name) for name in REASONS)).any()
        events |= {"cycles": 1, "stall_control": ~explained}
        m.d.comb += counters.clear.eq(supervisor.begin)
        for name, width in widths.items():
            count = getattr(counters.counts, name)
            m.d.comb += getattr(counters.events, name).eq(events[name] & supervisor.running)
            if width == 64:
                m.d.comb += [
                    getattr(registers, f"{name}_low").value.eq(count[:32]),
                    getattr(registers, f"{name}_high").value.eq(count[32:]),
                ]
            else:
                m.d.comb += getattr(registers, name).value.eq(count)

        # Not among the counters, which are late: the next LOSS may start in the next cycle.
        results = registers.results.value
        with m.If(supervisor.begin):
            m.d.sync += [results.eq(0), self.record.eq(1)]
        with m.Elif(self.result_written & supervisor.running):
            m.d.sync += [results.eq(self.record), self.record.eq(self.record + 1)]

    def _report(self, m, registers, supervisor, program):
        status = registers.status.value
        uptime = Signal(32)
        m.d.sync += uptime.eq(uptime + 1)
        m.d.comb += [registers.build.value.eq(self.build), registers.uptime.value.eq(uptime)]
        nonfinite = Signal()
        m.d.sync += nonfinite.eq(
            ~supervisor.begin & (nonfinite | (self.nonfinite & supervisor.running))
        )
        for name, is_newer in (
            ("current", 0),
            ("read", self.reads_newer),
            ("compute", self.computes_newer),
            ("drain", 0),
        ):
            index = Signal(32, name=f"{name}_index")
            with m.If(supervisor.running):
                m.d.sync += index.eq(Mux(is_newer, program.newer, program.current))
            m.d.comb += getattr(registers, f"{name}_descriptor").value.eq(index)
        m.d.comb += [
            status.busy.eq(supervisor.busy),
            status.done.eq(supervisor.done),
            status.error.eq(supervisor.failed),
            status.nonfinite.eq(nonfinite),
            registers.error.value.code.eq(Mux(supervisor.failed, supervisor.code, 0)),
            registers.error.value.unit.eq(Mux(supervisor.failed, supervisor.unit, 0)),
            registers.error_descriptor.value.eq(Mux(supervisor.failed, supervisor.descriptor, 0)),
            registers.irq_status.set.done.eq(supervisor.succeeds),
            registers.irq_status.set.error.eq(supervisor.fails),
            # Not in the cycle of a soft reset, which clears what it interrupts.
            registers.irq_status.set.descriptor.eq(
                self.done & supervisor.running & ~supervisor.soft_reset
            ),
            registers.irq_status.clear.eq(supervisor.soft_reset),
        ]
        m.d.sync += self.irq.eq(
            (registers.irq_status.value.as_value() & registers.irq_enable.value.as_value()).any()
        )
