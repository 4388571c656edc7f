"""Lets one reader use either of two memory ports, run by run."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .axi import AxiReadSignature, RunLayout
from .read_arbiter import REQUEST_SIGNALS

__all__ = ["ReadSteer"]


class ReadSteer(wiring.Component):
    """Sends the runs of one reader to the bus that their tag asks for.

    It sits on both sides of the reader. A run for the other bus waits until everything on this one
    has come back, so data stay in order and no bus ever sees a stray beat. That costs the latency
    of the memory once; runs for the same bus follow each other without a gap.

    *Latency*: none, except one cycle for a run that changes the bus.

    Parameters
    ----------
    address_bits, data_bits, id_bits : :class:`int`
        Widths of the buses.

    Members
    -------
    run : :py:`In(stream.Signature(RunLayout(address_bits)))`
        ``tag.alternate`` chooses ``bus1``.
    o_run : :py:`Out(stream.Signature(RunLayout(address_bits)))`
        To the reader.
    idle : :py:`In(1)`
        The reader has no run, no burst and no beat left.
    client : :py:`In(AxiReadSignature(address_bits, data_bits, id_bits))`
        From the reader.
    bus0, bus1 : :py:`Out(AxiReadSignature(address_bits, data_bits, id_bits))`
        To the arbiters of the two ports.
    """

    def __init__(self, *, address_bits=32, data_bits=128, id_bits=1):
        run = stream.Signature(RunLayout(address_bits))
        bus = AxiReadSignature(address_bits, data_bits, id_bits)
        super().__init__(
            {
                "run": In(run),
                "o_run": Out(run),
                "idle": In(1),
                "client": In(bus),
                "bus0": Out(bus),
                "bus1": Out(bus),
            }
        )

    def elaborate(self, platform):
        m = Module()
        current = Signal()
        fits = self.run.payload.tag.alternate == current
        m.d.comb += [
            self.o_run.payload.eq(self.run.payload),
            self.o_run.valid.eq(self.run.valid & fits),
            self.run.ready.eq(self.o_run.ready & fits),
        ]
        with m.If(self.run.valid & ~fits & self.idle):
            m.d.sync += current.eq(~current)

        client = self.client
        for index, bus in enumerate((self.bus0, self.bus1)):
            chosen = current == index
            for name in REQUEST_SIGNALS:
                m.d.comb += getattr(bus, f"ar{name}").eq(getattr(client, f"ar{name}"))
            m.d.comb += [
                bus.arvalid.eq(client.arvalid & chosen),
                bus.rready.eq(client.rready & chosen),
            ]
        for name in ("arready", "rvalid", "rid", "rdata", "rresp", "rlast"):
            m.d.comb += getattr(client, name).eq(
                Mux(current, getattr(self.bus1, name), getattr(self.bus0, name))
            )
        return m
