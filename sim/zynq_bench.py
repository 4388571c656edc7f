"""The real top of a Zynq board under cocotb, its processing system replaced by the testbench.

The block design's wrapper becomes a module whose outputs the bench sets and whose inputs it reads,
so that everything between processing system and core is simulated as it is built. The bench's own
ports are named like the core's, and the models of AXI are attached to them.
"""

from eftrain_hdl.config import CoreConfig
from platforms.processing_system import HP_PORTS
from platforms.zynq import TOP, platform_of
from platforms.zynq_top import WRAPPER, ZynqTop
from sim.build import cached_verilog
from sim.cocotb_build import build_verilog

__all__ = ["BENCH", "bench_verilog", "build_board_top"]

BENCH = "board"

_FDPE = """
module FDPE #(parameter INIT = 1'b1) (
  output reg Q, input C, input CE, input D, input PRE
);
  initial Q = INIT;
  always @(posedge C or posedge PRE) if (PRE) Q <= 1'b1; else if (CE) Q <= D;
endmodule
"""
"""What the reset synchroniser is made of (AMD UG953)."""

# AXI4's own widths, which the models want also where the bus is AXI3.
_WIDTHS = {"len": 8, "lock": 1}


def bench_verilog(system):
    """Verilog of the bench ``board`` and of the stand-in of the wrapper.

    Parameters
    ----------
    system : platforms.processing_system.ProcessingSystem
    """
    stand_in, ports, joins = [], ["  input aclk", "  input aresetn", "  output irq"], []
    for port in system.ports:
        span = f"[{port.width - 1}:0] "
        kind = {"i": "input wire", "o": "output reg", "io": "inout wire"}[port.direction]
        stand_in.append(f"  {kind} {span}{port.name}")
    for interface in system.axi:
        prefix = "s_axi_ctrl" if interface is system.control else f"m_axi_{interface.name}"
        for port in interface.ports:
            signal = port.name.removeprefix(f"{interface.name}_")
            if signal == "wid":
                continue
            name = f"{prefix}_{signal}"
            width = next((w for s, w in _WIDTHS.items() if signal in (f"ar{s}", f"aw{s}")), None)
            width = port.width if width is None else width
            inward = port.direction == "o"
            ports.append(f"  {'input' if inward else 'output'} [{width - 1}:0] {name}")
            if inward:
                joins.append(f"  always @* top.ps.{port.name} = {name};")
            else:
                joins.append(f"  assign {name} = top.ps.{port.name};")
    joins += [
        "  always @* top.ps.aclk = aclk;",
        "  always @* top.ps.resetn_async = aresetn;",
        "  assign irq = top.ps.irq;",
    ]
    return (
        f"module {WRAPPER} (\n" + ",\n".join(stand_in) + "\n);\nendmodule\n"
        f"module {BENCH} (\n" + ",\n".join(ports) + f"\n);\n  {TOP} top ();\n"
        "" + "\n".join(joins) + "\nendmodule\n" + _FDPE
    )


def build_board_top(board, array="4x4", format="fp32"):
    """Build the model of a board's top; returns a :class:`sim.cocotb_build.CocotbModel`.

    Parameters
    ----------
    board : str
        Key of :data:`platforms.zynq.PLATFORMS`.
    """
    assert len(HP_PORTS) == 4
    config = CoreConfig.parse(array, format)
    platform = platform_of(board, config.name, 100_000_000)
    top = platform.project(ZynqTop(config, platform.system, 0), TOP)[f"{TOP}.v"]
    text = bench_verilog(platform.system) + top + cached_verilog(config)
    name = f"top_{board.replace('-', '_')}_{array}_{format}"
    arguments = ("-O3", "--no-assert", "--output-split", "20000", "-Wno-fatal")
    return build_verilog(text, name=name, toplevel=BENCH, arguments=arguments)
