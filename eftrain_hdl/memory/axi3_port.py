"""Joins the core's 128-bit AXI4 ports to the 64-bit AXI3 memory ports of Zynq-7000."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from .axi import AXI_BURST_INCR, AxiReadSignature, AxiWriteSignature

__all__ = ["Axi3ReadPort", "Axi3ReadSignature", "Axi3WritePort", "Axi3WriteSignature"]

NARROW_BITS = 64
PIECE_BEATS = 8
"""Wide beats of one AXI3 burst: 16 narrow beats, the most that AXI3 allows."""

SIZE = (NARROW_BITS // 8).bit_length() - 1
"""``arsize``/``awsize``: bytes of a beat, as a power of two."""


def _address_channel(prefix, id_bits):
    return {
        f"{prefix}id": Out(id_bits),
        f"{prefix}addr": Out(32),
        f"{prefix}len": Out(4),
        f"{prefix}size": Out(3),
        f"{prefix}burst": Out(2),
        f"{prefix}lock": Out(2),
        f"{prefix}cache": Out(4),
        f"{prefix}prot": Out(3),
        f"{prefix}qos": Out(4),
        f"{prefix}valid": Out(1),
        f"{prefix}ready": In(1),
    }


class Axi3ReadSignature(wiring.Signature):
    """Read half of a 64-bit AXI3 bus, seen by the initiator; identifiers of 6 bits, as S_AXI_HPn
    of the Zynq-7000 has them."""

    def __init__(self, id_bits=6):
        super().__init__(
            {
                **_address_channel("ar", id_bits),
                "rid": In(id_bits),
                "rdata": In(NARROW_BITS),
                "rresp": In(2),
                "rlast": In(1),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


class Axi3WriteSignature(wiring.Signature):
    """Write half of a 64-bit AXI3 bus, seen by the initiator."""

    def __init__(self, id_bits=6):
        super().__init__(
            {
                **_address_channel("aw", id_bits),
                "wid": Out(id_bits),
                "wdata": Out(NARROW_BITS),
                "wstrb": Out(NARROW_BITS // 8),
                "wlast": Out(1),
                "wvalid": Out(1),
                "wready": In(1),
                "bid": In(id_bits),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
            }
        )


def _split(m, core, bus, prefix, flight):
    """Cut the bursts of ``core``'s address channel into pieces on ``bus``; note them in ``flight``.

    A note holds the identifier and the wide beats less one. It enters with the first piece.
    Returns the identifier and the length at the flight queue's output.
    """

    def of(port, signal):
        return getattr(port, prefix + signal)

    address = Signal(32)
    left = Signal(9)
    kept = {name: Signal.like(of(core, name)) for name in ("cache", "prot", "qos")}
    piece = Signal(4)
    m.d.comb += [
        piece.eq(Mux(left > PIECE_BEATS, PIECE_BEATS, left)),
        of(core, "ready").eq((left == 0) & flight.w_rdy),
        flight.w_en.eq(of(core, "valid") & of(core, "ready")),
        flight.w_data.eq(Cat(of(core, "id"), of(core, "len"))),
        of(bus, "valid").eq(left != 0),
        of(bus, "addr").eq(address),
        of(bus, "len").eq((piece << 1) - 1),
        of(bus, "size").eq(SIZE),
        of(bus, "burst").eq(AXI_BURST_INCR),
        *(of(bus, name).eq(signal) for name, signal in kept.items()),
    ]
    with m.If(of(core, "valid") & of(core, "ready")):
        m.d.sync += [
            # Strobes say which bytes count, should the first address be no multiple of a beat.
            address.eq(of(core, "addr")[4:] << 4),
            left.eq(of(core, "len") + 1),
            *(signal.eq(of(core, name)) for name, signal in kept.items()),
        ]
    with m.Elif(of(bus, "valid") & of(bus, "ready")):
        m.d.sync += [
            address.eq(address + PIECE_BEATS * 2 * NARROW_BITS // 8),
            left.eq(left - piece),
        ]
    id_bits = len(of(core, "id"))
    return flight.r_data[:id_bits], flight.r_data[id_bits:]


def _worse(one, other):
    """The response that says more: DECERR over SLVERR over OKAY (there is no exclusive access)."""
    return Mux(one > other, one, other)


class Axi3ReadPort(wiring.Component):
    """128-bit AXI4 reads on a 64-bit AXI3 bus.

    A burst of up to 256 wide beats becomes bursts of up to 16 narrow ones, all with identifier 0,
    so that data comes back in the order of the requests; the core's identifiers are kept here. A
    burst that crosses no 4 KiB boundary is cut into bursts that do not either. Bursts must be
    INCR and of full width, as those of the core are.

    *Latency*: one cycle for requests, one for data. *Throughput*: a narrow beat, half a wide one, a
    cycle; a request of the core every ``pieces + 1`` cycles. *Backpressure*: a wide beat waits in
    place; at most ``outstanding`` bursts of the core are under way. *Errors*: a wide beat carries
    the worse of its two responses.

    Members
    -------
    core : In(AxiReadSignature(32, 128, id_bits))
    bus : Out(Axi3ReadSignature())
    """

    def __init__(self, *, id_bits=2, outstanding=16):
        self._outstanding = outstanding
        super().__init__(
            {"core": In(AxiReadSignature(32, 128, id_bits)), "bus": Out(Axi3ReadSignature())}
        )

    def elaborate(self, platform):
        m = Module()
        core, bus = self.core, self.bus
        width = len(core.arid) + len(core.arlen)
        m.submodules.flight = flight = SyncFIFOBuffered(width=width, depth=self._outstanding)
        identifier, length = _split(m, core, bus, "ar", flight)

        low, low_response = Signal(NARROW_BITS), Signal(2)
        half = Signal()
        beat = Signal(8)
        free = ~core.rvalid | core.rready
        m.d.comb += bus.rready.eq(flight.r_rdy & (~half | free))
        with m.If(core.rready):
            m.d.sync += core.rvalid.eq(0)
        with m.If(bus.rvalid & bus.rready):
            m.d.sync += half.eq(~half)
            with m.If(~half):
                m.d.sync += [low.eq(bus.rdata), low_response.eq(bus.rresp)]
            with m.Else():
                m.d.sync += [
                    core.rvalid.eq(1),
                    core.rdata.eq(Cat(low, bus.rdata)),
                    core.rresp.eq(_worse(low_response, bus.rresp)),
                    core.rid.eq(identifier),
                    core.rlast.eq(beat == length),
                    beat.eq(Mux(beat == length, 0, beat + 1)),
                ]
                m.d.comb += flight.r_en.eq(beat == length)
        return m


class Axi3WritePort(wiring.Component):
    """128-bit AXI4 writes on a 64-bit AXI3 bus; see :class:`Axi3ReadPort`.

    The responses of the pieces of a burst become one, the worst of them. Data may run ahead of the
    addresses or behind them.

    Members
    -------
    core : In(AxiWriteSignature(32, 128, id_bits))
    bus : Out(Axi3WriteSignature())
    """

    def __init__(self, *, id_bits=2, outstanding=16):
        self._outstanding = outstanding
        super().__init__(
            {"core": In(AxiWriteSignature(32, 128, id_bits)), "bus": Out(Axi3WriteSignature())}
        )

    def elaborate(self, platform):
        m = Module()
        core, bus = self.core, self.bus
        width = len(core.awid) + len(core.awlen)
        m.submodules.flight = flight = SyncFIFOBuffered(width=width, depth=self._outstanding)
        identifier, length = _split(m, core, bus, "aw", flight)

        # Data: the low half, then the high half, and a piece ends after 16 of them.
        half = Signal()
        beat = Signal(range(PIECE_BEATS))
        m.d.comb += [
            bus.wvalid.eq(core.wvalid),
            bus.wdata.eq(core.wdata.word_select(half, NARROW_BITS)),
            bus.wstrb.eq(core.wstrb.word_select(half, NARROW_BITS // 8)),
            bus.wlast.eq(half & (core.wlast | (beat == PIECE_BEATS - 1))),
            core.wready.eq(half & bus.wready),
        ]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += half.eq(~half)
            with m.If(half):
                m.d.sync += beat.eq(Mux(core.wlast, 0, beat + 1))

        # Responses: as many as pieces, of which the last one goes on.
        piece = Signal(8 - (PIECE_BEATS - 1).bit_length())
        worst = Signal(2)
        final = piece == (length >> (PIECE_BEATS - 1).bit_length())
        m.d.comb += [
            core.bvalid.eq(bus.bvalid & flight.r_rdy & final),
            core.bid.eq(identifier),
            core.bresp.eq(_worse(worst, bus.bresp)),
            bus.bready.eq(flight.r_rdy & (~final | core.bready)),
        ]
        with m.If(bus.bvalid & bus.bready):
            m.d.sync += [
                piece.eq(Mux(final, 0, piece + 1)),
                worst.eq(Mux(final, 0, core.bresp)),
            ]
            m.d.comb += flight.r_en.eq(final)
        return m
