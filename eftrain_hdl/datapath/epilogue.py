"""What happens to a result on its way from the accumulators to memory."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..isa import MAX_STATISTICS_BLOCKS
from .diagonal import AccumulatorBeat, DiagonalCollector, VectorBeat
from .elastic import DelayLine, LandingFifo, SkidBuffer, count_beats
from .epilogue_lanes import NEGATIVE_ZERO, ONE, EpilogueLanes
from .epilogue_mode import EpilogueMode
from .epilogue_model import epilogue_model
from .pooling import is_negative, is_positive
from .result_router import ResultRouter
from .side_operands import SideOperands
from .statistics import Statistics, StatisticsPlace

__all__ = ["Epilogue"]


class Epilogue(wiring.Component):
    """All that rides along on the drain: bias to statistics, pooling, and the SGD step.

    ::

                                             ┌─► statistics ─────────┐
        acc ──► diagonal ──► lanes ──► mask ─┴─► ReLU ──────────► router ─► o
        side ───────────────────┤                                   │ └───► second
        auxiliary ──────────────┴───────────────────────────────────┘

    The order of the operations is bias, ADD, mask, statistics, RELU, KEEP, POOL or UNPOOL; the
    flags are those of :class:`~eftrain_hdl.isa.Flag`. What the streams carry depends on them.

    *side*: before the first *acc* vector of a block its parameters (BIAS without WU: the bias;
    STATISTICS with POOL of CONV_FP: gamma; STATISTICS of the others: a coefficient record). For
    each *acc* vector the mask (SIDE_MASK), then y (STATISTICS, not CONV_FP); UPDATE: the weights,
    then with MOMENTUM the velocities.

    *auxiliary*: for each *acc* vector the addend (ADD) or the four vectors of a window (UNPOOL).

    *o*: for each *acc* vector one; POOL: one for 4; UNPOOL: 4; UPDATE: the weights, then with
    MOMENTUM the velocities. STATISTICS: behind the last vector of a block of a tile with
    ``group_last`` the record of :class:`Statistics`. SUMS: the same, without sums 2 and what *side*
    carries for them.

    *second*: KEEP: the vectors before POOL.

    T diagonal vectors count as the one that :class:`DiagonalCollector` makes of them. SGD:
    ``g' = g + weight_decay*w``, ``v = momentum*v + g'`` (``g'`` itself without MOMENTUM),
    ``w = w - learning_rate*v``. NORM_MASK: ``k0*y + k2 > 0``. Every product and every sum is
    rounded to fp32. A missing operand is the neutral -0, so subnormals of *acc* become zero and its
    NaNs canonical in all modes.

    *Throughput*: a beat a cycle on the busiest of the streams. Parameters take a cycle a beat in
    which no vector goes on; with STATISTICS or SUMS at least :attr:`Statistics.gap` cycles lie
    between two blocks, and a tile waits for the records of the one before it. *Latency*:
    :attr:`latency` cycles from an *acc* beat to the first cycle of the *o* beat, if its operands
    come with it; one more with POOL, with MOMENTUM and UNPOOL longer. *Backpressure*: any stall on
    any stream. Of *acc*, *side* and *auxiliary* two beats are taken before they are needed, of the
    last two also those of the next descriptor; with MOMENTUM *side* is ahead by the momentum of a
    few vectors more.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    flags, opcode : In(24), In(8)
        Of the descriptor. These and the next three may change only while idle, and no later than
        with the first *acc* beat that they concern.
    learning_rate, momentum, weight_decay : In(32)
        fp32.
    acc : In(stream.Signature(AccumulatorBeat(config)))
        Drained vectors, low channels first.
    side, auxiliary : In(stream.Signature(128))
    o, second : Out(stream.Signature(128))
    nonfinite : Out(1)
        High for the cycle after a beat with an infinity or a NaN was taken from ``o``.
    lacking : Out(1)
        A result waits for a beat of ``side`` or ``auxiliary``.
    idle : Out(1)
        No beat and no part of a vector or window is held, but for beats of *side* and *auxiliary*
        that wait for an *acc* beat; with STATISTICS or SUMS no part of a block. Rises a cycle late.
    """

    latency = EpilogueLanes.latency + 3

    def __init__(self, config):
        self._config = config
        beat = stream.Signature(config.data_bits)
        super().__init__(
            {
                "flags": In(24),
                "opcode": In(8),
                "learning_rate": In(32),
                "momentum": In(32),
                "weight_decay": In(32),
                "acc": In(stream.Signature(AccumulatorBeat(config))),
                "side": In(beat),
                "auxiliary": In(beat),
                "o": Out(beat),
                "second": Out(beat),
                "nonfinite": Out(1),
                "lacking": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        beats, width = self._config.vector_beats, self._config.data_bits
        words = range(self._config.beat_words)

        m.submodules.mode = mode = EpilogueMode()
        m.d.comb += [mode.flags.eq(self.flags), mode.opcode.eq(self.opcode)]

        # Deep enough for a beat a cycle through the pipeline while the two results of a momentum
        # step take turns on the output, a vector each.
        depth = 1 << ceil_log2(EpilogueLanes.latency + 2 * beats + 4)
        # First sums of a momentum step, waiting for their second turn, and what comes with them.
        again_depth = 1 << ceil_log2(EpilogueLanes.inner_latency + beats + 4)
        m.submodules.collector = collector = DiagonalCollector(self._config)
        m.submodules.operands = operands = SideOperands(self._config, velocity_depth=again_depth)
        m.submodules.lanes = lanes = EpilogueLanes()
        m.submodules.router = router = ResultRouter(self._config)
        m.submodules.results = results = LandingFifo(width + 1, depth)
        # Results before pooling, or velocities.
        m.submodules.second_results = second_results = LandingFifo(width, depth)
        m.submodules.again = again = LandingFifo(width, again_depth)
        m.submodules.weights = weights = fifo.SyncFIFO(width=width, depth=again_depth)
        # For each result in the pipeline, in which lanes POOL and UNPOOL look for the minimum.
        m.submodules.negatives = negatives = fifo.SyncFIFO(width=len(words), depth=depth)

        # Between the drain and the readers and what goes on here, and between that and the writer.
        m.submodules.acc_buffer = acc_buffer = SkidBuffer(VectorBeat(self._config))
        m.submodules.side_buffer = side_buffer = SkidBuffer(width)
        m.submodules.auxiliary_buffer = auxiliary_buffer = SkidBuffer(width)
        m.submodules.o_buffer = o_buffer = SkidBuffer(width)
        wiring.connect(m, wiring.flipped(self.side), side_buffer.i)
        wiring.connect(m, wiring.flipped(self.auxiliary), auxiliary_buffer.i)
        auxiliary = auxiliary_buffer.o

        # Issue. A momentum step enters the lanes twice: with its weight, which leaves g', and with
        # g' and its velocity. The first turn goes first: its side beat alternates with the
        # velocities that the second turn reads from a FIFO, so at full rate they never meet.
        wiring.connect(m, collector.i, wiring.flipped(self.acc))
        wiring.connect(m, collector.o, acc_buffer.i)
        issue, returns = Signal(), Signal()
        # The beat that waits for its operands.
        x, x_valid = acc_buffer.o.p, acc_buffer.o.valid
        x_beat, last_beat = count_beats(m, beats, issue, "x_beat")
        x_last = x.block_end & last_beat
        pause, paused = Signal(range(Statistics.gap + 1)), Signal()
        # A cycle late, which the pause before the next tile makes up for.
        owed_records, owes = Signal(range(MAX_STATISTICS_BLOCKS + 1)), Signal()
        tile_start = x.block_start & (x.block == 0)
        room = results.room & (second_results.room | mode.keeps_nothing)
        m.d.comb += [
            acc_buffer.o.ready.eq(issue),
            issue.eq(
                x_valid
                & operands.complete
                & (mode.adds_nothing | auxiliary.valid)
                & Mux(mode.with_momentum, again.room, room)
                & ~paused
                # The memories of the statistics are those of the tile that has records to write.
                & ~(tile_start & owes)
            ),
            returns.eq(
                ~issue & again.o.valid & operands.velocities.valid & room & second_results.room
            ),
            again.o.ready.eq(returns),
            operands.velocities.ready.eq(returns),
            weights.r_en.eq(returns),
            weights.w_en.eq(issue & mode.with_momentum),
            weights.w_data.eq(operands.operand),
            again.claim.eq(issue & mode.with_momentum),
            results.claim.eq((issue & ~mode.with_momentum) | returns),
            second_results.claim.eq((issue & mode.keeps) | returns),
            negatives.w_en.eq(issue & (mode.pool | mode.unpool)),
            negatives.w_data.eq(
                Cat(
                    mode.sums & ~mode.single & is_negative(operands.first.word_select(k, 32))
                    for k in words
                )
            ),
        ]
        with m.If(issue & x_last & mode.sums):
            m.d.sync += [pause.eq(Statistics.gap), paused.eq(1)]
        with m.Elif(paused):
            m.d.sync += [pause.eq(pause - 1), paused.eq(pause != 1)]
        m.d.sync += [
            owed_records.eq(
                owed_records + (issue & x_last & x.group_last & mode.sums) - router.record_end
            ),
            owes.eq(owed_records != 0),
        ]

        # Operands.
        wiring.connect(m, side_buffer.o, operands.side)
        m.d.comb += [
            operands.waiting.eq(x_valid),
            operands.block_start.eq(x.block_start),
            operands.beat.eq(x_beat),
            operands.take.eq(issue),
            operands.parameters.eq(mode.parameters),
            operands.no_parameters.eq(mode.no_parameters),
            operands.with_mask.eq(mode.with_mask),
            operands.with_operand.eq(mode.with_operand),
            operands.with_velocity.eq(mode.with_momentum),
        ]
        neutral = sum(NEGATIVE_ZERO << 32 * k for k in words)
        ones = sum(ONE << 32 * k for k in words)
        addend = Mux(mode.adds, auxiliary.payload, neutral)
        m.d.comb += [
            lanes.a.eq(x.data),
            lanes.inner_factor.eq(ones),
            lanes.inner_side.eq(neutral),
            lanes.outer_factor.eq(Mux(mode.is_update, self.learning_rate ^ (1 << 31), ONE)),
            lanes.outer_side.eq(Mux(mode.is_update, operands.operand, addend)),
            lanes.outer_value.eq(addend),
            lanes.apart.eq(mode.norm_mask),
        ]
        # Whatever enters the lanes in a cycle in which nothing is issued or returns is not used.
        with m.If(mode.with_momentum & ~issue):
            m.d.comb += [
                lanes.a.eq(again.o.payload),
                lanes.inner_factor.eq(self.momentum.replicate(len(words))),
                lanes.inner_side.eq(operands.velocities.payload),
                lanes.outer_side.eq(weights.r_data),
            ]
        with m.Elif(mode.is_update):
            m.d.comb += [
                lanes.inner_factor.eq(self.weight_decay.replicate(len(words))),
                lanes.inner_side.eq(operands.operand),
            ]
        with m.Elif(mode.norm_mask):
            m.d.comb += [
                lanes.a.eq(operands.third),
                lanes.inner_factor.eq(operands.first),
                lanes.inner_side.eq(operands.operand),
                lanes.outer_side.eq(x.data),
            ]
        with m.Elif(mode.biased):
            m.d.comb += lanes.inner_side.eq(operands.first)

        # Masks, which the lanes deliver half-way, or which travel beside them.
        m.submodules.masks = masks = DelayLine(len(words), lanes.inner_latency)
        m.submodules.passes = passes = DelayLine(len(words), lanes.latency - lanes.inner_latency)
        m.d.comb += [
            masks.i.eq(operands.positive | ~mode.side_mask.replicate(len(words))),
            passes.i.eq(
                Mux(
                    mode.norm_mask,
                    Cat(is_positive(lanes.inner.word_select(k, 32)) for k in words),
                    masks.o,
                )
            ),
        ]
        masked, result = Signal(width), Signal(width)
        for k in words:
            word = lanes.o.word_select(k, 32)
            with m.If(passes.o[k]):
                m.d.comb += masked.word_select(k, 32).eq(word)
            # The adder's NaN is positive, so the sign alone tells what ReLU replaces.
            with m.If(passes.o[k] & ~(mode.relu & word[31])):
                m.d.comb += result.word_select(k, 32).eq(word)

        # Statistics.
        record_end, sums_idle = Const(0), Const(1)
        if self._config.batch_norm:
            m.submodules.statistics = statistics = Statistics(self._config)
            m.submodules.places = places = DelayLine(StatisticsPlace().size, lanes.latency)
            place = StatisticsPlace()(places.o)
            m.submodules.sides = sides = DelayLine(width, lanes.latency)
            m.d.comb += [
                places.i.eq(Cat(x_last, x.group_first, x.group_last, x.block)),
                sides.i.eq(operands.operand),
                statistics.gradient.eq(mode.gradient),
                statistics.single.eq(mode.single),
                statistics.valid.eq(results.write & mode.sums),
                statistics.value.eq(masked),
                statistics.side.eq(sides.o),
                statistics.place.eq(place),
                statistics.mean.eq(
                    self._delayed(m, operands.is_fourth & mode.reads_y, lanes.latency, "mean")
                ),
                router.record_last.eq(statistics.o_last),
            ]
            wiring.connect(m, router.records, statistics.o)
            record_end = mode.sums & place.last & place.group_last
            sums_idle = statistics.idle

        # Results.
        m.d.comb += [
            results.write.eq(self._delayed(m, results.claim, lanes.latency, "result")),
            results.data.eq(Cat(result, record_end)),
            again.write.eq(self._delayed(m, again.claim, lanes.inner_latency, "again")),
            again.data.eq(lanes.inner),
        ]
        velocity_write = self._delayed(m, returns, lanes.inner_latency, "velocity")
        with m.If(mode.keeps):
            m.d.comb += [second_results.write.eq(results.write), second_results.data.eq(result)]
        with m.Else():
            m.d.comb += [
                second_results.write.eq(velocity_write),
                second_results.data.eq(lanes.inner),
            ]

        # Out.
        # Without UNPOOL the router takes no windows.
        m.d.comb += [
            router.windows.payload.eq(auxiliary.payload),
            router.windows.valid.eq(auxiliary.valid & ~mode.no_unpool),
            auxiliary.ready.eq(router.windows.ready | (issue & mode.adds)),
        ]
        wiring.connect(m, router.seconds, second_results.o)
        wiring.connect(m, o_buffer.i, router.o)
        wiring.connect(m, wiring.flipped(self.o), o_buffer.o)
        wiring.connect(m, wiring.flipped(self.second), router.second)
        m.d.comb += [
            router.pool.eq(mode.pool),
            router.unpool.eq(mode.unpool),
            router.keep.eq(mode.keeps),
            router.with_velocity.eq(mode.with_momentum),
            router.results.payload.eq(results.o.payload),
            router.results.valid.eq(results.o.valid),
            results.o.ready.eq(router.results.ready),
            router.negative.payload.eq(negatives.r_data),
            router.negative.valid.eq(negatives.r_rdy),
            negatives.r_en.eq(router.negative.ready),
        ]

        m.d.comb += self.lacking.eq(
            operands.lacking
            | (~auxiliary.valid & ((mode.adds & x_valid) | (mode.unpool & auxiliary.ready)))
        )
        exponents = [self.o.payload.word_select(k, 32)[23:31] for k in words]
        m.d.sync += self.nonfinite.eq(
            self.o.valid & self.o.ready & Cat(exponent.all() for exponent in exponents).any()
        )
        # While everything rests, a beat can only come in through *acc*.
        m.d.sync += self.idle.eq(
            Cat(
                ~self.acc.valid,
                collector.idle,
                ~x_valid,
                operands.idle,
                sums_idle,
                router.idle,
                results.idle,
                second_results.idle,
                again.idle,
                ~o_buffer.o.valid,
                x_beat == 0,
                ~paused,
                ~owes,
                owed_records == 0,
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
