"""The engine: address generators, memory ports, kernel and epilogue, without the control unit."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from .addressing.loss_map import LossMap
from .addressing.port_maps import OutputMap, StationaryMap, StreamMap
from .addressing.run_generator import RunGenerator
from .addressing.tile import tile_layout
from .addressing.tile_walker import TileWalker
from .control.descriptor import descriptor_layout
from .datapath.epilogue import Epilogue
from .datapath.kernel import Kernel
from .datapath.softmax_loss import SoftmaxLoss
from .isa import ErrorCode, ErrorUnit, Flag, Opcode
from .memory.axi import AxiReadSignature, AxiWriteSignature, BeatLayout, BusError, RunLayout
from .memory.burst_reader import BurstReader
from .memory.burst_writer import BurstWriter
from .memory.read_arbiter import ReadArbiter

__all__ = ["Engine"]

_STEPS_AHEAD = 4
"""Tile steps a unit may lag behind the tile walker."""

_BUS_ERRORS = {
    BusError.MISALIGNED: ErrorCode.MISALIGNED_ADDRESS,
    BusError.OUT_OF_WINDOW: ErrorCode.ADDRESS_OUT_OF_WINDOW,
    BusError.BUS_RESPONSE: ErrorCode.BUS_RESPONSE,
}


class Engine(wiring.Component):
    """Everything but control: executes one descriptor at a time. Reset as a whole after an error.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    descriptor, start, done
        See :class:`~eftrain_hdl.control.control.Control`.
    stationary, stream, side : Out(AxiReadSignature)
        The side port also fetches descriptors.
    write : Out(AxiWriteSignature)
    fetch_run, fetch_beats
        Descriptor fetches of the control unit.
    unit_error, halt, masters_idle, ready, window_base, window_limit, record
        See :class:`~eftrain_hdl.control.control.Control`.
    """

    EVENTS = (
        "active",
        *Kernel.EVENTS,
        "beat_stationary",
        "beat_stream",
        "beat_side",
        "beat_write",
        "nonfinite",
        "result_written",
    )

    def __init__(self, config):
        self.config = config
        read = AxiReadSignature(config.address_bits, config.data_bits, 1)
        super().__init__(
            {
                "descriptor": In(descriptor_layout()),
                "start": In(1),
                "done": Out(1),
                "stationary": Out(read),
                "stream": Out(read),
                "side": Out(read),
                "write": Out(AxiWriteSignature(config.address_bits, config.data_bits, 1)),
                "fetch_run": In(stream.Signature(RunLayout(config.address_bits))),
                "fetch_beats": Out(stream.Signature(BeatLayout(config.data_bits))),
                "unit_error": Out(data.ArrayLayout(8, len(ErrorUnit))),
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
        config, d = self.config, self.descriptor
        is_loss = Signal()
        m.d.comb += is_loss.eq(d.opcode == Opcode.LOSS)

        # -- who walks what ------------------------------------------------------------------------
        m.submodules.walker = walker = TileWalker(config)
        m.submodules.kernel = kernel = Kernel(config)
        m.submodules.stationary_map = stationary_map = StationaryMap(config)
        m.submodules.stream_map = stream_map = StreamMap(config)
        m.submodules.side_map = side_map = OutputMap(config, side=True)
        m.submodules.output_map = output_map = OutputMap(config, side=False)
        m.submodules.loss_map = loss_map = LossMap(config)
        m.d.comb += [
            walker.start.eq(self.start & ~is_loss),
            loss_map.start.eq(self.start & is_loss),
        ]
        for unit in (
            walker,
            kernel,
            stationary_map,
            stream_map,
            side_map,
            output_map,
            loss_map,
        ):
            m.d.comb += unit.descriptor.eq(d)

        # Every unit has its own queue of steps and works through it at its own pace.
        queues = []
        for name, consumer, only_last in (
            ("stationary_steps", stationary_map.i, False),
            ("stream_steps", stream_map.i, False),
            ("sweep_steps", kernel.steps, False),
            ("drain_steps", kernel.finished_steps, True),
            ("side_steps", side_map.i, True),
            ("output_steps", output_map.i, True),
        ):
            queue = SyncFIFOBuffered(width=tile_layout().size, depth=_STEPS_AHEAD)
            m.submodules[name] = queue
            queues.append((queue, only_last))
            m.d.comb += [
                queue.w_data.eq(walker.o.payload),
                consumer.payload.eq(queue.r_data),
                consumer.valid.eq(queue.r_rdy),
                queue.r_en.eq(consumer.ready),
            ]
        room = 1
        for queue, _ in queues:
            room = room & queue.w_rdy
        step = Signal()
        m.d.comb += [walker.o.ready.eq(room), step.eq(walker.o.valid & walker.o.ready)]
        for queue, only_last in queues:
            m.d.comb += queue.w_en.eq(step & walker.o.payload.last if only_last else step)

        # -- requests, runs, bursts: the same chain on every port ----------------------------------
        chains = {}
        for name, tile_map, loss_requests in (
            ("stationary", stationary_map, None),
            ("stream", stream_map, loss_map.logits),
            ("side", side_map, loss_map.labels),
            ("write", output_map, loss_map.output),
        ):
            m.submodules[f"{name}_runs"] = runs = RunGenerator(address_bits=config.address_bits)
            if loss_requests is None:
                connect(m, tile_map.o, runs.i)
            else:
                _select(m, is_loss, loss_requests, tile_map.o, runs.i)
            master = (BurstWriter if name == "write" else BurstReader)(
                address_bits=config.address_bits,
                data_bits=config.data_bits,
                max_outstanding=config.max_outstanding,
            )
            m.submodules[f"{name}_master"] = master
            connect(m, runs.o, master.run)
            chains[name] = (runs, master)
        m.submodules.fetch_master = fetch = BurstReader(
            address_bits=config.address_bits,
            data_bits=config.data_bits,
            axi_id=1,
            max_outstanding=2,
        )
        m.submodules.arbiter = arbiter = ReadArbiter(
            address_bits=config.address_bits, data_bits=config.data_bits
        )
        connect(m, flipped(self.fetch_run), fetch.run)
        connect(m, fetch.o, flipped(self.fetch_beats))
        connect(m, chains["side"][1].bus, arbiter.client0)
        connect(m, fetch.bus, arbiter.client1)
        connect(m, arbiter.bus, flipped(self.side))
        connect(m, chains["stationary"][1].bus, flipped(self.stationary))
        connect(m, chains["stream"][1].bus, flipped(self.stream))
        connect(m, chains["write"][1].bus, flipped(self.write))

        masters = {name: master for name, (_, master) in chains.items()} | {"fetch": fetch}
        idle = 1
        for name, master in masters.items():
            m.d.comb += [
                master.window_base.eq(self.window_base),
                master.window_limit.eq(self.window_limit),
                master.halt.eq(self.halt),
            ]
            with m.Switch(master.error):
                for bus_error, code in _BUS_ERRORS.items():
                    with m.Case(bus_error):
                        m.d.comb += self.unit_error[ErrorUnit[name.upper()]].eq(code)
            idle = idle & master.idle
        m.d.comb += self.masters_idle.eq(idle)

        # -- operands in, results out --------------------------------------------------------------
        stationary, streamed, side = (chains[n][1].o for n in ("stationary", "stream", "side"))
        writer = chains["write"][1]
        m.submodules.epilogue = epilogue = Epilogue(config)
        m.submodules.loss = loss = SoftmaxLoss(config)
        connect(m, stationary, kernel.stationary)
        m.d.comb += [
            kernel.streamed.payload.eq(streamed.payload),
            kernel.streamed.valid.eq(streamed.valid & ~is_loss),
            loss.logits.payload.eq(streamed.payload.data),
            loss.logits.valid.eq(streamed.valid & is_loss),
            streamed.ready.eq(Mux(is_loss, loss.logits.ready, kernel.streamed.ready)),
            epilogue.side.payload.eq(side.payload.data),
            epilogue.side.valid.eq(side.valid & ~is_loss),
            loss.labels.payload.eq(side.payload.data),
            loss.labels.valid.eq(side.valid & is_loss),
            side.ready.eq(Mux(is_loss, loss.labels.ready, epilogue.side.ready)),
        ]
        connect(m, kernel.o, epilogue.acc)
        _select(m, is_loss, loss.o, epilogue.o, writer.i)
        is_wu = d.opcode == Opcode.CONV_WU
        m.d.comb += [
            epilogue.flags.eq(d.flags),
            epilogue.is_wu.eq(is_wu),
            epilogue.is_update.eq(is_wu & d.flags[Flag.UPDATE]),
            epilogue.learning_rate.eq(d.learning_rate),
            epilogue.momentum.eq(d.momentum),
            epilogue.weight_decay.eq(d.weight_decay),
            loss.images.eq(d.images),
            loss.classes.eq(d.classes),
            loss.gradient.eq(d.flags[Flag.GRADIENT]),
            loss.scale.eq(d.scale),
            loss.record.eq(self.record),
            loss.start.eq(loss_map.start),
            self.nonfinite.eq(epilogue.nonfinite | loss.nonfinite),
            self.unit_error[ErrorUnit.CONTROL].eq(walker.error),
            self.unit_error[ErrorUnit.LOSS].eq(
                Mux(loss.label_error, ErrorCode.LABEL_OUT_OF_RANGE, ErrorCode.NONE)
            ),
        ]

        # -- the end of a descriptor: its last result has left and been acknowledged ---------------
        working = Signal()
        last_tile_left = Signal()
        with m.If(self.start):
            m.d.sync += [working.eq(1), last_tile_left.eq(0)]
        with m.If(kernel.final):
            m.d.sync += last_tile_left.eq(1)
        computed = Mux(
            is_loss,
            ~loss_map.start & ~loss_map.busy & ~loss.busy,
            last_tile_left & epilogue.idle,
        )
        # Readers count too: what the last taps skip may be fetched later than the last result
        # leaves, and must be requested with this descriptor's addresses.
        for tile_map in (stationary_map, stream_map, side_map, output_map):
            computed = computed & ~tile_map.i.valid
        for runs, master in chains.values():
            computed = computed & runs.idle & master.idle
        failed = self.unit_error.as_value().any()
        # Asked twice in a row, because a request passes between two idle flags in one cycle.
        settled = Signal()
        quiet = computed & ~failed
        m.d.sync += settled.eq(working & quiet)
        with m.If(working & settled & quiet):
            m.d.comb += self.done.eq(1)
            m.d.sync += [working.eq(0), settled.eq(0)]
        m.d.comb += self.result_written.eq(self.done & is_loss)

        # -- events --------------------------------------------------------------------------------
        m.d.comb += [self.ready.eq(kernel.ready), self.active.eq(kernel.active)]
        for name in Kernel.EVENTS:
            m.d.comb += getattr(self, name).eq(getattr(kernel, name))
        for name, beats in (
            ("stationary", stationary),
            ("stream", streamed),
            ("side", side),
            ("write", writer.i),
        ):
            m.d.comb += getattr(self, f"beat_{name}").eq(beats.valid & beats.ready)
        return m


def _select(m, condition, one, other, sink):
    """Connect stream ``one`` to ``sink`` while ``condition``, else ``other``."""
    m.d.comb += [
        sink.payload.eq(Mux(condition, one.payload, other.payload)),
        sink.valid.eq(Mux(condition, one.valid, other.valid)),
        one.ready.eq(sink.ready & condition),
        other.ready.eq(sink.ready & ~condition),
    ]
