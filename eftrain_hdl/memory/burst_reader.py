"""Reads runs of memory over AXI4: cuts them into bursts and keeps many in flight."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import (
    AXI_BURST_INCR,
    AXI_CACHE,
    AXI_PAGE_BYTES,
    AxiReadSignature,
    BeatLayout,
    BusError,
    RunLayout,
    check_bus_parameters,
)

__all__ = ["BurstLayout", "BurstReader", "BurstSplitter", "check_burst_parameters"]


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
        super().__init__({"address": address_bits, "len": 8, "tag": 2, "last": 1})


class BurstSplitter(wiring.Component):
    """Checks runs and cuts them into AXI bursts, shared by :class:`BurstReader` and the writer.

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

        # Stage 1: two runs wait with the address behind their last byte. That address has bits to
        # spare, so that a run at the top of memory cannot wrap around into the window. Two entries
        # keep run.ready free of any path from the bus at one run a cycle.
        run = self.run.p
        run_end = run.address + (run.beats << self._byte_bits)
        waiting_layout = data.StructLayout(
            {"run": RunLayout(self._address_bits), "end": len(run_end)}
        )
        m.submodules.runs = runs = fifo.SyncFIFO(width=waiting_layout.size, depth=2)
        waiting = data.View(waiting_layout, runs.r_data)
        m.d.comb += [
            runs.w_data.eq(Cat(run.as_value(), run_end)),
            runs.w_en.eq(self.run.valid),
            self.run.ready.eq(runs.w_rdy),
        ]

        # Stage 2: the run being cut. Its address counts beats, since it is known to be aligned.
        present = Signal()
        beat_address = Signal(self._address_bits - self._byte_bits)
        left = Signal(16)
        tag = Signal(2)
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

        to_page_end = self._page_beats - (beat_address % self._page_beats)
        longest = Signal(range(self._max_burst_beats + 1))
        m.d.comb += longest.eq(
            Mux(to_page_end < self._max_burst_beats, to_page_end, self._max_burst_beats)
        )
        last = Signal()
        beats = Mux(last, left, longest)
        m.d.comb += [
            self.o.p.address.eq(Cat(Const(0, self._byte_bits), beat_address)),
            last.eq(left <= longest),
            self.o.p.last.eq(last),
            self.o.p.len.eq(beats - 1),
            self.o.p.tag.eq(tag),
            self.o.valid.eq(present & (refusal == BusError.NONE)),
            self.refused.eq(Mux(present, refusal, BusError.NONE)),
            self.busy.eq(present | runs.r_rdy),
        ]

        taken = self.o.valid & self.o.ready
        with m.If(taken):
            m.d.sync += [beat_address.eq(beat_address + longest), left.eq(left - longest)]
        with m.If(~present | (taken & last)):
            m.d.comb += runs.r_en.eq(1)
            m.d.sync += [
                present.eq(runs.r_rdy),
                beat_address.eq(waiting.run.address >> self._byte_bits),
                left.eq(waiting.run.beats),
                tag.eq(waiting.run.tag),
                refusal.eq(refusal_next),
            ]
        return m


