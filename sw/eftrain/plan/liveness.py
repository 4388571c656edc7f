"""Which activations can lie in one region of memory, because no pass needs two of them at once.

What the backward pass reads lives until then. In frozen layers, and without a backward pass, a map
lives from the pass that writes it to the last that reads it: a chain of layers takes turns.
"""

__all__ = ["share"]

APART = 2
"""Passes from the last use of one map to the first of the next in the same region. The device has
two descriptors in flight; between those two the AHEAD flags know tensors by name only."""


def share(programs, sizes):
    """Group tensors whose lives do not meet.

    Parameters
    ----------
    programs : list of list of LayerPass
        Each runs in a loop.
    sizes : dict
        Tensor to bytes, for those that may share: a pass writes them whole before any reads them.

    Returns
    -------
    list of dict
        Like ``sizes``; together they hold all tensors that any pass uses, the largest first.
    """
    lives = [_lives(program, sizes) for program in programs]
    groups = []
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        if not any(name in life for life in lives):
            continue
        for group in groups:
            if all(_apart(life, len(program), name, other)
                   for program, life in zip(programs, lives, strict=True)
                   for other in group):  # fmt: skip
                group[name] = sizes[name]
                break
        else:
            groups.append({name: sizes[name]})
    return groups


def _lives(program, names):
    """Tensor to the numbers of the first and last pass that use it."""
    lives = {}
    for number, layer_pass in enumerate(program):
        for name in layer_pass.tensors() & set(names):
            lives[name] = (lives.get(name, (number,))[0], number)
    return lives


def _apart(lives, length, one, other):
    """Whether two lives are ``APART`` in a loop of ``length`` passes."""
    if one not in lives or other not in lives:
        return True
    (first, last), (begin, end) = sorted((lives[one], lives[other]))
    return begin - last >= APART and first + length - end >= APART
