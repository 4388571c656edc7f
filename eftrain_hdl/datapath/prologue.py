"""What happens to an operand on its way from memory to the array: batch-norm on load."""

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..arithmetic import FloatAdd, FloatMultiply
from ..memory.axi import BeatLayout, RunTag
from .elastic import DelayLine, LandingFifo
from .epilogue_lanes import NEGATIVE_ZERO

__all__ = ["Prologue"]


class Prologue(wiring.Component):
    """``k0*x + k2`` or ``k0*x + (k1*c + k2)`` and ReLU, for each word, as the beats' tags say.

    Every product and every sum is rounded to fp32 by itself. A run with the tag ``coefficients``
    is taken out of the stream; its first three vectors, k0, k1 and k2 of each channel, hold for the
    beats behind it. They travel down the pipeline like any beat and each is stored at the stage
    that uses it, so that the beats ahead still meet the ones before: a change costs no cycles but
    those of its own beats. Beats without ``affine`` pass unchanged. A beat with ``tee`` leaves on
    ``tee`` as well.

    *Throughput*: one beat a cycle. *Latency*: :attr:`latency` cycles from an *i* beat to the first
    cycle of its *o* beat. *Backpressure*: any stalls on any stream; one of ``o`` and ``tee`` may be
    a few beats behind the other.

    Parameters
    ----------
    config : CoreConfig
    paired : bool
        Without it there are no ``companion``, no ``tee`` and no k1: the tags ``pair`` and ``tee``
        are ignored.

    Members
    -------
    i : In(stream of BeatLayout)
        Whole vectors.
    companion : In(stream of 128 bits)
        A beat for each beat with the tags ``affine`` and ``pair``.
    o : Out(stream of BeatLayout)
    tee : Out(stream of 128 bits)
    idle : Out(1)
        No beat is held.
    """

    lanes = 4

    def __init__(self, config, *, paired=True):
        self._config = config
        self._paired = paired
        # Cycles from the entry of a beat to where it meets its coefficients, and to its result. A
        # pair is multiplied so that the product meets the sum of the companion.
        self._k2_at = FloatMultiply.latency
        self._k0_at = FloatAdd.latency if paired else 0
        self._end = self._k0_at + FloatMultiply.latency + FloatAdd.latency
        self.latency = self._end + 1
        beat = stream.Signature(BeatLayout(config.data_bits))
        words = stream.Signature(config.data_bits)
        super().__init__(
            {
                "i": In(beat),
                "o": Out(beat),
                "idle": Out(1),
                **({"companion": In(words), "tee": Out(words)} if paired else {}),
            }
        )

    def elaborate(self, platform):
        m = Module()
        vector_beats, width = self._config.vector_beats, self._config.data_bits
        tag = self.i.p.tag

        # In: a beat enters with its companion, when there is a place for it at the other end.
        depth = 1 << ceil_log2(self._end + 4)
        m.submodules.results = results = LandingFifo(len(self.o.p.as_value()), depth)
        enters, moves, is_pair = Signal(), Signal(), Signal()
        room = results.room
        if self._paired:
            m.submodules.copies = copies = LandingFifo(width, depth)
            room = room & (copies.room | ~tag.tee)
            complete = ~is_pair | self.companion.valid
            m.d.comb += [
                is_pair.eq(tag.affine & tag.pair & ~tag.coefficients),
                self.companion.ready.eq(self.i.valid & is_pair & room),
                copies.claim.eq(moves & tag.tee),
            ]
        else:
            complete = Const(1)
        m.d.comb += [
            self.i.ready.eq(tag.coefficients | (room & complete)),
            enters.eq(self.i.valid & self.i.ready),
            moves.eq(enters & ~tag.coefficients),
            results.claim.eq(moves),
        ]

        # Which beat of a vector it is and, in a coefficient record, of which vector.
        beat = Signal(range(max(2, vector_beats)))
        vector = Signal(2)
        with m.If(enters):
            m.d.sync += beat.eq(beat + 1)
            with m.If(beat == vector_beats - 1):
                m.d.sync += [beat.eq(0), vector.eq(vector + 1)]
            with m.If(self.i.p.last):
                m.d.sync += vector.eq(0)

        # The words of the beat at each place where they are looked at.
        words = {0: self.i.p.data}
        for place in sorted({self._k2_at, self._k0_at, self._end} - {0}):
            before = max(words)
            m.submodules[f"words{place}"] = line = DelayLine(width, place - before)
            m.d.comb += line.i.eq(words[before])
            words[place] = line.o

        def coefficient(index, name, *, at):
            """Vector ``index`` of the record, as a beat meets it ``at`` cycles behind its entry."""
            m.submodules[name] = cells = memory.Memory(
                shape=width, depth=max(2, vector_beats), init=[]
            )
            stored = enters & tag.coefficients & (vector == index)
            control = _delayed(m, Cat(stored, beat), at, name=f"{name}_control")
            write, read = cells.write_port(), cells.read_port(domain="comb")
            m.d.comb += [
                write.en.eq(control[0]),
                write.addr.eq(control[1:]),
                write.data.eq(words[at]),
                read.addr.eq(control[1:]),
            ]
            return read.data

        k0 = coefficient(0, "k0", at=self._k0_at)
        k2 = coefficient(2, "k2", at=self._k2_at)
        if self._paired:
            k1 = coefficient(1, "k1", at=0)
            sums_pair = _delayed(m, is_pair, self._k2_at, name="sums_pair")

        control_layout = data.StructLayout({"moves": 1, "tag": RunTag(), "last": 1})
        control = data.View(
            control_layout,
            _delayed(m, Cat(moves, tag, self.i.p.last), self._end, name="end_control"),
        )
        result = []
        for lane in range(self.lanes):
            word = slice(32 * lane, 32 * lane + 32)
            inner = k2[word]
            if self._paired:
                product = _operate(
                    m, FloatMultiply, k1[word], self.companion.p[word], f"pair_multiply{lane}"
                )
                # -0 is the neutral element: a single operand's k2 passes the adder.
                product = Mux(sums_pair, product, NEGATIVE_ZERO)
                inner = _operate(m, FloatAdd, product, inner, f"pair_add{lane}")
            product = _operate(
                m, FloatMultiply, k0[word], words[self._k0_at][word], f"multiply{lane}"
            )
            total = _operate(m, FloatAdd, product, inner, f"add{lane}")
            # The adder's NaN is positive, so the sign alone tells what ReLU replaces.
            kept = Mux(control.tag.relu & total[31], 0, total)
            result.append(Mux(control.tag.affine, kept, words[self._end][word]))

        # Out.
        m.d.comb += [
            results.write.eq(control.moves),
            results.data.eq(Cat(*result, control.tag, control.last)),
            self.o.p.eq(results.o.payload),
            self.o.valid.eq(results.o.valid),
            results.o.ready.eq(self.o.ready),
        ]
        if self._paired:
            m.d.comb += [
                copies.write.eq(control.moves & control.tag.tee),
                copies.data.eq(Cat(*result)),
                self.idle.eq(results.idle & copies.idle),
            ]
            wiring.connect(m, wiring.flipped(self.tee), copies.o)
        else:
            m.d.comb += self.idle.eq(results.idle)

        return m

    @staticmethod
    def model(words, coefficients, companion=None, *, relu=False):
        """Bit-exact model of the beats with ``affine``.

        Parameters
        ----------
        words : uint32 array of shape (vectors, T)
            fp32 bits.
        coefficients : uint32 array of shape (3 or more, T)
            k0, k1, k2.
        companion : uint32 array like ``words``, optional
            Makes a pair.
        relu : bool

        Returns
        -------
        uint32 array of shape (vectors, T)
        """
        k0, k1, inner = np.asarray(coefficients, np.uint32)[:3]
        if companion is not None:
            inner = FloatAdd.model(FloatMultiply.model(k1, companion), inner)
        result = FloatAdd.model(FloatMultiply.model(k0, words), inner)
        return np.where(result >> 31, np.uint32(0), result) if relu else result


def _delayed(m, value, cycles, *, name):
    """``value`` of ``cycles`` cycles before; zero after a reset."""
    for cycle in range(cycles):
        register = Signal(len(value), name=f"{name}{cycle}")
        m.d.sync += register.eq(value)
        value = register
    return value


def _operate(m, operator, a, b, name):
    m.submodules[name] = unit = operator()
    m.d.comb += [unit.a.eq(a), unit.b.eq(b)]
    return unit.o
