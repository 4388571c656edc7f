"""From landed beats to finished tiles: operand buffers, sweeps, and the array."""

from .layout import ceil_div
from .model_curve import Curve
from .model_machine import LONG_AGO


class Ring:
    """An operand buffer: what has been written, and what may be overwritten, in vectors."""

    def __init__(self, depth):
        self._depth = depth
        self.written, self.released = Curve(), Curve()

    def room(self, count):
        """When ``count`` vectors more fit; None while that is not known."""
        return self.released.at(self.written.total + count - self._depth)

    def release(self, count, time):
        self.released.add(count, time, time)
        self.written.forget(self.released.total)
        self.released.forget(self.written.total - self._depth)


class Feed:
    """The way of an operand from its landing buffer into its ring.

    Parameters
    ----------
    reader : Reader
    ring : Ring
    config : CoreConfig
    companion : Reader, optional
        Brings a beat for each beat of data in the passes that pair them.
    tee : Writer, optional
        Takes a copy of each beat of data in the steps that ask for that.
    """

    def __init__(self, reader, ring, config, machine, companion=None, tee=None):
        self._reader, self._ring, self._config, self._machine = reader, ring, config, machine
        self._companion, self._tee = companion, tee
        self._late = machine.load(reader.name, config)
        self._end = LONG_AGO
        self._steps = []
        self._left = 0
        self._opened = LONG_AGO

    def expect(self, step):
        """A step whose operand comes next."""
        work = step.work
        chain = work.stream if self._reader.name == "stream" else work.stationary
        if beats := chain.beats:
            self._steps.append((step, beats))

    def run(self):
        """Move on as far as is known; whether that was at all."""
        moved = False
        while self._reader.landed and self._burst():
            moved = True
        return moved

    def _burst(self):
        reader = self._reader
        step, left = self._steps[0]
        left = self._left or left
        size, first, last, data = reader.landed[0]
        start, cycles = max(first, self._end), size
        end = last
        tees = False
        if data:
            vectors, pace = step.load(reader.name)
            count = size * vectors
            cycles = size * pace
            room = self._ring.room(count)
            if room is None:
                return False
            start = max(start, room)
            pairs = self._companion and step.pairs
            if pairs:
                if not self._companion.landed:
                    return False
                _, paired_first, paired_last, _ = self._companion.landed[0]
                start, end = max(start, paired_first), max(end, paired_last)
            tees = self._tee and step.tees
            if tees:
                opened = self._opened
                if left == step.work.stream.beats - step.ahead:
                    if not self._tee.opened:
                        return False
                    opened = self._tee.opened[0]
                some, all_ = self._tee.room(1), self._tee.room(size)
                if some is None or all_ is None:
                    return False
                start, end = max(start, some, opened), max(end, all_)
                if left == step.work.stream.beats - step.ahead:
                    self._opened = self._tee.opened.popleft()
        end = max(end, start + cycles)
        reader.take(start, end)
        if data:
            if pairs:
                self._companion.take(start, end)
            if tees:
                late = self._machine.normalise + 2
                self._tee.entered.add(size, start + late, end + late)
            late = self._late + step.behind(reader.name)
            self._ring.written.add(count, start + late, end + late)
        self._end = end
        self._left = left - size
        if not self._left:
            self._steps.pop(0)
        return True


