"""2x2 maximum pooling, on streams of vectors in window order, and how fp32 numbers are ordered.

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

from .elastic import count_beats

__all__ = [
    "WINDOW",
    "MaxPool",
    "WindowCounter",
    "chosen_of",
    "is_negative",
    "is_negative_model",
    "is_positive",
    "is_positive_model",
    "lanes_of",
    "order_key",
    "order_model",
]

WINDOW = 4


def order_key(value, negative=0):
    """32-bit unsigned expression that orders like the fp32 bits ``value``.

    Equal for both zeros; NaN of either sign lies above infinity. With ``negative`` the key of the
    value with its sign changed.
    """
    return _key(value, _below_zero(value, negative))


def _below_zero(value, negative):
    """Whether ``value``, with ``negative`` of the other sign, lies below zero: its key is turned
    around."""
    nan = (value[23:31] == 255) & value[:23].any()
    # The zero of either sign gets the key of +0.
    return (value[31] ^ negative) & value[:31].any() & ~nan


def _key(value, below_zero):
    return Cat(value[:31] ^ below_zero.replicate(31), ~below_zero)


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


def lanes_of(beat):
    """The words of a beat."""
    return [beat[lane : lane + 32] for lane in range(0, len(beat), 32)]


class WindowCounter:
    """Counts the beats of a window: ``beat`` within the vector, ``vector`` within the window."""

    def __init__(self, m, beats, step, name):
        self.beat, last_beat = count_beats(m, beats, step, f"{name}_beat")
        self.vector = Signal(range(WINDOW), name=f"{name}_vector")
        self.last = last_beat & (self.vector == WINDOW - 1)
        self.resting = (self.beat == 0) & (self.vector == 0)
        with m.If(step & last_beat):
            m.d.sync += self.vector.eq(self.vector + 1)


def chosen_of(windows, negative):
    """Where the maximum is: uint32 (windows, 4, T), bool (windows, T) -> int (windows, T)."""
    # argmax takes the first of equal keys.
    return order_model(windows, np.asarray(negative)[..., None, :]).argmax(axis=1)


class MaxPool(wiring.Component):
    """Lane by lane the maximum of the four vectors of each window.

    Takes a beat every cycle, so a fourth of the throughput comes out. *Latency*: one cycle, from
    the last of four beats to that of the result.

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
        count = WindowCounter(m, self._beats, step, "window")
        width = len(self.i.payload)
        # The beat that is looked at, and for each of its lanes whether the key is turned around.
        arrived = Signal()
        new, new_below = Signal(width, reset_less=True), Signal(width // 32, reset_less=True)
        complete = count.vector == WINDOW - 1
        m.d.comb += [
            self.o.valid.eq(arrived & complete),
            step.eq(arrived & (self.o.ready | ~complete)),
            self.i.ready.eq(~arrived | self.o.ready | ~complete),
            self.idle.eq(count.resting & ~arrived),
        ]
        with m.If(self.i.ready):
            m.d.sync += [
                arrived.eq(self.i.valid),
                new.eq(self.i.payload),
                new_below.eq(
                    Cat(
                        _below_zero(word, negative)
                        for word, negative in zip(
                            lanes_of(self.i.payload), self.negative, strict=True
                        )
                    )
                ),
            ]

        m.submodules.best = best = memory.Memory(
            shape=width + len(new_below), depth=max(2, self._beats), init=[]
        )
        read, write = best.read_port(domain="comb"), best.write_port()
        old, old_below = read.data[:width], read.data[width:]
        first = count.vector == 0
        maximum, maximum_below = [], []
        for a, a_below, b, b_below in zip(
            lanes_of(new), new_below, lanes_of(old), old_below, strict=True
        ):
            # As ``<``, which is only a carry chain; ``>`` would test for equality too.
            larger = first | (_key(b, b_below) < _key(a, a_below))
            maximum.append(Mux(larger, a, b))
            maximum_below.append(Mux(larger, a_below, b_below))
        m.d.comb += [
            self.o.payload.eq(Cat(maximum)),
            read.addr.eq(count.beat),
            write.addr.eq(count.beat),
            write.data.eq(Cat(maximum, maximum_below)),
            write.en.eq(step),
        ]

        return m

    @staticmethod
    def model(vectors, negative=False):
        """Bit-exact model: uint32 (4*windows, T), bool (windows, T) -> (windows, T)."""
        windows = np.asarray(vectors, np.uint32).reshape(-1, WINDOW, np.shape(vectors)[-1])
        first = chosen_of(windows, np.broadcast_to(negative, windows[:, 0].shape))
        return np.take_along_axis(windows, first[:, None], axis=1)[:, 0]
