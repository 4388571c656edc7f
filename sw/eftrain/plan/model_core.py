"""The whole core: passes one behind the other, as the units and the buses work on them.

Every unit is a process that moves on as soon as what it waits for is known, and says when things
happen. Only a bus has to choose: the one whose turn is the earliest serves a burst whenever nobody
can move on otherwise, so nothing that it ought to have known can still turn up.

The tile walker is where time is saved: steps whose time is known otherwise are not handed out, and
their time is added; :mod:`.model_pace` knows which.
"""

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from eftrain_hdl.isa import DESCRIPTOR_WORDS, Flag, Opcode

from .model_array import Array, Feed, Ring
from .model_bus import Bus, Reader, Steered, StepQueue, Writer
from .model_clock import Clock
from .model_drain import Drain
from .model_machine import BEAT_WORDS, LONG_AGO
from .model_nest import Nest
from .model_pace import Pace

AHEAD = {
    "stationary": Flag.AHEAD_STATIONARY,
    "stream": Flag.AHEAD_STREAM,
    "companion": Flag.AHEAD_STREAM,
    "side": Flag.AHEAD_SIDE,
    "auxiliary": Flag.AHEAD_SIDE,
}
"""The flag with which a chain may run ahead of the pass before; others never do."""

OPERANDS = frozenset({"stationary", "stream", "companion"})
"""Chains that feed the array; the drain's take turns with it in pieces of its own."""

DESCRIPTOR_BEATS = DESCRIPTOR_WORDS // BEAT_WORDS

BUNDLE = 128
"""Beats that are looked at as one burst, where nothing else comes between them."""

ALIKE, TOLERANCE = 3, 1e-3
"""Iterations that take the same time before further ones are left out; what counts as the same,
as a share of it."""

SETTLING = 40_000
"""Cycles of a pass after which iterations are left out: which of two chains runs ahead of the other
may change late."""

SETTLED = 0.97
"""Share of the slowest unit's time that an iteration takes at least when nothing is left of a start
with full buffers."""


@dataclass(eq=False)
class Run:
    """A pass on its way.

    fence : cycles by which reads that wait for the pass before see its end later.
    completed : when its writes were acknowledged and nothing of it was left; None before.
    ended : the same with what was left out.
    first_vector, last_vector : when its first and last vector entered the array.
    """

    layer_pass: object
    nest: object
    before: object
    is_update: bool
    fence: int = 0
    completed: float = None
    ended: float = None
    first_vector: float = None
    last_vector: float = LONG_AGO
    work: dict = field(default_factory=dict)
    alone: frozenset = frozenset()

    def begun(self, time):
        if self.first_vector is None:
            self.first_vector = time
        self.last_vector = time

    def gate(self, chain):
        """When ``chain`` may work on this pass; None while that is not known."""
        if self.before is None or AHEAD.get(chain) in self.layer_pass.flags:
            return LONG_AGO
        completed = self.before.completed
        return completed and completed + self.fence * (chain in AHEAD)


class Turn:
    """A step on its way through the units.

    Attributes
    ----------
    run : Run
    place : Place
    work : Step
    final : bool
        The last one of its pass.
    pairs, tees : bool
        The stream is paired with the companion, or copied to the second writer.
    ahead : int
        Beats of coefficients before the stream's data.
    """

    __slots__ = ("_boxes", "_loads", "ahead", "final", "pairs", "place", "run", "tees", "work")

    def __init__(self, run, place, final, config, machine):
        work = place.step
        self.run, self.place, self.work, self.final = run, place, work, final
        self.pairs, self.tees = bool(work.companion.boxes), bool(work.tee.boxes)
        boxes = work.stream.boxes
        self.ahead = sum(box.beats for box in boxes if not box.data) if self.tees else 0
        shared = run.work.get(place)
        if shared is None:
            shared = run.work[place] = (_boxes(work, place.last), _loads(work, config, machine))
        self._boxes, self._loads = shared

    def gate(self, chain):
        return self.run.gate(chain)

    def boxes(self, chain):
        return self._boxes.get(chain, ())

    def alone(self, chain):
        """Whether nothing shares the bus with ``chain`` in this pass, and nothing pairs it."""
        return chain in self.run.alone

    def behind(self, chain):
        """Cycles for which the transposer holds vectors of operand ``chain``."""
        return self.work.group - 1 if chain == "stream" and self.run.is_update else 0

    def load(self, chain):
        """``(vectors, cycles)`` of a beat of operand ``chain`` on its way to its ring."""
        return self._loads[chain]


def _alone(layer_pass, before):
    """Chains that have their bus to themselves, as long as no other pass is under way."""
    flags = layer_pass.flags
    if before and before.layer_pass:
        flags |= before.layer_pass.flags
    alone = {"stationary", "stream"}
    if flags & {Flag.X_PAIR, Flag.NORM_DY}:
        alone.clear()
    if flags & {Flag.ADD, Flag.UNPOOL}:
        alone.discard("stationary")
    if Flag.TEE in flags:
        alone.discard("stream")
    return frozenset(alone)