class Array:
    """The sweep sequencer, the loader of S, the array and its two banks of accumulators.

    Attributes
    ----------
    queue : StepQueue
    finished : list
        ``(step, when)`` of finished tiles that the drain has not taken.
    emptied : list
        When the banks of the last two tiles were drained, oldest first.
    """

    def __init__(self, config, machine, queue, stream, stationary, finished):
        self._config, self._machine, self._group = config, machine, config.group
        self.queue, self._stream, self._stationary = queue, stream, stationary
        self._finished = finished
        self.emptied = [LONG_AGO, LONG_AGO]
        self.now = self._sequencer = self._loader = self._swap = LONG_AGO
        depth = machine.sweep_queue
        # When the last records of each queue behind the sequencer were taken from it.
        self._loads, self._sweeps, self._ends = ([LONG_AGO] * depth for _ in range(3))
        self._bank = LONG_AGO
        self._base_stream = self._base_stationary = 0
        self._plain = {}
        self.moves = 0
        self._process = self._run()

    def run(self):
        before = self.moves
        next(self._process)
        return self.moves != before

    def _run(self):
        machine = self._machine
        fresh = True
        while True:
            while not self.queue.steps:
                yield
            handed, step = self.queue.steps[0]
            work = step.work
            if fresh:
                while not self.emptied:
                    yield
                self._bank = self.emptied.pop(0)
            fresh = step.place.last
            self._sequencer = max(self._sequencer, handed + 2) + machine.bounds
            self.now = max(self.now, handed)
            compute = self._update if work.is_update else self._pixels
            released = yield from compute(step, work)
            depth = machine.sweep_queue
            queues = self._loads, self._sweeps, self._ends
            self._sequencer = max(self._sequencer, *(queue[-depth] for queue in queues)) + 1
            self.queue.take(self._sequencer)
            ended = max(self.now - 1, self._sequencer + 1)
            vectors = work.stream_vectors
            if vectors:
                count = self._base_stream + vectors
                ended = max(ended, (yield from self._arrived(self._stream, count)))
            if step.place.last:
                ended = max(ended, self._bank)
            self._ends.append(ended)
            for queue in queues:
                del queue[:-depth]
            self.now = ended + 1
            self._base_stream += vectors
            self._stream.release(vectors, ended + 1)
            if released is not None:
                self._stationary.release(work.stationary_vectors, released)
            self._base_stationary += work.stationary_vectors
            if step.place.last:
                self._finished.append((step, ended + machine.settle + (self._group > 4)))
            self.moves += 1

    @staticmethod
    def _arrived(ring, count):
        while (time := ring.written.at(count)) is None:
            yield
        return time

    def _pixels(self, step, work):
        """Sweeps of a step whose accumulators are pixels."""
        machine, group = self._machine, self._group
        stream, stationary = self._stream, self._stationary
        depth = machine.sweep_queue
        loads, sweeps = self._loads, self._sweeps
        out_blocks = work.out_blocks
        # The sums of one tap are met again by the next: FP at the same pixel, BP one pixel on.
        hazard = machine.hazard
        if work.backward:
            meets = work.geometry.stride[1] == 1 and work.cols.small > 1
            hazard = hazard + 1 if meets else 0
        block = self._base_stationary
        with_blocks = not work.identity
        starts = [LONG_AGO] * out_blocks
        taps = work.sweeps
        base = self._base_stream
        sequencer, now = self._sequencer, self.now
        index = 0
        while index < len(taps):
            sweep = taps[index]
            index += 1
            sequencer += machine.tap + (machine.row if sweep.new_row else 0)
            pixels = sweep.pixels
            if not sweep.load:
                sequencer += 1
                continue
            for out in range(out_blocks):
                sequencer = max(sequencer + machine.emit, loads[-depth] + 1, sweeps[-depth] + 1)
                begin = max(self._loader, sequencer + 1)
                loads.append(max(self._loader - 1, sequencer + 1))
                arrived = LONG_AGO
                if with_blocks:
                    block += group
                    arrived = stationary.written.at(block)
                    if arrived is None:
                        self._sequencer, self.now = sequencer, now
                        arrived = yield from self._arrived(stationary, block)
                if not pixels:
                    self._loader = max(begin, arrived) + 1
                    if with_blocks:
                        stationary.release(group, self._loader + 1)
                    continue
                if not out:
                    self._sequencer, self.now = sequencer, now
                    first = yield from self._arrived(stream, base + sweep.first + 1)
                    final = yield from self._arrived(stream, base + sweep.last + 1)
                self._loader = max(max(begin, self._swap) + group, arrived + 1)
                sweeps.append(max(sequencer + 1, now - 1))
                swap = max(
                    now, sequencer + 2, self._loader, self._bank, first, starts[out] + hazard
                )
                self._swap = starts[out] = swap
                step.run.begun(swap)
                now = max(swap + pixels, final + 1)
                self.moves += 1
                if with_blocks:
                    stationary.release(group, self._loader + 1)
            if index == 1 and self._on_chip(work, now) and self._is_plain(work, hazard):
                # All is on chip: up to the last tap nothing but the vectors takes time.
                index = len(taps) - 1
                for sweep in taps[1:index]:
                    now += out_blocks * sweep.pixels
                    if with_blocks:
                        block += out_blocks * group
                        stationary.release(out_blocks * group, now - sweep.pixels)
                begun = [now - sweep.pixels * count for count in range(depth + 2, 0, -1)]
                loads[:] = [start + group - 1 for start in begun[:-2]]
                sweeps[:] = [start - 1 for start in begun[2:]]
                self._swap, self._loader, sequencer = begun[-1], begun[-2] + group, begun[1]
        self._sequencer, self.now = sequencer, now
        return None

    def _on_chip(self, work, now):
        """Whether all operands of the step are in their buffers by ``now``."""
        ends = [self._stream.written.at(self._base_stream + work.stream_vectors)]
        if not work.identity:
            count = self._base_stationary + work.stationary_vectors
            ends.append(self._stationary.written.at(count))
        return all(end is not None and end + self._group <= now for end in ends)

    def _is_plain(self, work, hazard):
        """Whether the sweeps between the first and the last tap follow each other at full rate."""
        plain = self._plain.get(work)
        if plain is None:
            machine, pixels = self._machine, [sweep.pixels for sweep in work.sweeps[1:-1]]
            shortest = max(
                self._group,
                ceil_div(
                    max(hazard, machine.row + machine.tap + machine.emit * work.out_blocks),
                    work.out_blocks,
                ),
            )
            plain = self._plain[work] = bool(pixels) and min(pixels) >= shortest
        return plain

    def _update(self, step, work):
        """Sweeps of a step of WU; returns when its X may be overwritten."""
        machine, group = self._machine, self._group
        stream, stationary = self._stream, self._stationary
        depth = machine.sweep_queue
        loads, sweeps = self._loads, self._sweeps
        self.now = max(self.now, self._bank)
        length = work.out_blocks * group
        period = max(length, machine.hazard)
        pitch = work.groups * group
        stride = work.geometry.stride[0] * work.cols.big
        reach = work.cols.big - 1
        last_pixel = work.stationary_vectors
        other_blocks = (work.out_blocks - 1) * work.rows.small * pitch
        base, pixel_base = self._base_stream, self._base_stationary
        for place, sweep in enumerate(work.sweeps):
            self._sequencer += machine.tap + (machine.row if sweep.new_row else 0)
            if not sweep.load:
                self._sequencer += 1
                continue
            self._sequencer = max(
                self._sequencer + machine.emit, loads[-depth] + 1, sweeps[-depth] + 1
            )
            sequencer = self._sequencer
            loads.append(max(self._loader - 1, sequencer + 1))
            sweeps.append(max(sequencer + 1, self.now - 1))
            gathers = not (work.has_bias_tap and place == len(work.sweeps) - 1)
            ready = max(self._loader, sequencer + 1)
            settled = [stream.written.at(base + sweep.last + 1)]
            if gathers:
                settled.append(stationary.written.at(pixel_base + last_pixel))
            present = all(time is not None and time < self.now for time in settled)
            again = LONG_AGO
            rows = ((0, sweep.rows),) if present else tuple((row, 1) for row in range(sweep.rows))
            for row, count in rows:
                number = count * work.groups
                loader = max(ready, self._swap) + group
                first = final = LONG_AGO
                if number and not present:
                    if gathers:
                        pixel = min(last_pixel, sweep.first_big + row * stride + reach + 1)
                        arrived = yield from self._arrived(stationary, pixel_base + pixel)
                        loader = max(loader, arrived + 1)
                    vector = base + other_blocks + sweep.first + row * pitch
                    # The vectors of a group come one a cycle, the first when all of it is there.
                    first = yield from self._arrived(stream, vector + group)
                    first -= group - 1
                    final = (yield from self._arrived(stream, vector + pitch)) + 1
                swap = max(self.now, sequencer + 2, loader, first, again)
                step.run.begun(swap)
                self.now = max(swap + (number - 1) * period + length, final)
                # Every group of a sweep meets the same sums.
                again = swap + (number - 1) * period + machine.hazard
                if number > 1:
                    loader = max(loader, swap + (number - 2) * period + group)
                self._swap = self.now - length
                self._loader = ready = loader
                self.moves += 1
        arrived = yield from self._arrived(stationary, pixel_base + last_pixel)
        return max(self._loader, self._sequencer + 2, arrived) + 1
