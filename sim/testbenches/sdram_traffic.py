"""Traffic for an SDRAM in gates, so that long runs do not wait for Python."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from eftrain_hdl.memory import AxiReadSignature, AxiWriteSignature

__all__ = ["ReadTraffic", "WriteTraffic"]

_CONTROLS = {
    "start": In(1),
    "enable": In(1),
    "origin": In(32),
    "length": In(8),
    "beats": Out(32),
}


def _pattern(address):
    """Contents of the beat at an address: differs in every word."""
    return Cat((address | k) ^ (0x5A5A_0000 * k) for k in range(4))[:128]


def _request(m, bus, channel, traffic, *, allowed):
    """One burst after the other from ``origin``, each of ``length`` + 1 beats."""
    address = Signal(32)
    valid = getattr(bus, f"{channel}valid")
    taken = Signal()
    m.d.comb += [
        getattr(bus, f"{channel}addr").eq(address),
        getattr(bus, f"{channel}len").eq(traffic.length),
        getattr(bus, f"{channel}size").eq(4),
        getattr(bus, f"{channel}burst").eq(1),
        valid.eq(traffic.enable & allowed),
        taken.eq(valid & getattr(bus, f"{channel}ready")),
    ]
    with m.If(taken):
        m.d.sync += address.eq(address + ((traffic.length + 1) << 4))
    with m.If(traffic.start):
        m.d.sync += address.eq(traffic.origin)
    return taken


class ReadTraffic(wiring.Component):
    """Reads bursts that follow each other in memory, as many ahead as the bus takes.

    ``beats`` counts those that came, ``wrong`` those that did not hold the pattern that
    :class:`WriteTraffic` writes. ``start`` (with ``enable`` low) sets the first address.
    """

    def __init__(self, *, id_bits, ahead=8):
        self._ahead = ahead
        super().__init__(
            {"bus": Out(AxiReadSignature(32, 128, id_bits)), "wrong": Out(32), **_CONTROLS}
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        flying = Signal(range(self._ahead + 1))
        taken = _request(m, bus, "ar", self, allowed=flying != self._ahead)
        expected = Signal(32)
        m.d.comb += bus.rready.eq(1)
        m.d.sync += flying.eq(flying + taken - (bus.rvalid & bus.rlast))
        with m.If(bus.rvalid):
            m.d.sync += [self.beats.eq(self.beats + 1), expected.eq(expected + 16)]
            with m.If(bus.rdata != _pattern(expected)):
                m.d.sync += self.wrong.eq(self.wrong + 1)
        with m.If(self.start):
            m.d.sync += [self.beats.eq(0), self.wrong.eq(0), expected.eq(self.origin)]
        return m


class WriteTraffic(wiring.Component):
    """Writes bursts that follow each other in memory; ``beats`` counts the data taken.

    The data of a burst is offered with its request. ``answers`` counts responses.
    """

    def __init__(self, *, id_bits, ahead=4):
        self._ahead = ahead
        super().__init__(
            {"bus": Out(AxiWriteSignature(32, 128, id_bits)), "answers": Out(32), **_CONTROLS}
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        flying = Signal(range(self._ahead + 1))
        owed = Signal(range(self._ahead + 1))
        left = Signal(8)
        address = Signal(32)
        sent = Signal()
        taken = _request(m, bus, "aw", self, allowed=flying != self._ahead)
        m.d.comb += [
            bus.wvalid.eq(owed != 0),
            bus.wdata.eq(_pattern(address)),
            bus.wstrb.eq(Const(-1, 16)),
            bus.wlast.eq(left == self.length),
            bus.bready.eq(1),
            sent.eq(bus.wvalid & bus.wready),
        ]
        m.d.sync += [
            flying.eq(flying + taken - bus.bvalid),
            owed.eq(owed + taken - (sent & bus.wlast)),
            self.answers.eq(self.answers + bus.bvalid),
        ]
        with m.If(sent):
            m.d.sync += [
                self.beats.eq(self.beats + 1),
                address.eq(address + 16),
                left.eq(left + 1),
            ]
            with m.If(bus.wlast):
                m.d.sync += left.eq(0)
        with m.If(self.start):
            m.d.sync += [self.beats.eq(0), self.answers.eq(0), address.eq(self.origin)]
        return m
