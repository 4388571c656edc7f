"""Packages the core as an IP-XACT block, for people with a block design of their own.

On the command line::

    python -m platforms.ip_core --array 16x16 --format fp32 -o build/ip

The folder holds the core's Verilog, a wrapper whose ports carry the attributes from which Vivado
infers the AXI interfaces, clock, reset and interrupt, and a script that packages them. The package
itself, ``ip/component.xml``, is written by Vivado: the script is run where Vivado is on the PATH.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from eftrain.artefact import Artefact
from eftrain.errors import UserError
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.version import VERSION

from . import BitstreamError, VivadoMissing, print_step
from .zynq_platform import VIVADO_VERSION, template

__all__ = ["BUSES", "main", "package", "wrapper", "write"]

BUSES = ("s_axi_ctrl", "m_axi_stationary", "m_axi_stream", "m_axi_side", "m_axi_write")

FAMILIES = ("zynq", "artix7", "kintex7", "virtex7", "zynquplus", "kintexuplus", "virtexuplus")
_PART = "xczu9eg-ffvb1156-2-e"
"""Of the project that packages; the core does not depend on it."""

_OOC_PERIOD_NS = 10


def core_ports(config):
    """(name, ``"input"`` or ``"output"``, width) of the core's ports, but ``build``."""
    from amaranth.lib.wiring import Out

    from eftrain_hdl.memory import AxiLiteSignature, AxiReadSignature, AxiWriteSignature

    sizes = config.address_bits, config.data_bits, config.id_bits
    ports = [("aclk", "input", 1), ("aresetn", "input", 1), ("irq", "output", 1)]
    for prefix in BUSES:
        if prefix == "s_axi_ctrl":
            signature = AxiLiteSignature(12).flip()
        else:
            kind = AxiWriteSignature if prefix == "m_axi_write" else AxiReadSignature
            signature = kind(*sizes)
        for name, member in signature.members.items():
            direction = "output" if member.flow is Out else "input"
            ports.append((f"{prefix}_{name}", direction, member.shape))
    return ports


def wrapper(config, build):
    """Verilog of the block's top, ``eftrain``.

    Parameters
    ----------
    config : CoreConfig
    build : int
        What the BUILD register reads as.
    """
    attributes = {
        "aclk": (
            "xilinx.com:signal:clock:1.0 aclk CLK",
            f"XIL_INTERFACENAME aclk, ASSOCIATED_BUSIF {':'.join(BUSES)}, ASSOCIATED_RESET aresetn",
        ),
        "aresetn": (
            "xilinx.com:signal:reset:1.0 aresetn RST",
            "XIL_INTERFACENAME aresetn, POLARITY ACTIVE_LOW",
        ),
        "irq": (
            "xilinx.com:signal:interrupt:1.0 irq INTERRUPT",
            "XIL_INTERFACENAME irq, SENSITIVITY LEVEL_HIGH",
        ),
    }
    for bus in BUSES:
        # On one port of each interface; the others follow by name.
        first = f"{bus}_{'ar' if bus in BUSES[1:4] else 'aw'}addr"
        lite = bus == "s_axi_ctrl"
        mode = "READ_WRITE" if lite else "WRITE_ONLY" if bus == "m_axi_write" else "READ_ONLY"
        attributes[first] = (
            None,
            f"XIL_INTERFACENAME {bus}, PROTOCOL {'AXI4LITE' if lite else 'AXI4'}, "
            f"READ_WRITE_MODE {mode}",
        )
    lines, connections = [], [f"    .build(32'h{build:08x})"]
    for name, direction, width in core_ports(config):
        bus = next((bus for bus in BUSES if name.startswith(bus)), None)
        info, parameter = attributes.get(name, (None, None))
        if info is None:
            signal = name.removeprefix(f"{bus}_").upper()
            info = f"xilinx.com:interface:aximm:1.0 {bus} {signal}"
        lines.append(f'  (* X_INTERFACE_INFO = "{info}" *)')
        if parameter:
            lines.append(f'  (* X_INTERFACE_PARAMETER = "{parameter}" *)')
        span = f"[{width - 1}:0] " if width > 1 else ""
        lines.append(f"  {direction} wire {span}{name},")
        connections.append(f"    .{name}({name})")
    lines[-1] = lines[-1].rstrip(",")
    joined = ",\n".join(connections)
    return (
        f"// {config.name} with the attributes from which Vivado infers its interfaces.\n"
        "module eftrain (\n" + "\n".join(lines) + "\n);\n\n"
        f"  {config.name} core (\n{joined}\n  );\n\nendmodule\n"
    )


