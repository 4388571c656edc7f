"""What the vector unit takes for a LOSS or NORM."""

from dataclasses import dataclass

from eftrain_hdl.isa import COEFFICIENT_VECTORS, PARAMETER_VECTORS, PARTIAL_BEATS, Flag, Opcode

from .model_machine import BEAT_WORDS

__all__ = ["VectorPass", "vector_pass"]

LOSS_CHUNK = 16
"""Classes that the vector unit treats in one step."""
VECTOR_STEP = 10
"""Cycles of a step of the vector unit at least."""


@dataclass(frozen=True)
class VectorPass:
    """A pass of the vector unit.

    cycles : from its start to its last answered write.
    read : beats that it needs one a cycle to begin with.
    written : beats that it writes last.
    """

    cycles: int
    read: int = 1
    written: int = 1


def vector_pass(layer_pass, config, machine):
    """The ``VectorPass`` of a LOSS or NORM."""
    if layer_pass.opcode is Opcode.LOSS:
        return VectorPass(machine.vector + _loss_cycles(layer_pass, config.group))
    flags, group = layer_pass.flags, config.group
    return VectorPass(
        machine.vector + 3 + layer_pass.out_blocks * _norm_cycles(flags, group),
        read=1 if Flag.FROZEN in flags else 2 * PARTIAL_BEATS,
        written=COEFFICIENT_VECTORS * config.vector_beats,
    )


def _loss_cycles(layer_pass, group):
    """Classes pass through the sequencer in chunks; a short one waits for its own results."""
    images, classes = (layer_pass.scalars[name] for name in ("images", "classes"))
    gradient = Flag.GRADIENT in layer_pass.flags

    def chunk(size):
        cycles = max(160 + 4.5 * size, 20 + 18.5 * size)
        return cycles if gradient else cycles - 21 - 2.9 * size

    full, rest = divmod(classes, LOSS_CHUNK)
    padding = -classes % group * (2.5 if gradient else 1)
    image = 336 + full * chunk(LOSS_CHUNK) + (chunk(rest) if rest else 0) + padding
    return round(images * image)


def _norm_cycles(flags, group):
    """Cycles of a channel block: a cycle for each word in and out, and for each of a step's."""
    gradient, frozen = Flag.GRADIENT in flags, Flag.FROZEN in flags
    written = COEFFICIENT_VECTORS * group
    read = PARAMETER_VECTORS * group + written * (Flag.X_PAIR in flags)
    segments = [18, 2 if frozen else 8]
    if gradient:
        segments = [10]
        segments += [2, 2] if Flag.UPDATE in flags else []
        segments += [4] if Flag.MOMENTUM in flags else []
    elif Flag.X_PAIR not in flags:
        segments.append(2)
    step = max(group, VECTOR_STEP)
    cycles = 0
    if not frozen:
        written += PARAMETER_VECTORS * group
        read += group + 2 * PARTIAL_BEATS * BEAT_WORDS
        sums = PARTIAL_BEATS * BEAT_WORDS
        segments.append(2 * (sums // group).bit_length())
        cycles = 2 * max(0, sums // 2 - step)
    # The last step of a segment waits until everything is written.
    cycles += sum((steps - 1) * step + group + VECTOR_STEP - 1 for steps in segments)
    return cycles + read + written + 20
