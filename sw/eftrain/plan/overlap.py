"""Which reads of a pass may begin while the pass before it still writes: the AHEAD flags."""

from dataclasses import replace

from .passes import AHEAD


def mark_ahead(layer_pass, before):
    """``layer_pass`` with the flags of those groups of reads that no pass of ``before`` writes.

    Parameters
    ----------
    before : iterable of LayerPass
        What the device may have executed last: one pass, or several at the head of a loop. Only
        that one may be unfinished, and not even it if it was exclusive.
    """
    if layer_pass.exclusive:
        return layer_pass
    written = set().union(*(other.writes() for other in before if not other.exclusive))
    ahead = {AHEAD[group] for group, names in layer_pass.reads().items() if not names & written}
    return replace(layer_pass, flags=layer_pass.flags - set(AHEAD.values()) | ahead)


def mark_loop(layer_passes):
    """Mark passes that run in a loop of their own: the last comes before the first."""
    return [
        mark_ahead(layer_pass, [layer_passes[index - 1]])
        for index, layer_pass in enumerate(layer_passes)
    ]
