"""Whether a design fits an ECP5-85F.

Known of a core before any work, from its multipliers: the units beside the array, which work in
fp32 and are the same for every array, take 127 of 156. Known of a netlist before it is placed.
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

OUTSIDE_ARRAY = 127
"""MULT18X18D of a 4x4 bf16 core as yosys counts them, less those of its 16 MACs."""

_OPERAND_BITS = 18


def multipliers(config):
    """MULT18X18D of a core; for arrays larger than 4x4 a lower bound."""
    significand = get_format(config.format).mantissa_bits + 1
    each = (-(-significand // _OPERAND_BITS)) ** 2
    return OUTSIDE_ARRAY + config.rows * config.lanes * each


def check_fits(config, part):
    """Raise ``UserError`` that names the resource that runs out and the largest core that fits.

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
            f"{needed} MULT18X18D of {AVAILABLE['MULT18X18D']}; the largest that fits is 4x4 bf16."
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
