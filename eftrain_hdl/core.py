"""The accelerator core: control and engine behind conventional AXI ports."""

from amaranth.hdl import ClockDomain, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .control.control import Control
from .engine import Engine
from .memory.axi import AxiLiteSignature, AxiReadSignature, AxiWriteSignature, FlatPorts
from .memory.register_slice import AxiReadSlice, AxiWriteSlice
from .reset_domain import reset_domain

__all__ = ["BusCore", "Core"]


class BusCore(wiring.Component):
    """The accelerator in the domain ``sync``, for Amaranth systems that hold it.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    ctrl : In(AxiLiteSignature(12))
    stationary, stream, side : Out(AxiReadSignature(32, 128, config.id_bits))
    write : Out(AxiWriteSignature(32, 128, config.id_bits))
    irq : Out(1)
    build : In(32)
        What the BUILD register reads as; constant.
    """

    def __init__(self, config):
        self.config = config
        read = AxiReadSignature(config.address_bits, config.data_bits, config.id_bits)
        super().__init__(
            {
                "ctrl": In(AxiLiteSignature(12)),
                "stationary": Out(read),
                "stream": Out(read),
                "side": Out(read),
                "write": Out(
                    AxiWriteSignature(config.address_bits, config.data_bits, config.id_bits)
                ),
                "irq": Out(1),
                "build": In(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.control = control = Control(self.config)
        engine = Engine(self.config)
        m.submodules.engine = reset_domain(m, control.datapath_reset, name="engine")(engine)
        for name in ("stationary", "stream", "side", "write"):
            # Outside the reset of the engine: what has been put on the bus stays there.
            slice_type = AxiWriteSlice if name == "write" else AxiReadSlice
            port = slice_type(
                address_bits=self.config.address_bits,
                data_bits=self.config.data_bits,
                id_bits=self.config.id_bits,
            )
            m.submodules[f"{name}_slice"] = port
            connect(m, getattr(engine, name), port.core)
            connect(m, port.bus, flipped(getattr(self, name)))
        connect(m, flipped(self.ctrl), control.ctrl)
        connect(m, control.fetch_run, engine.fetch_run)
        connect(m, engine.fetch_beats, control.fetch_beats)
        m.d.comb += [
            self.irq.eq(control.irq),
            control.build.eq(self.build),
            engine.descriptors.eq(control.descriptors),
            engine.start.eq(control.start),
            engine.start_slot.eq(control.start_slot),
            engine.oldest.eq(control.oldest),
            engine.waiting.eq(control.waiting),
            engine.halt.eq(control.halt),
            engine.window_base.eq(control.window_base),
            engine.window_limit.eq(control.window_limit),
            engine.record.eq(control.record),
            control.done.eq(engine.done),
            control.reads_newer.eq(engine.reads_newer),
            control.computes_newer.eq(engine.computes_newer),
            control.unit_error.eq(engine.unit_error),
            control.unit_newer.eq(engine.unit_newer),
            control.masters_idle.eq(engine.masters_idle),
            control.datapath_ready.eq(engine.ready),
        ]
        for name in Engine.EVENTS:
            m.d.comb += getattr(control, name).eq(getattr(engine, name))
        return m


class Core(wiring.Component):
    """The accelerator with conventional port names.

    ``aclk``, ``aresetn`` (active low, synchronous), ``irq``, ``build`` (what the BUILD register
    reads as; constant), AXI4-Lite slave ``s_axi_ctrl_*``, AXI4 masters ``m_axi_stationary_*``,
    ``m_axi_stream_*``, ``m_axi_side_*`` (read) and ``m_axi_write_*``.

    Parameters
    ----------
    config : CoreConfig
    """

    def __init__(self, config):
        self.config = config
        prefixes = {n: f"m_axi_{n}" for n in ("stationary", "stream", "side", "write")}
        self._flat = FlatPorts(BusCore(config), prefixes={"ctrl": "s_axi_ctrl", **prefixes})
        super().__init__({"aclk": In(1), "aresetn": In(1), **self._flat.signature.members})

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = sync = ClockDomain()
        m.submodules.ports = self._flat
        # The reset goes through a register: it reaches every register of the core.
        m.domains.unreset = unreset = ClockDomain(reset_less=True)
        reset = Signal(init=1)
        m.d.unreset += reset.eq(~self.aresetn)
        m.d.comb += [unreset.clk.eq(self.aclk), sync.clk.eq(self.aclk), sync.rst.eq(reset)]
        for name, member in self._flat.signature.members.items():
            inner, outer = getattr(self._flat, name), getattr(self, name)
            if member.flow is In:
                m.d.comb += inner.eq(outer)
            elif name.startswith("s_axi_ctrl_") and name.endswith("ready"):
                # Nothing is accepted in the cycle in which the registered reset still lasts.
                m.d.comb += outer.eq(inner & ~reset)
            else:
                m.d.comb += outer.eq(inner)
        return m
