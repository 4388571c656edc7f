"""What the Zynq boards share: an Amaranth platform whose clock comes from the processing system."""

import textwrap
from pathlib import Path

from amaranth.vendor import XilinxPlatform

__all__ = ["VIVADO_VERSION", "ZynqPlatform", "template"]

VIVADO_VERSION = "2022.2"
"""The oldest Vivado that the scripts are written for."""

TEMPLATES = Path(__file__).with_name("vivado")


def template(name):
    """Text of a file in ``vivado/``."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


class ZynqPlatform(XilinxPlatform):
    """A board whose design is built by the Tcl scripts of ``vivado/``.

    There is no ``default_clk``: the top makes the domain ``sync`` from the processing system's
    clock. The block design is described by the attributes below.

    Parameters
    ----------
    core : str
        Module of the core.
    clock_hz : int
        Frequency asked of the processing system.

    Attributes
    ----------
    title : str
        The board's name.
    system : ProcessingSystem
    board_parts : str or None
        Pattern of Vivado's board files that hold the processing system's preset.
    preset : dict
        The same as parameters of the block, where Vivado has no board files.
    run_properties : dict
        Properties of the runs of synthesis (names with SYNTH) and implementation.
    """

    resources = []
    connectors = []
    title = None
    system = None
    board_parts = None
    preset = {}
    run_properties = {}
    vivado_version = VIVADO_VERSION

    def __init__(self, core, clock_hz):
        super().__init__(toolchain="Vivado")
        self.core = core
        self.clock_hz = clock_hz

    @property
    def part(self):
        """The part, as Vivado calls it."""
        return self._part

    @property
    def clock_mhz(self):
        """For the parameters of the processing system: megahertz, without a needless fraction."""
        return f"{self.clock_hz / 1e6:.6f}".rstrip("0").rstrip(".")

    @property
    def parameters(self):
        """Parameters of the processing system's block that the core needs."""
        return PARAMETERS[self.system.primitive](self.clock_mhz)

    @property
    def file_templates(self):
        """File name to content, in the language of Amaranth's templates."""
        return {
            "{{name}}.v": "{{emit_verilog()}}",
            "{{name}}.xdc": template("top.xdc"),
            "block_design.tcl": template("block_design.tcl"),
            "build.tcl": template("build.tcl"),
        }

    @property
    def command_templates(self):
        return ["{{invoke_tool('vivado')}} -mode batch -source build.tcl"]

    def project(self, top, name):
        """Files of the Vivado project around ``top``, by name."""
        plan = self.prepare(top, name, emit_src=False)
        return {file: textwrap.dedent(text).rstrip() + "\n" for file, text in plan.files.items()}


def _ps8(clock_mhz):
    return {
        "PSU__FPGA_PL0_ENABLE": 1,
        "PSU__FPGA_PL1_ENABLE": 0,
        "PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ": clock_mhz,
        "PSU__USE__FABRIC__RST": 1,
        "PSU__NUM_FABRIC_RESETS": 1,
        "PSU__USE__IRQ0": 1,
        # Registers: one master port, 128 bits wide as after a reset of the chip.
        "PSU__USE__M_AXI_GP0": 1,
        "PSU__MAXIGP0__DATA_WIDTH": 128,
        "PSU__USE__M_AXI_GP1": 0,
        "PSU__USE__M_AXI_GP2": 0,
        # S_AXI_HP0 to 3 are numbers 2 to 5 among the slave ports.
        **{f"PSU__USE__S_AXI_GP{n}": 1 for n in (2, 3, 4, 5)},
        **{f"PSU__SAXIGP{n}__DATA_WIDTH": 128 for n in (2, 3, 4, 5)},
    }


def _ps7(clock_mhz):
    return {
        "PCW_EN_CLK0_PORT": 1,
        "PCW_FPGA0_PERIPHERAL_FREQMHZ": clock_mhz,
        "PCW_EN_RST0_PORT": 1,
        "PCW_USE_FABRIC_INTERRUPT": 1,
        "PCW_IRQ_F2P_INTR": 1,
        "PCW_USE_M_AXI_GP0": 1,
        **{f"PCW_USE_S_AXI_HP{n}": 1 for n in range(4)},
        **{f"PCW_S_AXI_HP{n}_DATA_WIDTH": 64 for n in range(4)},
    }


PARAMETERS = {"PS8": _ps8, "PS7": _ps7}
"""Primitive: parameters of its block, given the clock in megahertz (AMD PG201 and PG082)."""
