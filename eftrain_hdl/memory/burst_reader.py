"""Reads runs of memory over AXI4: cuts them into bursts and keeps many in flight."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, fifo, stream
from amaranth.lib.wiring import Out
from amaranth.utils import exact_log2

from .axi import AXI_BURST_INCR, AXI_CACHE, AxiReadSignature, BeatLayout
from .burst_port import BurstPort

__all__ = ["BurstReader"]


class BurstReader(BurstPort):
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
        super().__init__(
            {
                "o": Out(stream.Signature(BeatLayout(data_bits))),
                "bus": Out(AxiReadSignature(address_bits, data_bits, id_bits)),
            },
            address_bits=address_bits,
            data_bits=data_bits,
            id_bits=id_bits,
            axi_id=axi_id,
            max_burst_beats=max_burst_beats,
            max_outstanding=max_outstanding,
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        splitter, stopped = self.split_runs(m)

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
        self.hold_first_error(m, refused=splitter.refused, failed=ours & failed)
        return m
