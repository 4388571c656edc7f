"""The top of a Zynq design: the core, its processing system, and the reset between them."""

from amaranth.hdl import (
    ClockDomain,
    ClockSignal,
    Const,
    Elaboratable,
    Instance,
    IOPort,
    Module,
    ResetSignal,
    Signal,
)
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import Out

from eftrain_hdl.memory import AxiLiteSignature, AxiReadSignature, AxiWriteSignature
from eftrain_hdl.memory.axi3_port import Axi3ReadPort, Axi3WritePort

from .processing_system import CONTROL_BITS, HP_PORTS

__all__ = ["WRAPPER", "ZynqTop"]

WRAPPER = "eftrain_ps_wrapper"
"""Module that the block design's wrapper is; ``vivado/block_design.tcl`` makes it."""


class ZynqTop(Elaboratable):
    """Core and processing system, joined port by port.

    Both are instances of modules that come from elsewhere: the core from its own Verilog file, the
    processing system from the block design. There is one clock, that of the processing system;
    its reset is asynchronous and is synchronised here, which is the only crossing. On Zynq-7000,
    whose memory ports are 64-bit AXI3, :class:`~eftrain_hdl.memory.axi3_port.Axi3ReadPort` and
    its like are in between.

    Parameters
    ----------
    config : CoreConfig
    system : ProcessingSystem
    build : int
        What the BUILD register reads as.
    """

    def __init__(self, config, system, build):
        self._config = config
        self._system = system
        self._build = build

    def elaborate(self, platform):
        m = Module()
        system = self._system
        wires, pins = {}, {}
        for port in system.ports:
            if port.direction == "io":
                pins[port.name] = IOPort(port.width, name=port.name)
            else:
                wires[port.name] = Signal(port.width, name=port.name)
        kinds = {port.name: port.direction for port in system.ports}
        m.submodules.ps = Instance(
            WRAPPER,
            *((kinds[name], name, value) for name, value in {**wires, **pins}.items()),
        )

        m.domains.sync = sync = ClockDomain()
        m.d.comb += sync.clk.eq(wires["aclk"])
        m.submodules.reset_sync = ResetSynchronizer(~wires["resetn_async"], domain="sync")
        m.d.comb += wires["aresetn"].eq(~ResetSignal())

        buses = {
            f"{prefix}_{name}": member
            for prefix, signature in self._buses().items()
            for name, member in signature.members.items()
        }
        core = {name: Signal(member.shape, name=f"core_{name}") for name, member in buses.items()}
        core["irq"] = Signal(name="core_irq")
        m.submodules.core = Instance(
            self._config.name,
            ("i", "aclk", ClockSignal()),
            ("i", "aresetn", ~ResetSignal()),
            ("i", "build", Const(self._build, 32)),
            ("o", "irq", core["irq"]),
            *(("o" if buses[n].flow is Out else "i", n, core[n]) for n in buses),
        )
        m.d.comb += wires["irq"].eq(core["irq"])
        self._join_control(m, core, wires)
        for interface in system.memory:
            self._join_memory(m, interface, core, wires)
        return m

    def _buses(self):
        """Prefix of the core's ports to the signature of each bus, as the core sees it."""
        config = self._config
        sizes = config.address_bits, config.data_bits, config.id_bits
        return {
            "s_axi_ctrl": AxiLiteSignature(CONTROL_BITS).flip(),
            **{f"m_axi_{name}": AxiReadSignature(*sizes) for name in HP_PORTS[:3]},
            "m_axi_write": AxiWriteSignature(*sizes),
        }

    def _join_control(self, m, core, wires):
        for port in self._system.control.ports:
            mine = core["s_axi_" + port.name]
            if port.direction == "o":
                m.d.comb += mine.eq(wires[port.name])
            else:
                m.d.comb += wires[port.name].eq(mine)

    def _join_memory(self, m, interface, core, wires):
        source = {
            name.removeprefix(f"m_axi_{interface.name}_"): signal
            for name, signal in core.items()
            if name.startswith(f"m_axi_{interface.name}_")
        }
        if interface.protocol == "AXI3":
            source = self._narrowed(m, interface, source)
        for port in interface.ports:
            mine = source[port.name.removeprefix(f"{interface.name}_")]
            # Addresses and identifiers of the core are shorter; they are extended by zeros.
            if port.direction == "i":
                m.d.comb += wires[port.name].eq(mine)
            else:
                m.d.comb += mine.eq(wires[port.name])

    def _narrowed(self, m, interface, source):
        """The signals of an AXI3 port in front of ``source``, by name."""
        kind = Axi3WritePort if interface.mode == "WRITE_ONLY" else Axi3ReadPort
        port = kind(id_bits=self._config.id_bits)
        m.submodules[f"{interface.name}_port"] = port
        for name, member in port.core.signature.flip().members.items():
            inner, outer = getattr(port.core, name), source[name]
            m.d.comb += inner.eq(outer) if member.flow is Out else outer.eq(inner)
        return {name: getattr(port.bus, name) for name in port.bus.signature.members}
