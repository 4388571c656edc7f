"""Names of the rows of a step's tables, and of the layers of a network that comes without any."""

from math import prod

from eftrain_hdl.isa import Opcode

from ..graph import Add, AvgPool2d, Conv2d, Linear, MaxPool2d

__all__ = ["conventional_names", "pass_names"]

_CONVOLUTIONS = {Opcode.CONV_FP: "FP", Opcode.CONV_BP: "BP", Opcode.CONV_WU: "WU"}

_SIMPLE = {Linear: "fc", AvgPool2d: "avgpool", MaxPool2d: "pool", Add: "add"}


def conventional_names(graph):
    """``{index: name}`` as papers have them: conv1_1, shortcut1, avgpool, fc1.

    Convolutions count as conv1, conv2, or, where every stretch between two max-poolings has
    several, as conv1_1, conv1_2, conv2_1. One that starts a branch of its own (a 1x1 convolution
    that does not read the layer before it) is a shortcut.
    """
    stretches, shortcuts, others = [[]], [], {}
    names = {}
    for index, node in enumerate(graph.nodes):
        layer = node.layer
        if isinstance(layer, MaxPool2d):
            stretches.append([])
        if isinstance(layer, Conv2d):
            branches = node.inputs != (index - 1,) and prod(layer.kernel_size) == 1
            (shortcuts if branches else stretches[-1]).append(index)
        elif type(layer) in _SIMPLE:
            others.setdefault(type(layer), []).append(index)
    stretches = [stretch for stretch in stretches if stretch]
    if len(stretches) > 1 and all(len(stretch) > 1 for stretch in stretches):
        for outer, stretch in enumerate(stretches, 1):
            names |= {index: f"conv{outer}_{inner}" for inner, index in enumerate(stretch, 1)}
    else:
        convolutions = [index for stretch in stretches for index in stretch]
        names |= _numbered("conv", convolutions)
    names |= _numbered("shortcut", shortcuts)
    for layer_type, indices in others.items():
        names |= _numbered(_SIMPLE[layer_type], indices)
    return names


def _numbered(word, indices):
    if len(indices) == 1 and word != "conv":
        return {indices[0]: word}
    return {index: f"{word}{number}" for number, index in enumerate(indices, 1)}


def pass_names(layer_passes):
    """``[(layer, kind)]`` of a step's passes, in order.

    Kinds are FP, BP and WU, LOSS, and NORM and PASS, which are NORM BP and PASS BP on the way back.
    """
    found, back = [], ""
    for one in layer_passes:
        if one.opcode is Opcode.LOSS:
            found.append((one.layer, "LOSS"))
            back = " BP"
            continue
        kind = "NORM" + back if one.opcode is Opcode.NORM else "PASS" + back
        found.append((one.layer, _CONVOLUTIONS.get(one.opcode, kind)))
    return found
