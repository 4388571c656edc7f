"""Whether a core fits a Zynq part, known before hours of tool run.

Multipliers follow from the array; LUTs and memory were counted by yosys for some cores
(``board_resources.json``). Vivado's numbers differ; what needs more than the part has by these is
refused.
"""

from eftrain.errors import UserError
from eftrain_hdl.config import SIDES
from eftrain_hdl.isa import Format

from .board_resources import load

__all__ = ["check_fits", "multipliers"]

OUTSIDE_ARRAY = {True: 75, False: 41}
"""DSP blocks of every core beside its array, with and without batch-norm: fp32 units and address
arithmetic."""

EACH = {"bf16": 1, "fp32": 2}
"""DSP blocks of a multiply-add. A product of two 24-bit significands takes two."""

_NAMES = {"dsp": "DSP blocks", "lut": "LUTs", "bram36": "blocks of memory", "ff": "flip-flops"}


def multipliers(config):
    """DSP blocks of a core."""
    return OUTSIDE_ARRAY[config.batch_norm] + config.rows * config.lanes * EACH[config.format]


def check_fits(config, board):
    """Raise ``UserError`` that names the resource that runs out and the largest cores that fit.

    Parameters
    ----------
    config : CoreConfig
    board : eftrain.boards.Board
    """
    short = _exceeded(config, board)
    if short is None:
        return
    kind, needed, available = short
    fitting = []
    for format in (entry.name.lower() for entry in Format):
        for side in sorted(SIDES, reverse=True):
            if _exceeded(board.core(f"{side}x{side}", format), board) is None:
                fitting.append(f"{side}x{side} {format}")
                break
    raise UserError(
        f"The {config.array} {config.format} array does not fit the {board.title} ({board.part}): "
        f"it needs about {needed:,} {_NAMES[kind]} of {available:,}; the largest that fit are "
        f"{' and '.join(sorted(fitting))}."
    )


def _exceeded(config, board):
    """(kind, needed, available) of what is exceeded by most, or None."""
    counted = load().get((board.name, config.array, config.format), {})
    needed = {kind: counted.get(kind, 0) for kind in _NAMES}
    needed["dsp"] = multipliers(config)
    if counted:
        needed["lut"] += counted["memory_luts"]
    available = {kind: getattr(board.capacity, kind) for kind in _NAMES}
    worst = max(_NAMES, key=lambda kind: needed[kind] / available[kind])
    if needed[worst] <= available[worst]:
        return None
    return worst, needed[worst], available[worst]
