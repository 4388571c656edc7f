"""Writes the core as one Verilog file, for simulators and vendor tools.

On the command line::

    python -m eftrain_hdl.verilog --array 16x16 --format bf16 -o build/verilog/core.v
"""

import argparse
import os
import sys
from pathlib import Path

from .config import CoreConfig
from .isa import Format
from .verilog_text import with_memory_loops, with_shared_modules, without_field_aliases

__all__ = ["generate", "main"]


def generate(config):
    """Verilog text of a design; the top module is called ``config.name``.

    The same sources and configuration always give the same text.

    Parameters
    ----------
    config : CoreConfig or SystemConfig

    Returns
    -------
    str
    """
    # The copy of yosys that is installed with Amaranth, whatever else is on the PATH.
    os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin,system")
    # Imported late: only this function needs Amaranth.
    from amaranth.back import verilog

    if isinstance(config, CoreConfig):
        from .core import Core as Design
    else:
        from .system import FlatSerialSystem as Design

    text = verilog.convert(
        Design(config), name=config.name, strip_internal_attrs=True, emit_src=False
    )
    return with_shared_modules(with_memory_loops(without_field_aliases(text)))


def main(arguments=None):
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m eftrain_hdl.verilog",
        description="Write the core as one Verilog file.",
    )
    parser.add_argument("--array", default="8x8", help="array size, ROWSxLANES (default: 8x8)")
    parser.add_argument(
        "--format",
        default="fp32",
        help="operand format: " + ", ".join(f.name.lower() for f in Format) + " (default: fp32)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="file to write (default: build/verilog/<name of the core>.v); - for standard output",
    )
    options = parser.parse_args(arguments)
    try:
        config = CoreConfig.parse(options.array, options.format)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.output == Path("-"):
        sys.stdout.write(generate(config))
        return 0
    output = options.output or Path("build") / "verilog" / f"{config.name}.v"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        text = generate(config)
        output.write_text(text)
    except OSError as error:
        print(f"error: {output} cannot be written: {error.strerror}.", file=sys.stderr)
        return 2
    print(f"Wrote {output}: module {config.name}, {len(text.splitlines())} lines.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
