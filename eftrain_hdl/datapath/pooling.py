"""2x2 maximum pooling and its backward pass, on streams of vectors in window order.

A window is four vectors: (0,0), (0,1), (1,0), (1,1). fp32 numbers are compared by their bits: no
adder. NaN counts as larger than every number, so that it propagates as in PyTorch; of equal values
(-0 equals +0) the first is the maximum.

Lanes that are called *negative* look for the minimum instead, which is the maximum of the values
with their signs changed: what is largest after a multiplication by a negative number.
"""

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = [
    "MaxPool",
    "MaxUnpool",
    "is_negative",
    "is_negative_model",
    "is_positive",
    "is_positive_model",
    "order_key",
    "order_model",
]

WINDOW = 4


def order_key(value, negative=0):
    """32-bit unsigned expression that orders like the fp32 bits ``value``.

    Equal for both zeros; NaN of either sign lies above infinity. With ``negative`` the key of the
    value with its sign changed.
    """
    nan = (value[23:31] == 255) & value[:23].any()
    # The zero of either sign gets the key of +0.
    negative = (value[31] ^ negative) & value[:31].any() & ~nan
    return Cat(value[:31] ^ negative.replicate(31), ~negative)


def order_model(value, negative=False):
    """Bit-exact model of :func:`order_key`: uint32 array (and bool array) -> int64 array."""
    value = np.asarray(value).astype(np.int64) ^ np.where(negative, 1 << 31, 0)
    magnitude = value & 0x7FFFFFFF
    negative = (value >> 31 != 0) & (magnitude != 0) & (magnitude <= 0x7F800000)
    return np.where(negative, magnitude ^ 0x7FFFFFFF, magnitude | 1 << 31)


def is_positive(value):
    """Whether the fp32 bits ``value`` are above zero. Subnormals count as zero, NaN is not."""
    nan = (value[23:31] == 255) & value[:23].any()
    return ~value[31] & value[23:31].any() & ~nan


def is_negative(value):
    """Whether the fp32 bits ``value`` are below zero. Subnormals count as zero, NaN is not."""
    return is_positive(value ^ (1 << 31))


def is_negative_model(value):
    """Bit-exact model of :func:`is_negative`: uint32 array -> bool array."""
    return is_positive_model(np.asarray(value) ^ np.uint32(1 << 31))


def is_positive_model(value):
    """Bit-exact model of :func:`is_positive`: uint32 array -> bool array."""
    value = np.asarray(value)
    return (value >= 0x00800000) & (value <= 0x7F800000)


def _lanes(beat):
    return [beat[lane : lane + 32] for lane in range(0, len(beat), 32)]


class _WindowCounter:
    """Counts the beats of a window: ``beat`` within the vector, ``vector`` within the window."""

    def __init__(self, m, beats, step, name):
        # One bit at least: a zero-width address has no place in RTLIL.
        self.beat = Signal(max(1, ceil_log2(beats)), name=f"{name}_beat")
        self.vector = Signal(range(WINDOW), name=f"{name}_vector")
        last_beat = self.beat == beats - 1
        self.last = last_beat & (self.vector == WINDOW - 1)
        self.resting = (self.beat == 0) & (self.vector == 0)
        with m.If(step):
            m.d.sync += self.beat.eq(Mux(last_beat, 0, self.beat + 1))
            with m.If(last_beat):
                m.d.sync += self.vector.eq(self.vector + 1)


def _chosen(windows, negative):
    """Where the maximum is: uint32 (windows, 4, T), bool (windows, T) -> int (windows, T)."""
    # argmax takes the first of equal keys.
    return order_model(windows, np.asarray(negative)[..., None, :]).argmax(axis=1)


