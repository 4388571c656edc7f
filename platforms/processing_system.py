"""The ports of the Zynq processing systems that the accelerator uses.

The block design in ``vivado/`` holds the processing system and, for the control port, an
interconnect. Its wrapper is a black box to the top: :attr:`ProcessingSystem.ports` lists its ports.
Each knows the port of the vendor's primitive (PS7, PS8) that is behind it, so that names and widths
can be compared with yosys's cell library.
"""

from dataclasses import dataclass, replace

__all__ = ["PS7", "PS8", "AxiPort", "Port", "ProcessingSystem"]

CONTROL_BITS = 12
"""Address bits of the register block: a page of 4 KiB."""

HP_PORTS = ("stationary", "stream", "side", "write")
"""Which bus of the core is on S_AXI_HP0, 1, 2, 3."""

_READ = ("ar", "r")
_WRITE = ("aw", "w", "b")
_BACKWARD = ("r", "b")
"""Channels whose payload goes against the direction of the requests."""


@dataclass(frozen=True)
class Port:
    """A port of the wrapper.

    Attributes
    ----------
    name : str
    width : int
    direction : str
        As the wrapper's Verilog has it: ``"i"``, ``"o"`` or ``"io"``.
    primitive : str or None
        Port of the primitive; None behind the interconnect.
    primitive_width : int
        Of all the primitive's port; a wider one is used from its lowest bit on.
    """

    name: str
    width: int
    direction: str
    primitive: str | None = None
    primitive_width: int | None = None


