"""From finished tiles to the stores of the writers: drain and epilogue."""

from functools import lru_cache
from typing import NamedTuple

from eftrain_hdl.isa import Flag

from .model_machine import BURST_BEATS, LONG_AGO


class Part(NamedTuple):
    """A stretch of the drain that is of one kind: beats of all that it takes and gives.

    ``wait``: it follows the last sums of a block. ``cut``: the number of pieces in which the
    stretch is looked at.
    """

    sums: int = 0
    side: int = 0
    auxiliary: int = 0
    results: int = 0
    kept: int = 0
    wait: bool = False
    cut: int = 1

    def piece(self, index):
        """Piece number ``index`` of the ``cut`` in which the part is looked at."""
        if self.cut == 1:
            return self
        return Part(
            *(beats * (index + 1) // self.cut - beats * index // self.cut for beats in self[:5])
        )


@lru_cache(maxsize=4096)
def block_parts(work):
    """The parts of one out block, in order."""
    beats = work.config.vector_beats
    parts = [Part(side=work.parameters.beats)] if work.parameters.beats else []
    if work.is_update:
        copies = 1 + work.gives_velocity
        reads = copies if Flag.UPDATE in work.flags else 0
        sums = work.geometry.taps * work.group * beats
        parts.append(_cut(Part(sums, reads * sums, 0, copies * sums)))
        if work.has_bias_tap:
            # Of the bias's sums each vector gives a word of one vector.
            parts.append(Part(work.group * beats, reads * beats, 0, copies * beats))
        return tuple(parts)
    sums = work.drained * beats
    side, auxiliary = work.side.beats, work.auxiliary.beats
    parts.append(_cut(Part(sums, side, auxiliary, work.results.beats, work.kept.beats)))
    if work.statistics.beats:
        parts.append(Part(results=work.statistics.beats, wait=True))
    elif work.flags & {Flag.STATISTICS, Flag.SUMS}:
        parts.append(Part(wait=True))
    return tuple(parts)


def _cut(part):
    """``part`` with the number of pieces in which it is looked at."""
    return part._replace(cut=max(1, -(-max(part[:5]) // BURST_BEATS)))


class Drain:
    """Empties one finished tile after the other.

    Parameters
    ----------
    machine : Machine
    queue : StepQueue
        Steps that end a tile.
    finished : list
        See :class:`~.model_array.Array`.
    emptied : list
    side, auxiliary : Reader
    output, second : Writer

    Attributes
    ----------
    done : list
        ``(run, when)`` of passes whose last tile was drained.
    """

    def __init__(self, machine, queue, finished, emptied, side, auxiliary, output, second):
        self._machine = machine
        self.queue, self._finished, self._emptied = queue, finished, emptied
        self._side, self._auxiliary = _Operand(side), _Operand(auxiliary)
        self._output, self._second = output, second
        self._free = self._issue = self._out = LONG_AGO
        self.moves = 0
        self.done = []
        self._process = self._run()

    def run(self):
        before = self.moves
        next(self._process)
        return self.moves != before

    def _run(self):
        while True:
            while not self.queue.steps:
                yield
            handed, step = self.queue.steps[0]
            while (fence := step.gate("output")) is None:
                yield
            # It takes a tile when the last vector of the one before is due.
            fence += 1
            self.queue.take(max(handed, self._free, fence))
            self.moves += 1
            while not self._finished:
                yield
            step, begin = self._finished[0]
            time = max(begin, self._free, fence)
            work, read = step.work, time
            late = self._machine.epilogue + self._machine.again * work.gives_velocity
            parts = block_parts(work)
            for _ in range(work.out_blocks):
                for part in parts:
                    if part.wait:
                        self._rest(part, time)
                        continue
                    if part.sums:
                        time = max(time, self._issue)
                    for piece in range(part.cut):
                        time = yield from self._piece(part.piece(piece), time, late)
                        self.moves += 1
                    if part.sums:
                        read = time
            self._free = read + 1
            self._finished.pop(0)
            self._emptied.append(self._free)
            if step.final:
                self.done.append((step.run, time))
            self.moves += 1

    def _rest(self, part, time):
        """The sums of a block are complete: they occupy the adders, and their record the output."""
        machine = self._machine
        self._issue = time + machine.pause
        if part.results:
            start = time + machine.record + machine.epilogue
            self._out = start + part.results
            self._output.entered.add(part.results, start, self._out)

    def _piece(self, part, start, late):
        """Drain one piece from ``start`` on, ``late`` cycles through the epilogue; returns when its
        last beat has left."""
        sums, side, auxiliary, results, kept, *_ = part
        end = start + max(sums, side, auxiliary, results, kept)
        for operand, count in ((self._side, side), (self._auxiliary, auxiliary)):
            if count:
                while (arrival := operand.arrival(count)) is None:
                    yield
                start, end = max(start, arrival[0]), max(end, arrival[1])
        out_start = max(start + late, self._out)
        out_end = max(end + late, out_start + results) if results else LONG_AGO
        for writer, count in ((self._output, results), (self._second, kept)):
            if count:
                while (room := writer.room(count)) is None:
                    yield
                out_end = max(out_end, room)
        end = max(end, out_end - late - self._machine.results)
        for operand, count in ((self._side, side), (self._auxiliary, auxiliary)):
            if count:
                operand.take(count, start, end)
        if results:
            self._output.entered.add(results, out_start, out_end)
            self._out = out_end
        if kept:
            self._second.entered.add(kept, start + late, max(end + late, out_end))
        return end


class _Operand:
    """A reader whose beats the drain takes, in pieces of any size."""

    def __init__(self, reader):
        self._reader = reader
        self._left = 0

    def arrival(self, count):
        """When the first and the last of ``count`` beats are there; None while not known."""
        landed = self._reader.landed
        have = -self._left
        for size, first, last, _ in landed:
            have += size
            if have >= count - 1e-6:
                pace = (last - first) / size
                begin = landed[0][1] + (self._left + 1) * (
                    (landed[0][2] - landed[0][1]) / landed[0][0]
                )
                return begin, last - (have - count) * pace + 1
        return None

    def take(self, count, start, end):
        """``count`` beats leave the landing buffer."""
        landed = self._reader.landed
        self._left += count
        pace = (end - start) / count
        while landed and self._left >= landed[0][0] - 1e-6:
            size = landed[0][0]
            self._left -= size
            finish = end - self._left * pace
            self._reader.take(min(finish, max(start, finish - size * pace)), finish)
        if self._left < 1e-6:
            self._left = 0
