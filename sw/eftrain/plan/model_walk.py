"""The recurrence behind the cycle model: when each unit is free, step after step.

Every unit is a few times: when it is free, when its queue has room. A step moves them on with
maxima and sums, a sweep at a time. Times are kept relative to the array's next vector, so a step
that meets the same times as one before takes as long as that one did. All such repetitions, of a
step, of a reduction, of a row of tiles, of an image, are looked up instead of computed: the cost
grows with the number of different steps, not with the size of the layer.
"""

import math
from dataclasses import dataclass
from itertools import islice, product
from math import prod
from typing import NamedTuple

from eftrain_hdl.isa import Flag, Opcode

from .layout import ceil_div
from .model_steps import Step, axis_tiles
from .passes import BACKWARD_GRID

LONG_AGO = -math.inf

LOOK_AHEAD = 8
"""A buffer with room for so many steps never holds up its reader."""


@dataclass(frozen=True)
class Memory:
    """The memory behind each of the four ports: one beat a cycle, but for the refresh.

    latency : cycles from an accepted read address to its first beat.
    write_latency : cycles from the last beat of a burst to its answer.
    outstanding : bursts in flight on a port.
    refresh_period, refresh : every so many cycles, so many without a beat.
    """

    latency: int = 64
    write_latency: int = 32
    outstanding: int = 32
    refresh_period: int = 780
    refresh: int = 26

    @property
    def beat(self):
        """Mean cycles of a beat."""
        return self.refresh_period / (self.refresh_period - self.refresh)


@dataclass(frozen=True)
class Machine:
    """Cycles of the gateware's units, measured on the simulated core.

    begin : from the doorbell to the first handed-out tile, without the memory's latency.
    descriptor : from the end of a descriptor to the first tile of the next one.
    end : from the last acknowledged write to the end of the program.
    tile, step : tile walker, a new tile and a further step of one.
    queue : steps a unit may lag behind the walker.
    request : from a step to the first read address on the bus.
    load : from a beat on the bus to a vector in its buffer.
    row, tap, emit : sweep sequencer, bounds of a kernel row, of a tap, and a record.
    sweep_queue : records between the sequencer and the array.
    landing : beats that a reader requests before they are taken.
    third, tee_waits : cycles lost for each beat of weights that the stationary bus moves together
        with companion and auxiliary, or with companion and tee.
    step_end : idle cycles of the array between two steps.
    hazard : cycles between two vectors of one accumulator address.
    settle : from the last vector of a tile to the first drained one.
    drain, drain_block : cycles of the drain for a tile, and between two blocks if a vector is a
        beat, beyond the beats.
    run_request : cycles of a run generator for a box, beyond one a run.
    epilogue : from a drained beat to the bus.
    sums : from the last result of a block to its statistics record.
    vector : LOSS or NORM, besides their steps.
    transpose : cycles the transposer takes beyond those of a group's vectors (1: T cycles a group,
        0: none).
    """

    begin: int = 46
    descriptor: int = 20
    end: int = 8
    tile: int = 26
    step: int = 1
    queue: int = 4
    request: int = 14
    load: int = 3
    row: int = 3
    tap: int = 3
    emit: int = 1
    sweep_queue: int = 4
    landing: int = 448
    third: float = 0.5
    tee_waits: float = 0.42
    step_end: int = 0
    hazard: int = 6
    settle: int = 15
    drain: int = 0
    drain_block: int = 0
    run_request: int = 12
    epilogue: int = 16
    transpose: int = 0
    sums: int = 34
    vector: int = 114

    def group_cycles(self, config, real=None):
        """Cycles of the transposer for a group of which ``real`` vectors are pixels."""
        group, beats, extra = config.group, config.vector_beats, self.transpose
        real = group if real is None else real
        # Zero vectors fill a group up while the next vector's beats come.
        padding = max(0, group - real - (1 - extra) * beats)
        return (real - extra) * beats + extra * (group + 1) + padding


