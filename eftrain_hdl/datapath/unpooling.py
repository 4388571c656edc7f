"""The backward pass of 2x2 maximum pooling, on streams of vectors in window order."""

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from .pooling import WINDOW, WindowCounter, chosen_of, lanes_of, order_key

__all__ = ["MaxUnpool"]

BANKS = 4
"""Windows for whose maxima there are places."""

WINDOWS_AHEAD = 3
"""Windows that are held at most."""


class MaxUnpool(wiring.Component):
    """Sends each value to the first maximum of its window; +0 to the other three places.

    While one window is written up to two more are scanned: one beat a cycle on ``windows`` and
    ``o``. The first beat of a window leaves two cycles after its last one was scanned, at the
    earliest.

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
        # Windows whose last beat was taken, and those whose verdicts are complete, which is a cycle
        # later. That is why a third window may be begun: two would stop each other for this cycle.
        taken, scanned = Signal(range(WINDOWS_AHEAD + 1)), Signal(range(WINDOWS_AHEAD + 1))
        scan_bank, write_bank = Signal(range(BANKS)), Signal(range(BANKS))

        # Scan, first half: keys. Of the maximum itself only its key is ever needed.
        scan_step, scan_end = Signal(), Signal()
        scan = WindowCounter(m, self._beats, scan_step, "scan")
        scan_first = scan.vector == 0
        m.submodules.signs = signs = memory.Memory(shape=width // 32, depth=depth, init=[])
        sign_read, sign_write = signs.read_port(domain="comb"), signs.write_port()
        negative = Signal(width // 32)
        keys = Signal(width, reset_less=True)
        place = Signal.like(Cat(scan.beat, scan_bank), name="place")
        vector = Signal.like(scan.vector)
        compares, ends = Signal(), Signal()
        m.d.comb += [
            self.windows.ready.eq((taken != WINDOWS_AHEAD) & (~scan_first | self.negative.valid)),
            scan_step.eq(self.windows.valid & self.windows.ready),
            self.negative.ready.eq(scan_step & scan_first),
            sign_read.addr.eq(scan.beat),
            negative.eq(Mux(scan_first, self.negative.payload, sign_read.data)),
            sign_write.addr.eq(scan.beat),
            sign_write.data.eq(negative),
            sign_write.en.eq(scan_step),
        ]
        m.d.sync += [
            keys.eq(
                Cat(
                    order_key(word, sign)
                    for word, sign in zip(lanes_of(self.windows.payload), negative, strict=True)
                )
            ),
            place.eq(Cat(scan.beat, scan_bank)),
            vector.eq(scan.vector),
            compares.eq(scan_step),
            ends.eq(scan_end),
        ]

        # Second half: for each lane the largest key so far, and where it is.
        m.submodules.best = best = memory.Memory(shape=width, depth=depth, init=[])
        best_read, best_write = best.read_port(domain="comb"), best.write_port()
        m.submodules.verdicts = verdicts = memory.Memory(
            shape=2 * width // 32, depth=BANKS * depth, init=[]
        )
        old_verdict, verdict = verdicts.read_port(domain="comb"), verdicts.read_port(domain="comb")
        verdict_write = verdicts.write_port()
        largest, new_verdict = [], []
        for lane, (new, old) in enumerate(
            zip(lanes_of(keys), lanes_of(best_read.data), strict=True)
        ):
            larger = Signal(name=f"larger{lane}")
            m.d.comb += larger.eq((vector == 0) | (old < new))
            largest.append(Mux(larger, new, old))
            new_verdict.append(Mux(larger, vector, old_verdict.data.word_select(lane, 2)))
        m.d.comb += [
            best_read.addr.eq(place[: len(scan.beat)]),
            best_write.addr.eq(place[: len(scan.beat)]),
            best_write.data.eq(Cat(largest)),
            best_write.en.eq(compares),
            old_verdict.addr.eq(place),
            verdict_write.addr.eq(place),
            verdict_write.data.eq(Cat(new_verdict)),
            verdict_write.en.eq(compares),
        ]

        # Write. The first vector of a window takes the values and keeps them for the other three.
        step = Signal()
        count = WindowCounter(m, self._beats, step, "write")
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
            zip(lanes_of(value), lanes_of(self.o.payload), strict=True)
        ):
            with m.If(verdict.data.word_select(lane, 2) == count.vector):
                m.d.comb += target.eq(word)

        write_end = Signal()
        m.d.comb += [
            scan_end.eq(scan_step & scan.last),
            write_end.eq(step & count.last),
            self.between.eq(count.resting),
            self.idle.eq((taken == 0) & scan.resting),
        ]
        m.d.sync += [
            taken.eq(taken + scan_end - write_end),
            scanned.eq(scanned + ends - write_end),
            scan_bank.eq(scan_bank + scan_end),
            write_bank.eq(write_bank + write_end),
        ]

        return m

    @staticmethod
    def model(vectors, windows, negative=False):
        """Bit-exact model: uint32 (n, T), (4*n, T), bool (n, T) -> (4*n, T)."""
        vectors = np.asarray(vectors, np.uint32)
        windows = np.asarray(windows, np.uint32).reshape(-1, WINDOW, vectors.shape[-1])
        first = chosen_of(windows, np.broadcast_to(negative, vectors.shape))
        chosen = np.arange(WINDOW)[None, :, None] == first[:, None]
        return np.where(chosen, vectors[:, None], np.uint32(0)).reshape(-1, vectors.shape[-1])
