"""Reads runs of memory over AXI4: cuts them into bursts and keeps many in flight."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import Out
from amaranth.utils import exact_log2

from ..datapath.elastic import SkidBuffer
from .axi import AXI_BURST_INCR, AXI_CACHE, AxiReadSignature, BeatLayout, RunTag
from .burst_port import BurstPort

__all__ = ["BurstReader"]


class BurstReader(BurstPort):
    """Reads runs of memory and returns them as a stream of beats.

    Runs are cut into bursts by :class:`BurstSplitter` and come back in order. Only beats whose
    ``rid`` is ``axi_id`` belong to this reader.

    Without landing beats, read data passes straight from the bus to ``o`` in the same cycle and
    ``o.ready`` is the bus's ``rready``. With landing beats they wait in a buffer, a burst is
    requested only while there is room for all of it, and the bus never has to wait: readers that
    share a bus need this, or one whose data is not wanted yet would hold up the others.

    *Latency*: ``arvalid`` rises three cycles after a run was accepted; landing costs a beat three
    cycles. *Throughput*: one burst request a cycle, without a gap between runs, up to
    ``max_outstanding`` bursts in flight; one beat a cycle as long as ``max_outstanding`` × burst
    length, and the landing beats less a longest burst, cover the latency of the memory.

    *Errors and halt*: from the cycle after ``halt`` rose, or after an error, no burst is issued, no
    run is accepted, and beats that still come are thrown away; beats that landed before an error
    still leave unless halted. A request already on the bus stays there, as AXI demands. Once
    ``idle`` is high the reader may be reset, which is the only way out: keep ``halt`` high until
    then, or beats of a halted run would be missing. ``o.valid`` may fall without a transfer when
    the reader stops, and at no other time.

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
    landing_beats : :class:`int`
        Beats the buffer holds: 0, or at least two longest bursts.

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
        No burst is in flight or on the bus. Unless stopped, also: no accepted run is left and
        every beat has been taken. Falls the cycle after a run was accepted.
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
        landing_beats=0,
    ):
        if landing_beats and landing_beats < 2 * max_burst_beats:
            raise ValueError(
                f"landing_beats must be 0 or at least {2 * max_burst_beats}, two longest bursts, "
                f"not {landing_beats!r}."
            )
        self._landing_beats = landing_beats
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

        # One entry a burst, from the cycle it is taken for the bus to its last beat: what the
        # returning beats need to know, and the count of bursts in flight.
        flight_layout = data.StructLayout({"tag": RunTag(), "last": 1})
        m.submodules.flight = flight = fifo.SyncFIFO(
            width=flight_layout.size, depth=self._max_outstanding
        )
        landing = data.View(flight_layout, flight.r_data)

        landed = stream.Signature(self.o.payload.shape()).create(path=("landed",))
        burst = splitter.o
        taken = Signal()
        roomy, empty = self._land(m, landed, burst, taken)

        # Between the splitter and the bus, whose answer comes late.
        m.submodules.request = request = SkidBuffer(len(bus.araddr) + len(bus.arlen))

        # There is room for another burst: a register, which sees what is taken just now.
        may = Signal()
        few = (flight.w_level < self._max_outstanding - level for level in range(2))
        m.d.sync += may.eq(roomy & _with(taken, few))
        m.d.comb += [
            burst.ready.eq(request.i.ready & may & ~stopped),
            taken.eq(burst.valid & burst.ready),
            request.i.valid.eq(taken),
            request.i.p.eq(Cat(burst.p.address, burst.p.len)),
            Cat(bus.araddr, bus.arlen).eq(request.o.p),
            bus.arvalid.eq(request.o.valid),
            request.o.ready.eq(bus.arready),
            flight.w_en.eq(taken),
            flight.w_data.eq(Cat(burst.p.tag, burst.p.last)),
            bus.arid.eq(self._axi_id),
            bus.arsize.eq(exact_log2(self._data_bits // 8)),
            bus.arburst.eq(AXI_BURST_INCR),
            bus.arcache.eq(AXI_CACHE),
        ]

        failed = bus.rresp[1]  # SLVERR and DECERR; EXOKAY never answers a normal read.
        ours = Signal()
        m.d.comb += [
            ours.eq(bus.rvalid & (bus.rid == self._axi_id) & flight.r_rdy),
            landed.valid.eq(ours & ~failed & ~stopped),
            landed.p.data.eq(bus.rdata),
            landed.p.tag.eq(landing.tag),
            landed.p.last.eq(landing.last & bus.rlast),
            bus.rready.eq(ours & (landed.ready | failed | stopped)),
            flight.r_en.eq(ours & bus.rready & bus.rlast),
        ]

        m.d.comb += self.idle.eq(~flight.r_rdy & (stopped | (~splitter.busy & empty)))
        self.hold_first_error(m, stopped, refused=splitter.refused, failed=ours & failed)
        return m

    def _land(self, m, landed, burst, taken):
        """Connect ``landed``, the beats from the bus, to ``o``; claim room for each ``burst``.

        Returns
        -------
        Value, Value
            There is room for a burst of any length in the next cycle, whatever is ``taken`` in this
            one; no beat waits.
        """
        if not self._landing_beats:
            wiring.connect(m, landed, wiring.flipped(self.o))
            return Const(1), Const(1)

        m.submodules.buffer = buffer = fifo.SyncFIFOBuffered(
            width=len(landed.p.as_value()), depth=self._landing_beats
        )
        # Block RAM takes a quarter of a cycle to show a word, so its words go through a register.
        head = Signal(self.o.payload.shape(), reset_less=True)
        present = Signal()
        m.d.comb += [
            buffer.w_data.eq(landed.p),
            buffer.w_en.eq(landed.valid),
            # Its place has been claimed.
            landed.ready.eq(1),
            self.o.p.eq(head),
            self.o.valid.eq(present & ~self.halt),
            buffer.r_en.eq(~present | (self.o.ready & ~self.halt)),
        ]
        with m.If(buffer.r_en):
            m.d.sync += [present.eq(buffer.r_rdy), head.eq(buffer.r_data)]
        # What a burst claims is subtracted a cycle late, off the critical path of the splitter, and
        # counts as a longest burst until then. Space of a beat is free the cycle after the beat has
        # left.
        left = Signal()
        free = Signal(range(self._landing_beats + 1), init=self._landing_beats)
        unclaimed = Signal.like(free)
        claimed = Signal(range(self._max_burst_beats + 1))
        m.d.comb += unclaimed.eq(free - claimed)
        m.d.sync += [
            claimed.eq(Mux(taken, burst.p.len + 1, 0)),
            left.eq(self.o.valid & self.o.ready),
            free.eq(unclaimed + left),
        ]
        enough = (unclaimed >= bursts * self._max_burst_beats for bursts in (1, 2))
        return _with(taken, enough), ~(buffer.r_rdy | present)


def _with(taken, conditions):
    """Of two conditions, the second while ``taken``, which is later than both."""
    without, with_it = conditions
    return Mux(taken, with_it, without)