class State(NamedTuple):
    """Times relative to the array's next vector; rooms of the rings as ``_fill`` takes them.

    ``*_runs``: the run generator is free; ``*_gate``: reads of that kind may begin; ``fence``: the
    pass before is done, and the writers take steps of this one; ``auxiliary``: all that was asked
    for of that operand has come, and ``auxiliary_since`` when without a pause. The queues hold when
    their last few entries were taken, oldest first.
    """

    handed: float
    sequencer: float
    loader: float
    swap: float
    bank: float
    next_bank: float
    drain: float
    stream: float
    stream_runs: float
    stationary: float
    stationary_runs: float
    side: float
    write_bus: float
    write: float
    stream_gate: float
    stationary_gate: float
    side_gate: float
    fence: float
    auxiliary: float
    auxiliary_since: float
    loads: tuple
    sweeps: tuple
    taken: tuple
    tiles: tuple
    stream_rooms: tuple
    stationary_rooms: tuple

    @classmethod
    def idle(cls, config, machine):
        """Nothing has happened; the first tile may be worked out."""
        times = dict.fromkeys(cls._fields, LONG_AGO)
        queue = (LONG_AGO,) * machine.queue
        records = (LONG_AGO,) * machine.sweep_queue
        return cls(
            **times
            | {
                "handed": 0.0,
                "loads": records,
                "sweeps": records,
                "taken": queue,
                "tiles": queue,
                "stream_rooms": ((config.stream_depth, LONG_AGO),),
                "stationary_rooms": ((config.stationary_depth, LONG_AGO),),
            }
        )


class _Grid:
    """Rounds times, so that equal situations compare equal; coarser the more of them differ."""

    FIRST, PATIENCE = 0.25, 400

    def __init__(self):
        self.step = self.FIRST
        self.misses = 0

    def miss(self):
        self.misses += 1
        if self.misses % self.PATIENCE == 0:
            self.step *= 2


