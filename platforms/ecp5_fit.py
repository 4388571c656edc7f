"""Whether a design fits an ECP5-85F.

Known of a core before any work: batch-norm takes too many LUTs, and of multipliers the units beside
the array, which work in fp32 and are the same for every array, leave 95. Known of a netlist before
it is placed.
"""

from collections import Counter

from eftrain.errors import UserError
from eftrain_hdl.arithmetic import get_format

from . import BitstreamError

__all__ = ["AVAILABLE", "WEIGHTS", "check_counts", "check_fits", "multipliers"]

AVAILABLE = {"LUT4": 83_640, "FF": 83_640, "DP16KD": 208, "MULT18X18D": 156}
"""What the part has."""

WEIGHTS = {
    "LUT4": {"LUT4": 1},
    "CCU2C": {"LUT4": 2},
    "TRELLIS_DPR16X4": {"LUT4": 6},  # Four that store, two that serve the write port.
    "TRELLIS_FF": {"FF": 1},
    "DP16KD": {"DP16KD": 1},
    "MULT18X18D": {"MULT18X18D": 1},
}
"""What a cell of a netlist takes."""

OUTSIDE_ARRAY = 61
"""MULT18X18D of a 4x4 bf16 core without batch-norm as yosys counts them, less its 16 MACs'."""

WITH_BATCH_NORM = 86_758
"""LUT4 of a system with the smallest core that has batch-norm, as nextpnr packs it."""

_OPERAND_BITS = 18


def multipliers(config):
    """MULT18X18D of a core without batch-norm; one with it needs 66 more."""
    significand = get_format(config.format).mantissa_bits + 1
    each = (-(-significand // _OPERAND_BITS)) ** 2
    return OUTSIDE_ARRAY + config.rows * config.lanes * each


def check_fits(config, part):
    """Raise ``UserError`` that names the resource that runs out and the largest cores that fit.

    Parameters
    ----------
    config : CoreConfig
    part : str
        Name of the part, for the text.
    """
    needed = multipliers(config)
    if needed > AVAILABLE["MULT18X18D"]:
        raise UserError(
            f"The {config.array} {config.format} array does not fit the {part}: it needs at least "
            f"{needed} MULT18X18D of {AVAILABLE['MULT18X18D']}; the largest that fit are 8x8 bf16 "
            "and 4x4 fp32."
        )
    if config.batch_norm:
        raise UserError(
            f"A core with batch-norm does not fit the {part}: the smallest needs "
            f"{WITH_BATCH_NORM:,} LUT4 of {AVAILABLE['LUT4']:,}; build one without."
        )


def check_counts(module):
    """Raise ``BitstreamError`` if a netlist takes more than the part has.

    Parameters
    ----------
    module : dict
        The flat top module as yosys writes it.
    """
    used = Counter()
    for cell in module["cells"].values():
        used.update(WEIGHTS.get(cell["type"], {}))
    for kind, available in AVAILABLE.items():
        if used[kind] > available:
            raise BitstreamError(
                f"The design does not fit: it needs {used[kind]:,} {kind} of {available:,}; choose "
                "a smaller --array."
            )