class BurstReader(wiring.Component):
    """Reads runs of memory and returns them as a stream of beats.

    Runs are cut into bursts by :class:`BurstSplitter` and come back in order. Read data passes
    straight from the bus to ``o`` in the same cycle; nothing is buffered, so ``o.ready`` is the
    bus's ``rready``. Only beats whose ``rid`` is ``axi_id`` belong to this reader.

    *Latency*: ``arvalid`` rises three cycles after a run was accepted. *Throughput*: one burst
    request a cycle, without a gap between runs, up to ``max_outstanding`` bursts in flight; one
    beat a cycle as long as ``max_outstanding`` × burst length covers the latency of the memory.

    *Errors and halt*: while ``halt`` is high, or after an error, no burst is issued, no run is
    accepted, and beats that still come are thrown away. A request already on the bus stays there,
    as AXI demands. Once ``idle`` is high the reader may be reset, which is the only way out: keep
    ``halt`` high until then, or beats of a halted run would be missing. ``o.valid`` may fall
    without a transfer when the reader stops, and at no other time.

    Parameters
    ----------
    address_bits, data_bits, id_bits : :class:`int`
        Widths of the bus.
    axi_id : :class:`int`
        ``arid`` of all bursts.
    max_burst_beats : :class:`int`
        Longest burst, 1 to 256.
    max_outstanding : :class:`int`
        Most bursts in flight, 1 to 256.

    Members
    -------
    run : :py:`In(stream.Signature(RunLayout(address_bits)))`
        What to read.
    o : :py:`Out(stream.Signature(BeatLayout(data_bits)))`
        The beats, in the order of the runs, with ``tag`` of the run and ``last`` at its end.
    bus : :py:`Out(AxiReadSignature(address_bits, data_bits, id_bits))`
        To memory.
    window_base, window_limit : :py:`In(address_bits)`
        A run must lie in [base, limit) entirely. Must not change between runs and ``idle``.
    halt : :py:`In(1)`
        Stop as soon as the bus allows.
    idle : :py:`Out(1)`
        No burst is in flight or on the bus. Unless stopped, also: no accepted run is left. Falls
        the cycle after a run was accepted.
    error : :py:`Out(2)`
        The first :class:`BusError`, held until reset.

    Raises
    ------
    :exc:`ValueError`
        If a parameter is out of range.
    """

    def __init__(
        self,
        *,
        address_bits=32,
        data_bits=128,
        id_bits=1,
        axi_id=0,
        max_burst_beats=64,
        max_outstanding=32,
    ):
        check_bus_parameters(address_bits=address_bits, data_bits=data_bits, id_bits=id_bits)
        check_burst_parameters(
            axi_id=axi_id,
            id_bits=id_bits,
            max_burst_beats=max_burst_beats,
            max_outstanding=max_outstanding,
        )
        self._address_bits = address_bits
        self._data_bits = data_bits
        self._axi_id = axi_id
        self._max_burst_beats = max_burst_beats
        self._max_outstanding = max_outstanding
        super().__init__(
            {
                "run": In(stream.Signature(RunLayout(address_bits))),
                "o": Out(stream.Signature(BeatLayout(data_bits))),
                "bus": Out(AxiReadSignature(address_bits, data_bits, id_bits)),
                "window_base": In(address_bits),
                "window_limit": In(address_bits),
                "halt": In(1),
                "idle": Out(1),
                "error": Out(2),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus

        stopped = Signal()
        m.d.comb += stopped.eq(self.halt | (self.error != BusError.NONE))

        m.submodules.splitter = splitter = BurstSplitter(
            address_bits=self._address_bits,
            data_bits=self._data_bits,
            max_burst_beats=self._max_burst_beats,
        )
        m.d.comb += [
            splitter.window_base.eq(self.window_base),
            splitter.window_limit.eq(self.window_limit),
            splitter.run.p.eq(self.run.p),
            splitter.run.valid.eq(self.run.valid & ~stopped),
            self.run.ready.eq(splitter.run.ready & ~stopped),
        ]

        # One entry a burst, from the cycle it is loaded for the bus to its last beat: what the
        # returning beats need to know, and the count of bursts in flight.
        flight_layout = data.StructLayout({"tag": 2, "last": 1})
        m.submodules.flight = flight = fifo.SyncFIFO(
            width=flight_layout.size, depth=self._max_outstanding
        )
        landing = data.View(flight_layout, flight.r_data)

        burst = splitter.o
        m.d.comb += [
            burst.ready.eq((~bus.arvalid | bus.arready) & flight.w_rdy & ~stopped),
            flight.w_en.eq(burst.valid & burst.ready),
            flight.w_data.eq(Cat(burst.p.tag, burst.p.last)),
            bus.arid.eq(self._axi_id),
            bus.arsize.eq(exact_log2(self._data_bits // 8)),
            bus.arburst.eq(AXI_BURST_INCR),
            bus.arcache.eq(AXI_CACHE),
        ]
        with m.If(bus.arready):
            m.d.sync += bus.arvalid.eq(0)
        with m.If(burst.valid & burst.ready):
            m.d.sync += [
                bus.arvalid.eq(1),
                bus.araddr.eq(burst.p.address),
                bus.arlen.eq(burst.p.len),
            ]

        failed = bus.rresp[1]  # SLVERR and DECERR; EXOKAY never answers a normal read.
        ours = Signal()
        m.d.comb += [
            ours.eq(bus.rvalid & (bus.rid == self._axi_id) & flight.r_rdy),
            self.o.valid.eq(ours & ~failed & ~stopped),
            self.o.p.data.eq(bus.rdata),
            self.o.p.tag.eq(landing.tag),
            self.o.p.last.eq(landing.last & bus.rlast),
            bus.rready.eq(ours & (self.o.ready | failed | stopped)),
            flight.r_en.eq(ours & bus.rready & bus.rlast),
        ]

        m.d.comb += self.idle.eq(~flight.r_rdy & (stopped | ~splitter.busy))
        with m.If(self.error == BusError.NONE):
            with m.If(splitter.refused != BusError.NONE):
                m.d.sync += self.error.eq(splitter.refused)
            with m.Elif(ours & failed):
                m.d.sync += self.error.eq(BusError.BUS_RESPONSE)
        return m
