"""Whether a core fits a Zynq part, known before hours of tool run.

The counts are yosys's, of the core alone (``eftrain resources``): logic cells without those LUTs that
serve as memory. Vivado's differ; what needs more than the part has by this count is refused.
"""

from eftrain.boards import Capacity, Family
from eftrain.errors import UserError

__all__ = ["COUNTS", "check_fits", "count"]

COUNTS = {
    (Family.ULTRASCALE_PLUS, "16x16", "fp32"): Capacity(lut=89_777, ff=0, dsp=587, bram36=191.5),
    (Family.ULTRASCALE_PLUS, "32x32", "bf16"): Capacity(lut=173_593, ff=0, dsp=1_099, bram36=250),
    (Family.SERIES7, "8x8", "bf16"): Capacity(lut=46_952, ff=0, dsp=139, bram36=79.5),
}
"""Family, array, format: what the core takes."""

_NAMES = {"lut": "LUTs", "ff": "flip-flops", "dsp": "DSP blocks", "bram36": "blocks of memory"}


def count(config, family):
    """What a core takes, or None if it was not counted."""
    return COUNTS.get((family, config.array, config.format))


def check_fits(config, board):
    """Raise ``UserError`` that names the resource that runs out and the largest cores that fit.

    Parameters
    ----------
    config : CoreConfig
    board : eftrain.boards.Board
    """
    needed = count(config, board.family)
    if needed is None:
        return
    short = _exceeded(needed, board.capacity)
    if short is None:
        return
    fitting = [
        (array, format)
        for (family, array, format), usage in COUNTS.items()
        if family is board.family and _exceeded(usage, board.capacity) is None
    ]
    largest = {}
    for array, format in sorted(fitting, key=lambda entry: int(entry[0].split("x")[0])):
        largest[format] = array
    choices = " and ".join(f"{array} {format}" for format, array in sorted(largest.items()))
    raise UserError(
        f"The {config.array} {config.format} array does not fit {board.title} ({board.part}): it "
        f"needs about {getattr(needed, short):,} {_NAMES[short]} of "
        f"{getattr(board.capacity, short):,}; the largest that fit are {choices}."
    )


def _exceeded(usage, capacity):
    """The kind of resource that is exceeded by most, or None."""
    shares = {kind: getattr(usage, kind) / getattr(capacity, kind) for kind in _NAMES}
    worst = max(shares, key=shares.get)
    return worst if shares[worst] > 1 else None
