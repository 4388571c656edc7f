"""The analytical cycle model: what a layer pass, or a program of them, costs on the core.

Counts of vectors, beats and runs come from :mod:`.model_steps` and are exact; :mod:`.model_walk`
says when they happen. The model agrees with the simulated core within 1 % (passes of a few thousand
cycles: within one refresh of the memory).
"""

from dataclasses import dataclass, replace

from eftrain_hdl.isa import COEFFICIENT_VECTORS, PARAMETER_VECTORS, PARTIAL_BEATS, Flag, Opcode

from .model_walk import LONG_AGO, Machine, Memory, State, Walk

BENCHMARK_MEMORY = Memory()
"""The memory of ``sim/harness.h``."""

MACHINE = Machine()

BEAT_BYTES, BEAT_WORDS = 16, 4
PORTS = ("stationary", "stream", "side", "write")

LOSS_CHUNK = 16
"""Classes that the vector unit treats in one step."""
VECTOR_STEP = 10
"""Cycles of a step of the vector unit at least."""


@dataclass(frozen=True)
class Prediction:
    """What a pass costs.

    cycles
        Of the pass alone, from the doorbell to END; in a program, what the pass adds to it.
    active
        Cycles in which a vector enters the array; ``share`` of all cycles.
    bound
        ``"compute"``, or the port that moves for longer than the array computes; ``"vector"`` for
        LOSS and NORM.
    port_bytes, port_cycles
        For each of ``PORTS`` what it moves, and the cycles that takes at least.
    buffers
        Vectors of the fullest tile: ``{"stream", "stationary", "accumulator"}``.
    fill, drain
        Cycles before the first vector, and after the last one, when the pass runs alone.
    """

    cycles: int
    active: int = 0
    bound: str = "vector"
    port_bytes: dict | None = None
    port_cycles: dict | None = None
    buffers: dict | None = None
    fill: int = 0
    drain: int = 0

    @property
    def share(self):
        return self.active / self.cycles


def predict(layer_pass, config, memory=BENCHMARK_MEMORY, machine=MACHINE):
    """Cycles of one pass, with a tile, run alone.

    Parameters
    ----------
    layer_pass : LayerPass
    config : CoreConfig
    memory : Memory, optional
    machine : Machine, optional

    Returns
    -------
    Prediction
    """
    begin = machine.begin + memory.latency
    if layer_pass.geometry is None:
        return Prediction(begin + vector_unit_cycles(layer_pass, config, machine) + machine.end)
    # Tiles are ranked by this, so a finer prediction here would plan passes anew.
    walk = Walk(layer_pass, config, memory, machine, shares=False)
    cycles, state = walk.run(State.idle(config, machine))
    drain = state.write + memory.write_latency + machine.end
    return replace(
        _account(walk),
        cycles=round(begin + cycles + drain),
        fill=round(begin + walk.first_vector) if walk.first_vector is not None else 0,
        drain=round(drain),
    )


def predict_program(passes, config, memory=BENCHMARK_MEMORY, machine=MACHINE):
    """Cycles of passes one behind the other, each with a tile.

    The tiles of a pass are handed out while the one before it computes and drains. Its reads wait
    for the writes of that pass unless its AHEAD flags say otherwise; LOSS and NORM have the device
    to themselves.

    Returns
    -------
    list of Prediction, int
        For each pass, with ``cycles`` from the completion of the one before to its own; and the
        cycles of all from the doorbell to END.
    """
    predictions, completions = [], [0.0]
    clock = float(machine.begin + memory.latency)  # Of the array's next vector.
    state = State.idle(config, machine)
    for index, layer_pass in enumerate(passes):
        # When all writes of the last two passes were answered; the one before those is done, since
        # two descriptors are in flight.
        earlier, completed = completions[max(0, index - 1)], completions[index]
        if layer_pass.geometry is None:
            # It is handed over only when all before it is done.
            begin = max(completed + machine.descriptor * bool(index), clock + state.handed)
            completed = begin + vector_unit_cycles(layer_pass, config, machine)
            clock, state = completed, State.idle(config, machine)
            prediction = Prediction(0)
        else:
            walk = Walk(layer_pass, config, memory, machine)
            if index:
                handed = max(state.handed + machine.descriptor, earlier - clock)
                state = state._replace(handed=handed)
                if Flag.AHEAD_STATIONARY in layer_pass.flags:
                    late, state = walk.before(state)
                    completions[index] = completed = completed + late
                state = _enter(layer_pass, state, completed - clock)
            cycles, state = walk.run(state)
            clock += cycles
            completed = clock + state.write + memory.write_latency
            prediction = _account(walk)
        predictions.append(prediction)
        completions.append(completed)
    predictions = [
        replace(prediction, cycles=round(completed - before))
        for prediction, before, completed in zip(
            predictions, completions[:-1], completions[1:], strict=True
        )
    ]
    return predictions, round(completions[-1] + machine.end)


