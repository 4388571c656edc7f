"""Shares one AXI4 write port between writers."""

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, Out

from .axi import AxiWriteSignature
from .read_arbiter import REQUEST_SIGNALS
from .round_robin import check_clients, round_robin

__all__ = ["WriteArbiter"]

DATA_SIGNALS = ("wdata", "wstrb", "wlast")


class WriteArbiter(wiring.Component):
    """Puts the bursts of its clients on one bus and routes the responses back by ``bid``.

    Clients that have a request take turns (round robin); the data of the bursts follows in the
    order of the requests. ``awid`` passes through: the writer at ``client0`` must use 0, that at
    ``client1`` must use 1, and so on.

    *Latency*: one cycle for requests, three from a request to its first beat, none for responses.
    *Throughput*: one request and one beat a cycle, also from the burst of one client to that of
    another. *Backpressure*: a burst of one client waits for the data of the bursts requested before
    it, so a client must request a burst only when it has all of its data (``stored_beats`` of
    :class:`BurstWriter`).

    Parameters
    ----------
    clients : :class:`int`
        How many, at most 2**id_bits.
    bursts_ahead : :class:`int`
        Most bursts requested whose data has not all left.
    address_bits, data_bits, id_bits : :class:`int`
        Widths of all buses.

    Members
    -------
    client0, client1, ... : :py:`In(AxiWriteSignature(address_bits, data_bits, id_bits))`
        From the writers.
    bus : :py:`Out(AxiWriteSignature(address_bits, data_bits, id_bits))`
        To memory.

    Raises
    ------
    :exc:`ValueError`
        If a width is not legal in AXI4, or there are more clients than ids.
    """

    def __init__(self, *, clients=2, bursts_ahead=8, address_bits=32, data_bits=128, id_bits=1):
        signature = AxiWriteSignature(address_bits, data_bits, id_bits)
        check_clients(clients, id_bits)
        self._bursts_ahead = bursts_ahead
        self._names = [f"client{index}" for index in range(clients)]
        super().__init__({**dict.fromkeys(self._names, In(signature)), "bus": Out(signature)})

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        clients = [getattr(self, name) for name in self._names]

        # The request goes through a register: once it is on the bus, a change of mind of the
        # arbiter cannot alter it.
        asking = Cat(client.awvalid for client in clients)
        free = Signal()
        chosen = round_robin(m, asking, taken=free)
        # Its front is in registers: whether a client's beat moves is decided by it.
        m.submodules.order = order = fifo.SyncFIFOBuffered(
            width=len(chosen), depth=self._bursts_ahead
        )
        m.d.comb += [
            free.eq((~bus.awvalid | bus.awready) & order.w_rdy),
            order.w_data.eq(chosen),
            order.w_en.eq(free & asking.any()),
        ]
        for index, client in enumerate(clients):
            m.d.comb += client.awready.eq(free & (chosen == index))
        with m.If(bus.awready):
            m.d.sync += bus.awvalid.eq(0)
        with m.If(order.w_en & free):
            m.d.sync += bus.awvalid.eq(1)
            for name in REQUEST_SIGNALS:
                requests = Array(getattr(client, f"aw{name}") for client in clients)
                m.d.sync += getattr(bus, f"aw{name}").eq(requests[chosen])

        # Data, of one burst after the other.
        sending = order.r_data
        m.d.comb += [
            bus.wvalid.eq(order.r_rdy & Array(client.wvalid for client in clients)[sending]),
            order.r_en.eq(bus.wvalid & bus.wready & bus.wlast),
        ]
        for name in DATA_SIGNALS:
            m.d.comb += getattr(bus, name).eq(
                Array(getattr(client, name) for client in clients)[sending]
            )
        for index, client in enumerate(clients):
            m.d.comb += client.wready.eq(bus.wready & order.r_rdy & (sending == index))

        # Responses.
        for index, client in enumerate(clients):
            m.d.comb += [
                client.bvalid.eq(bus.bvalid & (bus.bid == index)),
                client.bid.eq(bus.bid),
                client.bresp.eq(bus.bresp),
            ]
        m.d.comb += bus.bready.eq(Array(client.bready for client in clients)[bus.bid])
        return m
