"""What the boards' cores do in a training step: the table of ``docs/boards.md``.

Cycles are predicted by the planner's model and counted on the simulated gateware, on the memory
that the board has: four wide ports on a Zynq (the benchmark memory), one narrow SDRAM on a board
with a serial line, whose controller is simulated too. ``make board-numbers`` runs it; a step of the
smallest core takes minutes.
"""

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ..boards import BOARDS, Family
from ..devices.board_sim import BoardSimDevice
from ..devices.sim import SimDevice
from ..files import write_files
from ..network_file import load_network
from ..plan.report import plan_step
from .measure import as_run
from .rtl import MEMORY_SIZE, random_tensors, run_passes
from .tables import fill

__all__ = ["STEPS", "BoardStep", "predicted_cycles", "simulated_cycles"]

STEPS = (("digits", 16), ("cifar-1x", 8))
"""Network and batch of the steps that are shown."""

SDRAM_CYCLES_PER_BYTE = 1 / (2 * 0.9)
"""Two bytes a cycle, less what the controller loses (``tests/sdram``): 2 % of mixed traffic in
bursts of 64 beats, 12 % in bursts of 4. Small arrays have short bursts."""

NARROW_PORT_BYTES = 8
"""Bytes a cycle of a Zynq-7000's memory ports, half of the core's."""

SIMULATED_ARRAYS = ("4x4", "8x8", "16x16")
"""The model of a larger one takes too long to build."""

RESULTS = Path("build/bench/boards.json")
PAGE = Path("docs/boards.md")


@dataclass(frozen=True)
class BoardStep:
    """A training step on a board's core; ``simulated`` is None where it was not run."""

    board: str
    array: str
    format: str
    network: str
    batch: int
    predicted: int
    simulated: int | None = None


def predicted_cycles(board, config, network, batch):
    """Cycles of a step as the planner's model has them.

    A pass takes as long as on the benchmark memory, or as its bytes take on what the board has,
    whichever is longer: all of them one after the other on an SDRAM, those of the busiest port on
    the narrow ports of a Zynq-7000.
    """
    step = _plan(config, network, batch)
    if board.serial:
        moved = [sum(row.port_bytes.values()) * SDRAM_CYCLES_PER_BYTE for row in step.rows]
    elif board.family is Family.SERIES7:
        busiest = [max(row.port_bytes.values(), default=0) for row in step.rows]
        moved = [count / NARROW_PORT_BYTES for count in busiest]
    else:
        return step.cycles
    return round(sum(max(row.cycles, time) for row, time in zip(step.rows, moved, strict=True)))


def simulated_cycles(board, config, network, batch):
    """Cycles of a step as the simulated gateware counts them."""
    passes = as_run(_plan(config, network, batch).passes)
    tensors = random_tensors(passes, config.group)
    if board.serial:
        device = _FilledBoard(board, config)
    else:
        device = SimDevice(config, memory_size=MEMORY_SIZE)
    with device:
        return run_passes(device, passes, tensors).cycles


class _FilledBoard(BoardSimDevice):
    """A simulated board whose memory is filled and read past its serial line, in no time."""

    def write_memory(self, address, data):
        self._window(address, len(data))[:] = np.frombuffer(data, np.uint8)

    def read_memory(self, address, size):
        return self._window(address, size).tobytes()

    def _window(self, address, size):
        self.check_range(address, size)
        everything = np.frombuffer(self.simulation.memory(self.memory_size), np.uint8)
        begin = address - self.memory_base
        return everything[begin : begin + size]


def _plan(config, network, batch):
    _, graph = load_network(network)
    return plan_step(network, graph, config, batch)


def _steps():
    for board in BOARDS.values():
        for array, number_format in board.presets:
            config = board.core(array, number_format)
            for network, batch in STEPS:
                predicted = predicted_cycles(board, config, network, batch)
                yield (
                    board,
                    config,
                    BoardStep(board.name, array, number_format, network, batch, predicted),
                )


def step_table(steps):
    """A line for each core and step, in Markdown."""
    lines = [
        "| board | core | clock | step | cycles, predicted | cycles, simulated | steps a second |",
        "|---|---|---|---|---|---|---|",
    ]
    for step in steps:
        board = BOARDS[step.board]
        simulated = f"{step.simulated:,}" if step.simulated else "–"
        slower = max(step.predicted, step.simulated or 0)
        rate = board.clock_hz / slower
        source = "simulated" if step.simulated == slower else "predicted"
        lines.append(
            f"| {board.title} | {step.array} {step.format} | {board.clock_hz / 1e6:g} MHz | "
            f"{step.network}, batch {step.batch} | {step.predicted:,} | {simulated} | "
            f"{rate:.1f} ({source}) |"
        )
    return "\n".join(lines)


def main(arguments=None):
    """Predict, simulate what is asked for, and renew the table."""
    parser = argparse.ArgumentParser(
        prog="python -m eftrain.bench.boards", description="Renew the table of docs/boards.md."
    )
    parser.add_argument(
        "--simulate", nargs="*", choices=sorted(BOARDS), default=[], help="boards to simulate anew"
    )
    options = parser.parse_args(arguments)
    known = {}
    if RESULTS.is_file():
        kept = [BoardStep(**row) for row in json.loads(RESULTS.read_text())]
        known = {replace(step, predicted=0, simulated=None): step.simulated for step in kept}
    planned = list(_steps())
    steps = [
        replace(step, simulated=known.get(replace(step, predicted=0, simulated=None)))
        for _, _, step in planned
    ]
    for place, (board, config, step) in enumerate(planned):
        if board.name in options.simulate and step.array in SIMULATED_ARRAYS:
            print(f"{board.title}, {step.array} {step.format}: {step.network}", flush=True)
            cycles = simulated_cycles(board, config, step.network, step.batch)
            steps[place] = replace(step, simulated=cycles)
        # After each, because the next one may be interrupted.
        write_files({RESULTS: json.dumps([asdict(one) for one in steps], indent=2) + "\n"})
    page = fill(PAGE.read_text(), {"boards": step_table(steps)}, PAGE)
    write_files({PAGE: page})
    print(step_table(steps))


if __name__ == "__main__":
    main()
