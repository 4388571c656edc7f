"""The nest of tiles of a layer pass, as kinds of iterations instead of iterations.

A kind is a tuple that tells apart what costs differently: sizes, first, last. Most iterations of a
loop are of one kind, which is what lets the model skip them.
"""

from typing import NamedTuple

from eftrain_hdl.isa import Flag, Opcode

from .model_steps import Step, axis_tiles
from .passes import BACKWARD_GRID


class Place(NamedTuple):
    """A step: its work, whether it is the first of a tile, and whether the last one."""

    step: Step
    first: bool
    last: bool


class Nest:
    """The loops of a pass, outermost first, as the tile walker runs them.

    Parameters
    ----------
    layer_pass : LayerPass
        With a tile.
    config : CoreConfig

    Attributes
    ----------
    loops : tuple of tuple
        For each loop the kinds of its iterations in order.
    """

    def __init__(self, layer_pass, config):
        self._layer_pass, self._config = layer_pass, config
        self._places = {}
        tile, geometry, opcode = layer_pass.tile, layer_pass.geometry, layer_pass.opcode
        backward = opcode in BACKWARD_GRID
        self.is_update = is_update = opcode is Opcode.CONV_WU
        reduces = opcode in (Opcode.CONV_FP, Opcode.CONV_BP)
        blocks = range(layer_pass.in_blocks)
        last = layer_pass.in_blocks - 1
        tees = Flag.TEE in layer_pass.flags
        ends = is_update or bool(layer_pass.flags & {Flag.STATISTICS, Flag.SUMS})
        out = _parts(layer_pass.out_blocks, tile.out_blocks)
        self.loops = (
            tuple((size, tees and index == 0) for index, size in enumerate(out)),
            tuple((block == 0,) for block in blocks) if is_update else ((True,),),
            _kinds(_parts(geometry.images, tile.images), ends),
            _kinds(axis_tiles(geometry, 0, tile.rows, backward), ends),
            _kinds(axis_tiles(geometry, 1, tile.cols, backward), ends),
            tuple((block == 0, block == last) for block in blocks) if reduces else ((True, True),),
        )

    def place(self, kinds):
        """The :class:`Place` at which the loops stand."""
        place = self._places.get(kinds)
        if place is None:
            (out, first_out), (first_in,), images, rows, cols, (first, last) = kinds
            group_last = images[1] and rows[1] and cols[1]
            step = Step(
                self._layer_pass, self._config,
                out, images[0], rows[0], cols[0], first_out, first_in, group_last,
            )  # fmt: skip
            last = last and (group_last or not self.is_update)
            place = self._places[kinds] = Place(step, first, last)
        return place

    def counts(self):
        """``[(Step, ends a reduction, how many)]`` of every kind of step."""
        counts = {(): 1}
        for loop in self.loops:
            following = {}
            for kinds, count in counts.items():
                for kind in loop:
                    key = (*kinds, kind)
                    following[key] = following.get(key, 0) + count
            counts = following
        found = []
        for kinds, count in counts.items():
            place = self.place(kinds)
            found.append((place.step, place.last, count))
        return found


def _parts(total, size):
    """Sizes of the tiles along one loop."""
    return [min(size, total - start) for start in range(0, total, size)]


def _kinds(parts, marks_last):
    """Kinds of the iterations of a pixel loop: (what, last of the reduction)."""
    final = len(parts) - 1
    return tuple((part, not marks_last or index == final) for index, part in enumerate(parts))
