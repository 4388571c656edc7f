"""The end of the epilogue: which result leaves when, and through which output."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .elastic import count_beats
from .pooling import MaxPool
from .unpooling import MaxUnpool

__all__ = ["ResultRouter"]


class ResultRouter(wiring.Component):
    """Pools or spreads results, lets velocities take turns with weights, and adds the records.

    ::

        results ──┬─► pooling ────┬─► o
                  ├─► un-pooling ─┤
                  └───────────────┤
        velocities, records ──────┘
        kept ───────────────────────► second

    A beat a cycle. *Latency*: none but those of :class:`MaxPool` and :class:`MaxUnpool`.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    pool, unpool, keep, with_velocity : In(1)
        Stable while not idle; at most one of the first two and the last.
    results : In(stream of StructLayout(data, ends_block))
        ``ends_block``: a record follows behind this beat.
    negative : In(stream.Signature(4))
        With ``pool`` and ``unpool``: for each beat of ``results``, with it or before it, in which
        lanes to find the minimum.
    windows : In(stream.Signature(128))
        With ``unpool``: four vectors for each result.
    seconds : In(stream.Signature(128))
        Velocities or, with ``keep``, what goes to ``second``.
    records, record_last : In(stream.Signature(128)), In(1)
        ``record_last``: the beat in ``records`` is the last of a record.
    record_end : Out(1)
        Pulse: the last beat of a record was taken from ``o``.
    o, second : Out(stream.Signature(128))
    idle : Out(1)
        No part of a window or of a pair of weights and velocities is held. Says nothing of what
        waits in the input streams.
    """

    def __init__(self, config):
        self._config = config
        beat = stream.Signature(config.data_bits)
        result = data.StructLayout({"data": config.data_bits, "ends_block": 1})
        super().__init__(
            {
                "pool": In(1),
                "unpool": In(1),
                "keep": In(1),
                "with_velocity": In(1),
                "results": In(stream.Signature(result)),
                "negative": In(stream.Signature(config.beat_words)),
                "windows": In(beat),
                "seconds": In(beat),
                "records": In(beat),
                "record_last": In(1),
                "record_end": Out(1),
                "o": Out(beat),
                "second": Out(beat),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        beats = self._config.vector_beats
        results = self.results
        m.submodules.pooling = pooling = MaxPool(self._config)
        m.submodules.unpooling = unpooling = MaxUnpool(self._config)
        wiring.connect(m, unpooling.windows, wiring.flipped(self.windows))
        record_due, is_velocity = Signal(), Signal()
        beat, last_beat = count_beats(
            m, beats, self.with_velocity & self.o.valid & self.o.ready, "beat"
        )

        # A record waits for the last results of its block, and the next results for the record.
        sends_record = record_due & unpooling.between & pooling.idle
        offered = results.valid & ~record_due
        taken = Signal()
        m.d.comb += [
            pooling.i.payload.eq(results.p.data),
            pooling.i.valid.eq(offered & self.pool),
            pooling.negative.eq(self.negative.payload),
            unpooling.i.payload.eq(results.p.data),
            unpooling.i.valid.eq(offered & self.unpool),
            unpooling.negative.payload.eq(self.negative.payload),
            unpooling.negative.valid.eq(self.negative.valid & self.unpool),
            self.negative.ready.eq(
                unpooling.negative.ready | (self.pool & results.valid & results.ready)
            ),
            self.second.payload.eq(self.seconds.payload),
            self.second.valid.eq(self.seconds.valid & self.keep),
            results.ready.eq(taken & ~record_due),
        ]
        # Where a unit that is not asked for offers nothing, its ready may be anything: the fewer
        # conditions on it, the better, for much depends on it.
        m.d.comb += [
            unpooling.o.ready.eq(self.o.ready),
            pooling.o.ready.eq(self.o.ready),
            self.seconds.ready.eq(Mux(self.keep, self.second.ready, is_velocity & self.o.ready)),
            self.records.ready.eq(sends_record & self.o.ready),
            self.record_end.eq(sends_record & self.o.ready & self.records.valid & self.record_last),
        ]
        with m.If(sends_record):
            self._send(m, self.records)
        with m.Elif(self.unpool):
            self._send(m, unpooling.o)
        with m.Elif(self.pool):
            self._send(m, pooling.o)
        with m.Elif(is_velocity):
            self._send(m, self.seconds)
        with m.Else():
            m.d.comb += [self.o.payload.eq(results.p.data), self.o.valid.eq(offered)]
        with m.If(self.unpool):
            m.d.comb += taken.eq(unpooling.i.ready)
        with m.Elif(self.pool):
            m.d.comb += taken.eq(pooling.i.ready)
        with m.Else():
            m.d.comb += taken.eq(self.o.ready & ~is_velocity)

        with m.If(results.valid & results.ready & results.p.ends_block):
            m.d.sync += record_due.eq(1)
        with m.If(self.record_end):
            m.d.sync += record_due.eq(0)
        with m.If(self.with_velocity & self.o.valid & self.o.ready & last_beat):
            m.d.sync += is_velocity.eq(~is_velocity)
        m.d.comb += self.idle.eq(
            Cat(pooling.idle, unpooling.idle, beat == 0, ~is_velocity, ~record_due).all()
        )

        return m

    def _send(self, m, source):
        m.d.comb += [self.o.payload.eq(source.payload), self.o.valid.eq(source.valid)]
