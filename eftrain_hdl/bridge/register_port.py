"""One AXI4-Lite access at a time."""

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..memory.axi import AxiLiteSignature

__all__ = ["RegisterAccess", "RegisterPort"]

ADDRESS_BITS = 12


class RegisterAccess(data.StructLayout):
    """An access: ``address`` (12), ``write`` (1) and, for a write, ``word`` (32)."""

    def __init__(self):
        super().__init__({"address": ADDRESS_BITS, "write": 1, "word": 32})


class RegisterPort(wiring.Component):
    """Reads and writes registers.

    *Latency*: the bus sees an access the cycle after it was accepted; ``done`` is high in the cycle
    of the bus's answer. *Backpressure*: ``i.ready`` is low from an access until its answer, which
    may never come; only a reset ends that.

    Members
    -------
    i : In(stream.Signature(RegisterAccess()))
        What to do.
    done : Out(1)
        Pulse: answered.
    word : Out(32)
        With ``done`` of a read: the value.
    response : Out(2)
        With ``done``: ``rresp`` or ``bresp``.
    bus : Out(AxiLiteSignature(12))
        To the registers.
    """

    i: In(stream.Signature(RegisterAccess()))
    done: Out(1)
    word: Out(32)
    response: Out(2)
    bus: Out(AxiLiteSignature(ADDRESS_BITS))

    def elaborate(self, platform):
        m = Module()
        bus, access = self.bus, self.i.p
        m.d.comb += [
            bus.araddr.eq(bus.awaddr),
            bus.wstrb.eq(0b1111),
            self.word.eq(bus.rdata),
        ]
        with m.If(bus.awready):
            m.d.sync += bus.awvalid.eq(0)
        with m.If(bus.wready):
            m.d.sync += bus.wvalid.eq(0)
        with m.If(bus.arready):
            m.d.sync += bus.arvalid.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [bus.awaddr.eq(access.address), bus.wdata.eq(access.word)]
                with m.If(self.i.valid & access.write):
                    m.d.sync += [bus.awvalid.eq(1), bus.wvalid.eq(1)]
                    m.next = "WRITE"
                with m.Elif(self.i.valid):
                    m.d.sync += bus.arvalid.eq(1)
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += [
                    bus.rready.eq(1),
                    self.done.eq(bus.rvalid),
                    self.response.eq(bus.rresp),
                ]
                with m.If(bus.rvalid):
                    m.next = "IDLE"
            with m.State("WRITE"):
                m.d.comb += [
                    bus.bready.eq(1),
                    self.done.eq(bus.bvalid),
                    self.response.eq(bus.bresp),
                ]
                with m.If(bus.bvalid):
                    m.next = "IDLE"
        return m