def _boxes(work, last):
    """What each chain has to do in a step, which may be the last one of a tile."""
    chains = {
        "stationary": work.stationary,
        "stream": work.stream,
        "companion": work.companion,
        "second": work.tee,
    }
    if last:
        blocks = work.out_blocks
        chains["auxiliary"] = work.auxiliary * blocks
        chains["side"] = (work.parameters + work.side) * blocks
        chains["output"] = (work.results + work.statistics) * blocks
        chains["second"] += work.kept * blocks
    return {name: chain.boxes for name, chain in chains.items()}


def _loads(work, config, machine):
    beats, group = config.vector_beats, config.group
    loads = dict.fromkeys(("stream", "stationary"), (1 / beats, 1.0))
    pixels = work.images * work.cols.small
    if work.is_update and pixels:
        full, rest = divmod(pixels, group)
        cycles = full * machine.group_cycles(config)
        if rest:
            cycles += machine.group_cycles(config, rest)
        pixels *= beats
        loads["stream"] = work.groups * group / pixels, max(1.0, cycles / pixels)
    return loads


class Core:
    """Works through passes.

    Parameters
    ----------
    config : CoreConfig
    memory : Memory
    machine : Machine
    skips : bool
        Whether steps are left out at all.
    seen : Seen, optional
        Of a run of these passes.
    """

    def __init__(self, config, memory, machine, *, skips=True, seen=None):
        self.config, self.memory, self.machine = config, memory, machine
        self._skips = skips
        self.clock = clock = Clock(memory, seen)
        # No more than operand buffers take at once.
        depth = min(config.stream_depth, config.stationary_depth)
        bundle = min(BUNDLE, depth * config.vector_beats // 4)
        self._chains = chains = {
            name: kind(name, machine, memory, bundle)
            for name, kind in (
                ("stationary", Reader), ("auxiliary", Reader), ("companion", Steered),
                ("stream", Reader), ("side", Reader), ("output", Writer), ("second", Writer),
            )
        }  # fmt: skip
        self._buses = [
            Bus([chains[n] for n in names], machine, memory, clock, **options)
            for names, options in (
                (["stream"], {}),
                (["stationary", "auxiliary", "companion"], {}),
                (["side", "companion"], {"alternate": True}),
                (["output", "second"], {"writes": True}),
            )
        ]
        rings = Ring(config.stationary_depth), Ring(config.stream_depth)
        finished = []
        self._array = Array(config, machine, StepQueue(machine.queue), rings[1], rings[0], finished)
        self._drain = Drain(
            machine, StepQueue(machine.queue), finished, self._array.emptied,
            *(chains[name] for name in ("side", "auxiliary", "output", "second")),
        )  # fmt: skip
        self._feeds = [
            Feed(chains["stationary"], rings[0], config, machine),
            Feed(
                chains["stream"], rings[1], config, machine, chains["companion"], chains["second"]
            ),
        ]
        self._units = [*self._feeds, self._array, self._drain]
        self._rings = rings
        self.handed = 0.0

    # -- time ------------------------------------------------------------------------------------

    def _advance(self):
        """Let every unit move on; serve one burst if none can. Whether anything moved at all."""
        moved = False
        for unit in self._units:
            moved = unit.run() or moved
        if self._drain.done:
            moved = self._complete() or moved
        if moved:
            return True
        taken = self._taken()
        # Nobody else wants this bus, whatever the others do meanwhile.
        while turn := self._buses[0].next():
            self._buses[0].serve(*turn)
            moved = True
        if moved:
            return True
        turns = [(turn, bus) for bus in self._buses[1:] if (turn := bus.next())]
        if self._taken() != taken:
            # The walker may have found room.
            return True
        if not turns:
            return False
        (grant, chain), bus = min(turns, key=lambda turn: turn[0][0])
        bus.serve(grant, chain)
        return True

    def _taken(self):
        return [chain.queue.took for chain in self._chains.values()]

    def _complete(self):
        """The oldest pass is done when its last write is."""
        run, drained = self._drain.done[0]
        writers = [self._chains[name] for name in ("output", "second")]
        if any(writer.busy(run) for writer in writers):
            return False
        answered = max(writer.answered for writer in writers)
        run.completed = max(drained, answered) + self.machine.acknowledge
        run.ended = self.clock.end(run.completed)
        self._drain.done.pop(0)
        return True

    def until(self, known):
        """Move on until ``known`` returns something; returns that."""
        while (result := known()) is None:
            if not self._advance():
                raise AssertionError("The model of the core waits for ever.")
        return result

    # -- passes ----------------------------------------------------------------------------------

    def finish(self, run):
        """When ``run`` is complete."""
        return self.until(lambda: run.completed)

    def fetched(self):
        """When the first descriptor is here."""
        machine, memory = self.machine, self.memory
        wait = self.clock.wait(machine.fetch + memory.latency, DESCRIPTOR_BEATS)
        return float(machine.begin + memory.latency + wait)

    def alone(self, begin, unit):
        """A :class:`VectorPass`, which has the device to itself."""
        self.clock.begin(leaves_out=False)
        machine, memory = self.machine, self.memory
        arrives = begin + memory.latency - machine.early
        end = begin + unit.cycles + self.clock.wait(arrives, unit.read, BEAT_WORDS - 1)
        leaves = end - machine.late - memory.write_latency - unit.written
        self.handed = end = end + self.clock.wait(leaves, unit.written)
        return Run(None, None, None, False, 0, end, self.clock.end(end), last_vector=end)

    def start(self, layer_pass, before):
        """Hand out all steps of a pass behind that of ``before``, which may be None.

        Returns
        -------
        Run
        """
        run = Run(
            layer_pass, Nest(layer_pass, self.config), before,
            layer_pass.opcode is Opcode.CONV_WU, self.machine.fence,
        )  # fmt: skip
        pace = Pace(
            run.nest, lambda work: _loads(work, self.config, self.machine),
            self.config, self.memory, self.machine,
        )  # fmt: skip
        is_long = pace.array > SETTLING
        self.clock.begin(leaves_out=is_long)
        if self._skips and pace.steady and is_long:
            # Where ports have time to spare, taking turns in longer pieces makes no difference.
            run.alone = OPERANDS
            self._hand_ends(run, pace)
        else:
            if is_long:
                run.alone = _alone(layer_pass, before)
            self._hand_all(run, pace)
        return run

    def _hand_ends(self, run, pace):
        """Hand out the steps with which a steady pass begins and ends."""
        loops = run.nest.loops
        sizes = [len(loop) for loop in loops]
        looked_at = Counter()
        index = 0
        while index < pace.steps:
            at = np.unravel_index(index, sizes)
            place = run.nest.place(tuple(loop[i] for loop, i in zip(loops, at, strict=True)))
            self._hand(Turn(run, place, index == pace.steps - 1, self.config, self.machine))
            looked_at[place] += 1
            following = pace.following(index)
            if following > index + 1 and run.before:
                # What is left out comes after its end.
                self.finish(run.before)
            index = following
        self.clock.skipped += pace.left_out(looked_at)

    def _hand_all(self, run, pace):
        """Hand out all steps, but for iterations of which enough have gone alike."""
        loops = run.nest.loops
        places = [0] * len(loops)
        begun = {}
        settled = self.handed + SETTLING
        level = 0
        while level >= 0:
            kinds = tuple(loop[place] for loop, place in zip(loops, places, strict=True))
            final = all(place == len(loop) - 1 for loop, place in zip(loops, places, strict=True))
            self._hand(Turn(run, run.nest.place(kinds), final, self.config, self.machine))
            level = len(loops) - 1
            while level >= 0 and places[level] == len(loops[level]) - 1:
                places[level] = 0
                begun.pop(level, None)
                level -= 1
            if level >= 0:
                places[level] += 1
                alone = run.before is None or run.before.completed is not None
                if self._skips and alone and self.handed > settled:
                    self._skip(kinds, loops[level], places, level, begun, pace)

    def _hand(self, turn):
        """Give a step to every unit as soon as all have room for it."""
        machine = self.machine
        steps = ["stationary", "stream", "companion", "second"]
        if turn.place.last:
            steps += ["auxiliary", "side", "output"]
        queues = [self._chains[name].queue for name in steps] + [self._array.queue]
        if turn.place.last:
            queues.append(self._drain.queue)
        time = self.handed + (machine.tile if turn.place.first else machine.step)
        for queue in queues:
            time = max(time, self.until(queue.room))
        for queue in queues:
            queue.put(time, turn)
        for feed in self._feeds:
            feed.expect(turn)
        self.handed = time

    def _skip(self, kinds, loop, places, level, begun, pace):
        """Leave out iterations of ``loop`` if the last three took the same time.

        That is what all of them take if it is also what the slowest unit needs: buffers that were
        filled before, and let the array run ahead for a while, make iterations shorter than that.
        """
        index, kind = places[level], kinds[level]
        # With what was left out inside of the iteration.
        times = begun.setdefault(level, [])
        times.append(self.clock.real(self.handed))
        last = index
        while last + 1 < len(loop) and loop[last + 1] == kind:
            last += 1
        if last == index or len(times) <= ALIKE or set(loop[index - ALIKE : index]) != {kind}:
            return
        spent = [b - a for a, b in pairwise(times[-ALIKE - 1 :])]
        tolerance = max(0.5, TOLERANCE * spent[-1])
        if max(spent) - min(spent) > tolerance:
            return
        if spent[-1] >= SETTLED * pace.slowest(kinds, level):
            self.clock.skipped += (last - index) * spent[-1]
            places[level] = last
            begun.pop(level)
