"""What the cycle model knows of the memory and of the gateware's units."""

import math
from dataclasses import dataclass

LONG_AGO = -math.inf

BURST_BEATS = 64
"""Beats of a burst at most."""
BEAT_WORDS = 4


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

    def pace(self, chain):
        """Cycles of a beat of a chain alone: few short bursts in flight do not hide the latency."""
        if not chain.beats:
            return self.beat
        length = chain.beats / chain.bursts
        return max(self.beat, (self.latency + 6) / (self.outstanding * length))


@dataclass(frozen=True)
class Machine:
    """Cycles of the gateware's units; each is a count of register stages or the size of a queue.

    begin : from the doorbell to the first descriptor, without the memory's latency.
    fetch : from the doorbell to the request for it, and from a beat to its arrival.
    descriptor : from the end of a descriptor to the first tile of the next one.
    behind_alone : from the end of LOSS or NORM to that.
    fence : from the end of a descriptor to the first box of a read that waited for it.
    end : from the last acknowledged write to the end of the program.
    tile, step : tile walker, a new tile and a further step of one.
    queue : steps a unit may lag behind the walker.
    map : from a handed-out step to its first box at the run generator.
    address : run generator, from a box to its first run.
    split : from a run to its first burst.
    slices : register slices between an arbiter and the beats, there and back.
    freed : cycles before its last beat lands in which a burst's place in a reader gets free.
    landing, landing_room : beats that a reader can hold, and that must be free for a burst.
    store : beats that a writer can hold.
    order : bursts of the write arbiter whose data has not left.
    load : from a landed beat to a vector in its buffer.
    bounds, row, tap, emit : sweep sequencer, bounds of all taps of a step, then a kernel row, a
        tap, and a record.
    sweep_queue : records between the sequencer and the array.
    hazard : cycles between two vectors of one accumulator address.
    settle : from the last vector of a tile to the first drained one.
    epilogue : from a drained beat to the store of its writer.
    results : beats that the epilogue can hold behind its lanes.
    pause : between two blocks, while their sums are added to those of other tiles.
    record : from the last result of a block to its statistics record.
    stored : from the last beat of a burst in the store to its request.
    acknowledge : from the answer to the last write to the end of a descriptor.
    vector : LOSS or NORM, besides their steps.
    early : from the request for their first beat to the first tile that another pass would have.
    late : from the answer to their last write to their end.
    transpose : cycles the transposer takes beyond those of a group's vectors (1: T cycles a group,
        0: none).
    """

    begin: int = 35
    fetch: int = 7
    descriptor: int = 24
    behind_alone: int = 7
    fence: int = 6
    end: int = 4
    tile: int = 27
    step: int = 2
    queue: int = 4
    map: int = 4
    address: int = 7
    split: int = 2
    slices: int = 5
    requests: int = 3
    freed: int = 2
    landing: int = 512
    landing_room: int = 64
    store: int = 128
    order: int = 8
    load_stream: int = 3
    load_stationary: int = 1
    normalise: int = 12
    scale: int = 8
    bounds: int = 6
    row: int = 1
    tap: int = 1
    emit: int = 1
    sweep_queue: int = 4
    hazard: int = 7
    settle: int = 15
    epilogue: int = 20
    again: int = 12
    results: int = 16
    pause: int = 12
    record: int = 34
    stored: int = 2
    acknowledge: int = 3
    vector: int = 125
    early: int = 18
    late: int = 7
    transpose: int = 0

    def load(self, operand, config):
        """Cycles from the last beat of a vector of ``operand`` to the vector in its buffer."""
        if operand == "stream":
            return self.load_stream + self.normalise * config.batch_norm
        return self.load_stationary + self.scale * config.batch_norm

    def group_cycles(self, config, real=None):
        """Cycles of the transposer for a group of which ``real`` vectors are pixels."""
        group, beats, extra = config.group, config.vector_beats, self.transpose
        real = group if real is None else real
        # Zero vectors fill a group up while the next vector's beats come.
        padding = max(0, group - real - (1 - extra) * beats)
        return (real - extra) * beats + extra * (group + 1) + padding
