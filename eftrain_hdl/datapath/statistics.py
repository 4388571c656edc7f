"""Sums over the pixels of each channel, on the drain: what batch-norm and its gradient need."""

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..arithmetic import FloatAdd, FloatMultiply
from ..isa import MAX_STATISTICS_BLOCKS, PARTIAL_BEATS
from .elastic import DelayLine, LandingFifo

__all__ = ["Statistics", "StatisticsModel", "StatisticsPlace"]


class StatisticsPlace(data.StructLayout):
    """Where a beat stands: see :class:`~eftrain_hdl.datapath.diagonal.VectorBeat`.

    ``last`` marks the last beat of a block of the tile.
    """

    def __init__(self):
        super().__init__(
            {
                "last": 1,
                "group_first": 1,
                "group_last": 1,
                "block": ceil_log2(MAX_STATISTICS_BLOCKS),
            }
        )


class Statistics(wiring.Component):
    """Two sums over the vectors ``v`` of each block, and a record of them behind the last one.

    ========  =======================  ============  =================
    gradient  reference ``r``          sums 1        sums 2
    ========  =======================  ============  =================
    0         first vector of a group  ``v - r``     ``(v - r)**2``
    1         vector given by `mean`   ``v``         ``v * (side - r)``
    ========  =======================  ============  =================

    With `single` sums 2 are zeros. Every difference, product and sum is rounded to fp32. The record
    of a block is its reference (zeros with `gradient`), then :data:`PARTIAL_BEATS` beats of sums 1
    and as many of sums 2: beat ``e`` holds the partial sums of every eighth beat of the block's
    vectors, from beat ``e`` on.

    The sums of a block in one tile are made in rings of as many entries, so that a sum is out of
    the adder long before its turn comes again, and are then added to the totals of the block. Two
    levels also keep the rounding error small: a long sum is one of many short ones.

    Takes a beat every cycle, without a handshake, but after the ``last`` of a block none for
    :attr:`gap` cycles, in which the adders serve the totals.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    gradient, single : In(1)
        Stable while not idle. The second only with the first; `side` and `mean` are then unused.
    valid, value, side, place : In(1), In(128), In(128), In(StatisticsPlace())
        A beat of a vector. The blocks of a tile count up from 0, and a tile may begin only when
        all records of the tile before it have left.
    mean : In(1)
        ``side`` is a beat of the reference of ``place.block``, whose first vector follows.
    o : Out(stream.Signature(128))
        Records of tiles with ``group_last``.
    o_last : Out(1)
        The beat in ``o`` is the last of a record.
    idle : Out(1)
        No beat is on the way, no block is begun and no record is left.
    """

    gap = FloatAdd.latency + PARTIAL_BEATS

    def __init__(self, config):
        self._config = config
        super().__init__(
            {
                "gradient": In(1),
                "single": In(1),
                "valid": In(1),
                "value": In(config.data_bits),
                "side": In(config.data_bits),
                "place": In(StatisticsPlace()),
                "mean": In(1),
                "o": Out(stream.Signature(config.data_bits)),
                "o_last": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        beats, width = self._config.vector_beats, self._config.data_bits
        words = self._config.beat_words
        beat_bits, entry_bits = ceil_log2(beats), ceil_log2(PARTIAL_BEATS)

        # References: shift or mean of each block of the tile.
        m.submodules.references = references = memory.Memory(
            shape=width, depth=max(2, MAX_STATISTICS_BLOCKS * beats), init=[]
        )
        write = references.write_port()
        read, record_read = references.read_port(domain="comb"), references.read_port()
        beat, mean_beat = Signal(range(max(2, beats))), Signal(range(max(2, beats)))
        begun = Signal()
        makes_shift = Signal()
        with m.If(self.valid):
            m.d.sync += beat.eq(Mux(beat == beats - 1, 0, beat + 1))
            with m.If(self.place.last):
                m.d.sync += begun.eq(0)
            with m.Elif(beat == beats - 1):
                m.d.sync += begun.eq(1)
        with m.If(self.mean):
            m.d.sync += mean_beat.eq(Mux(mean_beat == beats - 1, 0, mean_beat + 1))
        m.d.comb += [
            makes_shift.eq(~self.gradient & self.place.group_first & ~begun),
            write.addr.eq(Cat(Mux(self.mean, mean_beat, beat)[:beat_bits], self.place.block)),
            write.data.eq(Mux(self.gradient, self.side, self.value)),
            write.en.eq(self.mean | (self.valid & makes_shift)),
            read.addr.eq(Cat(beat[:beat_bits], self.place.block)),
        ]

        # Terms of the sums.
        reference = Mux(makes_shift, self.value, read.data)
        minuend = Mux(self.gradient, self.side, self.value)
        m.submodules.values = values = DelayLine(width, FloatAdd.latency)
        m.submodules.terms = terms = DelayLine(width, FloatMultiply.latency)
        difference, product = Signal(width), Signal(width)
        factor = Mux(self.gradient, values.o, difference)
        m.d.comb += [values.i.eq(self.value), terms.i.eq(factor)]
        for lane in range(words):
            m.submodules[f"subtract{lane}"] = subtract = FloatAdd()
            m.submodules[f"multiply{lane}"] = multiply = FloatMultiply()
            m.d.comb += [
                subtract.a.eq(minuend.word_select(lane, 32)),
                subtract.b.eq(reference.word_select(lane, 32) ^ (1 << 31)),
                difference.word_select(lane, 32).eq(subtract.o),
                multiply.a.eq(factor.word_select(lane, 32)),
                multiply.b.eq(difference.word_select(lane, 32)),
                product.word_select(lane, 32).eq(multiply.o),
            ]
        delay = FloatAdd.latency + FloatMultiply.latency
        coming = Signal(delay)
        m.submodules.places = places = DelayLine(StatisticsPlace().size, delay)
        m.d.sync += coming.eq(Cat(self.valid, coming))
        m.d.comb += places.i.eq(self.place)
        adds, place = coming[-1], StatisticsPlace()(places.o)

        # Ring: the entry of the beat, and whether the ring has been around.
        entry, around = Signal(entry_bits), Signal()
        with m.If(adds):
            m.d.sync += entry.eq(entry + 1)
            with m.If(entry == PARTIAL_BEATS - 1):
                m.d.sync += around.eq(1)
            with m.If(place.last):
                m.d.sync += [entry.eq(0), around.eq(0)]

        # Totals: begins when the last sum has left the adders; each read is one step ahead.
        step = Signal(range(self.gap + 1))
        ended = Signal(StatisticsPlace())
        ended_entry, ended_around = Signal.like(entry), Signal()
        with m.If(adds & place.last):
            m.d.sync += [
                step.eq(1),
                ended.eq(place),
                ended_entry.eq(entry),
                ended_around.eq(around),
            ]
        with m.Elif(step != 0):
            m.d.sync += step.eq(Mux(step == self.gap, 0, step + 1))
        fetches, totals = Signal(), Signal()
        total_entry = Signal(entry_bits)
        filled = Signal()
        m.d.comb += [
            fetches.eq((step >= FloatAdd.latency) & (step < self.gap)),
            totals.eq(step > FloatAdd.latency),
            total_entry.eq(step - FloatAdd.latency - 1),
            filled.eq(ended_around | (total_entry <= ended_entry)),
        ]

        # The adders of both sums, and where their results go.
        m.submodules.rings = rings = memory.Memory(shape=2 * width, depth=PARTIAL_BEATS, init=[])
        m.submodules.totals = sums = memory.Memory(
            shape=2 * width, depth=MAX_STATISTICS_BLOCKS * PARTIAL_BEATS, init=[]
        )
        ring_read, ring_write = rings.read_port(domain="comb"), rings.write_port()
        sum_read, sum_write = sums.read_port(), sums.write_port()
        results = Signal(2 * width)
        old = Mux(totals, Mux(ended.group_first, 0, sum_read.data), Mux(around, ring_read.data, 0))
        new = Mux(totals, Mux(filled, ring_read.data, 0), Cat(terms.o, product))
        for lane in range(2 * words):
            m.submodules[f"add{lane}"] = add = FloatAdd()
            m.d.comb += [
                add.a.eq(old.word_select(lane, 32)),
                add.b.eq(new.word_select(lane, 32)),
                results.word_select(lane, 32).eq(add.o),
            ]
        adding = Signal(2 * FloatAdd.latency)
        m.d.sync += adding.eq(Cat(adds, totals, adding))
        ring_ready, total_ready = adding[-2:]
        ring_entry = Mux(totals, total_entry, entry)
        m.submodules.targets = targets = DelayLine(
            entry_bits + StatisticsPlace().size, FloatAdd.latency
        )
        target_entry, target = targets.o[:entry_bits], StatisticsPlace()(targets.o[entry_bits:])
        m.d.comb += [
            targets.i.eq(Cat(ring_entry, ended)),
            ring_read.addr.eq(ring_entry),
            ring_write.addr.eq(target_entry),
            ring_write.data.eq(results),
            ring_write.en.eq(ring_ready),
            sum_write.addr.eq(Cat(target_entry, target.block)),
            sum_write.data.eq(results),
            sum_write.en.eq(total_ready),
        ]

        # Records.
        m.submodules.records = records = fifo.SyncFIFO(
            width=len(target.block), depth=MAX_STATISTICS_BLOCKS
        )
        m.submodules.landing = landing = LandingFifo(width + 1, 5)
        record_beats = beats + 2 * PARTIAL_BEATS
        number = Signal(range(record_beats))
        is_reference, of_second, last = Signal(), Signal(), Signal()
        partial = Signal(entry_bits + 1)
        sends = Signal()
        m.d.comb += [
            records.w_data.eq(target.block),
            records.w_en.eq(total_ready & target.group_last & (target_entry == PARTIAL_BEATS - 1)),
            is_reference.eq(number < beats),
            partial.eq(number - beats),
            last.eq(number == record_beats - 1),
            sends.eq(records.r_rdy & landing.room & (is_reference | ~fetches)),
            records.r_en.eq(sends & last),
            landing.claim.eq(sends),
            record_read.addr.eq(Cat(number[:beat_bits], records.r_data)),
            sum_read.addr.eq(
                Mux(
                    fetches,
                    Cat((total_entry + 1)[:entry_bits], ended.block),
                    Cat(partial[:entry_bits], records.r_data),
                )
            ),
        ]
        with m.If(sends):
            m.d.sync += number.eq(Mux(last, 0, number + 1))
        was_reference, was_last = Signal(), Signal()
        m.d.sync += [
            landing.write.eq(sends),
            was_reference.eq(is_reference),
            of_second.eq(partial[-1]),
            was_last.eq(last),
        ]
        second_sum = Mux(self.single, 0, sum_read.data[width:])
        record = Mux(of_second, second_sum, sum_read.data[:width])
        shift = Mux(self.gradient, 0, record_read.data)
        m.d.comb += [
            landing.data.eq(Cat(Mux(was_reference, shift, record), was_last)),
            Cat(self.o.payload, self.o_last).eq(landing.o.payload),
            self.o.valid.eq(landing.o.valid),
            landing.o.ready.eq(self.o.ready),
            self.idle.eq(
                ~begun
                & (beat == 0)
                & ~Cat(coming, adding).any()
                & (entry == 0)
                & ~around
                & (step == 0)
                & ~records.r_rdy
                & landing.idle
            ),
        ]

        return m


class StatisticsModel:
    """Bit-exact model of :class:`Statistics` for one descriptor.

    Parameters
    ----------
    gradient : bool
    """

    def __init__(self, *, gradient):
        self._gradient = gradient
        self._shift = {}
        self._totals = {}

    def block(self, values, side=None, mean=None, *, block, group_first, group_last):
        """Add one block of a tile; its record with ``group_last``, else an empty array.

        Parameters
        ----------
        values, side : uint32 arrays of shape (vectors, T)
            ``side`` and ``mean``, of shape (T,), with `gradient` only; without them there sums 2
            are zeros.

        Returns
        -------
        uint32 array of shape (words,)
        """
        negative = np.uint32(1 << 31)
        shift, terms, products = np.zeros_like(values[0]), values, np.zeros_like(values)
        if not self._gradient:
            if group_first:
                self._shift[block] = values[0]
            shift = self._shift[block]
            terms = FloatAdd.model(values, shift ^ negative)
            products = FloatMultiply.model(terms, terms)
        elif side is not None:
            products = FloatMultiply.model(terms, FloatAdd.model(side, mean ^ negative))
        both = np.concatenate([terms.reshape(-1, 4), products.reshape(-1, 4)], axis=1)
        ring = np.zeros((PARTIAL_BEATS, both.shape[1]), np.uint32)
        for start in range(0, len(both), PARTIAL_BEATS):
            some = both[start : start + PARTIAL_BEATS]
            ring[: len(some)] = FloatAdd.model(ring[: len(some)], some)
        old = np.zeros_like(ring) if group_first else self._totals[block]
        self._totals[block] = total = FloatAdd.model(old, ring)
        if not group_last:
            return np.zeros(0, np.uint32)
        return np.concatenate([shift, total[:, :4].ravel(), total[:, 4:].ravel()])
