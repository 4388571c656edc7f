"""Register slices: no combinational path through the core's memory ports."""

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from .axi import AxiReadSignature, AxiWriteSignature

__all__ = ["AxiReadSlice", "AxiWriteSlice"]

_CHANNELS = {"ar": Out, "r": In, "aw": Out, "w": Out, "b": In}
"""Direction of each AXI channel, seen by the initiator."""


class _Slice(wiring.Component):
    """Two entries of storage on every channel of a bus.

    Valid and ready come from registers on both sides, which the placer of an FPGA and the
    scheduler of a simulator like equally well. *Latency*: one cycle a channel. *Throughput*: a
    transfer a cycle.
    """

    def __init__(self, signature):
        self._channels = {}
        for member in signature.members:
            for channel in _CHANNELS:
                rest = member.removeprefix(channel)
                if rest != member and f"{channel}valid" in signature.members:
                    fields = self._channels.setdefault(channel, [])
                    if rest not in ("valid", "ready"):
                        fields.append(member)
        super().__init__({"core": In(signature), "bus": Out(signature)})

    def elaborate(self, platform):
        m = Module()
        for channel, fields in self._channels.items():
            source, sink = (
                (self.core, self.bus) if _CHANNELS[channel] is Out else (self.bus, self.core)
            )
            packed = Cat(*(getattr(source, field) for field in fields))
            m.submodules[channel] = queue = SyncFIFO(width=len(packed), depth=2)
            m.d.comb += [
                queue.w_data.eq(packed),
                queue.w_en.eq(getattr(source, f"{channel}valid")),
                getattr(source, f"{channel}ready").eq(queue.w_rdy),
                Cat(*(getattr(sink, field) for field in fields)).eq(queue.r_data),
                getattr(sink, f"{channel}valid").eq(queue.r_rdy),
                queue.r_en.eq(getattr(sink, f"{channel}ready")),
            ]
        return m


class AxiReadSlice(_Slice):
    """Slice of the read half of a bus: ``core`` faces the initiator, ``bus`` the memory."""

    def __init__(self, *, address_bits=32, data_bits=128, id_bits=1):
        super().__init__(AxiReadSignature(address_bits, data_bits, id_bits))


class AxiWriteSlice(_Slice):
    """Slice of the write half of a bus: ``core`` faces the initiator, ``bus`` the memory."""

    def __init__(self, *, address_bits=32, data_bits=128, id_bits=1):
        super().__init__(AxiWriteSignature(address_bits, data_bits, id_bits))
