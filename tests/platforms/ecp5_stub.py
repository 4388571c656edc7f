"""A system that is small enough to be placed in seconds, with the ports of a real one."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from eftrain_hdl.sdram import SdramPins

CLOCK_HZ = 50_000_000


class StubSystem(wiring.Component):
    """Echoes the serial line; moves every pin of the SDRAM."""

    def __init__(self):
        super().__init__(
            {"rx": In(1, init=1), "tx": Out(1, init=1), "sdram": Out(SdramPins()), "irq": Out(1)}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.counter = counter = _Counter()
        m.d.sync += [self.tx.eq(self.rx), self.irq.eq(counter.o[20] ^ self.sdram.dq_i.xor())]
        for name, member in self.sdram.signature.members.items():
            if member.flow is Out:
                m.d.sync += getattr(self.sdram, name).eq(counter.o[3:])
        return m


class _Counter(wiring.Component):
    o: Out(24)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(self.o + 1)
        return m
