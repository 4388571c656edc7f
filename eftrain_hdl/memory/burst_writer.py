"""Writes a stream of beats to runs of memory over AXI4."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, fifo, stream
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import AXI_BURST_INCR, AXI_CACHE, AxiWriteSignature
from .burst_port import BurstPort

__all__ = ["BurstWriter"]


class BurstWriter(BurstPort):
    """Writes the beats of a stream to runs of memory, one run after the other.

    Runs are cut into bursts by :class:`BurstSplitter`. Without stored beats a burst is requested as
    soon as its run is known, while its data may come later. With stored beats it is requested when
    all of its data waits in a buffer, so that it holds the bus no longer than it has to: writers
    that share a bus need this. Whole bus words are written, never parts. The ``tag`` of a run is
    ignored.

    *Latency*: ``awvalid`` rises three cycles after a run was accepted, with stored beats five at
    the earliest and three after the last beat of the burst was accepted; a beat is on the bus the
    cycle after it was accepted, or taken from the buffer. *Throughput*: one beat a cycle across
    burst and run boundaries as long as ``max_outstanding`` × burst length covers the time the
    memory takes to answer.
    *Backpressure*: ``i.ready`` is low until the burst that the beat belongs to has been requested;
    with stored beats, while the buffer is full.

    *Errors and halt*: from the cycle after ``halt`` rose, or after an error, no burst is requested,
    no run and no beat is accepted. Bursts already requested are completed by themselves with all
    byte strobes off, so that memory does not change any more, and their responses are awaited. A
    beat that is on the bus already keeps its strobes, as AXI demands. Once ``idle`` is high the
    writer may be reset, which is the only way out: keep ``halt`` high until then, or the rest of a
    run would be lost.

    Parameters
    ----------
    address_bits, data_bits, id_bits : :class:`int`
        Widths of the bus.
    axi_id : :class:`int`
        ``awid`` of all bursts. All responses are taken as ours, whatever their ``bid``.
    max_burst_beats : :class:`int`
        Longest burst, 1 to 256.
    max_outstanding : :class:`int`
        Most bursts requested and not answered, 1 to 256.
    stored_beats : :class:`int`
        Beats the buffer holds: 0, or at least two longest bursts.

    Members
    -------
    run : :py:`In(stream.Signature(RunLayout(address_bits)))`
        Where to write.
    i : :py:`In(stream.Signature(data_bits))`
        The beats, in the order of the runs.
    bus : :py:`Out(AxiWriteSignature(address_bits, data_bits, id_bits))`
        To memory.
    window_base, window_limit : :py:`In(address_bits)`
        A run must lie in [base, limit) entirely. Must not change between runs and ``idle``.
    halt : :py:`In(1)`
        Stop as soon as the bus allows.
    idle : :py:`Out(1)`
        All bursts are answered. Unless stopped, also: all runs accepted so far are in memory.
        Falls the cycle after a run was accepted.
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
        max_outstanding=8,
        stored_beats=0,
    ):
        if stored_beats and stored_beats < 2 * max_burst_beats:
            raise ValueError(
                f"stored_beats must be 0 or at least {2 * max_burst_beats}, two longest bursts, "
                f"not {stored_beats!r}."
            )
        self._stored_beats = stored_beats
        super().__init__(
            {
                "i": In(stream.Signature(data_bits)),
                "bus": Out(AxiWriteSignature(address_bits, data_bits, id_bits)),
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

        beats = stream.Signature(self._data_bits).create(path=("beats",))
        burst, waiting = self._store(m, splitter.o, beats, stopped)

        # Requests. A burst counts as unanswered from the cycle it is loaded for the bus.
        requested = Signal()
        unanswered = Signal(range(self._max_outstanding + 1))
        m.d.comb += [
            burst.ready.eq(
                (~bus.awvalid | bus.awready) & (unanswered != self._max_outstanding) & ~stopped
            ),
            requested.eq(burst.valid & burst.ready),
            bus.awid.eq(self._axi_id),
            bus.awsize.eq(exact_log2(self._data_bits // 8)),
            bus.awburst.eq(AXI_BURST_INCR),
            bus.awcache.eq(AXI_CACHE),
        ]
        with m.If(bus.awready):
            m.d.sync += bus.awvalid.eq(0)
        with m.If(requested):
            m.d.sync += [
                bus.awvalid.eq(1),
                bus.awaddr.eq(burst.p.address),
                bus.awlen.eq(burst.p.len),
            ]

        # Data. Lengths of the bursts whose data is not complete; never more than unanswered ones,
        # so there is always room. Data goes through a register, so that a halt can switch the
        # strobes off without touching a beat that the bus has already seen.
        m.submodules.lengths = lengths = fifo.SyncFIFO(width=8, depth=self._max_outstanding)
        sent = Signal(8)
        load = Signal()
        burst_end = sent == lengths.r_data
        room = ~bus.wvalid | bus.wready
        m.d.comb += [
            lengths.w_en.eq(requested),
            lengths.w_data.eq(burst.p.len),
            beats.ready.eq(lengths.r_rdy & room & ~stopped),
            load.eq(lengths.r_rdy & room & (beats.valid | stopped)),
            lengths.r_en.eq(load & burst_end),
        ]
        with m.If(bus.wready):
            m.d.sync += bus.wvalid.eq(0)
        with m.If(load):
            m.d.sync += [
                bus.wvalid.eq(1),
                bus.wdata.eq(beats.payload),
                bus.wstrb.eq(Mux(stopped, 0, ~0)),
                bus.wlast.eq(burst_end),
                sent.eq(Mux(burst_end, 0, sent + 1)),
            ]

        # Responses.
        answered = Signal()
        m.d.comb += [bus.bready.eq(unanswered != 0), answered.eq(bus.bvalid & bus.bready)]
        m.d.sync += unanswered.eq(unanswered + requested - answered)

        m.d.comb += self.idle.eq((unanswered == 0) & (stopped | ~(splitter.busy | waiting)))
        self.hold_first_error(m, stopped, refused=splitter.refused, failed=answered & bus.bresp[1])
        return m

    def _store(self, m, cut, beats, stopped):
        """Connect ``i`` to ``beats``, and hold the bursts ``cut`` back until their data is there.

        Returns
        -------
        stream of BurstLayout, Value
            The bursts that may begin; whether one is held back.
        """
        if not self._stored_beats:
            m.d.comb += [
                beats.payload.eq(self.i.payload),
                beats.valid.eq(self.i.valid),
                self.i.ready.eq(beats.ready),
            ]
            return cut, Const(0)

        # That there is room is known a cycle late, hence two beats more.
        m.submodules.buffer = buffer = fifo.SyncFIFOBuffered(
            width=self._data_bits, depth=self._stored_beats + 2
        )
        room = Signal()
        m.d.sync += room.eq(buffer.w_level < self._stored_beats)
        m.d.comb += [
            buffer.w_data.eq(self.i.payload),
            buffer.w_en.eq(self.i.valid & self.i.ready),
            self.i.ready.eq(room & ~stopped),
            beats.payload.eq(buffer.r_data),
            beats.valid.eq(buffer.r_rdy),
            buffer.r_en.eq(beats.ready),
        ]
        # The burst that is next stands in a register. From then on its beats are missing from the
        # surplus, which is below zero until all of them wait in the buffer.
        m.submodules.held = held = fifo.SyncFIFO(width=len(cut.p.as_value()), depth=2)
        following = data.View(cut.p.shape(), held.r_data)
        burst = stream.Signature(cut.p.shape()).create(path=("burst",))
        present, accepted = Signal(), Signal()
        surplus = Signal(signed((self._stored_beats + 2).bit_length() + 1))
        m.d.comb += [
            held.w_data.eq(cut.p),
            held.w_en.eq(cut.valid),
            cut.ready.eq(held.w_rdy),
            held.r_en.eq(~present | (burst.valid & burst.ready)),
            burst.valid.eq(present & (surplus >= 0)),
        ]
        left = surplus + accepted
        m.d.sync += [accepted.eq(self.i.valid & self.i.ready), surplus.eq(left)]
        with m.If(held.r_en):
            m.d.sync += [present.eq(held.r_rdy), burst.p.eq(following)]
            with m.If(held.r_rdy):
                m.d.sync += surplus.eq(left - following.len - 1)
        return burst, held.r_rdy | present
