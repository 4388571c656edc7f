"""The kernel: buffers, array and accumulators, from loaded beats to drained beats."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..addressing.sweep_sequencer import SweepSequencer
from ..addressing.tile import tile_layout
from ..arithmetic import get_format
from ..control.descriptor import descriptor_layout
from ..memory.axi import BeatLayout
from .accumulator import Accumulator
from .diagonal import AccumulatorBeat
from .drain import Drain
from .mac_array import MacArray
from .ring_buffer import RingBuffer
from .stationary_loader import StationaryLoader
from .sweep_issuer import SweepIssuer
from .transposer import Transposer
from .vector_loader import VectorLoader

__all__ = ["Kernel"]


class Kernel(wiring.Component):
    """``acc[a] += S · v`` over the tile steps it is given.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    descriptors : In(data.ArrayLayout(descriptor_layout(), 2))
        Those in flight, by slot.
    steps : In(stream of tile_layout)
        Every step, for the sweeps.
    finished_steps : In(stream of tile_layout)
        Last steps of reductions, for the drain; those of a descriptor only when the one before it
        is done.
    stationary, streamed : In(stream of BeatLayout)
        What the readers bring.
    o : Out(stream of AccumulatorBeat)
    final : Out(1)
        Pulse: the last tile of a descriptor has left through ``o``.
    full : Out(1)
        A finished tile waits to be drained, or is.
    sweep, sweep_slot : Out(1)
        Pulse: the array begins a sweep of the descriptor in that slot.
    ready : Out(1)
        The accumulators have been cleared after reset.
    active, stall_stream, stall_stationary, stall_bank, stall_hazard : Out(1)
        A vector enters the array, or why none does; none of them is high if there is no work.
    """

    EVENTS = ("stall_stream", "stall_stationary", "stall_bank", "stall_hazard")

    def __init__(self, config):
        self.config = config
        beats = stream.Signature(BeatLayout(config.data_bits))
        super().__init__(
            {
                "descriptors": In(data.ArrayLayout(descriptor_layout(), 2)),
                "steps": In(stream.Signature(tile_layout())),
                "finished_steps": In(stream.Signature(tile_layout())),
                "stationary": In(beats),
                "streamed": In(beats),
                "o": Out(stream.Signature(AccumulatorBeat(config))),
                "final": Out(1),
                "full": Out(1),
                "sweep": Out(1),
                "sweep_slot": Out(1),
                "ready": Out(1),
                "active": Out(1),
                **{name: Out(1) for name in self.EVENTS},
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        bits = get_format(config.format).bits
        width = config.lanes * bits

        # -- operands into their buffers -----------------------------------------------------------
        m.submodules.stream_loader = stream_loader = VectorLoader(config)
        m.submodules.transposer = transposer = Transposer(lanes=config.lanes, element_bits=bits)
        m.submodules.stream_buffer = stream_buffer = RingBuffer(
            depth=config.stream_depth, width=width, latency=2
        )
        m.submodules.stationary_vectors = stationary_vectors = VectorLoader(config)
        m.submodules.stationary_buffer = stationary_buffer = RingBuffer(
            depth=config.stationary_depth, width=width
        )
        connect(m, flipped(self.streamed), stream_loader.i)
        connect(m, stream_loader.o, transposer.i)
        connect(m, transposer.o, stream_buffer.i)
        connect(m, flipped(self.stationary), stationary_vectors.i)
        m.d.comb += [
            stationary_buffer.i.valid.eq(stationary_vectors.o.valid),
            stationary_buffer.i.payload.eq(stationary_vectors.o.payload.data),
            stationary_vectors.o.ready.eq(stationary_buffer.i.ready),
        ]

        # -- sweeps --------------------------------------------------------------------------------
        m.submodules.sequencer = sequencer = SweepSequencer(config)
        m.submodules.loader = loader = StationaryLoader(config)
        m.submodules.issuer = issuer = SweepIssuer(config, hazard=Accumulator.hazard)
        connect(m, flipped(self.steps), sequencer.i)
        connect(m, sequencer.load, loader.i)
        connect(m, sequencer.load_end, loader.end)
        connect(m, sequencer.sweep, issuer.i)
        connect(m, sequencer.sweep_end, issuer.end)
        m.d.comb += [
            sequencer.descriptor.eq(self.descriptors[self.steps.payload.slot]),
            loader.swap.eq(issuer.swap),
            issuer.stationary_ready.eq(loader.ready),
        ]
        for consumer, buffer in ((loader, stationary_buffer), (issuer, stream_buffer)):
            m.d.comb += [
                buffer.offset.eq(consumer.offset),
                buffer.release.eq(consumer.release),
                buffer.count.eq(consumer.count),
                consumer.available.eq(buffer.available),
            ]

        # -- array and accumulators ----------------------------------------------------------------
        m.submodules.array = array = MacArray(config)
        m.submodules.accumulator = accumulator = Accumulator(config)
        m.d.sync += array.swap.eq(issuer.swap)
        m.d.comb += [
            stationary_buffer.read.eq(loader.read),
            stream_buffer.read.eq(1),
            loader.data.eq(stationary_buffer.data),
            array.shadow.eq(loader.shadow),
            array.v.eq(stream_buffer.data),
            accumulator.sums.eq(array.o),
        ]
        bank = Signal()
        # Accumulator places go in two cycles ahead of the sums.
        pipeline = stream_buffer.latency + array.latency - 2
        place = Cat(issuer.valid, bank, issuer.address)
        for stage in range(pipeline):
            held = Signal(len(place), name=f"place{stage}")
            m.d.sync += held.eq(place)
            place = held
        m.d.comb += Cat(accumulator.valid, accumulator.bank, accumulator.address).eq(place)

        # -- banks: owned by the drain from the commit until they are empty again ------------------
        m.submodules.drain = drain = Drain(config)
        connect(m, flipped(self.finished_steps), drain.i)
        connect(m, drain.o, flipped(self.o))
        # Banks take turns, so it is enough to count them: those that the drain owns, and those of
        # them whose last sum has been written and that are not read to the end.
        owned, full = Signal(2), Signal(2)
        settled = Signal(pipeline + Accumulator.latency)
        m.d.sync += [
            settled.eq(Cat(issuer.commit, settled)),
            owned.eq(owned + issuer.commit - drain.free),
            full.eq(full + settled[-1] - drain.turns),
        ]
        with m.If(issuer.commit):
            m.d.sync += bank.eq(~bank)
        m.d.comb += [
            issuer.bank_free.eq(~owned[1]),
            drain.descriptor.eq(self.descriptors[self.finished_steps.payload.slot]),
            drain.full.eq(full.any()),
            drain.sums.eq(accumulator.drain_data),
            accumulator.drain_bank.eq(drain.bank),
            accumulator.drain_address.eq(drain.address),
            accumulator.drain_read.eq(drain.read),
            self.final.eq(drain.final),
            self.ready.eq(accumulator.ready),
            self.full.eq(drain.full),
            self.sweep.eq(issuer.begins),
            self.sweep_slot.eq(issuer.slot),
            self.active.eq(issuer.valid),
        ]
        for name in self.EVENTS:
            m.d.comb += getattr(self, name).eq(getattr(issuer, name))
        return m
