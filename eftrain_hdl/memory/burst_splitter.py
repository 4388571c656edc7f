"""Checks runs of memory and cuts them into AXI4 bursts."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import AXI_PAGE_BYTES, BusError, RunLayout, RunTag, check_bus_parameters

__all__ = ["BurstLayout", "BurstSplitter", "check_burst_parameters"]


def check_burst_parameters(*, axi_id, id_bits, max_burst_beats, max_outstanding):
    """Raise :exc:`ValueError` unless the parameters that readers and writers share are legal."""
    if not isinstance(axi_id, int) or not 0 <= axi_id < 2**id_bits:
        raise ValueError(f"axi_id must be an integer of {id_bits} bit, not {axi_id!r}.")
    if not isinstance(max_burst_beats, int) or not 1 <= max_burst_beats <= 256:
        raise ValueError(
            f"max_burst_beats must be an integer from 1 to 256, not {max_burst_beats!r}."
        )
    if not isinstance(max_outstanding, int) or not 1 <= max_outstanding <= 256:
        raise ValueError(
            f"max_outstanding must be an integer from 1 to 256, not {max_outstanding!r}."
        )


class BurstLayout(data.StructLayout):
    """One AXI burst: byte ``address``, ``len`` as on the bus (beats minus one), the ``tag`` of its
    run, and ``last`` on the final burst of the run."""

    def __init__(self, address_bits=32):
        super().__init__({"address": address_bits, "len": 8, "tag": RunTag(), "last": 1})


class BurstSplitter(wiring.Component):
    """Checks runs and cuts them into AXI bursts, shared by reader and writer.

    Each run becomes the fewest bursts of at most ``max_burst_beats`` beats that do not cross a
    4 KiB boundary. A run that is misaligned, empty or not entirely inside
    [``window_base``, ``window_limit``) yields no burst: ``refused`` shows why, and the splitter
    stays stuck until it is reset.

    *Latency*: the first burst of a run shows on ``o`` two cycles after the run was accepted.
    *Throughput*: one burst a cycle, without a gap between runs. ``run.ready`` comes from registers.

    Parameters
    ----------
    address_bits, data_bits : :class:`int`
        Widths of the bus.
    max_burst_beats : :class:`int`
        Longest burst, 1 to 256.

    Members
    -------
    run : :py:`In(stream.Signature(RunLayout(address_bits)))`
        Runs, taken in order.
    o : :py:`Out(stream.Signature(BurstLayout(address_bits)))`
        Bursts, in order.
    window_base, window_limit : :py:`In(address_bits)`
        First byte of the window, and first byte beyond it. Must not change while ``busy``.
    busy : :py:`Out(1)`
        A run has been accepted and not all of its bursts were taken.
    refused : :py:`Out(2)`
        A :class:`BusError`: why the run at the head is refused, or ``NONE``.
    """

    def __init__(self, *, address_bits=32, data_bits=128, max_burst_beats=64):
        check_bus_parameters(address_bits=address_bits, data_bits=data_bits, id_bits=1)
        check_burst_parameters(
            axi_id=0, id_bits=1, max_burst_beats=max_burst_beats, max_outstanding=1
        )
        self._byte_bits = exact_log2(data_bits // 8)
        self._page_beats = AXI_PAGE_BYTES * 8 // data_bits
        self._max_burst_beats = min(max_burst_beats, self._page_beats)
        self._address_bits = address_bits
        super().__init__(
            {
                "run": In(stream.Signature(RunLayout(address_bits))),
                "o": Out(stream.Signature(BurstLayout(address_bits))),
                "window_base": In(address_bits),
                "window_limit": In(address_bits),
                "busy": Out(1),
                "refused": Out(2),
            }
        )

    def elaborate(self, platform):
        m = Module()

        # Stage 1: two runs wait, with the address behind their last byte and the longest first
        # burst. That address has bits to spare, so that a run at the top of memory cannot wrap
        # around into the window. Two entries keep run.ready free of any path from the bus at one
        # run a cycle.
        run = self.run.p
        run_end = run.address + (run.beats << self._byte_bits)
        run_longest = self._longest(run.address >> self._byte_bits)
        waiting_layout = data.StructLayout(
            {
                "run": RunLayout(self._address_bits),
                "end": len(run_end),
                "longest": range(self._max_burst_beats + 1),
            }
        )
        m.submodules.runs = runs = fifo.SyncFIFO(width=waiting_layout.size, depth=2)
        incoming = data.View(waiting_layout, runs.w_data)
        waiting = data.View(waiting_layout, runs.r_data)
        m.d.comb += [
            incoming.run.eq(run),
            incoming.end.eq(run_end),
            incoming.longest.eq(run_longest),
            runs.w_en.eq(self.run.valid),
            self.run.ready.eq(runs.w_rdy),
        ]

        # Stage 2: the run being cut. Its address counts beats, since it is known to be aligned.
        # `longest`, what a burst may have here, and `last`, whether the run ends within, are
        # registers, ahead of the bus's answer.
        present = Signal()
        legal = Signal()
        beat_address = Signal(self._address_bits - self._byte_bits)
        left = Signal(16)
        longest = Signal(range(self._max_burst_beats + 1))
        last = Signal()
        tag = Signal(RunTag())
        refusal = Signal(2)

        refusal_next = Signal(2)
        with m.If((waiting.run.address & (2**self._byte_bits - 1)) != 0):
            m.d.comb += refusal_next.eq(BusError.MISALIGNED)
        with m.Elif(
            (waiting.run.beats == 0)
            | (waiting.run.address < self.window_base)
            | (waiting.end > self.window_limit)
        ):
            m.d.comb += refusal_next.eq(BusError.OUT_OF_WINDOW)

        # Behind a burst that ends with its page comes one that begins a page.
        place = beat_address % self._page_beats
        ends_page = place >= self._page_beats - self._max_burst_beats
        next_longest = Signal.like(longest)
        m.d.comb += next_longest.eq(
            Mux(
                ends_page,
                self._max_burst_beats,
                self._longest(beat_address + self._max_burst_beats),
            )
        )
        next_left = Signal.like(left)
        m.d.comb += next_left.eq(left - longest)
        beats = Mux(last, left, longest)
        m.d.comb += [
            self.o.p.address.eq(Cat(Const(0, self._byte_bits), beat_address)),
            self.o.p.last.eq(last),
            self.o.p.len.eq(beats - 1),
            self.o.p.tag.eq(tag),
            self.o.valid.eq(legal),
            self.refused.eq(Mux(present, refusal, BusError.NONE)),
            self.busy.eq(present | runs.r_rdy),
        ]

        # All but when to go on is decided by registers: the bus's answer comes late.
        taken = self.o.valid & self.o.ready
        done = ~present | last
        m.d.comb += runs.r_en.eq(done & (~present | taken))
        with m.If(~present | taken):
            with m.If(done):
                m.d.sync += [
                    present.eq(runs.r_rdy),
                    legal.eq(runs.r_rdy & (refusal_next == BusError.NONE)),
                    beat_address.eq(waiting.run.address >> self._byte_bits),
                    left.eq(waiting.run.beats),
                    longest.eq(waiting.longest),
                    last.eq(waiting.run.beats <= waiting.longest),
                    tag.eq(waiting.run.tag),
                    refusal.eq(refusal_next),
                ]
            with m.Else():
                m.d.sync += [
                    beat_address.eq(beat_address + longest),
                    left.eq(next_left),
                    longest.eq(next_longest),
                    last.eq(next_left <= next_longest),
                ]
        return m

    def _longest(self, beat_address):
        """Beats that a burst may have at ``beat_address``."""
        to_page_end = self._page_beats - (beat_address % self._page_beats)
        return Mux(to_page_end < self._max_burst_beats, to_page_end, self._max_burst_beats)
