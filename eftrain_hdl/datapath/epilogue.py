"""What happens to a result on its way from the accumulators to memory."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..isa import COEFFICIENT_VECTORS, MAX_STATISTICS_BLOCKS, Flag, Opcode
from .diagonal import AccumulatorBeat, DiagonalCollector
from .elastic import DelayLine, LandingFifo
from .epilogue_lanes import NEGATIVE_ZERO, ONE, EpilogueLanes
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
    which no *acc* beat is taken; with STATISTICS or SUMS at least :attr:`Statistics.gap` cycles lie
    between two blocks, and a tile waits for the records of the one before it. *Latency*:
    :attr:`latency` cycles from an *acc* beat and its operands to the first cycle of the *o* beat;
    with MOMENTUM and UNPOOL longer. *Backpressure*: any stall on any stream; with MOMENTUM the side
    stream may run ahead by the momentum of a few vectors.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    flags, opcode : In(24), In(8)
        Of the descriptor. These and the next three may change only while idle.
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
        No beat and no part of a vector or window is held; with STATISTICS or SUMS no part of a
        block.
    """

    latency = EpilogueLanes.latency + 1

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

        def advance(counter):
            return counter.eq(Mux(counter == beats - 1, 0, counter + 1))

        relu, side_mask = self.flags[Flag.RELU], self.flags[Flag.SIDE_MASK]
        adds, pool, unpool = self.flags[Flag.ADD], self.flags[Flag.POOL], self.flags[Flag.UNPOOL]
        is_wu, is_forward = self.opcode == Opcode.CONV_WU, self.opcode == Opcode.CONV_FP
        is_update, with_momentum, biased = Signal(), Signal(), Signal()
        # A core without batch-norm has these flags tied to zero, and nothing here sums.
        keeps, two_sums, sums = Signal(), self.flags[Flag.STATISTICS], Signal()
        reads_y, norm_mask = Signal(), Signal()
        m.d.comb += [
            is_update.eq(is_wu & self.flags[Flag.UPDATE]),
            with_momentum.eq(is_update & self.flags[Flag.MOMENTUM]),
            biased.eq(~is_wu & self.flags[Flag.BIAS]),
            keeps.eq(pool & self.flags[Flag.KEEP]),
            sums.eq(two_sums | self.flags[Flag.SUMS]),
            reads_y.eq(two_sums & ~is_forward),
            norm_mask.eq(reads_y & self.flags[Flag.NORM_MASK]),
        ]

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

        # Issue. A momentum step enters the lanes twice: with its weight, which leaves g', and with
        # g' and its velocity. The first turn goes first: its side beat alternates with the
        # velocities that the second turn reads from a FIFO, so at full rate they never meet.
        wiring.connect(m, collector.i, wiring.flipped(self.acc))
        x, x_valid = collector.o.p, collector.o.valid
        issue, returns = Signal(), Signal()
        x_beat = Signal.like(operands.beat)
        x_last = x.block_end & (x_beat == beats - 1)
        pause = Signal(range(Statistics.gap + 1))
        owed_records = Signal(range(MAX_STATISTICS_BLOCKS + 1))
        tile_start = x.block_start & (x.block == 0)
        room = results.room & (second_results.room | ~keeps)
        m.d.comb += [
            collector.o.ready.eq(issue),
            issue.eq(
                x_valid
                & operands.complete
                & (~adds | self.auxiliary.valid)
                & Mux(with_momentum, again.room, room)
                & (pause == 0)
                # The memories of the statistics are those of the tile that has records to write.
                & ~(tile_start & (owed_records != 0))
            ),
            returns.eq(
                ~issue & again.o.valid & operands.velocities.valid & room & second_results.room
            ),
            again.o.ready.eq(returns),
            operands.velocities.ready.eq(returns),
            weights.r_en.eq(returns),
            weights.w_en.eq(issue & with_momentum),
            weights.w_data.eq(operands.operand),
            again.claim.eq(issue & with_momentum),
            results.claim.eq((issue & ~with_momentum) | returns),
            second_results.claim.eq((issue & keeps) | returns),
            negatives.w_en.eq(issue & (pool | unpool)),
            negatives.w_data.eq(
                Cat(two_sums & is_negative(operands.first.word_select(k, 32)) for k in words)
            ),
        ]
        with m.If(issue):
            m.d.sync += advance(x_beat)
        with m.If(issue & x_last & sums):
            m.d.sync += pause.eq(Statistics.gap)
        with m.Elif(pause != 0):
            m.d.sync += pause.eq(pause - 1)
        m.d.sync += owed_records.eq(
            owed_records + (issue & x_last & x.group_last & sums) - router.record_end
        )

        # Operands.
        wiring.connect(m, wiring.flipped(self.side), operands.side)
        m.d.comb += [
            operands.waiting.eq(x_valid),
            operands.block_start.eq(x.block_start),
            operands.beat.eq(x_beat),
            operands.take.eq(issue),
            operands.parameters.eq(
                Mux(reads_y, COEFFICIENT_VECTORS, biased | (two_sums & is_forward & pool))
            ),
            operands.with_mask.eq(side_mask & reads_y),
            operands.with_operand.eq(side_mask | reads_y | is_update),
            operands.with_velocity.eq(with_momentum),
        ]
        neutral = sum(NEGATIVE_ZERO << 32 * k for k in words)
        ones = sum(ONE << 32 * k for k in words)
        addend = Mux(adds, self.auxiliary.payload, neutral)
        m.d.comb += [
            lanes.a.eq(x.data),
            lanes.inner_factor.eq(ones),
            lanes.inner_side.eq(neutral),
            lanes.outer_factor.eq(Mux(is_update, self.learning_rate ^ (1 << 31), ONE)),
            lanes.outer_side.eq(Mux(is_update, operands.operand, addend)),
            lanes.outer_value.eq(addend),
            lanes.apart.eq(norm_mask),
        ]
        with m.If(returns):
            m.d.comb += [
                lanes.a.eq(again.o.payload),
                lanes.inner_factor.eq(self.momentum.replicate(len(words))),
                lanes.inner_side.eq(operands.velocities.payload),
                lanes.outer_side.eq(weights.r_data),
            ]
        with m.Elif(is_update):
            m.d.comb += [
                lanes.inner_factor.eq(self.weight_decay.replicate(len(words))),
                lanes.inner_side.eq(operands.operand),
            ]
        with m.Elif(norm_mask):
            m.d.comb += [
                lanes.a.eq(operands.third),
                lanes.inner_factor.eq(operands.first),
                lanes.inner_side.eq(operands.operand),
                lanes.outer_side.eq(x.data),
            ]
        with m.Elif(biased):
            m.d.comb += lanes.inner_side.eq(operands.first)

        # Masks, which the lanes deliver half-way, or which travel beside them.
        m.submodules.masks = masks = DelayLine(len(words), lanes.inner_latency)
        m.submodules.passes = passes = DelayLine(len(words), lanes.latency - lanes.inner_latency)
        m.d.comb += [
            masks.i.eq(operands.positive | ~side_mask.replicate(len(words))),
            passes.i.eq(
                Mux(
                    norm_mask,
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
            with m.If(passes.o[k] & ~(relu & word[31])):
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
                statistics.gradient.eq(~is_forward),
                statistics.single.eq(self.flags[Flag.SUMS]),
                statistics.valid.eq(results.write & sums),
                statistics.value.eq(masked),
                statistics.side.eq(sides.o),
                statistics.place.eq(place),
                statistics.mean.eq(
                    self._delayed(m, operands.is_fourth & reads_y, lanes.latency, "mean")
                ),
                router.record_last.eq(statistics.o_last),
            ]
            wiring.connect(m, router.records, statistics.o)
            record_end, sums_idle = sums & place.last & place.group_last, statistics.idle

        # Results.
        m.d.comb += [
            results.write.eq(self._delayed(m, results.claim, lanes.latency, "result")),
            results.data.eq(Cat(result, record_end)),
            again.write.eq(self._delayed(m, again.claim, lanes.inner_latency, "again")),
            again.data.eq(lanes.inner),
        ]
        velocity_write = self._delayed(m, returns, lanes.inner_latency, "velocity")
        with m.If(keeps):
            m.d.comb += [second_results.write.eq(results.write), second_results.data.eq(result)]
        with m.Else():
            m.d.comb += [
                second_results.write.eq(velocity_write),
                second_results.data.eq(lanes.inner),
            ]

        # Out.
        with m.If(unpool):
            wiring.connect(m, router.windows, wiring.flipped(self.auxiliary))
        with m.Else():
            m.d.comb += self.auxiliary.ready.eq(issue & adds)
        wiring.connect(m, router.seconds, second_results.o)
        wiring.connect(m, wiring.flipped(self.o), router.o)
        wiring.connect(m, wiring.flipped(self.second), router.second)
        m.d.comb += [
            router.pool.eq(pool),
            router.unpool.eq(unpool),
            router.keep.eq(keeps),
            router.with_velocity.eq(with_momentum),
            router.results.payload.eq(results.o.payload),
            router.results.valid.eq(results.o.valid),
            results.o.ready.eq(router.results.ready),
            router.negative.payload.eq(negatives.r_data),
            router.negative.valid.eq(negatives.r_rdy),
            negatives.r_en.eq(router.negative.ready & (pool | unpool)),
        ]

        m.d.comb += self.lacking.eq(
            operands.lacking
            | (~self.auxiliary.valid & ((adds & x_valid) | (unpool & self.auxiliary.ready)))
        )
        exponents = [self.o.payload.word_select(k, 32)[23:31] for k in words]
        m.d.sync += self.nonfinite.eq(
            self.o.valid & self.o.ready & Cat(exponent.all() for exponent in exponents).any()
        )
        m.d.comb += self.idle.eq(
            Cat(
                collector.idle,
                operands.idle,
                sums_idle,
                router.idle,
                results.idle,
                second_results.idle,
                again.idle,
                x_beat == 0,
                pause == 0,
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