def _enter(layer_pass, state, completed):
    """The state in which a pass begins; ``completed`` is the time of the one before it."""

    def gate(flag):
        return LONG_AGO if flag in layer_pass.flags else completed

    stream = state.stream
    if Flag.TEE in layer_pass.flags:
        # What is written waits for the writes before it.
        stream = max(stream, completed)
    return state._replace(
        stream=stream,
        stream_gate=gate(Flag.AHEAD_STREAM),
        stationary_gate=gate(Flag.AHEAD_STATIONARY),
        side_gate=gate(Flag.AHEAD_SIDE),
        fence=completed,
    )


def vector_unit_cycles(layer_pass, config, machine=MACHINE):
    """Cycles of a LOSS or NORM from its start to its last write."""
    if layer_pass.opcode is Opcode.LOSS:
        return machine.vector + _loss_cycles(layer_pass, config.group)
    return machine.vector + layer_pass.out_blocks * _norm_cycles(layer_pass.flags, config.group)


def _loss_cycles(layer_pass, group):
    """Classes pass through the sequencer in chunks; a short one waits for its own results."""
    images, classes = (layer_pass.scalars[name] for name in ("images", "classes"))
    gradient = Flag.GRADIENT in layer_pass.flags

    def chunk(size):
        cycles = max(160 + 4.5 * size, 20 + 18.5 * size)
        return cycles if gradient else cycles - 21 - 2.9 * size

    full, rest = divmod(classes, LOSS_CHUNK)
    padding = -classes % group * (2.5 if gradient else 1)
    image = 331 + full * chunk(LOSS_CHUNK) + (chunk(rest) if rest else 0) + padding
    return round(images * image)


def _norm_cycles(flags, group):
    """Cycles of a channel block: a cycle for each word in and out, and for each of a step's."""
    gradient, frozen = Flag.GRADIENT in flags, Flag.FROZEN in flags
    written = COEFFICIENT_VECTORS * group
    read = PARAMETER_VECTORS * group + written * (Flag.X_PAIR in flags)
    segments = [18, 2 if frozen else 8]
    if gradient:
        segments = [10]
        segments += [2, 2] if Flag.UPDATE in flags else []
        segments += [4] if Flag.MOMENTUM in flags else []
    elif Flag.X_PAIR not in flags:
        segments.append(2)
    step = max(group, VECTOR_STEP)
    cycles = 0
    if not frozen:
        written += PARAMETER_VECTORS * group
        read += group + 2 * PARTIAL_BEATS * BEAT_WORDS
        sums = PARTIAL_BEATS * BEAT_WORDS
        segments.append(2 * (sums // group).bit_length())
        cycles = 2 * max(0, sums // 2 - step)
    # The last step of a segment waits until everything is written.
    cycles += sum((steps - 1) * step + group + VECTOR_STEP - 1 for steps in segments)
    return cycles + read + written + 17


def _account(walk):
    """The parts of a Prediction that need no times."""
    beats = dict.fromkeys(PORTS, 0)
    cycles = dict.fromkeys(PORTS, 0.0)
    buffers = {"stream": 0, "stationary": 0, "accumulator": 0}
    active = 0
    for step, last, count in walk.counts():
        active += count * step.vectors
        chains = [("stationary", step.stationary), ("stream", step.stream), ("write", step.tee)]
        chains += [("side" if step.is_update else "stationary", step.companion)]
        if last:
            blocks = step.out_blocks
            chains += [("stationary", step.auxiliary * blocks), ("side", step.side * blocks)]
            chains += [("side", step.parameters * blocks), ("write", step.results * blocks)]
            chains += [("write", step.statistics * blocks), ("write", step.kept * blocks)]
        for port, chain in chains:
            beats[port] += count * chain.beats
            pace = walk.memory.beat if port == "write" else walk.beat(chain)
            cycles[port] += count * chain.beats * pace
        sizes = {
            "stream": step.stream_vectors,
            "stationary": step.stationary_vectors if step.is_update else 0,
            "accumulator": step.out_blocks * step.accumulators,
        }
        buffers = {name: max(size, sizes[name]) for name, size in buffers.items()}
    port = max(PORTS, key=cycles.get)
    return Prediction(
        cycles=0,
        active=active,
        bound=port if cycles[port] > active else "compute",
        port_bytes={port: BEAT_BYTES * moved for port, moved in beats.items()},
        port_cycles={port: round(time) for port, time in cycles.items()},
        buffers=buffers,
    )
