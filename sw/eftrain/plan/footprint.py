"""What a training step keeps in the device's memory, by kind."""

from fractions import Fraction

from eftrain_hdl.isa import PARAMETER_VECTORS, Opcode

from .layout import BETA, BETA_MOMENTUM, GAMMA, GAMMA_MOMENTUM
from .schedule import MOMENTUM
from .stages import BIASES

__all__ = ["KINDS", "footprint"]

KINDS = (
    "weights",
    "statistics",
    "activations kept",
    "activations passed on",
    "gradients",
    "optimiser state",
    "batch data",
    "program",
    "alignment",
)
"""Activations are kept if a pass behind LOSS reads them, and else only passed on to the next layer.
Statistics are those of batch-norms, with the coefficients they give; batch data the pictures and
labels of one batch; alignment the gaps between tensors."""

_BATCH_DATA = ("images", "labels", "records")
_GRADIENTS = ("gradient", "unpooled")


def footprint(memory, layer_passes, stages):
    """Bytes of every kind; together they are ``memory.used``.

    Parameters
    ----------
    memory : MemoryMap
        Of a job with one section that trains.
    layer_passes : list of LayerPass
        Its step.
    stages : list of Stage

    Returns
    -------
    dict
        ``KINDS`` to bytes.
    """
    behind = [p.opcode for p in layer_passes].index(Opcode.LOSS) + 1
    kept = {name for p in layer_passes[behind:] for name in p.tensors()}
    norms = {stage.norm.parameters: stage.norm for stage in stages if stage.norm}
    found = dict.fromkeys(KINDS, 0)
    for region in memory.report():
        name, nbytes = region["name"], region["bytes"]
        for kind, share in _kinds(name, norms, kept).items():
            found[kind] += int(nbytes * share)
    found["alignment"] = memory.used - sum(found.values())
    return found


def _kinds(name, norms, kept):
    """``{kind: part of the region}``."""
    if name in norms:
        return _record("statistics", trained=norms[name].trained)
    if name == BIASES:
        return _record("weights", trained=True)
    head, _, tail = name.partition(".")
    if name.startswith(MOMENTUM):
        kind = "optimiser state"
    elif head in _GRADIENTS or tail == "gradient_coefficients":
        kind = "gradients"
    elif head in _BATCH_DATA:
        kind = "batch data"
    elif head == "program":
        kind = "program"
    elif head.isdigit():
        kind = "weights" if tail in ("weight", "bias") else "statistics"
    else:
        kind = "activations kept" if name in kept else "activations passed on"
    return {kind: 1}


def _record(rest, trained):
    """Parts of parameter records: scale and offset, their momentum, and ``rest``."""
    kinds = [rest] * PARAMETER_VECTORS
    kinds[GAMMA] = kinds[BETA] = "weights"
    if trained:
        kinds[GAMMA_MOMENTUM] = kinds[BETA_MOMENTUM] = "optimiser state"
    part = Fraction(1, PARAMETER_VECTORS)
    return {kind: part * kinds.count(kind) for kind in set(kinds)}
