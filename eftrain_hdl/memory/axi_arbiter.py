"""Shares one AXI4 port between masters that know nothing of each other."""

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .axi import AxiReadSignature, AxiWriteSignature
from .read_arbiter import REQUEST_SIGNALS
from .round_robin import round_robin
from .write_arbiter import DATA_SIGNALS

__all__ = ["AxiReadArbiter", "AxiWriteArbiter"]


class _Arbiter(wiring.Component):
    """What both arbiters have in common: ports, and the request channel.

    Parameters
    ----------
    signature : type
        Signature of a bus.
    channel : :class:`str`
        ``"ar"`` or ``"aw"``.
    """

    def __init__(self, signature, channel, *, ports, id_bits, bus_id_bits, widths):
        if not isinstance(ports, int) or not 2 <= ports <= 16:
            raise ValueError(f"ports must be an integer from 2 to 16, not {ports!r}.")
        needed = id_bits + ceil_log2(ports)
        if bus_id_bits is None:
            bus_id_bits = needed
        if bus_id_bits < needed:
            raise ValueError(
                f"{ports} ports with {id_bits} id bits each need {needed} id bits on the bus, not "
                f"{bus_id_bits!r}."
            )
        self._channel = channel
        self._id_bits = id_bits
        self._names = [f"port{index}" for index in range(ports)]
        port = In(signature(*widths, id_bits))
        super().__init__(
            {**dict.fromkeys(self._names, port), "bus": Out(signature(*widths, bus_id_bits))}
        )

    @property
    def ports(self):
        """The ports, in order of their index."""
        return [getattr(self, name) for name in self._names]

    def _owner(self, bus_id):
        """Index of the port that a response is for. Ids of no port cannot come back."""
        return bus_id[self._id_bits :][: ceil_log2(len(self._names))]

    def _request(self, m, *, allowed):
        """Connect the request channel, through a register: what is on the bus stays.

        Returns
        -------
        Signal, Signal
            A request is taken into the register; the index of its port.
        """
        channel = self._channel

        def signal(side, name):
            return getattr(side, channel + name)

        bus_valid = signal(self.bus, "valid")
        free = Signal()
        taken = Signal()
        asking = Cat(signal(port, "valid") for port in self.ports)
        chosen = round_robin(m, asking, taken=free)
        m.d.comb += [
            free.eq((~bus_valid | signal(self.bus, "ready")) & allowed),
            taken.eq(free & asking.any()),
        ]
        for index, port in enumerate(self.ports):
            m.d.comb += signal(port, "ready").eq(free & (chosen == index))
        with m.If(signal(self.bus, "ready")):
            m.d.sync += bus_valid.eq(0)
        with m.If(taken):
            m.d.sync += bus_valid.eq(1)
            for name in REQUEST_SIGNALS:
                offered = Array(signal(port, name) for port in self.ports)[chosen]
                if name == "id":
                    offered = Cat(offered, chosen)
                m.d.sync += signal(self.bus, name).eq(offered)
        return taken, chosen

    def _respond(self, m, channel, fields):
        """Connect a response channel by its id, without a register."""
        bus_valid = getattr(self.bus, f"{channel}valid")
        bus_id = getattr(self.bus, f"{channel}id")
        owner = self._owner(bus_id)
        for index, port in enumerate(self.ports):
            m.d.comb += [
                getattr(port, f"{channel}valid").eq(bus_valid & (owner == index)),
                getattr(port, f"{channel}id").eq(bus_id),
            ]
            for field in fields:
                m.d.comb += getattr(port, field).eq(getattr(self.bus, field))
        ready = Array(getattr(port, f"{channel}ready") for port in self.ports)[owner]
        m.d.comb += getattr(self.bus, f"{channel}ready").eq(ready)


