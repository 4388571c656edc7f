"""The device-tree overlay of a Zynq build: what Linux on the board must know of the core.

Loading it programs the bitstream (``fpga-full``), sets the clock, and creates two devices: ``uio``
for registers and interrupt (driver uio_pdrv_genirq), and a buffer of contiguous memory (driver
u-dma-buf, https://github.com/ikwzm/udmabuf).
"""

from .zynq_platform import template

__all__ = ["UDMABUF_NAME", "UIO_NAME", "overlay"]

UIO_NAME = "eftrain"
"""What ``/sys/class/uio/uio*/name`` says."""

UDMABUF_NAME = "udmabuf-eftrain"
"""The buffer is ``/dev/<this>``, its attributes are in ``/sys/class/u-dma-buf/<this>``."""

REGISTERS_BYTES = 0x1000


def _cells(value, count):
    """A number as ``count`` cells of 32 bits, the most significant first."""
    return " ".join(f"{value >> 32 * n & 0xFFFF_FFFF:#x}" for n in reversed(range(count)))


_FAMILIES = {
    "PS8": {
        "cells": 2,
        "interrupt_parent": "gic",
        "clock": "zynqmp_clk 71",  # PL0_REF
        # Widths of the ports between processing system and logic, by the number of their register:
        # 0 to 7 are S_AXI_HP0 to 3, read and write, of which 0 is 128 bits (as after a reset);
        # 14 is M_AXI_HPM0 and 1, 2 in bits 9:8 is 128 bits.
        "afi": ", ".join([*(f"<{n} 0>" for n in range(4, 12)), "<14 0xa00>"]),
    },
    "PS7": {"cells": 1, "interrupt_parent": "intc", "clock": "clkc 15", "afi": None},  # fclk0
}


_AFI = """
\tafi0 {
\t\tcompatible = "xlnx,afi-fpga";
\t\tconfig-afi = @values@;
\t};
"""


def overlay(system, artefact):
    """Source text of the overlay (``.dtso``).

    Parameters
    ----------
    system : ProcessingSystem
    artefact : eftrain.artefact.Artefact
        For names, clock, and the size of the memory that is asked for.
    """
    family = _FAMILIES[system.primitive]
    cells = family["cells"]
    afi = _AFI.replace("@values@", family["afi"] or "")
    values = {
        "name": f"{artefact.board}, {artefact.array} {artefact.format}, build {artefact.build}",
        "cells": cells,
        "afi": afi if family["afi"] else "",
        "clock": family["clock"],
        "clock_hz": artefact.clock_hz,
        "uio": UIO_NAME,
        "base": f"{system.control_base:x}",
        "registers": f"{_cells(system.control_base, cells)} {_cells(REGISTERS_BYTES, cells)}",
        "parent": family["interrupt_parent"],
        "interrupt": system.interrupt,
        "udmabuf": UDMABUF_NAME,
        "size": f"{artefact.memory['size']:#x}",
        "megabytes": artefact.memory["size"] >> 20,
    }
    text = template("overlay.dtso")
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text
