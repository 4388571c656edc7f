"""Whether a core fits an ECP5-85F, known before hours of tool run.

The largest 85F parts have 83,640 LUT4, 208 DP16KD and 156 MULT18X18D. Multipliers decide: all the
units beside the array, which work in fp32 and are the same for every array, take 127 of them.
"""

from eftrain.errors import UserError
from eftrain_hdl.arithmetic import get_format

__all__ = ["check_fits", "multipliers"]

MULTIPLIERS = 156
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
    if needed > MULTIPLIERS:
        raise UserError(
            f"The {config.array} {config.format} array does not fit the {part}: it needs at least "
            f"{needed} MULT18X18D of {MULTIPLIERS}; the largest that fits is 4x4 bf16."
        )
