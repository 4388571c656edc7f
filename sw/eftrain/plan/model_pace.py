"""What sets the pace of a pass: how long each unit is busy with its steps.

From that follows which steps the model of the core may leave out. In most passes the memory ports
and the drain have time to spare: whatever they do, the array goes on without a gap once it runs.
Such a pass is *steady*. It is looked at burst by burst only where its first tile begins and its
last one ends, and it meets its neighbours; the steps between take what the array takes for them.
"""

from collections import Counter
from itertools import product
from math import ceil, prod

from .model_array import Array
from .model_drain import block_parts
from .model_machine import LONG_AGO

SPARE = 0.85
"""A unit is no limit if it is busy for no more than this share of each tile."""

SHORTEST = 64
"""Cycles of a step: the few steps that the units run ahead must cover the memory's latency."""

LEAD = 2000
"""Cycles at each end of a tile that are looked at in any case: readers have run ahead by then."""


class Pace:
    """How long the units are busy with the steps of a pass, and which of them can be left out.

    Parameters
    ----------
    nest : Nest
    loads : function
        From a ``Step`` to ``{operand chain: (vectors, cycles)}`` of a beat.
    config : CoreConfig
    memory : Memory
    machine : Machine

    Attributes
    ----------
    steps : int
        Of the pass.
    array : float
        Cycles that the array is busy with the pass.
    steady : bool
        Whether ports and drain have time to spare in every tile, and there is something to leave
        out.
    """

    def __init__(self, nest, loads, config, memory, machine):
        self._nest, self._loads, self._config = nest, loads, config
        self._memory, self._machine = memory, machine
        self._busy = {}
        # The loops that add up one tile of sums; the others begin a new one.
        self._inner = (2, 3, 4) if nest.is_update else (5,)
        self._tile_steps = prod(len(nest.loops[level]) for level in self._inner)
        self.steps = prod(map(len, nest.loops))
        self.array = self._total(self._places(map(Counter, nest.loops)))["array"]
        self._ends = 0
        self.steady = self.steps > 2 and all(map(self._spares, self._tiles()))
        self.steady = self.steady and self.steps > min(4 * self._ends, 2 * self._tile_steps)

    # -- steady passes ---------------------------------------------------------------------------

    def following(self, index):
        """The step to look at after step number ``index`` of a steady pass."""
        index += 1
        inside, tile = index % self._tile_steps, index // self._tile_steps
        if index <= self._machine.queue:
            # Readers run ahead that far while the first tile still waits for its data.
            return index
        if self._ends <= inside < self._tile_steps - self._ends:
            return index + self._tile_steps - self._ends - inside
        if inside == 0 and tile < self.steps // self._tile_steps:
            return self.steps - self._tile_steps
        return index

    def left_out(self, looked_at):
        """Cycles of all steps but those in ``looked_at``, a Counter of places."""
        everything = Counter(dict(self._places(map(Counter, self._nest.loops))))
        return sum(
            (count - looked_at[place]) * self._work(place)["array"]
            for place, count in everything.items()
        )

    def _tiles(self):
        """For each kind of tile its places, and how often each comes."""
        loops = [Counter(loop) for loop in self._nest.loops]
        outer = [
            [kinds] if level in self._inner else [{kind: 1} for kind in kinds]
            for level, kinds in enumerate(loops)
        ]
        return map(self._places, product(*outer))

    def _places(self, loops):
        """``(place, count)`` of loops given as ``{kind of an iteration: count}``."""
        for chosen in product(*(kinds.items() for kinds in loops)):
            kinds, counts = zip(*chosen, strict=True)
            yield self._nest.place(kinds), prod(counts)

    def _spares(self, places):
        places, config = list(places), self._config
        for place, _ in places:
            step = place.step
            crowded = 2 * step.stream_vectors > config.stream_depth or (
                step.is_update and 2 * step.stationary_vectors > config.stationary_depth
            )
            if crowded or self._work(place)["array"] < SHORTEST:
                return False
        # The ends of a tile must be long enough for the one before to be drained meanwhile.
        shortest = min(self._work(place)["array"] for place, _ in places)
        busy = self._total(places)
        self._ends = max(self._ends, ceil(max(LEAD, busy["drain"] / SPARE / 2) / shortest))
        array = busy.pop("array")
        return max(busy.values()) <= SPARE * array

    # -- any pass --------------------------------------------------------------------------------

    def slowest(self, kinds, level):
        """Cycles of the busiest unit in an iteration of loop ``level``.

        Parameters
        ----------
        kinds : sequence
            Kinds of the iterations at which the loops outside of it and it itself stand.
        level : int
        """
        loops = [{kind: 1} for kind in kinds[: level + 1]]
        loops += map(Counter, self._nest.loops[level + 1 :])
        return max(self._total(self._places(loops)).values())

    def _total(self, places):
        total = Counter()
        for place, count in places:
            for unit, cycles in self._work(place).items():
                total[unit] += count * cycles
        return total

    def _work(self, place):
        """``{unit: cycles it is busy with a step}``."""
        busy = self._busy.get(place)
        if busy is None:
            busy = self._busy[place] = self._count(place)
        return busy

    def _count(self, place):
        machine, memory, step = self._machine, self._memory, place.step
        blocks = step.out_blocks * place.last
        companion = "side" if step.is_update else "stationary"
        loading = self._loads(step)["stream"][1]
        busy = Counter(
            array=self._alone(place), walker=machine.tile if place.first else machine.step
        )
        for unit, times, chain, pace in (
            ("stationary", 1, step.stationary, 1),
            ("stream", 1, step.stream, loading),
            (companion, 1, step.companion, loading),
            ("write", 1, step.tee, 1),
            ("stationary", blocks, step.auxiliary, 1),
            ("side", blocks, step.parameters + step.side, 1),
            ("write", blocks, step.results + step.statistics, 1),
            ("write", blocks, step.kept, 1),
        ):
            busy[unit] += times * chain.beats * max(pace, memory.pace(chain))
        for part in block_parts(step):
            busy["drain"] += blocks * (max(part[:5]) + part.wait * machine.pause)
        return busy

    def _alone(self, place):
        """Cycles of the array for a step, all operands being there."""
        array = Array(self._config, self._machine, _Queue(), _Present(), _Present(), _Sink())
        array.emptied = _Empty()
        step = _Lone(place)
        times = []
        for _ in range(4):
            array.queue.steps.append((0.0, step))
            array.run()
            times.append(array.now)
        return times[-1] - times[-2]


# What an array sees that waits for nothing.


class _Queue:
    def __init__(self):
        self.steps = []

    def take(self, time):
        self.steps.pop(0)


class _Present:
    """A ring in which everything has arrived."""

    def __init__(self):
        self.written = self

    def at(self, count):
        return LONG_AGO

    def release(self, count, time):
        pass


class _Sink(list):
    def append(self, item):
        pass


class _Empty:
    """Banks that are always drained."""

    def pop(self, index):
        return LONG_AGO


class _Lone:
    """A step that belongs to no pass."""

    def __init__(self, place):
        self.place, self.work, self.run = place, place.step, self

    def begun(self, time):
        pass
