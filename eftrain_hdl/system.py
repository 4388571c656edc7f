"""A whole system on a chip whose host is at the other end of a serial line.

```
 rx, tx ─ bridge ─┬─ registers ─► core
                  └─ memory ────┐  │ stationary, stream, side, write
                                ▼  ▼
                             arbiters ─► SDRAM controller ─► pins
```
"""

from amaranth.hdl import Const, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from .bridge import SerialBridge
from .core import BusCore
from .memory.axi import FlatPorts
from .memory.axi_arbiter import AxiReadArbiter, AxiWriteArbiter
from .reset_domain import reset_domain
from .sdram import ULX3S_PART, SdramController, SdramPins

__all__ = ["FlatSerialSystem", "SerialSystem"]


class SerialSystem(wiring.Component):
    """Core, memory controller and serial bridge, all in the domain ``sync``.

    The bridge's RESET resets everything behind it. Memory keeps what it holds: its controller is
    back long before a row must be refreshed.

    Parameters
    ----------
    config : SystemConfig

    Members
    -------
    rx, tx : In(1), Out(1)
        The serial line, idle high.
    sdram : Out(SdramPins())
    irq : Out(1)
        The core's interrupt.
    """

    def __init__(self, config):
        self.config = config
        super().__init__(
            {"rx": In(1, init=1), "tx": Out(1, init=1), "sdram": Out(SdramPins()), "irq": Out(1)}
        )

    def elaborate(self, platform):
        m = Module()
        config, id_bits = self.config, self.config.core.id_bits
        bridge = SerialBridge(
            clock_hz=config.clock_hz,
            baud=config.baud,
            memory_base=config.memory_base,
            memory_size=ULX3S_PART.size,
            id_bits=id_bits,
        )
        # Reset with everything else, by a register that lies where the bridge does.
        m.submodules.bridge = reset_domain(m, Const(0), name="alone")(bridge)
        # The host can reset all but the bridge.
        behind_bridge = reset_domain(m, bridge.core_reset, name="behind_bridge")
        core = BusCore(config.core)
        m.submodules.core = behind_bridge(core)
        readers = [core.stationary, core.stream, core.side, bridge.read]
        writers = [core.write, bridge.write]
        widths = {"id_bits": id_bits, "bus_id_bits": id_bits + ceil_log2(len(readers))}
        read_arbiter = AxiReadArbiter(len(readers), **widths)
        write_arbiter = AxiWriteArbiter(len(writers), **widths)
        memory = SdramController(
            ULX3S_PART,
            config.clock_hz,
            base=config.memory_base,
            id_bits=widths["bus_id_bits"],
            capture=config.capture,
        )
        m.submodules.read_arbiter = behind_bridge(read_arbiter)
        m.submodules.write_arbiter = behind_bridge(write_arbiter)
        m.submodules.memory = behind_bridge(memory)

        arbiters = ((readers, read_arbiter), (writers, write_arbiter))
        for masters, arbiter in arbiters:
            for master, port in zip(masters, arbiter.ports, strict=True):
                connect(m, master, port)
        connect(m, read_arbiter.bus, memory.read)
        connect(m, write_arbiter.bus, memory.write)
        connect(m, bridge.ctrl, core.ctrl)
        connect(m, memory.pins, flipped(self.sdram))
        m.d.comb += [
            core.build.eq(config.build),
            bridge.rx.eq(self.rx),
            self.tx.eq(bridge.tx),
            bridge.irq.eq(core.irq),
            self.irq.eq(core.irq),
        ]
        return m


class FlatSerialSystem(FlatPorts):
    """:class:`SerialSystem` with plain port names: ``sdram_cke`` and so on, for Verilog."""

    def __init__(self, config):
        super().__init__(SerialSystem(config))