class MaxPool(wiring.Component):
    """Lane by lane the maximum of the four vectors of each window.

    Takes a beat every cycle; a result beat leaves in the cycle in which the last of its four beats
    enters (combinational), so a fourth of the throughput comes out.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    i : In(stream.Signature(128))
        Windows, four vectors each.
    negative : In(4)
        For each lane of the beat in ``i``: find the minimum. The same for all four vectors.
    o : Out(stream.Signature(128))
        One vector a window.
    idle : Out(1)
        No window is begun.
    """

    def __init__(self, config):
        self._beats = config.vector_beats
        beat = stream.Signature(config.data_bits)
        super().__init__(
            {
                "i": In(beat),
                "negative": In(config.beat_words),
                "o": Out(beat),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        step = Signal()
        count = _WindowCounter(m, self._beats, step, "window")
        width = len(self.i.payload)
        m.submodules.best = best = memory.Memory(shape=width, depth=max(2, self._beats), init=[])
        read, write = best.read_port(domain="comb"), best.write_port()

        first = count.vector == 0
        maximum = Cat(
            Mux(first | (order_key(new, negative) > order_key(old, negative)), new, old)
            for new, old, negative in zip(
                _lanes(self.i.payload), _lanes(read.data), self.negative, strict=True
            )
        )
        complete = count.vector == WINDOW - 1
        m.d.comb += [
            self.o.valid.eq(self.i.valid & complete),
            self.o.payload.eq(maximum),
            self.i.ready.eq(self.o.ready | ~complete),
            step.eq(self.i.valid & self.i.ready),
            read.addr.eq(count.beat),
            write.addr.eq(count.beat),
            write.data.eq(maximum),
            write.en.eq(step),
            self.idle.eq(count.resting),
        ]

        return m

    @staticmethod
    def model(vectors, negative=False):
        """Bit-exact model: uint32 (4*windows, T), bool (windows, T) -> (windows, T)."""
        windows = np.asarray(vectors, np.uint32).reshape(-1, WINDOW, np.shape(vectors)[-1])
        first = _chosen(windows, np.broadcast_to(negative, windows[:, 0].shape))
        return np.take_along_axis(windows, first[:, None], axis=1)[:, 0]


class MaxUnpool(wiring.Component):
    """Sends each value to the first maximum of its window; +0 to the other three places.

    While one window is written the next one is scanned: one beat a cycle on ``windows`` and ``o``.
    The first beat of a window leaves the cycle after its last one was scanned, at the earliest.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    i : In(stream.Signature(128))
        One vector a window.
    windows : In(stream.Signature(128))
        Four vectors each.
    negative : In(stream.Signature(4))
        For each beat of ``i``, before it: in which lanes to find the minimum. Taken with the first
        vector of the window.
    o : Out(stream.Signature(128))
        Windows, four vectors each.
    between : Out(1)
        No window has been written in part.
    idle : Out(1)
        No window is begun.
    """

    def __init__(self, config):
        self._beats = config.vector_beats
        beat = stream.Signature(config.data_bits)
        super().__init__(
            {
                "i": In(beat),
                "windows": In(beat),
                "negative": In(stream.Signature(config.beat_words)),
                "o": Out(beat),
                "between": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        width = len(self.i.payload)
        depth = max(2, self._beats)
        # What the scan leaves for each lane: where the maximum is, and whether it is a minimum.
        verdict_bits = 3 * width // 32
        scanned = Signal(range(3))
        scan_bank, write_bank = Signal(), Signal()

        # Scan. Of the maximum itself only its key is ever needed.
        scan_step = Signal()
        scan = _WindowCounter(m, self._beats, scan_step, "scan")
        m.submodules.best = best = memory.Memory(shape=width, depth=depth, init=[])
        best_read, best_write = best.read_port(domain="comb"), best.write_port()
        m.submodules.verdicts = verdicts = memory.Memory(
            shape=verdict_bits, depth=2 * depth, init=[]
        )
        old_verdict, verdict = verdicts.read_port(domain="comb"), verdicts.read_port(domain="comb")
        verdict_write = verdicts.write_port()
        largest, new_verdict = [], []
        scan_first = scan.vector == 0
        for lane, (new, old_key) in enumerate(
            zip(_lanes(self.windows.payload), _lanes(best_read.data), strict=True)
        ):
            old = old_verdict.data[3 * lane : 3 * lane + 3]
            negative = Signal(name=f"negative{lane}")
            new_key = Signal(32, name=f"key{lane}")
            larger = Signal(name=f"larger{lane}")
            m.d.comb += [
                negative.eq(Mux(scan_first, self.negative.payload[lane], old[2])),
                new_key.eq(order_key(new, negative)),
                larger.eq(scan_first | (new_key > old_key)),
            ]
            largest.append(Mux(larger, new_key, old_key))
            new_verdict.append(Cat(Mux(larger, scan.vector, old[:2]), negative))
        m.d.comb += [
            self.windows.ready.eq((scanned != 2) & (~scan_first | self.negative.valid)),
            scan_step.eq(self.windows.valid & self.windows.ready),
            self.negative.ready.eq(scan_step & scan_first),
            best_read.addr.eq(scan.beat),
            best_write.addr.eq(scan.beat),
            best_write.data.eq(Cat(largest)),
            best_write.en.eq(scan_step),
            old_verdict.addr.eq(Cat(scan.beat, scan_bank)),
            verdict_write.addr.eq(Cat(scan.beat, scan_bank)),
            verdict_write.data.eq(Cat(new_verdict)),
            verdict_write.en.eq(scan_step),
        ]

        # Write. The first vector of a window takes the values and keeps them for the other three.
        step = Signal()
        count = _WindowCounter(m, self._beats, step, "write")
        m.submodules.kept = kept = memory.Memory(shape=width, depth=depth, init=[])
        kept_read, kept_write = kept.read_port(domain="comb"), kept.write_port()
        first = count.vector == 0
        value = Signal(width)
        m.d.comb += [
            verdict.addr.eq(Cat(count.beat, write_bank)),
            kept_read.addr.eq(count.beat),
            kept_write.addr.eq(count.beat),
            kept_write.data.eq(self.i.payload),
            kept_write.en.eq(step & first),
            value.eq(Mux(first, self.i.payload, kept_read.data)),
            self.o.valid.eq((scanned != 0) & (self.i.valid | ~first)),
            self.i.ready.eq((scanned != 0) & first & self.o.ready),
            step.eq(self.o.valid & self.o.ready),
        ]
        for lane, (word, target) in enumerate(
            zip(_lanes(value), _lanes(self.o.payload), strict=True)
        ):
            with m.If(verdict.data[3 * lane :][:2] == count.vector):
                m.d.comb += target.eq(word)

        scan_end, write_end = Signal(), Signal()
        m.d.comb += [
            scan_end.eq(scan_step & scan.last),
            write_end.eq(step & count.last),
            self.between.eq(count.resting),
            self.idle.eq((scanned == 0) & scan.resting),
        ]
        m.d.sync += [
            scanned.eq(scanned + scan_end - write_end),
            scan_bank.eq(scan_bank ^ scan_end),
            write_bank.eq(write_bank ^ write_end),
        ]

        return m

    @staticmethod
    def model(vectors, windows, negative=False):
        """Bit-exact model: uint32 (n, T), (4*n, T), bool (n, T) -> (4*n, T)."""
        vectors = np.asarray(vectors, np.uint32)
        windows = np.asarray(windows, np.uint32).reshape(-1, WINDOW, vectors.shape[-1])
        first = _chosen(windows, np.broadcast_to(negative, vectors.shape))
        chosen = np.arange(WINDOW)[None, :, None] == first[:, None]
        return np.where(chosen, vectors[:, None], np.uint32(0)).reshape(-1, vectors.shape[-1])
