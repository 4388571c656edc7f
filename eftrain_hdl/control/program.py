"""Walks a program: which descriptor is next, loops, pointers."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .. import isa
from ..isa import ErrorCode, Opcode
from ..memory.axi import BeatLayout, RunLayout
from .checker import DescriptorChecker
from .descriptor import descriptor_layout
from .fetcher import DescriptorFetcher

__all__ = ["Program"]

INDEX_BITS = 32 - exact_log2(isa.DESCRIPTOR_BYTES)
"""32-bit addresses hold no more descriptors than this many bits can number."""

EXCLUSIVE = (Opcode.LOSS, Opcode.NORM)
"""Executed alone: nothing else is in flight."""


class Program(wiring.Component):
    """Runs a program from descriptor 0 to END.

    Two work descriptors are in flight at most, in two slots that take turns; LOSS and NORM only
    alone. The flow runs ahead of them: the next descriptors are fetched, checked and, as far as
    they are LOOP and NEXT, carried out, up to the next work descriptor, which then waits in a
    register of its own. So nothing is ever fetched in vain, and loops that jump cost no more than
    straight code. An error found on the way is held back until nothing is in flight: everything
    before an illegal descriptor takes effect, nothing of it or after it does.

    *Latency*: ``fetch_cycles`` and the memory's latency (from a run to its first beat) from one
    work descriptor's ``start`` to the next, if a slot is free by then; every LOOP and NEXT between
    them adds as much, less one. From ``done`` to the next ``start`` two cycles if the next
    descriptor is waiting for that already. From ``begin`` to the first ``start`` two cycles more
    than from ``start`` to ``start``.

    Parameters
    ----------
    max_classes : int
        Largest number of classes of LOSS.
    batch_norm : bool
        Whether the core has batch-norm.

    Members
    -------
    begin : In(1)
        Pulse: start the program. Only after reset, or after ``finished``.
    address, length : In(32)
        Of the program; constant while it runs. ``length`` counts descriptors.
    fetch_run, fetch_beats
        To and from a :class:`BurstReader`.
    descriptors : Out(data.ArrayLayout(descriptor_layout(), 2))
        The work descriptors of the two slots; each constant from its ``start`` to its ``done``.
    start, start_slot : Out(1)
        Pulse: execute the descriptor of that slot.
    oldest : Out(1)
        Slot of the descriptor that ``done`` is about.
    done : In(1)
        Pulse: the oldest descriptor is executed, its writes included.
    waiting : Out(1)
        What comes next (END too) waits until a descriptor in flight is done.
    finished : Out(1)
        Pulse: END reached and nothing is in flight.
    error : Out(8)
        An :class:`isa.ErrorCode`, held until reset.
    index : Out(32)
        Index of the descriptor that is fetched or checked, or has the ``error``.
    current, newer : Out(32)
        Indices of the oldest descriptor in flight and of the one after it.
    """

    fetch_cycles = 25

    def __init__(self, *, max_classes, batch_norm=True):
        self._max_classes = max_classes
        self._batch_norm = batch_norm
        super().__init__(
            {
                "begin": In(1),
                "address": In(32),
                "length": In(32),
                "fetch_run": Out(stream.Signature(RunLayout())),
                "fetch_beats": In(stream.Signature(BeatLayout())),
                "descriptors": Out(data.ArrayLayout(descriptor_layout(), 2)),
                "start": Out(1),
                "start_slot": Out(1),
                "oldest": Out(1),
                "done": In(1),
                "waiting": Out(1),
                "finished": Out(1),
                "error": Out(8),
                "index": Out(32),
                "current": Out(32),
                "newer": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.fetcher = fetcher = DescriptorFetcher()
        m.submodules.checker = checker = DescriptorChecker(
            max_classes=self._max_classes, batch_norm=self._batch_norm
        )
        wiring.connect(m, fetcher.run, wiring.flipped(self.fetch_run))
        wiring.connect(m, fetcher.beats, wiring.flipped(self.fetch_beats))
        ahead = fetcher.descriptor
        m.d.comb += checker.descriptor.eq(ahead)

        # One more bit than an index needs, so that running off the address space shows.
        index = Signal(INDEX_BITS + 1)
        following = Signal.like(index)
        m.d.comb += [following.eq(index + 1), self.index.eq(index)]

        pointers = Signal(data.ArrayLayout(32, isa.POINTERS))
        m.d.comb += fetcher.pointers.eq(pointers)

        # The loop stack. `depth` counts open loops; the innermost is at `depth - 1`.
        bodies = Array(Signal(INDEX_BITS + 1, name=f"body_{i}") for i in range(isa.LOOP_DEPTH))
        counts = Array(Signal(32, name=f"count_{i}") for i in range(isa.LOOP_DEPTH))
        depth = Signal(range(isa.LOOP_DEPTH + 1))
        innermost = Signal(range(isa.LOOP_DEPTH))
        last_iteration = Signal()
        m.d.comb += innermost.eq(depth - 1)

        # The slots: how many are taken, and the one that the next descriptor gets.
        in_flight = Signal(range(3))
        left = Signal(range(3))
        following_slot = Signal()
        alone = Signal()
        is_exclusive = Cat(ahead.opcode == op for op in EXCLUSIVE).any()
        free = Signal()
        m.d.comb += [
            left.eq(in_flight - self.done),
            free.eq((left == 0) | ((left == 1) & ~alone & ~is_exclusive)),
            following_slot.eq(self.oldest ^ in_flight[0]),
        ]
        # The enable of a slot's 2,048 bits is a register, so `start` comes a cycle after the
        # decision; the descriptor stays in the fetcher for longer than that.
        load = Signal(2)
        m.d.sync += [load.eq(0), self.start.eq(load.any()), in_flight.eq(left)]
        for slot in range(2):
            with m.If(load[slot]):
                m.d.sync += self.descriptors[slot].eq(ahead)
        with m.If(self.done):
            m.d.sync += self.oldest.eq(~self.oldest)
            with m.If(left != 0):
                m.d.sync += self.current.eq(self.newer)

        fetch_address = Signal(33)
        overrun = Signal()
        verdict = Signal(8)
        countdown = Signal(range(checker.latency))

        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.begin):
                    m.d.sync += [
                        index.eq(0),
                        self.current.eq(0),
                        depth.eq(0),
                        pointers.eq(0),
                    ]
                    m.next = "ADDRESS"

            with m.State("ADDRESS"):
                m.d.sync += [
                    fetch_address.eq(self.address + (index << exact_log2(isa.DESCRIPTOR_BYTES))),
                    overrun.eq(index[-1] | (index >= self.length)),
                ]
                m.next = "REQUEST"

            with m.State("REQUEST"):
                m.d.comb += fetcher.address.eq(fetch_address)
                with m.If(overrun):
                    m.d.sync += verdict.eq(ErrorCode.PROGRAM_OVERRUN)
                    m.next = "REFUSE"
                with m.Elif(fetch_address[:4].any()):
                    m.d.sync += verdict.eq(ErrorCode.MISALIGNED_ADDRESS)
                    m.next = "REFUSE"
                with m.Elif(fetch_address[32]):
                    m.d.sync += verdict.eq(ErrorCode.ADDRESS_OUT_OF_WINDOW)
                    m.next = "REFUSE"
                with m.Else():
                    m.d.comb += fetcher.request.eq(1)
                    m.next = "RECEIVE"

            with m.State("RECEIVE"):
                m.d.sync += countdown.eq(checker.latency - 2)
                with m.If(fetcher.received):
                    m.next = "CHECK"

            with m.State("CHECK"):
                m.d.sync += [
                    countdown.eq(countdown - 1),
                    last_iteration.eq(counts[innermost] == 1),
                ]
                with m.If(countdown == 0):
                    m.next = "DECIDE"

            with m.State("DECIDE"):
                m.d.sync += verdict.eq(checker.code)
                with m.If(checker.code != ErrorCode.NONE):
                    m.next = "REFUSE"
                with m.Else():
                    with m.Switch(ahead.opcode):
                        with m.Case(Opcode.END):
                            m.next = "END"
                        with m.Case(Opcode.LOOP):
                            m.next = "ADDRESS"
                            with m.If(depth == isa.LOOP_DEPTH):
                                m.d.sync += verdict.eq(ErrorCode.LOOP_NESTING)
                                m.next = "REFUSE"
                            with m.Else():
                                m.d.sync += [
                                    bodies[depth[: len(innermost)]].eq(following),
                                    counts[depth[: len(innermost)]].eq(ahead["count"]),
                                    depth.eq(depth + 1),
                                    index.eq(following),
                                ]
                        with m.Case(Opcode.NEXT):
                            m.next = "ADDRESS"
                            with m.If(depth == 0):
                                m.d.sync += verdict.eq(ErrorCode.LOOP_NESTING)
                                m.next = "REFUSE"
                            with m.Else():
                                m.d.sync += counts[innermost].eq(counts[innermost] - 1)
                                for i in range(1, isa.POINTERS):
                                    m.d.sync += pointers[i].eq(
                                        pointers[i] + ahead[f"increment_{i}"]
                                    )
                                with m.If(last_iteration):
                                    m.d.sync += depth.eq(depth - 1)
                                m.d.sync += index.eq(
                                    Mux(last_iteration, following, bodies[innermost])
                                )
                        with m.Default():
                            m.next = "WORK"

            with m.State("WORK"):
                m.d.comb += self.waiting.eq(~free)
                with m.If(free):
                    m.d.sync += [
                        load.bit_select(following_slot, 1).eq(1),
                        self.start_slot.eq(following_slot),
                        in_flight.eq(left + 1),
                        alone.eq(is_exclusive),
                        self.newer.eq(index),
                        index.eq(following),
                    ]
                    with m.If(left == 0):
                        m.d.sync += self.current.eq(index)
                    m.next = "ADDRESS"

            with m.State("END"):
                m.d.comb += self.waiting.eq(left != 0)
                with m.If(left == 0):
                    m.d.sync += self.current.eq(index)
                    m.next = "FINISHED"

            with m.State("FINISHED"):
                m.d.comb += self.finished.eq(1)
                m.next = "IDLE"

            with m.State("REFUSE"):
                m.d.comb += self.waiting.eq(in_flight != 0)
                with m.If(in_flight == 0):
                    m.d.comb += self.error.eq(verdict)
        return m
