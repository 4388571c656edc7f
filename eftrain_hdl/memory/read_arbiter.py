"""Shares one AXI4 read port between two readers."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi import AxiReadSignature

__all__ = ["ReadArbiter"]

REQUEST_SIGNALS = ("id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos")


class ReadArbiter(wiring.Component):
    """Puts the read requests of two clients on one bus and routes the data back by ``rid``.

    Requests alternate when both clients have one (round robin), else the one that asks is served.
    ``arid`` passes through: ``client0`` must use 0 and ``client1`` must use 1.

    *Latency*: one cycle for requests, none for data. *Throughput*: one request and one beat a
    cycle. *Backpressure*: the data channel is shared, so a client that does not take its beat also
    holds up the other one's. Where the consumer of one client's data can wait for data of the
    other client, each client must have room for all the data it has requested, or both wait for
    ever.

    Parameters
    ----------
    address_bits, data_bits, id_bits : :class:`int`
        Widths of the three buses.

    Members
    -------
    client0, client1 : :py:`In(AxiReadSignature(address_bits, data_bits, id_bits))`
        From the readers.
    bus : :py:`Out(AxiReadSignature(address_bits, data_bits, id_bits))`
        To memory.

    Raises
    ------
    :exc:`ValueError`
        If a width is not legal in AXI4.
    """

    def __init__(self, *, address_bits=32, data_bits=128, id_bits=1):
        signature = AxiReadSignature(address_bits, data_bits, id_bits)
        super().__init__(
            {"client0": In(signature), "client1": In(signature), "bus": Out(signature)}
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus

        # The request goes through a register: once it is on the bus, a change of mind of the
        # arbiter cannot alter it.
        served_last = Signal(init=1)
        chosen = Signal()
        free = ~bus.arvalid | bus.arready
        m.d.comb += [
            chosen.eq(Mux(served_last, ~self.client0.arvalid, self.client1.arvalid)),
            self.client0.arready.eq(free & ~chosen),
            self.client1.arready.eq(free & chosen),
        ]
        with m.If(free):
            m.d.sync += bus.arvalid.eq(self.client0.arvalid | self.client1.arvalid)
            for name in REQUEST_SIGNALS:
                m.d.sync += getattr(bus, f"ar{name}").eq(
                    Mux(
                        chosen,
                        getattr(self.client1, f"ar{name}"),
                        getattr(self.client0, f"ar{name}"),
                    )
                )
            with m.If(Cat(self.client0.arvalid, self.client1.arvalid).any()):
                m.d.sync += served_last.eq(chosen)

        for client, index in ((self.client0, 0), (self.client1, 1)):
            m.d.comb += [
                client.rvalid.eq(bus.rvalid & (bus.rid == index)),
                client.rid.eq(bus.rid),
                client.rdata.eq(bus.rdata),
                client.rresp.eq(bus.rresp),
                client.rlast.eq(bus.rlast),
            ]
        m.d.comb += bus.rready.eq(Mux(bus.rid == 1, self.client1.rready, self.client0.rready))
        return m