class Walk:
    """One pass, step by step.

    Parameters
    ----------
    layer_pass : LayerPass
        With a tile.
    config : CoreConfig
    memory : Memory
    machine : Machine
    shares : bool
        Whether blocks of weights that come during a drain hold up its auxiliary operand, and the
        writer's store bridges pauses of the drain, as on the core. Else the blocks wait, and the
        pauses count.
    """

    def __init__(self, layer_pass, config, memory, machine, shares=True):
        self.layer_pass, self.config = layer_pass, config
        self.memory, self.machine = memory, machine
        self.group = config.group
        self.first_vector = None
        self._shares = shares
        self._grid = _Grid()
        self._known = {}
        self._steps = {}
        self._plain = {}
        self._loops = self._nest()

    # -- the nest of tiles -----------------------------------------------------------------------

    def _nest(self):
        """For each loop, outermost first, the kinds of its iterations in order.

        A kind is a tuple that tells apart what costs differently: sizes, first, last.
        """
        layer_pass, tile = self.layer_pass, self.layer_pass.tile
        geometry, opcode = layer_pass.geometry, layer_pass.opcode
        backward = opcode in BACKWARD_GRID
        is_update = opcode is Opcode.CONV_WU
        reduces = opcode in (Opcode.CONV_FP, Opcode.CONV_BP)
        blocks = range(layer_pass.in_blocks)
        last = layer_pass.in_blocks - 1
        tees = Flag.TEE in layer_pass.flags
        ends = is_update or bool(layer_pass.flags & {Flag.STATISTICS, Flag.SUMS})
        out = _parts(layer_pass.out_blocks, tile.out_blocks)
        return (
            tuple((size, tees and index == 0) for index, size in enumerate(out)),
            tuple((block == 0,) for block in blocks) if is_update else ((True,),),
            _kinds(_parts(geometry.images, tile.images), ends),
            _kinds(axis_tiles(geometry, 0, tile.rows, backward), ends),
            _kinds(axis_tiles(geometry, 1, tile.cols, backward), ends),
            tuple((block == 0, block == last) for block in blocks) if reduces else ((True, True),),
        )

    def run(self, state):
        """``(cycles, State)``: how much later the array is, and what follows."""
        return self._run(0, (), state, 0, 0)

    def _run(self, level, prefix, state, done, left):
        """One iteration: the pass has ``done`` steps before it and ``left`` steps behind it.

        Or more: neither counts further than a queue holds.
        """
        key = (prefix, state, done, left)
        found = self._known.get(key)
        if found:
            return found
        if level == len(self._loops):
            result = self._step(prefix, state, done, left)
        else:
            total, now = 0.0, state
            inner = prod(len(loop) for loop in self._loops[level + 1 :])
            most, last = self.machine.queue, len(self._loops[level]) - 1
            for index, kind in enumerate(self._loops[level]):
                place = min(most, done + inner * index), min(most, left + inner * (last - index))
                cycles, now = self._run(level + 1, (*prefix, kind), now, *place)
                total += cycles
            result = total, now
        self._known[key] = result
        return result

    def before(self, state):
        """What the first reads of this pass take from the end of the one before it.

        Its last drain may still wait for the auxiliary operand, on the bus on which the blocks or X
        of the first steps come now: of as many as the queues hold.

        Returns
        -------
        ``(late, State)``: by how much the one before it is done later, and the state as it then is
        at the beginning of this one.
        """
        machine = self.machine
        handed, end, auxiliary, ended = state.handed, LONG_AGO, state.auxiliary, 0
        for index, prefix in enumerate(islice(product(*self._loops), machine.queue)):
            step, last = self._kind(prefix)
            handed = max(handed + machine.step, state.taken[index] + 1, state.tiles[ended] + 1)
            ended += last
            start = max(handed + 2 + machine.request + self.memory.latency, end, state.stationary)
            start = max(start, state.stationary_gate)
            time = step.stationary.beats * self.beat(step.stationary)
            # The newest of the tiles is the one whose drain waits.
            if start >= auxiliary or ended == machine.queue:
                break
            end = start + time
            auxiliary += min(time, max(0.0, end - state.auxiliary_since))
        drain = max(state.drain, auxiliary + 1)
        late = drain - state.drain
        if auxiliary == state.auxiliary or not late:
            return 0.0, state
        return late, state._replace(
            auxiliary=auxiliary,
            drain=drain,
            next_bank=drain,
            write=state.write + late,
            tiles=(*state.tiles[:-1], drain),
        )

    def counts(self):
        """``[(Step, ends a reduction, how many)]`` of every kind of step."""
        counts = {(): 1}
        for loop in self._loops:
            following = {}
            for prefix, count in counts.items():
                for kind in loop:
                    key = (*prefix, kind)
                    following[key] = following.get(key, 0) + count
            counts = following
        return [(*self._kind(prefix), count) for prefix, count in counts.items()]

    def _kind(self, prefix):
        """``(Step, ends a reduction)`` of the innermost place ``prefix``."""
        (out, first_out), (first_in,), images, rows, cols, (_, last) = prefix
        group_last = images[1] and rows[1] and cols[1]
        key = out, images[0], rows[0], cols[0], first_out, first_in, group_last
        step = self._steps.get(key)
        if step is None:
            step = self._steps[key] = Step(self.layer_pass, self.config, *key)
        return step, last and (group_last or not step.is_update)

    # -- one step --------------------------------------------------------------------------------

    def beat(self, chain):
        """Cycles of a beat: short bursts are limited by how many may be in flight."""
        memory = self.memory
        if not chain.beats:
            return memory.beat
        length = chain.beats / chain.bursts
        return max(memory.beat, (memory.latency + 6) / (memory.outstanding * length))

    def _requested(self, accepted, chain, end, beat):
        """When the run generator is free again: all but the bursts in flight are requested."""
        waiting = self.memory.outstanding + 3
        ahead = end - waiting * (chain.beats / chain.bursts) * beat
        if beat > self.memory.beat:
            ahead -= self.machine.request
        return max(accepted + 8 + chain.bursts, ahead)

    def _step(self, prefix, state, done, left):
        self._grid.miss()
        machine, memory = self.machine, self.memory
        step, last = self._kind(prefix)
        (
            handed, sequencer, loader, swap, bank, next_bank, drain, stream, stream_runs,
            stationary, stationary_runs, side, write_bus, write, stream_gate, stationary_gate,
            side_gate, fence, auxiliary, auxiliary_since, loads, sweeps, taken, tiles,
            stream_rooms, stationary_rooms,
        ) = state  # fmt: skip

        # The walker waits for room in every unit's queue.
        new_tile = prefix[5][0]
        handed = max(
            handed + (machine.tile if new_tile else machine.step), taken[0] + 1, tiles[0] + 1
        )
        first_beat = machine.request + memory.latency

        # Stationary bus: blocks in the order of use or a tile of X. The companion of the stream
        # takes turns with the blocks; that of WU is on the side bus.
        chain, companion = step.stationary, step.companion
        # Bursts of blocks and of the auxiliary operand take turns; `third` stands for what they do
        # to each other if there is a companion too.
        shares = self._shares and step.auxiliary.beats and not companion.beats
        companion_time = companion.beats * self.beat(companion)
        shared_time = 0.0 if step.is_update else companion_time
        newest = stationary
        blocks, block_pace = (), 0.0
        taken_now = fence
        chain_time = 0.0
        if chain.beats:
            accepted = max(handed + 2, stationary_runs, stationary_gate)
            beat = self.beat(chain)
            own_time = chain.beats * beat
            shared = own_time + min(own_time, shared_time)
            chain_time = own_time
            start = max(accepted + first_beat, stationary)
            if shares and start < auxiliary:
                turns = own_time * _burst(step.auxiliary) / _burst(chain)
                shared += min(turns, auxiliary - start)
            block_pace = shared / step.stationary_vectors
            blocks, newest = _fill(stationary_rooms, step.stationary_vectors, start, block_pace)
            stationary_runs = self._requested(accepted, chain, newest, beat)
            taken_now = max(taken_now, accepted)
            stationary = newest + max(0, shared_time - own_time)

        # Stream bus: into the ring as far as it has room.
        chain = step.stream
        vectors = step.stream_vectors
        accepted = max(handed + 2, stream_runs, stream_gate)
        pace = 0.0
        arrivals = ()
        if vectors:
            beat = self.beat(chain)
            pace = self._stream_pace(step, beat)
            start = max(accepted + first_beat, stream)
            if companion.beats and step.is_update:
                pace = max(pace, companion_time / vectors)
                start = max(start, side)
                side = start + companion_time
            elif companion.beats:
                both = companion_time + min(companion_time, step.stationary.beats * memory.beat)
                pace = max(pace, both / vectors)
                if not step.stationary.beats:
                    start = max(start, stationary)
                    stationary = start + companion_time
            if step.tee.beats:
                write_bus = max(write_bus, start) + step.tee.beats * memory.beat
                # While blocks slow the companion down, or the drain the tee, both wait.
                blocks_time = step.stationary.beats * memory.beat
                write_bus += machine.tee_waits * min(companion_time, blocks_time)
                pace = max(pace, (write_bus - start) / vectors)
            arrivals, stream = _fill(stream_rooms, vectors, start, pace)
            stream_runs = self._requested(accepted, chain, stream, beat)
            if step.tee.beats:
                write_bus = max(write_bus, stream)
                write = max(write, stream + machine.epilogue)
        taken_now = max(taken_now, accepted)

        # Sweeps.
        sequencer = max(sequencer, handed + 2)
        loads, sweeps = list(loads), list(sweeps)
        compute = self._update if step.is_update else self._pixels
        now, sequencer, loader, swap, freed = compute(
            step, sequencer, loader, swap, bank, loads, sweeps, (arrivals, pace),
            (blocks, block_pace),
        )  # fmt: skip
        sequencer = max(sequencer + 1, sweeps[-machine.sweep_queue])
        ended = max(now - 1, sequencer + 1, stream + machine.load if vectors else LONG_AGO)
        if last:
            ended = max(ended, bank)
        sweeps.append(ended)
        now = ended + 1 + machine.step_end
        taken_now = max(taken_now, sequencer)
        if shares and auxiliary > 0:
            # What comes beside it holds up the drain: the blocks of the first steps and, while this
            # step computes, those of the step as far behind it as a queue is long.
            if done < machine.queue:
                auxiliary += min(chain_time, max(0.0, newest - auxiliary_since))
            if left >= machine.queue:
                idle = now - chain_time
                auxiliary += chain_time * (min(1, auxiliary / idle) if idle > 0 else 1)
            drain = next_bank = max(drain, auxiliary + 1)
            write = max(write, drain - 1 + machine.epilogue)
            tiles = (*tiles[:-1], max(tiles[-1], drain))
        if vectors:
            stream_rooms = _release(stream_rooms, vectors, ((vectors, ended + 1),))
        if freed:
            stationary_rooms = _release(stationary_rooms, step.stationary_vectors, freed)

        if last:
            begin = max(ended + self._settle, drain)
            asked = max(handed + 2, side_gate) + first_beat
            if begin > auxiliary + machine.landing:
                auxiliary_since = begin
            # Time of the bus for the auxiliary operand before the drain begins.
            free = begin - asked
            if not shares:
                free = math.inf
            elif done < machine.queue and chain_time:
                free -= (done + 1) * chain_time
            finish, side, auxiliary, write_bus = self._drain(
                step, begin, asked, side, auxiliary, write_bus, max(0.0, free)
            )
            if step.auxiliary.beats and not shares:
                stationary += step.out_blocks * step.auxiliary.beats * memory.beat
                auxiliary = LONG_AGO
            drain = finish + 1
            write = max(write, finish + machine.epilogue)
            bank, next_bank = next_bank, drain
            tiles = (*tiles[1:], drain)

        return now, self._settled(
            State(
                handed, sequencer, loader, swap, bank, next_bank, drain, stream, stream_runs,
                stationary, stationary_runs, side, write_bus, write, stream_gate, stationary_gate,
                side_gate, fence, auxiliary, auxiliary_since,
                tuple(loads[-machine.sweep_queue :]), tuple(sweeps[-machine.sweep_queue :]),
                (*taken[1:], taken_now), tiles,
                _forget(stream_rooms, handed, vectors),
                _forget(stationary_rooms, handed, step.stationary_vectors),
            ),
            now,
        )  # fmt: skip

    def _settled(self, state, now):
        """``state`` relative to ``now``, rounded, without differences that can never matter.

        Nothing happens before the walker hands out a step, the sequencer makes a record, or the
        array computes: a time before the one it is compared with is as good as that one.
        """
        unit = self._grid.step

        def relative(times, floor):
            return [
                round(((floor if time < floor else time) - now) / unit) * unit for time in times
            ]

        def rooms(entries):
            times = relative([since for _, since in entries], state.handed)
            return tuple(
                (room, time if since > state.handed else LONG_AGO)
                for (room, since), time in zip(entries, times, strict=True)
            )

        handed, sequencer = state.handed, state.sequencer
        bus = (state.stream, state.stream_runs, state.stationary, state.stationary_runs)
        bus += (state.side, state.write_bus)
        gates = (state.stream_gate, state.stationary_gate, state.side_gate, state.fence)
        return State(
            *relative((handed, sequencer), LONG_AGO),
            *relative((state.loader, state.swap), sequencer - self.group),
            *relative((state.bank, state.next_bank, state.drain), now),
            *relative(bus, handed),
            *relative((state.write,), now),
            *relative(gates, handed),
            *relative((state.auxiliary, state.auxiliary_since), min(now, handed)),
            tuple(relative(state.loads, sequencer - 1)),
            tuple(relative(state.sweeps, sequencer - 1)),
            tuple(relative(state.taken, handed)),
            tuple(relative(state.tiles, handed)),
            rooms(state.stream_rooms),
            rooms(state.stationary_rooms),
        )

    @property
    def _settle(self):
        # The dot product of a wider array has a stage more.
        return self.machine.settle + (self.group > 4)

    def _stream_pace(self, step, beat):
        """Cycles from one stream vector to the next."""
        vectors, group = step.stream_vectors, self.group
        if not vectors:
            return 0.0
        if not step.is_update:
            return step.stream.beats * beat / vectors
        full, rest = divmod(step.images * step.cols.small, group)
        row = full * self.machine.group_cycles(self.config)
        if rest:
            row += self.machine.group_cycles(self.config, rest)
        row *= self.memory.beat
        return max(row / (step.groups * group), step.stream.beats * beat / vectors)

    def _pixels(self, step, sequencer, loader, swap, bank, loads, sweeps, stream, stationary):
        """Sweeps of a step whose accumulators are pixels.

        Returns
        -------
        ``(now, sequencer, loader, swap, freed)``: when each is free, and ``[(S vectors released,
        when)]``. Appends to ``loads`` and ``sweeps``.
        """
        machine, group = self.machine, self.group
        arrivals, pace = stream
        blocks, block_pace = stationary
        depth, wait = machine.sweep_queue, machine.load
        out_blocks = step.out_blocks
        # The sums of one tap are met again by the next: FP at the same pixel, BP one pixel on.
        hazard = machine.hazard
        if step.backward:
            meets = self.layer_pass.geometry.stride[1] == 1 and step.cols.small > 1
            hazard = hazard + 1 if meets else 0
        here = LONG_AGO
        if arrivals:
            here = _arrival(arrivals, step.stream_vectors - 1, pace) + wait
        if blocks:
            everything = _arrival(blocks, step.stationary_vectors - 1, block_pace)
            here = max(here, everything + wait + group)
        now = 0.0
        block = -1
        freed = []
        starts = [LONG_AGO] * out_blocks
        taps = step.sweeps
        index = 0
        while index < len(taps):
            sweep = taps[index]
            index += 1
            sequencer += machine.tap + (machine.row if sweep.new_row else 0)
            pixels = sweep.pixels
            if not sweep.load:
                sequencer += 1
                continue
            if pixels:
                first = _arrival(arrivals, sweep.first, pace) + wait
                final = _arrival(arrivals, sweep.last, pace) + wait + 1
            for out in range(out_blocks):
                sequencer = max(sequencer + machine.emit, loads[-depth] + 1, sweeps[-depth] + 1)
                begin = max(loader, sequencer + 1)
                arrived = LONG_AGO
                if blocks:
                    block += group
                    arrived = _arrival(blocks, block, block_pace) + wait
                if not pixels:
                    loader = max(begin, arrived) + 1
                    loads.append(loader)
                    continue
                loader = max(max(begin, swap) + group, arrived + 1)
                loads.append(loader - 1)
                sweeps.append(max(sequencer + 1, now - 1))
                swap = max(now, sequencer + 2, loader, bank, first, starts[out] + hazard)
                if self.first_vector is None:
                    self.first_vector = swap
                starts[out] = swap
                now = max(swap + pixels, final)
            if blocks:
                freed.append((block + 1, loader + 1))
            if index == 1 and here <= now and self._is_plain(step, hazard):
                # All is on chip: up to the last tap nothing but the vectors takes time.
                index = len(taps) - 1
                for sweep in taps[1:index]:
                    block += out_blocks * group
                    now += out_blocks * sweep.pixels
                    if blocks:
                        freed.append((block + 1, now - sweep.pixels))
                begun = [now - sweep.pixels * count for count in range(depth + 1, 0, -1)]
                loads[:] = [start + group - 1 for start in begun[:-1]]
                sweeps[:] = [start - 1 for start in begun[1:]]
                swap, loader, sequencer = begun[-1], loads[-1] + 1, begun[0]
        few = max(1, ceil_div(len(freed), 4))
        return now, sequencer, loader, swap, freed[::-1][::few][::-1]

    def _is_plain(self, step, hazard):
        """Whether the sweeps between the first and the last tap follow each other at full rate."""
        plain = self._plain.get(step)
        if plain is None:
            machine, pixels = self.machine, [sweep.pixels for sweep in step.sweeps[1:-1]]
            shortest = max(
                self.group,
                ceil_div(
                    max(hazard, machine.row + machine.tap + machine.emit * step.out_blocks),
                    step.out_blocks,
                ),
            )
            plain = self._plain[step] = bool(pixels) and min(pixels) >= shortest
        return plain

    def _update(self, step, sequencer, loader, swap, bank, loads, sweeps, stream, stationary):
        machine, group = self.machine, self.group
        arrivals, pace = stream
        pixels, pixel_pace = stationary
        depth, wait = machine.sweep_queue, machine.load
        now = max(0.0, bank)
        length = step.out_blocks * group
        period = max(length, machine.hazard)
        pitch = step.groups * group
        stride = self.layer_pass.geometry.stride[0] * step.cols.big
        reach = step.cols.big - 1
        last_pixel = step.stationary_vectors - 1
        other_blocks = (step.out_blocks - 1) * step.rows.small * pitch
        for sweep in step.sweeps:
            sequencer += machine.tap + (machine.row if sweep.new_row else 0)
            if not sweep.load:
                sequencer += 1
                continue
            sequencer = max(sequencer + machine.emit, loads[-depth] + 1, sweeps[-depth] + 1)
            sweeps.append(max(sequencer + 1, now - 1))
            gathers = not (step.has_bias_tap and sweep is step.sweeps[-1])
            ready = max(loader, sequencer + 1)
            settled = (
                max(
                    _arrival(arrivals, sweep.last, pace),
                    _arrival(pixels, last_pixel, pixel_pace) if gathers else 0.0,
                )
                + wait
                + 1
            )
            rows = (
                ((0, sweep.rows),)
                if settled <= now
                else tuple((row, 1) for row in range(sweep.rows))
            )
            for row, count in rows:
                number = count * step.groups
                loader = max(ready, swap) + group
                first = 0.0
                if number and settled > now:
                    if gathers:
                        pixel = min(last_pixel, sweep.first_big + row * stride + reach)
                        loader = max(loader, _arrival(pixels, pixel, pixel_pace) + wait + 1)
                    vector = other_blocks + sweep.first + row * pitch
                    first = _arrival(arrivals, vector + group - 1, pace) + wait
                    final = _arrival(arrivals, vector + pitch - 1, pace) + wait + 1
                else:
                    final = 0.0
                swap = max(now, sequencer + 2, loader, first)
                if self.first_vector is None:
                    self.first_vector = swap
                now = max(swap + (number - 1) * period + length, final)
                if number > 1:
                    loader = max(loader, swap + (number - 2) * period + group)
                swap = now - length
                ready = loader
            loads.append(loader - 1)
        released = max(loader, sequencer + 2, _arrival(pixels, last_pixel, pixel_pace) + wait)
        return now, sequencer, loader, swap, ((step.stationary_vectors, released + 1),)

    def _drain(self, step, begin, asked, side, auxiliary, write_bus, free):
        """Drain one tile from ``begin`` on; its side operands come from ``asked`` on.

        Returns
        -------
        ``(finish, side, auxiliary, write_bus)``: the last beat has left the drain, the side bus is
        free, the auxiliary operand has come, and the write bus is free.
        """
        memory, machine = self.memory, self.machine
        blocks = step.out_blocks
        drained = blocks * step.drained * self.config.vector_beats
        if self.config.vector_beats == 1:
            drained += (blocks - 1) * machine.drain_block
        chains = (step.results, step.statistics, step.kept)
        out = blocks * sum(chain.beats for chain in chains) * memory.beat
        bursts = blocks * sum(chain.bursts for chain in chains)
        requests = blocks * sum(chain.requests for chain in chains) * machine.run_request + bursts
        # The addresses run ahead of the data by the bursts that may be in flight.
        ahead = memory.outstanding / bursts
        # What the array waits for besides: the block's parameters ahead, its sums behind.
        apart = blocks * step.parameters.beats
        if step.statistics.beats:
            apart += blocks * (step.statistics.beats + machine.sums)
        finish = begin + max(
            drained + apart + machine.drain,
            # Behind a slow bus the writer has stored enough for the pause before a block.
            out if self._shares else out + blocks * step.parameters.beats,
            (1 - ahead) * requests,
            # A burst waits for its answer before another may take its place.
            bursts * (memory.write_latency + 4) / memory.outstanding,
        )
        # The bus moves the tee of later steps before this drain begins: only the work adds up.
        write_bus += out
        finish = max(finish, write_bus)
        chain = step.side + step.parameters
        if chain.beats:
            moved = self._moved(chain, blocks) + self._third(step)
            late = begin + (1 - self._ahead(chain * blocks)) * moved
            finish = max(finish, late, max(asked, side) + moved)
            if step.is_update:
                # Later beats of this bus do not wait for those that the drain is late to ask for.
                shares = step.companion.beats
                side += blocks * chain.beats * memory.beat if shares else moved
            else:
                side = max(max(asked, side) + moved, late)
        chain = step.auxiliary
        if chain.beats:
            moved = self._moved(chain, blocks)
            late = begin + moved - min(self._ahead(chain * blocks) * moved, free)
            auxiliary = max(late, max(asked, auxiliary) + moved)
            finish = max(finish, auxiliary)
        return finish, side, auxiliary, write_bus

    def _third(self, step):
        """Cycles that a drain loses while blocks and companion leave a third of the bus."""
        if not step.auxiliary.beats or not step.companion.beats or step.is_update:
            return 0.0
        chains = (step.auxiliary * step.out_blocks, step.stationary * self.layer_pass.in_blocks)
        return self.machine.third * self.memory.beat * min(chain.beats for chain in chains)

    def _ahead(self, chain):
        """Share of a chain's beats that can be requested before anything takes them."""
        bursts = self.memory.outstanding / chain.bursts
        return min(bursts, self.machine.landing / chain.beats)

    def _moved(self, chain, blocks):
        """Cycles in which a chain brings its part of ``blocks`` blocks."""
        requests = chain.requests * self.machine.run_request + chain.bursts
        return blocks * max(chain.beats * self.beat(chain), requests)