def write(config, folder):
    """Write everything that Vivado needs to package the core.

    Parameters
    ----------
    config : CoreConfig
    folder : path

    Raises
    ------
    UserError
        If the folder cannot be written.
    """
    from eftrain_hdl.verilog import generate

    text = generate(config)
    # The board matters to none of the entries that are used.
    build = Artefact.describe("zcu102", config, text).build_word
    version = ".".join(map(str, VERSION[:2]))
    values = {
        "core": config.name,
        "display": f"eftrain {config.array} {config.format}",
        "description": "Trains convolutional networks; see docs/registers.md and docs/isa.md.",
        "vivado": VIVADO_VERSION,
        "part": _PART,
        "version": version,
        "buses": " ".join(BUSES),
        "families": " ".join(f"{family} Production" for family in FAMILIES),
    }
    script = template("package_ip.tcl")
    for name, value in values.items():
        script = script.replace(f"@{name}@", value)
    constraints = (
        "# Only where the block is synthesised by itself.\n"
        f"create_clock -name aclk -period {_OOC_PERIOD_NS} [get_ports aclk]\n"
    )
    files = {
        "eftrain.v": wrapper(config, build),
        f"{config.name}.v": text,
        "eftrain_ooc.xdc": constraints,
        "package_ip.tcl": script,
    }
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(content, encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"{folder} cannot be written ({reason}); choose another --output."
        ) from None


def package(config, folder, *, on_step=print_step):
    """Write the files and run Vivado on them.

    Raises
    ------
    VivadoMissing
        The files are there, Vivado is not.
    BitstreamError
        Vivado failed.
    """
    from .zynq import check_version

    folder = Path(folder)
    on_step(1, 2, f"Writing {config.name} and its packaging script to {folder} ...")
    write(config, folder)
    vivado = shutil.which("vivado")
    if vivado is None:
        raise VivadoMissing(
            f"Vivado was not found on the PATH: core and script are in {folder}, and `vivado -mode "
            "batch -source package_ip.tcl` there makes the IP-XACT package."
        )
    check_version(vivado)
    on_step(2, 2, "Packaging with Vivado ...")
    command = [vivado, "-mode", "batch", "-nojournal", "-source", "package_ip.tcl"]
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="replace",
    )  # fmt: skip
    if done.returncode or not (folder / "ip/component.xml").is_file():
        said = [line for line in done.stdout.splitlines() if "error:" in line.lower()]
        why = said[-1].removeprefix("eftrain: error: ") if said else f"exit code {done.returncode}"
        raise BitstreamError(f"Vivado did not package the core: {why.rstrip('.')}.")


def main(arguments=None):
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m platforms.ip_core", description="Package the core as an IP-XACT block."
    )
    parser.add_argument("--array", default="16x16", help="array size (default: 16x16)")
    parser.add_argument("--format", default="fp32", help="operand format (default: fp32)")
    parser.add_argument(
        "-o", "--output", type=Path, help="folder (default: build/ip/<name of the core>)"
    )
    options = parser.parse_args(arguments)
    try:
        config = CoreConfig.parse(options.array, options.format)
        package(config, options.output or Path("build/ip") / config.name)
    except ValueError as error:  # UserError is one.
        print(f"error: {error}", file=sys.stderr)
        return 2
    except VivadoMissing as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except BitstreamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
