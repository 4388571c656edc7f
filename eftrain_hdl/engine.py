"""The engine: address generators, memory ports, kernel and epilogue, without the control unit."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from .activity import Activity
from .addressing.loss_map import LossMap
from .addressing.norm_map import NormMap
from .addressing.port_maps import (
    AuxiliaryMap,
    CompanionMap,
    OutputMap,
    SecondMap,
    SideMap,
    StationaryMap,
    StreamMap,
)
from .addressing.tile import tile_layout
from .addressing.tile_walker import TileWalker
from .control.control import REASONS
from .control.descriptor import descriptor_layout
from .datapath.elastic import SkidBuffer
from .datapath.epilogue import Epilogue
from .datapath.kernel import Kernel
from .datapath.prologue import Prologue
from .datapath.vector_unit import VectorUnit
from .isa import BATCH_NORM_FLAGS, ErrorCode, ErrorUnit, Flag, Opcode
from .memory.axi import AxiReadSignature, AxiWriteSignature, BeatLayout, BusError, RunLayout
from .memory.burst_reader import BurstReader
from .memory.burst_writer import BurstWriter
from .memory.read_arbiter import ReadArbiter
from .memory.write_arbiter import WriteArbiter
from .port_chain import STEPS_AHEAD, PortChain
from .settling import Settling
from .stream_glue import fork, select, take_words

__all__ = ["Engine"]

_BUS_ERRORS = {
    BusError.MISALIGNED: ErrorCode.MISALIGNED_ADDRESS,
    BusError.OUT_OF_WINDOW: ErrorCode.ADDRESS_OUT_OF_WINDOW,
    BusError.BUS_RESPONSE: ErrorCode.BUS_RESPONSE,
}

BUSES = ("stationary", "stream", "side", "write")


@dataclass(frozen=True)
class _Chain:
    """One row of the table of memory chains.

    ``every_step``: it works on every step of a reduction, not only on the last ones.
    ``alternate_bus``: where runs with the tag ``alternate`` go.
    """

    bus: str
    axi_id: int
    unit: ErrorUnit
    map: object
    ahead: Flag = None
    every_step: bool = False
    alternate_bus: str = None


CHAINS = {
    "stationary": _Chain(
        "stationary", 0, ErrorUnit.STATIONARY, StationaryMap, Flag.AHEAD_STATIONARY, True
    ),
    "auxiliary": _Chain("stationary", 1, ErrorUnit.AUXILIARY, AuxiliaryMap, Flag.AHEAD_SIDE),
    "companion": _Chain(
        "stationary", 2, ErrorUnit.COMPANION, CompanionMap, Flag.AHEAD_STREAM, True, "side"
    ),
    "stream": _Chain("stream", 0, ErrorUnit.STREAM, StreamMap, Flag.AHEAD_STREAM, True),
    "side": _Chain("side", 0, ErrorUnit.SIDE, SideMap, Flag.AHEAD_SIDE),
    "output": _Chain("write", 0, ErrorUnit.WRITE, OutputMap),
    "second": _Chain("write", 1, ErrorUnit.SECOND, SecondMap, every_step=True),
}
"""Memory chains. Those of the write bus never run ahead: results leave descriptor by descriptor.
Identifiers count the clients of a bus."""

FETCH_ID = 1
"""The fetcher of descriptors shares the side bus."""

LANDING_BEATS = 512
"""Beats that a reader can hold: what the bus moves in the latency of a usual memory, and more."""

STORED_BEATS = 128
"""Beats that a writer can hold: two longest bursts."""

VECTOR_NUMBERS = (
    "flags", "images", "classes", "out_blocks", "scale", "unbias", "epsilon",
    "statistics_momentum", "learning_rate", "momentum", "weight_decay",
)  # fmt: skip
"""Fields of the descriptor that the vector unit needs."""


class Engine(wiring.Component):
    """Everything but control: executes two descriptors at a time. Reset as a whole after an error.

    The tiles of a descriptor follow those of the one before without a gap. What comes before the
    accumulators may work on the newer of the two as far as its data may be read already; drain,
    epilogue and writers work on the older one only.

    *Latency*: ``done`` comes ``Settling.cycles`` + 1 cycles after the first cycle in which nothing
    of the descriptor is left. The tile walker hands out a step every other cycle at most, and
    starts 3 cycles after ``start``, or after its last step of the descriptor before. Events are a
    cycle late.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    descriptors, start, start_slot, oldest, done, waiting, reads_newer, computes_newer
        See :class:`~eftrain_hdl.control.control.Control`.
    stationary, stream, side : Out(AxiReadSignature)
        The side port also fetches descriptors.
    write : Out(AxiWriteSignature)
    fetch_run, fetch_beats
        Descriptor fetches of the control unit.
    unit_error, unit_newer, halt, masters_idle, ready, window_base, window_limit, record
        See :class:`~eftrain_hdl.control.control.Control`.
    """

    EVENTS = (
        "active",
        *REASONS,
        *(f"beat_{bus}" for bus in BUSES),
        "nonfinite",
        "result_written",
    )

    def __init__(self, config):
        self.config = config
        read = AxiReadSignature(config.address_bits, config.data_bits, config.id_bits)
        super().__init__(
            {
                "descriptors": In(data.ArrayLayout(descriptor_layout(), 2)),
                "start": In(1),
                "start_slot": In(1),
                "oldest": In(1),
                "done": Out(1),
                "waiting": In(1),
                "reads_newer": Out(1),
                "computes_newer": Out(1),
                "stationary": Out(read),
                "stream": Out(read),
                "side": Out(read),
                "write": Out(
                    AxiWriteSignature(config.address_bits, config.data_bits, config.id_bits)
                ),
                "fetch_run": In(stream.Signature(RunLayout(config.address_bits))),
                "fetch_beats": Out(stream.Signature(BeatLayout(config.data_bits))),
                "unit_error": Out(data.ArrayLayout(8, len(ErrorUnit))),
                "unit_newer": Out(len(ErrorUnit)),
                "halt": In(1),
                "masters_idle": Out(1),
                "ready": Out(1),
                "window_base": In(config.address_bits),
                "window_limit": In(config.address_bits),
                "record": In(32),
                **{name: Out(1) for name in self.EVENTS},
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        descriptors = self._executable(m)
        # A copy of what is needed of the oldest descriptor (synthesis keeps no other bits), and
        # whose it is, a cycle later than the truth. Nothing looks at it too early: the drain is
        # allowed by the copy's slot, and the vector unit's start goes through a register too.
        oldest = Signal(descriptor_layout())
        oldest_slot = Signal()
        m.d.sync += [oldest.eq(descriptors[self.oldest]), oldest_slot.eq(self.oldest)]
        m.submodules.walker = walker = TileWalker(config)
        m.submodules.kernel = kernel = Kernel(config)
        m.submodules.epilogue = epilogue = Epilogue(config)
        m.submodules.loss_map = loss_map = LossMap(config)
        m.submodules.vector = vector = VectorUnit(config)
        chains = {name: self._chain(m, name, descriptors) for name in self._chain_names()}
        fetch = self._fetch_reader(m)
        self._connect_buses(m, chains, fetch)
        self._report_errors(m, chains, fetch, walker, vector)

        # -- start: tiles of the walker, or the vector unit ----------------------------------------
        starting = Signal(8)
        is_loss, is_norm = Signal(), Signal()
        starts_vector = Signal()
        vector_runs = Signal()
        m.d.comb += [
            starting.eq(descriptors[self.start_slot].opcode),
            is_loss.eq(starting == Opcode.LOSS),
            is_norm.eq((starting == Opcode.NORM) & config.batch_norm),
            starts_vector.eq(vector.start_loss | vector.start_norm),
            loss_map.start.eq(vector.start_loss),
            loss_map.descriptor.eq(oldest),
            vector.record.eq(self.record),
            *(getattr(vector, name).eq(oldest[name]) for name in VECTOR_NUMBERS),
        ]
        # They run alone, so their slot is that of the oldest.
        start_loss, start_norm = Signal(), Signal()
        m.d.sync += [start_loss.eq(self.start & is_loss), start_norm.eq(self.start & is_norm)]
        m.d.comb += [vector.start_loss.eq(start_loss), vector.start_norm.eq(start_norm)]
        with m.If(starts_vector):
            m.d.sync += vector_runs.eq(1)
        self._start_walker(m, walker, descriptors, self.start & ~is_loss & ~is_norm)

        # -- every unit has its own queue of steps and works through it at its own pace ------------
        finished_allowed = kernel.finished_steps.payload.slot == oldest_slot
        queues = [(chain.tiles, CHAINS[name].every_step) for name, chain in chains.items()]
        for name, consumer, every_step, allowed in (
            ("sweep_steps", kernel.steps, True, 1),
            ("drain_steps", kernel.finished_steps, False, finished_allowed),
        ):
            queue = SyncFIFOBuffered(width=tile_layout().size, depth=STEPS_AHEAD)
            m.submodules[name] = queue
            tiles = stream.Signature(tile_layout()).create(path=(name,))
            queues.append((tiles, every_step))
            m.d.comb += [
                queue.w_data.eq(tiles.payload),
                queue.w_en.eq(tiles.valid),
                tiles.ready.eq(queue.w_rdy),
                consumer.payload.eq(queue.r_data),
                consumer.valid.eq(queue.r_rdy & allowed),
                queue.r_en.eq(consumer.ready & allowed),
            ]
        # A step goes to all queues at once. That all have room is known a cycle ahead, unless a
        # step is just taking it.
        step = Signal()
        m.d.comb += step.eq(walker.o.valid & walker.o.ready)
        m.d.sync += walker.o.ready.eq(Cat(tiles.ready for tiles, _ in queues).all() & ~step)
        for tiles, every_step in queues:
            m.d.comb += [
                tiles.payload.eq(walker.o.payload),
                tiles.valid.eq(step if every_step else step & walker.o.payload.last),
            ]

        # -- operands in, results out --------------------------------------------------------------
        connect(m, loss_map.logits, chains["stream"].requests)
        maps_busy = self._connect_vector_requests(m, chains, vector, loss_map, oldest)
        streamed, side = chains["stream"].o, chains["side"].o
        stream_in = self._connect_operands(m, chains, kernel)
        logits, labels, vector_o = (SkidBuffer(config.data_bits) for _ in range(3))
        m.submodules.vector_logits_buffer = logits
        m.submodules.vector_side_buffer = labels
        # What is in here has a run in the writer, whose chain is busy for it.
        m.submodules.vector_o_buffer = vector_o
        connect(m, logits.o, vector.logits)
        connect(m, labels.o, vector.side)
        connect(m, vector.o, vector_o.i)
        fork(m, vector_runs, streamed, (logits.i, "data"), (stream_in, None))
        fork(m, vector_runs, side, (labels.i, "data"), (epilogue.side, "data"))
        take_words(m, chains["auxiliary"].o, epilogue.auxiliary)
        connect(m, kernel.o, epilogue.acc)
        select(m, vector_runs, vector_o.o, epilogue.o, chains["output"].i)
        connect(m, epilogue.second, chains["second"].i)
        m.d.comb += [
            kernel.descriptors.eq(descriptors),
            *(
                getattr(epilogue, name).eq(oldest[name])
                for name in ("flags", "opcode", "learning_rate", "momentum", "weight_decay")
            ),
            self.nonfinite.eq(epilogue.nonfinite | vector.nonfinite),
        ]

        # -- the end of a descriptor: nothing of it is left anywhere, its writes acknowledged ------
        drained = Signal()
        with m.If(kernel.final):
            m.d.sync += drained.eq(1)
        sequenced = ~(kernel.steps.valid & (kernel.steps.payload.slot == self.oldest))
        busy = {
            "vector": Mux(vector_runs, maps_busy | vector.busy, ~(drained & sequenced)),
            "epilogue": ~vector_runs & ~epilogue.idle,
            # Readers count too: what the last taps skip may be fetched later than the last result
            # leaves, and must be requested with this descriptor's addresses.
            **{name: chain.busy for name, chain in chains.items()},
            # Of whatever descriptor: an error keeps the older one from being done, unless it comes
            # in the last cycles, when it is reported as the newer one's.
            "failed": self.unit_error.as_value().any(),
        }
        m.submodules.settling = settling = Settling(len(busy))
        m.d.comb += [settling.busy.eq(Cat(busy.values())), self.done.eq(settling.done)]
        m.d.comb += self.result_written.eq(self.done & (oldest.opcode == Opcode.LOSS))
        with m.If(self.done):
            m.d.sync += [drained.eq(0), vector_runs.eq(0)]

        # -- where the two descriptors are ---------------------------------------------------------
        for place, arrives, slot in (
            (self.reads_newer, walker.start, walker.slot),
            (self.computes_newer, kernel.sweep, kernel.sweep_slot),
        ):
            with m.If(arrives):
                m.d.sync += place.eq(slot != self.oldest)
            with m.If(self.done):
                # The newer one is the oldest now.
                m.d.sync += place.eq(0)

        m.d.comb += self.ready.eq(kernel.ready)
        drain_waits = ~finished_allowed & kernel.full
        self._count(m, chains, kernel, epilogue, vector_runs, drain_waits)
        return m

    def _start_walker(self, m, walker, descriptors, starts):
        """Start the walker when it is free. Its descriptor is a copy (of those bits that it uses):
        its arithmetic has no time for choosing between two."""
        waits, waiting_slot = Signal(), Signal()
        # The slot is chosen; the copy is right.
        chosen, copied = Signal(), Signal()
        chooses = waits & ~walker.busy & ~chosen & ~copied
        m.d.sync += [
            chosen.eq(chooses),
            copied.eq(chosen),
            walker.descriptor.eq(descriptors[walker.slot]),
        ]
        m.d.comb += walker.start.eq(copied)
        with m.If(chooses):
            m.d.sync += [waits.eq(0), walker.slot.eq(waiting_slot)]
        with m.If(starts):
            m.d.sync += [waits.eq(1), waiting_slot.eq(self.start_slot)]

    def _executable(self, m):
        """The descriptors. Flags that this core refuses are constants, which no logic looks at."""
        descriptors = Signal.like(self.descriptors, name="executable")
        m.d.comb += descriptors.eq(self.descriptors)
        if not self.config.batch_norm:
            for slot in range(2):
                flags = descriptors[slot].flags
                m.d.comb += [flags[flag].eq(0) for flag in BATCH_NORM_FLAGS]
        return descriptors

    def _chain_names(self):
        return [name for name in CHAINS if self.config.batch_norm or name != "companion"]

    def _connect_vector_requests(self, m, chains, vector, loss_map, oldest):
        """What LOSS and NORM read and write beside the scores; returns whether a map is busy."""
        side, output = chains["side"].requests, chains["output"].requests
        if not self.config.batch_norm:
            connect(m, loss_map.labels, side)
            connect(m, loss_map.output, output)
            return loss_map.busy
        m.submodules.norm_map = norm_map = NormMap(self.config)
        m.d.comb += [norm_map.start.eq(vector.start_norm), norm_map.descriptor.eq(oldest)]
        select(m, norm_map.busy, norm_map.side, loss_map.labels, side)
        select(m, norm_map.busy, norm_map.output, loss_map.output, output)
        return loss_map.busy | norm_map.busy

    def _connect_operands(self, m, chains, kernel):
        """From the readers to the kernel; returns where the stream enters."""
        if not self.config.batch_norm:
            connect(m, chains["stationary"].o, kernel.stationary)
            return kernel.streamed
        m.submodules.stream_prologue = stream_prologue = Prologue(self.config)
        m.submodules.stationary_prologue = stationary_prologue = Prologue(self.config, paired=False)
        connect(m, chains["stationary"].o, stationary_prologue.i)
        connect(m, stationary_prologue.o, kernel.stationary)
        take_words(m, chains["companion"].o, stream_prologue.companion)
        connect(m, stream_prologue.o, kernel.streamed)
        connect(m, stream_prologue.tee, chains["second"].tee)
        return stream_prologue.i

    def _chain(self, m, name, descriptors):
        """The chain ``name``, connected to what all of them share."""
        row, config = CHAINS[name], self.config
        sizes = {
            "address_bits": config.address_bits,
            "data_bits": config.data_bits,
            "id_bits": config.id_bits,
            "axi_id": row.axi_id,
            "max_outstanding": config.max_outstanding,
        }
        if row.bus == "write":
            master = BurstWriter(**sizes, stored_beats=STORED_BEATS)
        else:
            master = BurstReader(**sizes, landing_beats=LANDING_BEATS)
        has_tee = row.map is SecondMap and config.batch_norm
        chain = PortChain(
            config,
            row.map(config),
            master,
            ahead=row.ahead,
            has_tee=has_tee,
            steered=row.alternate_bus is not None,
        )
        m.submodules[f"{name}_chain"] = chain
        m.d.comb += [
            chain.descriptors.eq(descriptors),
            chain.oldest.eq(self.oldest),
            chain.window_base.eq(self.window_base),
            chain.window_limit.eq(self.window_limit),
            chain.halt.eq(self.halt),
        ]
        return chain

    def _fetch_reader(self, m):
        config = self.config
        m.submodules.fetch_master = fetch = BurstReader(
            address_bits=config.address_bits,
            data_bits=config.data_bits,
            id_bits=config.id_bits,
            axi_id=FETCH_ID,
            max_outstanding=2,
        )
        connect(m, flipped(self.fetch_run), fetch.run)
        connect(m, fetch.o, flipped(self.fetch_beats))
        m.d.comb += [
            fetch.window_base.eq(self.window_base),
            fetch.window_limit.eq(self.window_limit),
            fetch.halt.eq(self.halt),
        ]
        return fetch

    def _connect_buses(self, m, chains, fetch):
        clients = {bus: {} for bus in BUSES}
        clients["side"][FETCH_ID] = fetch.bus
        for name in chains:
            row = CHAINS[name]
            clients[row.bus][row.axi_id] = chains[name].bus
            if row.alternate_bus:
                clients[row.alternate_bus][row.axi_id] = chains[name].alternate_bus
        for bus, masters in clients.items():
            port = getattr(self, bus)
            if len(masters) == 1:
                connect(m, masters[0], flipped(port))
                continue
            arbiter = (WriteArbiter if bus == "write" else ReadArbiter)(
                clients=len(masters),
                address_bits=self.config.address_bits,
                data_bits=self.config.data_bits,
                id_bits=self.config.id_bits,
            )
            m.submodules[f"{bus}_arbiter"] = arbiter
            for index, master in masters.items():
                connect(m, master, getattr(arbiter, f"client{index}"))
            connect(m, arbiter.bus, flipped(port))
        masters = [*chains.values(), fetch]
        m.d.sync += self.masters_idle.eq(Cat(master.idle for master in masters).all())

    def _report_errors(self, m, chains, fetch, walker, vector):
        masters = [(CHAINS[name].unit, chain) for name, chain in chains.items()]
        for unit, master in (*masters, (ErrorUnit.FETCH, fetch)):
            with m.Switch(master.error):
                for bus_error, code in _BUS_ERRORS.items():
                    with m.Case(bus_error):
                        m.d.comb += self.unit_error[unit].eq(code)
        for unit, chain in masters:
            m.d.comb += self.unit_newer[unit].eq(chain.error_newer)
        # A tile that does not fit stops the program only after the descriptor before it.
        walks_oldest = walker.slot == self.oldest
        m.d.comb += [
            self.unit_error[ErrorUnit.CONTROL].eq(Mux(walks_oldest, walker.error, ErrorCode.NONE)),
            self.unit_error[ErrorUnit.LOSS].eq(
                Mux(vector.label_error, ErrorCode.LABEL_OUT_OF_RANGE, ErrorCode.NONE)
            ),
        ]

    def _count(self, m, chains, kernel, epilogue, vector_runs, drain_waits):
        """Events: why no vector entered the array, and beats."""
        m.submodules.activity = activity = Activity()
        second, held = chains["second"], kernel.o.valid & ~kernel.o.ready
        fenced = chains["stream"].fenced
        if self.config.batch_norm:
            # The tee holds the stream up for as long as its writer is fenced.
            tee_fenced = second.fenced & second.tee.valid
            fenced = fenced | chains["companion"].fenced | tee_fenced
        results = (epilogue.o, epilogue.second)
        blocked = Cat(stream.valid & ~stream.ready for stream in results).any()
        m.d.comb += [
            *(
                getattr(activity, f"kernel_{name}").eq(getattr(kernel, name))
                for name in ("active", *Kernel.EVENTS)
            ),
            activity.stream_fenced.eq(self.computes_newer & fenced),
            activity.stationary_fenced.eq(self.computes_newer & chains["stationary"].fenced),
            activity.write_waits.eq(drain_waits | (held & blocked)),
            activity.side_waits.eq(held & epilogue.lacking),
            activity.vector_runs.eq(vector_runs),
            activity.waiting.eq(self.waiting),
            *(getattr(self, name).eq(getattr(activity, name)) for name in ("active", *REASONS)),
        ]
        for bus in BUSES:
            port = getattr(self, bus)
            beat = port.wvalid & port.wready if bus == "write" else port.rvalid & port.rready
            m.d.sync += getattr(self, f"beat_{bus}").eq(beat)
