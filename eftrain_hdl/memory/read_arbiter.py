"""Shares one AXI4 read port between readers."""

from amaranth.hdl import Array, Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi import AxiReadSignature
from .round_robin import check_clients, round_robin

__all__ = ["ReadArbiter"]

REQUEST_SIGNALS = ("id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos")


class ReadArbiter(wiring.Component):
    """Puts the read requests of its clients on one bus and routes the data back by ``rid``.

    Clients that have a request take turns (round robin). ``arid`` passes through: the reader at
    ``client0`` must use 0, that at ``client1`` must use 1, and so on.

    *Latency*: one cycle for requests, none for data. *Throughput*: one request and one beat a
    cycle. *Backpressure*: the data channel is shared, so a client that does not take its beat also
    holds up the others'. Where the consumer of one client's data can wait for data of another
    client, each client must have room for all the data it has requested, or both wait for ever.

    Parameters
    ----------
    clients : :class:`int`
        How many, at most 2**id_bits.
    address_bits, data_bits, id_bits : :class:`int`
        Widths of all buses.

    Members
    -------
    client0, client1, ... : :py:`In(AxiReadSignature(address_bits, data_bits, id_bits))`
        From the readers.
    bus : :py:`Out(AxiReadSignature(address_bits, data_bits, id_bits))`
        To memory.

    Raises
    ------
    :exc:`ValueError`
        If a width is not legal in AXI4, or there are more clients than ids.
    """

    def __init__(self, *, clients=2, address_bits=32, data_bits=128, id_bits=1):
        signature = AxiReadSignature(address_bits, data_bits, id_bits)
        check_clients(clients, id_bits)
        self._names = [f"client{index}" for index in range(clients)]
        super().__init__({**dict.fromkeys(self._names, In(signature)), "bus": Out(signature)})

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        clients = [getattr(self, name) for name in self._names]

        # The request goes through a register: once it is on the bus, a change of mind of the
        # arbiter cannot alter it.
        free = ~bus.arvalid | bus.arready
        asking = Cat(client.arvalid for client in clients)
        chosen = round_robin(m, asking, taken=free)
        for index, client in enumerate(clients):
            m.d.comb += client.arready.eq(free & (chosen == index))
        with m.If(free):
            m.d.sync += bus.arvalid.eq(asking.any())
            for name in REQUEST_SIGNALS:
                requests = Array(getattr(client, f"ar{name}") for client in clients)
                m.d.sync += getattr(bus, f"ar{name}").eq(requests[chosen])

        for index, client in enumerate(clients):
            m.d.comb += [
                client.rvalid.eq(bus.rvalid & (bus.rid == index)),
                client.rid.eq(bus.rid),
                client.rdata.eq(bus.rdata),
                client.rresp.eq(bus.rresp),
                client.rlast.eq(bus.rlast),
            ]
        m.d.comb += bus.rready.eq(Array(client.rready for client in clients)[bus.rid])
        return m