class AxiReadArbiter(_Arbiter):
    """Puts the read bursts of several masters on one bus.

    Masters that have a request take turns, burst by burst. The index of the port is put above the
    id bits of the master, and taken off again from ``rid``: masters may use any ids.

    *Latency*: one cycle for requests, none for data. *Throughput*: a request and a beat a cycle.
    *Backpressure*: the data channel is shared, so a master that does not take its beat holds up the
    others'. Masters must have room for what they request where they wait for one another.

    Parameters
    ----------
    ports : :class:`int`
        How many masters, 2 to 16.
    id_bits : :class:`int`
        Of each master.
    bus_id_bits : :class:`int`
        Of the bus; by default just enough, ``id_bits`` and the bits of a port index.
    address_bits, data_bits : :class:`int`
        Of all buses.

    Members
    -------
    port0, port1, ... : :py:`In(AxiReadSignature(address_bits, data_bits, id_bits))`
    bus : :py:`Out(AxiReadSignature(address_bits, data_bits, bus_id_bits))`

    Raises
    ------
    :exc:`ValueError`
        If a width is not legal in AXI4, or ``bus_id_bits`` are too few.
    """

    def __init__(self, ports, *, id_bits=1, bus_id_bits=None, address_bits=32, data_bits=128):
        super().__init__(
            AxiReadSignature,
            "ar",
            ports=ports,
            id_bits=id_bits,
            bus_id_bits=bus_id_bits,
            widths=(address_bits, data_bits),
        )

    def elaborate(self, platform):
        m = Module()
        self._request(m, allowed=1)
        self._respond(m, "r", ("rdata", "rresp", "rlast"))
        return m


class AxiWriteArbiter(_Arbiter):
    """Puts the write bursts of several masters on one bus.

    As :class:`AxiReadArbiter`; the data of the bursts follows in the order of the requests.

    *Latency*: one cycle for requests, two from a request to its first beat, none for responses.
    *Throughput*: a request and a beat a cycle, also from the burst of one master to that of the
    next. *Backpressure*: a burst waits for the data of those requested before it, so a master
    should have the data of a burst when it requests it. Data that a master offers ahead of its
    request waits.

    Parameters
    ----------
    ports, id_bits, bus_id_bits, address_bits, data_bits
        As for :class:`AxiReadArbiter`.
    bursts_ahead : :class:`int`
        Most bursts requested whose data has not all left.

    Members
    -------
    port0, port1, ... : :py:`In(AxiWriteSignature(address_bits, data_bits, id_bits))`
    bus : :py:`Out(AxiWriteSignature(address_bits, data_bits, bus_id_bits))`

    Raises
    ------
    :exc:`ValueError`
        If a width is not legal in AXI4, or ``bus_id_bits`` are too few.
    """

    def __init__(
        self,
        ports,
        *,
        id_bits=1,
        bus_id_bits=None,
        bursts_ahead=4,
        address_bits=32,
        data_bits=128,
    ):
        self._bursts_ahead = bursts_ahead
        super().__init__(
            AxiWriteSignature,
            "aw",
            ports=ports,
            id_bits=id_bits,
            bus_id_bits=bus_id_bits,
            widths=(address_bits, data_bits),
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        order = fifo.SyncFIFO(width=ceil_log2(len(self._names)), depth=self._bursts_ahead)
        m.submodules.order = order
        taken, chosen = self._request(m, allowed=order.w_rdy)
        sending = order.r_data
        valid = Array(port.wvalid for port in self.ports)[sending]
        m.d.comb += [
            order.w_data.eq(chosen),
            order.w_en.eq(taken),
            bus.wvalid.eq(order.r_rdy & valid),
            order.r_en.eq(bus.wvalid & bus.wready & bus.wlast),
        ]
        for name in DATA_SIGNALS:
            offered = Array(getattr(port, name) for port in self.ports)[sending]
            m.d.comb += getattr(bus, name).eq(offered)
        for index, port in enumerate(self.ports):
            m.d.comb += port.wready.eq(bus.wready & order.r_rdy & (sending == index))
        self._respond(m, "b", ("bresp",))
        return m
