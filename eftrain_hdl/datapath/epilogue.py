"""What happens to a result on its way from the accumulators to memory."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..isa import Flag
from .diagonal import AccumulatorBeat, DiagonalCollector
from .elastic import DelayLine, LandingFifo
from .epilogue_lanes import NEGATIVE_ZERO, ONE, EpilogueLanes
from .epilogue_model import epilogue_model
from .pooling import MaxPool, MaxUnpool, is_positive

__all__ = ["Epilogue"]


class Epilogue(wiring.Component):
    """Bias, residual, ReLU, its mask, 2x2 pooling and un-pooling, and the SGD step, on the drain.

    ::

        acc ──► diagonal ──► un-pooling ──► lanes ──► mask, ReLU ──► pooling ──► o
        side ───────────────────┴─────────────┘

    What the beats of the streams are depends on the flags of the descriptor. For each *acc* vector:

    ==================  ==================================================  =================
    mode                *side*                                              *o*
    ==================  ==================================================  =================
    none, RELU, WU      nothing                                             the vector
    BIAS, not WU        the bias vector before the first vector of a block  the vector
    SIDE_ADD or _MASK   a beat for each beat                                the vector
    POOL                as without                                          one for 4 vectors
    UNPOOL              4 vectors                                           4 vectors
    UPDATE              the weights                                         the weights
    UPDATE, MOMENTUM    the weights, then the momentum                      likewise
    ==================  ==================================================  =================

    T diagonal vectors count as the one that :class:`DiagonalCollector` makes of them. The order of
    the operations is bias, residual, mask, ReLU, pooling. SGD: ``g' = g + weight_decay*w``,
    ``v = momentum*v + g'`` (``g'`` itself without MOMENTUM), ``w = w - learning_rate*v``, with
    every product and every sum rounded to fp32. A missing operand is the neutral -0, so subnormals
    of *acc* become zero and its NaNs canonical in all modes.

    *Throughput*: one beat a cycle on *o* (POOL: on *acc*). A bias vector takes N cycles in which no
    *acc* beat is taken. *Latency*: :attr:`latency` cycles from an *acc* beat and its side beats to
    the first cycle of the *o* beat; with MOMENTUM and UNPOOL longer. *Backpressure*: any stall on
    any stream; with MOMENTUM the side stream may run ahead by the momentum of a few vectors.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    flags, is_wu, is_update : In(24), In(1), In(1)
        The descriptor's flags (see :class:`~eftrain_hdl.isa.Flag`), whether it is a CONV_WU, and
        whether it is one with UPDATE. These and the next three may change only while idle.
    learning_rate, momentum, weight_decay : In(32)
        fp32.
    acc : In(stream.Signature(AccumulatorBeat(config)))
        Drained vectors, low channels first.
    side : In(stream.Signature(128))
    o : Out(stream.Signature(128))
    nonfinite : Out(1)
        High for the cycle after a beat with an infinity or a NaN was taken from ``o``.
    idle : Out(1)
        No beat and no part of a vector or window is held.
    """

    latency = EpilogueLanes.latency + 1

    def __init__(self, config):
        self._config = config
        beat = stream.Signature(config.data_bits)
        super().__init__(
            {
                "flags": In(24),
                "is_wu": In(1),
                "is_update": In(1),
                "learning_rate": In(32),
                "momentum": In(32),
                "weight_decay": In(32),
                "acc": In(stream.Signature(AccumulatorBeat(config))),
                "side": In(beat),
                "o": Out(beat),
                "nonfinite": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        beats, width = self._config.vector_beats, self._config.data_bits
        beat_bits = max(1, ceil_log2(beats))

        def advance(counter):
            return counter.eq(Mux(counter == beats - 1, 0, counter + 1))

        relu, pool = self.flags[Flag.RELU], self.flags[Flag.POOL]
        unpool, adds = self.flags[Flag.UNPOOL], self.flags[Flag.SIDE_ADD]
        with_momentum = self.is_update & self.flags[Flag.MOMENTUM]
        biased = self.flags[Flag.BIAS] & ~self.is_wu
        masked = self.flags[Flag.SIDE_MASK] & ~unpool
        uses_side = adds | masked | self.is_update

        m.submodules.collector = collector = DiagonalCollector(self._config)
        m.submodules.unpooling = unpooling = MaxUnpool(self._config)
        m.submodules.pooling = pooling = MaxPool(self._config)
        m.submodules.lanes = lanes = EpilogueLanes()
        # Deep enough for a beat a cycle through the pipeline while the two results of a momentum
        # step take turns on the output, a vector each.
        depth = 1 << ceil_log2(lanes.latency + 2 * beats + 4)
        m.submodules.results = results = LandingFifo(width, depth)
        m.submodules.velocity_results = velocity_results = LandingFifo(width, depth)
        # First sums of a momentum step, waiting for their second turn, and what comes with them.
        depth = 1 << ceil_log2(lanes.inner_latency + beats + 4)
        m.submodules.again = again = LandingFifo(width, depth)
        m.submodules.weights = weights = fifo.SyncFIFO(width=width, depth=depth)
        m.submodules.velocities = velocities = fifo.SyncFIFO(width=width, depth=depth)

        # In: the vectors that enter the lanes.
        wiring.connect(m, collector.i, wiring.flipped(self.acc))
        x_valid, x_ready = Signal(), Signal()
        x_data = Signal(width)
        block_start = Signal()
        m.d.comb += [
            unpooling.masked.eq(self.flags[Flag.SIDE_MASK]),
            unpooling.i.payload.eq(collector.o.p.data),
            unpooling.side.payload.eq(self.side.payload),
            block_start.eq(biased & collector.o.p.block_start),
        ]
        with m.If(unpool):
            m.d.comb += [
                unpooling.i.valid.eq(collector.o.valid),
                collector.o.ready.eq(unpooling.i.ready),
                x_valid.eq(unpooling.o.valid),
                x_data.eq(unpooling.o.payload),
                unpooling.o.ready.eq(x_ready),
            ]
        with m.Else():
            m.d.comb += [
                x_valid.eq(collector.o.valid),
                x_data.eq(collector.o.p.data),
                collector.o.ready.eq(x_ready),
            ]

        # Bias: one vector, kept for the whole block.
        m.submodules.bias = bias = memory.Memory(shape=width, depth=max(2, beats), init=[])
        bias_read, bias_write = bias.read_port(domain="comb"), bias.write_port()
        bias_beat, x_beat = Signal(beat_bits), Signal(beat_bits)
        bias_present = Signal()
        load_bias = Signal()
        m.d.comb += [
            load_bias.eq(x_valid & block_start & ~bias_present),
            bias_read.addr.eq(x_beat),
            bias_write.addr.eq(bias_beat),
            bias_write.data.eq(self.side.payload),
            bias_write.en.eq(load_bias & self.side.valid),
        ]
        with m.If(bias_write.en):
            m.d.sync += advance(bias_beat)
            with m.If(bias_beat == beats - 1):
                m.d.sync += bias_present.eq(1)
        with m.If(x_ready):
            m.d.sync += advance(x_beat)
            with m.If(block_start & (x_beat == beats - 1)):
                m.d.sync += bias_present.eq(0)

        # Side: who takes a beat.
        side_beat = Signal(beat_bits)
        side_is_velocity = Signal()
        with m.If(with_momentum & self.side.valid & self.side.ready):
            m.d.sync += advance(side_beat)
            m.d.sync += side_is_velocity.eq(side_is_velocity ^ (side_beat == beats - 1))
        m.d.comb += [
            velocities.w_data.eq(self.side.payload),
            velocities.w_en.eq(side_is_velocity & self.side.valid),
        ]
        with m.If(unpool):
            m.d.comb += [
                unpooling.side.valid.eq(self.side.valid),
                self.side.ready.eq(unpooling.side.ready),
            ]
        with m.Elif(side_is_velocity):
            m.d.comb += self.side.ready.eq(velocities.w_rdy)
        with m.Else():
            m.d.comb += self.side.ready.eq(load_bias | (x_ready & uses_side))

        # Issue. A momentum step enters the lanes twice: with its weight, which leaves g', and with
        # g' and its velocity. The first turn goes first: its side beat alternates with the
        # velocities that the second turn reads from a FIFO, so at full rate they never meet.
        second = Signal()
        m.d.comb += [
            x_ready.eq(
                x_valid
                & ~load_bias
                & (~uses_side | (self.side.valid & ~side_is_velocity))
                & Mux(with_momentum, again.room, results.room)
            ),
            second.eq(
                ~x_ready & again.o.valid & velocities.r_rdy & results.room & velocity_results.room
            ),
            again.o.ready.eq(second),
            velocities.r_en.eq(second),
            weights.r_en.eq(second),
            weights.w_en.eq(x_ready & with_momentum),
            weights.w_data.eq(self.side.payload),
            again.claim.eq(x_ready & with_momentum),
            results.claim.eq((x_ready & ~with_momentum) | second),
            velocity_results.claim.eq(second),
        ]

        # Operands.
        neutral = sum(NEGATIVE_ZERO << 32 * lane for lane in range(lanes.lanes))
        m.d.comb += [
            lanes.a.eq(x_data),
            lanes.inner_factor.eq(ONE),
            lanes.inner_side.eq(neutral),
            lanes.outer_factor.eq(Mux(self.is_update, self.learning_rate ^ (1 << 31), ONE)),
            lanes.outer_side.eq(Mux(adds | self.is_update, self.side.payload, neutral)),
        ]
        with m.If(second):
            m.d.comb += [
                lanes.a.eq(again.o.payload),
                lanes.inner_factor.eq(self.momentum),
                lanes.inner_side.eq(velocities.r_data),
                lanes.outer_side.eq(weights.r_data),
            ]
        with m.Elif(self.is_update):
            m.d.comb += [
                lanes.inner_factor.eq(self.weight_decay),
                lanes.inner_side.eq(self.side.payload),
            ]
        with m.Elif(biased):
            m.d.comb += lanes.inner_side.eq(bias_read.data)

        # Results.
        m.submodules.passes = passes = DelayLine(lanes.lanes, lanes.latency)
        m.d.comb += [
            passes.i.eq(
                Cat(
                    is_positive(self.side.payload.word_select(lane, 32)) | ~masked
                    for lane in range(lanes.lanes)
                )
            ),
            results.write.eq(self._delayed(m, results.claim, lanes.latency, "result")),
            velocity_results.write.eq(
                self._delayed(m, velocity_results.claim, lanes.inner_latency, "velocity")
            ),
            velocity_results.data.eq(lanes.inner),
            again.write.eq(self._delayed(m, again.claim, lanes.inner_latency, "again")),
            again.data.eq(lanes.inner),
        ]
        for lane in range(lanes.lanes):
            word = lanes.o.word_select(lane, 32)
            # The adder's NaN is positive, so the sign alone tells what ReLU replaces.
            with m.If(passes.o[lane] & ~(relu & word[31])):
                m.d.comb += results.data.word_select(lane, 32).eq(word)

        # Out.
        o_beat = Signal(beat_bits)
        o_is_velocity = Signal()
        m.d.comb += pooling.i.payload.eq(results.o.payload)
        with m.If(pool):
            m.d.comb += [
                pooling.i.valid.eq(results.o.valid),
                results.o.ready.eq(pooling.i.ready),
            ]
            wiring.connect(m, wiring.flipped(self.o), pooling.o)
        with m.Elif(o_is_velocity):
            wiring.connect(m, wiring.flipped(self.o), velocity_results.o)
        with m.Else():
            wiring.connect(m, wiring.flipped(self.o), results.o)
        with m.If(with_momentum & self.o.valid & self.o.ready):
            m.d.sync += advance(o_beat)
            m.d.sync += o_is_velocity.eq(o_is_velocity ^ (o_beat == beats - 1))

        exponents = [self.o.payload.word_select(lane, 32)[23:31] for lane in range(lanes.lanes)]
        m.d.sync += self.nonfinite.eq(
            self.o.valid & self.o.ready & Cat(exponent.all() for exponent in exponents).any()
        )
        m.d.comb += self.idle.eq(
            Cat(
                collector.idle,
                unpooling.idle,
                pooling.idle,
                results.idle,
                velocity_results.idle,
                again.idle,
                ~velocities.r_rdy,
                x_beat == 0,
                bias_beat == 0,
                ~bias_present,
                (side_beat == 0) & ~side_is_velocity,
                ~self.nonfinite,
            ).all()
        )

        return m

    @staticmethod
    def _delayed(m, bit, cycles, name):
        line = Signal(cycles, name=f"{name}_line")
        m.d.sync += line.eq(Cat(bit, line))
        return line[-1]

    model = staticmethod(epilogue_model)
