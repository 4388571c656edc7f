"""What the read side and the write side of the SDRAM's AXI front have in common."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from ..memory.axi import AXI_BURST_INCR

__all__ = ["BEAT_BYTES_LOG2", "AxiResponse", "BeatRequest", "BurstCursor"]

BEAT_BYTES_LOG2 = 4
"""A beat is 16 bytes, 128 bits."""


class AxiResponse(enum.Enum, shape=2):
    """Values of ``rresp`` and ``bresp``."""

    OKAY = 0
    SLVERR = 2
    DECERR = 3


class BeatRequest(data.StructLayout):
    """One beat to be read or written.

    Members
    -------
    address : :py:`unsigned(address_bits)`
        In beats, from the start of the memory.
    refused : :py:`unsigned(1)`
        The burst is answered with an error: nothing may be written.
    last : :py:`unsigned(1)`
        Final beat of its burst.
    """

    def __init__(self, address_bits):
        super().__init__({"address": address_bits, "refused": 1, "last": 1})


class BurstCursor(wiring.Component):
    """Holds one AXI burst and gives out its beats in order.

    A burst outside of the memory is answered with DECERR, one that is not INCR with beats of 16
    bytes with SLVERR; both walk through the memory like the others, at a wrapped address, with
    ``refused`` set.

    *Latency*: the first beat a cycle after the burst is taken. *Throughput*: a beat a cycle, and
    one idle cycle between bursts.

    Parameters
    ----------
    base, size : :class:`int`
        Bytes; ``base`` is a multiple of ``size``, a power of two.

    Members
    -------
    take : :py:`In(1)`, ``addr``, ``len``, ``axi_size``, ``burst``
        A burst of the AR or AW channel is taken; only while ``present`` is low.
    response : :py:`Out(AxiResponse)`
        Answer to the burst that is offered, in the same cycle.
    present : :py:`Out(1)`
        A burst is held.
    beat : :py:`Out(BeatRequest)`
        The next beat; valid while ``present``.
    next : :py:`In(1)`
        The beat is taken.
    """

    def __init__(self, *, base, size):
        self._address_bits = (size - 1).bit_length() - BEAT_BYTES_LOG2
        self._base = base
        super().__init__(
            {
                "take": In(1),
                "addr": In(32),
                "len": In(8),
                "axi_size": In(3),
                "burst": In(2),
                "response": Out(AxiResponse),
                "present": Out(1),
                "beat": Out(BeatRequest(self._address_bits)),
                "next": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        top = self._address_bits + BEAT_BYTES_LOG2
        inside = self.addr[top:] == self._base >> top if top < 32 else 1
        plain = (self.axi_size == BEAT_BYTES_LOG2) & (self.burst == AXI_BURST_INCR)
        m.d.comb += self.response.eq(
            Mux(inside, Mux(plain, AxiResponse.OKAY, AxiResponse.SLVERR), AxiResponse.DECERR)
        )
        address = Signal(self._address_bits)
        left = Signal(8)
        refused = Signal()
        m.d.comb += [
            self.beat.address.eq(address),
            self.beat.refused.eq(refused),
            self.beat.last.eq(left == 0),
        ]
        with m.If(self.next):
            # A legal burst ends before the next 4 KiB, so that 8 bits need not carry further.
            m.d.sync += [
                address[:8].eq(address[:8] + 1),
                left.eq(left - 1),
                self.present.eq(left != 0),
            ]
        with m.If(self.take):
            m.d.sync += [
                address.eq(self.addr[BEAT_BYTES_LOG2:top]),
                left.eq(self.len),
                refused.eq(self.response != AxiResponse.OKAY),
                self.present.eq(1),
            ]
        return m
