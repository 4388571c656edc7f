"""The analytical cycle model: what a layer pass, or a program of them, costs on the core.

Counts of vectors, beats and runs come from :mod:`.model_steps` and are exact; :mod:`.model_core`
says when they happen. Most passes agree with the simulated core within 1 %; ``docs/performance.md``
names those that do not.
"""

from dataclasses import dataclass, replace

from .model_core import Core
from .model_machine import Machine, Memory
from .model_vector import vector_pass

BENCHMARK_MEMORY = Memory()
"""The memory of ``sim/harness.h``."""

MACHINE = Machine()

BEAT_BYTES = 16
PORTS = ("stationary", "stream", "side", "write")


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


def predict(layer_pass, config, memory=BENCHMARK_MEMORY, machine=MACHINE, seen=None):
    """Cycles of one pass, with a tile, run alone.

    Parameters
    ----------
    layer_pass : LayerPass
    config : CoreConfig
    memory : Memory, optional
    machine : Machine, optional
    seen : Seen, optional
        Of a run of the pass.

    Returns
    -------
    Prediction
    """
    # A pass alone is a program of one.
    (prediction,), total = predict_program([layer_pass], config, memory, machine, seen)
    return replace(prediction, cycles=total)


def predict_program(passes, config, memory=BENCHMARK_MEMORY, machine=MACHINE, seen=None):
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
    core = Core(config, memory, machine, seen=seen)
    core.handed = core.fetched()
    runs, predictions = [], []
    for index, layer_pass in enumerate(passes):
        if layer_pass.geometry is None:
            begin = core.handed
            if index:
                begin = core.finish(runs[-1]) + machine.descriptor
            run = core.alone(begin, vector_pass(layer_pass, config, machine))
            prediction = Prediction(0)
        else:
            if index:
                # Two are in flight.
                alone = passes[index - 1].geometry is None
                core.handed += machine.behind_alone if alone else machine.descriptor
                if index > 1:
                    core.handed = max(core.handed, core.finish(runs[-2]))
            run = core.start(layer_pass, runs[-1] if runs else None)
            prediction = _account(run.nest, memory)
        runs.append(run)
        predictions.append(prediction)
    completions = [0.0]
    for index, run in enumerate(runs):
        core.finish(run)
        predictions[index] = replace(
            predictions[index],
            cycles=round(run.ended - completions[-1]),
            fill=round(run.first_vector or 0),
            drain=round(run.completed - run.last_vector + machine.end),
        )
        completions.append(run.ended)
    return predictions, round(completions[-1] + machine.end)


def _account(nest, memory):
    """The parts of a Prediction that need no times."""
    beats = dict.fromkeys(PORTS, 0)
    cycles = dict.fromkeys(PORTS, 0.0)
    buffers = {"stream": 0, "stationary": 0, "accumulator": 0}
    active = 0
    for step, last, count in nest.counts():
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
            pace = memory.beat if port == "write" else memory.pace(chain)
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