@dataclass(frozen=True)
class AxiPort:
    """An AXI interface of the wrapper.

    Attributes
    ----------
    name : str
        Of the interface; its signals are called ``<name>_araddr`` and so on.
    pin : str
        Interface pin of the processing system's block.
    clock : str
        Its clock pin.
    prefix : str
        Of the primitive's ports.
    protocol, mode : str
        As block designs call them: AXI4, AXI3 or AXI4LITE; READ_ONLY, WRITE_ONLY or READ_WRITE.
    master : bool
        The processing system starts the transfers.
    widths : dict of str to int
        Of the signals that are not one bit wide, by name without the channel.
    """

    name: str
    pin: str
    clock: str
    prefix: str
    protocol: str
    mode: str
    master: bool
    widths: dict

    @property
    def ports(self):
        """The interface's signals, as :class:`Port`."""
        channels = {"READ_ONLY": _READ, "WRITE_ONLY": _WRITE, "READ_WRITE": _WRITE + _READ}
        return [port for channel in channels[self.mode] for port in self._channel(channel)]

    @property
    def configuration(self):
        """Property to value of the interface port in the block design."""
        full = self.protocol != "AXI4LITE"
        return {
            "PROTOCOL": self.protocol,
            "READ_WRITE_MODE": self.mode,
            "ADDR_WIDTH": self.widths["addr"],
            "DATA_WIDTH": self.widths["data"],
            "ID_WIDTH": self.widths["id"] if full else 0,
            "HAS_BURST": int(full),
            "HAS_CACHE": int(full),
            "HAS_LOCK": int(full),
            "HAS_PROT": 1,
            "HAS_QOS": int(full),
            "HAS_REGION": 0,
            "ARUSER_WIDTH": 0,
            "AWUSER_WIDTH": 0,
            "RUSER_WIDTH": 0,
            "WUSER_WIDTH": 0,
            "BUSER_WIDTH": 0,
        }

    def _signals(self, channel):
        full = self.protocol != "AXI4LITE"
        if channel in ("ar", "aw"):
            request = ["addr", "prot"]
            if full:
                request += ["id", "len", "size", "burst", "lock", "cache", "qos"]
            return request
        names = {"r": ["data", "resp"], "w": ["data", "strb"], "b": ["resp"]}[channel]
        if full:
            names += ["last"] if channel in ("r", "w") else []
            # Write data has an identifier in AXI3 only.
            names += ["id"] if channel != "w" or self.protocol == "AXI3" else []
        return names

    def _channel(self, channel):
        forward = (channel in _BACKWARD) == self.master
        for name in [*self._signals(channel), "valid", "ready"]:
            inward = forward != (name == "ready")
            yield self._port(channel, name, "i" if inward else "o")

    def _port(self, channel, name, direction):
        fixed = {"resp": 2, "burst": 2, "cache": 4, "prot": 3, "qos": 4}
        fixed |= {"strb": self.widths["data"] // 8, **self.widths}
        width = fixed.get(name, 1)
        if self.protocol == "AXI4LITE":
            return Port(f"{self.name}_{channel}{name}", width, direction)
        primitive = f"{self.prefix}{channel}{name}".upper()
        # The block widens the two size bits of PS7.
        inside = 2 if (self.protocol, name) == ("AXI3", "size") else width
        return Port(f"{self.name}_{channel}{name}", width, direction, primitive, inside)


@dataclass(frozen=True)
class ProcessingSystem:
    """A kind of processing system, with what the accelerator uses of it.

    Attributes
    ----------
    primitive : str
        Name of the cell.
    ip : str
        Name of the vendor's block.
    clock_pin, reset_pin, interrupt_pin : str
        Pins of the block: clock and reset for the programmable logic, interrupt from it.
    clock_name : str
        The clock, as the block's own constraints call it.
    control : AxiPort
        The register port. The interconnect is between it and the block's pin.
    memory : tuple of AxiPort
        The four memory ports, in the order of :data:`HP_PORTS`.
    fixed : tuple of Port
        Clock, reset, interrupt, and pins that are wired to the package.
    control_base : int
        Address of the registers.
    interrupt : int
        The interrupt's number as a shared peripheral interrupt of the device tree.
    """

    primitive: str
    ip: str
    clock_pin: str
    reset_pin: str
    interrupt_pin: str
    clock_name: str
    control: AxiPort
    memory: tuple
    fixed: tuple
    control_base: int
    interrupt: int

    @property
    def axi(self):
        return (self.control, *self.memory)

    @property
    def ports(self):
        """Every port of the wrapper, as :class:`Port`."""
        return [*self.fixed, *(port for interface in self.axi for port in interface.ports)]


def _memory(template):
    """The four memory ports; ``{n}`` in the template counts from 0, ``{g}`` from 2."""
    return tuple(
        replace(
            template,
            name=name,
            mode="WRITE_ONLY" if name == "write" else "READ_ONLY",
            **{
                field: getattr(template, field).format(n=index, g=index + 2)
                for field in ("pin", "clock", "prefix")
            },
        )
        for index, name in enumerate(HP_PORTS)
    )


_OWN = (Port("aresetn", 1, "i"),)
"""The reset of the interconnect: the top's, in step with the clock."""

PS8 = ProcessingSystem(
    primitive="PS8",
    ip="zynq_ultra_ps_e",
    clock_pin="pl_clk0",
    reset_pin="pl_resetn0",
    interrupt_pin="pl_ps_irq0",
    clock_name="clk_pl_0",
    control=AxiPort(
        name="ctrl", pin="M_AXI_HPM0_FPD", clock="maxihpm0_fpd_aclk", prefix="MAXIGP0",
        protocol="AXI4LITE", mode="READ_WRITE", master=True, widths={"addr": 40, "data": 32},
    ),
    memory=_memory(
        AxiPort(
            name="", pin="S_AXI_HP{n}_FPD", clock="saxihp{n}_fpd_aclk", prefix="SAXIGP{g}",
            protocol="AXI4", mode="", master=False,
            widths={"addr": 49, "data": 128, "id": 6, "len": 8, "size": 3, "lock": 1},
        )
    ),
    fixed=(
        Port("aclk", 1, "o", "PLCLK", 4),
        # A pin of the processing system's GPIO, which the block calls pl_resetn0.
        Port("resetn_async", 1, "o", "EMIOGPIOO", 96),
        Port("irq", 1, "i", "PLPSIRQ0", 8),
        *_OWN,
    ),
    control_base=0xA000_0000,
    interrupt=89,
)  # fmt: skip

_PACKAGE = (
    ("DDR_addr", 15, "DDRA"), ("DDR_ba", 3, "DDRBA"), ("DDR_cas_n", 1, "DDRCASB"),
    ("DDR_ck_n", 1, "DDRCKN"), ("DDR_ck_p", 1, "DDRCKP"), ("DDR_cke", 1, "DDRCKE"),
    ("DDR_cs_n", 1, "DDRCSB"), ("DDR_dm", 4, "DDRDM"), ("DDR_dq", 32, "DDRDQ"),
    ("DDR_dqs_n", 4, "DDRDQSN"), ("DDR_dqs_p", 4, "DDRDQSP"), ("DDR_odt", 1, "DDRODT"),
    ("DDR_ras_n", 1, "DDRRASB"), ("DDR_reset_n", 1, "DDRDRSTB"), ("DDR_we_n", 1, "DDRWEB"),
    ("FIXED_IO_ddr_vrn", 1, "DDRVRN"), ("FIXED_IO_ddr_vrp", 1, "DDRVRP"),
    ("FIXED_IO_mio", 54, "MIO"), ("FIXED_IO_ps_clk", 1, "PSCLK"),
    ("FIXED_IO_ps_porb", 1, "PSPORB"), ("FIXED_IO_ps_srstb", 1, "PSSRSTB"),
)  # fmt: skip
"""Pins of the package that belong to the processing system of Zynq-7000."""

PS7 = ProcessingSystem(
    primitive="PS7",
    ip="processing_system7",
    clock_pin="FCLK_CLK0",
    reset_pin="FCLK_RESET0_N",
    interrupt_pin="IRQ_F2P",
    clock_name="clk_fpga_0",
    control=AxiPort(
        name="ctrl", pin="M_AXI_GP0", clock="M_AXI_GP0_ACLK", prefix="MAXIGP0",
        protocol="AXI4LITE", mode="READ_WRITE", master=True, widths={"addr": 32, "data": 32},
    ),
    memory=_memory(
        AxiPort(
            name="", pin="S_AXI_HP{n}", clock="S_AXI_HP{n}_ACLK", prefix="SAXIHP{n}",
            protocol="AXI3", mode="", master=False,
            widths={"addr": 32, "data": 64, "id": 6, "len": 4, "size": 3, "lock": 2},
        )
    ),
    fixed=(
        Port("aclk", 1, "o", "FCLKCLK", 4),
        Port("resetn_async", 1, "o", "FCLKRESETN", 4),
        Port("irq", 1, "i", "IRQF2P", 20),
        *_OWN,
        *(Port(name, width, "io", primitive, width) for name, width, primitive in _PACKAGE),
    ),
    control_base=0x43C0_0000,
    interrupt=29,
)  # fmt: skip