def _burst(chain):
    """Mean beats of a burst."""
    return chain.beats / chain.bursts


def _parts(total, size):
    """Sizes of the tiles along one loop."""
    return [min(size, total - start) for start in range(0, total, size)]


def _kinds(parts, marks_last):
    """Kinds of the iterations of a pixel loop: (what, last of the reduction)."""
    final = len(parts) - 1
    return tuple((part, not marks_last or index == final) for index, part in enumerate(parts))


def _fill(rooms, vectors, start, pace):
    """Append ``vectors`` to a ring from ``start`` on.

    Returns
    -------
    ``(pieces, end)``: (vector, when its turn comes) where the flow starts anew, and the time of the
    last vector.
    """
    pieces, done, time = [], 0, start
    for room, since in rooms:
        if since > time:
            time = since
        if room > done:
            pieces.append((done, time))
            now = min(room, vectors)
            time += (now - done) * pace
            done = now
            if done == vectors:
                return pieces, time
    return pieces, time


def _arrival(pieces, vector, pace):
    """When vector number ``vector`` of a step is in the buffer."""
    for first, time in reversed(pieces):
        if first <= vector:
            return time + (vector - first + 1) * pace
    return LONG_AGO


def _forget(rooms, handed, vectors):
    """Rooms without what can never matter: of those free by now all but the newest."""
    old = sum(since <= handed for _, since in rooms)
    if old and rooms[old - 1][0] >= LOOK_AHEAD * vectors:
        return ((rooms[-1][0], LONG_AGO),)
    return rooms[max(0, old - 1) :]


def _release(rooms, appended, released):
    """Room of a ring after a step: ``released`` lists (vectors in all, when)."""
    rooms = [(room - appended, since) for room, since in rooms]
    last = rooms[-1][0]
    rooms += [(last + count, since) for count, since in released]
    return tuple(rooms)
