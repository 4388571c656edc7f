"""One training step as the planner sees it: a row for each pass, totals, and memory."""

import csv
import io
from dataclasses import dataclass, field
from functools import cached_property

from ..job import Job, Section
from ..optim import SGD
from .footprint import footprint
from .model import PORTS, predict_program
from .names import pass_names
from .overlap import mark_loop
from .schedule import MOMENTUM, Schedule
from .stages import BIASES

__all__ = [
    "ADDRESSABLE",
    "CLOCK_HZ",
    "OPTIMIZER",
    "Row",
    "StepPlan",
    "nominal_gflops",
    "peak_gflops",
    "plan_step",
]

CLOCK_HZ = 100e6
"""The clock at which rates are stated, so that they compare with EF-Train's."""

OPTIMIZER = SGD(lr=0.01, momentum=0.9)
"""What a step is planned with unless told otherwise."""

ADDRESSABLE = 1 << 32
"""Bytes a descriptor can address."""

COLUMNS = (
    "layer", "pass", "cycles", "rtl_cycles", "bound", "array_share", "dense_macs", "nominal_gflops",
)  # fmt: skip


def nominal_gflops(macs, cycles):
    """Rate as papers count it: two operations for each dense multiply-add, zeros included."""
    return 2 * macs * CLOCK_HZ / cycles / 1e9


def peak_gflops(config):
    """Rate of an array that multiplies in every cycle."""
    return 2 * config.rows * config.lanes * CLOCK_HZ / 1e9


@dataclass(frozen=True)
class Row:
    """One pass of a step.

    Attributes
    ----------
    layer, kind : str
        For example ``"conv1_2"`` and ``"BP"``.
    cycles : int
        Predicted, from the completion of the pass before it to its own.
    active : int
        Of these, cycles in which the array takes a vector.
    macs : int
        Dense multiply-adds, 0 for what is no convolution.
    bound : str
        ``"compute"``, ``"vector"``, or the memory port that is busy for longest.
    port_bytes : dict
        Port to bytes moved; empty for LOSS and NORM.
    rtl_cycles : int, optional
        Of the same pass in a run of the gateware.
    """

    layer: str
    kind: str
    cycles: int
    active: int
    macs: int
    bound: str
    port_bytes: dict = field(default_factory=dict)
    rtl_cycles: int | None = None

    @property
    def share(self):
        return self.active / self.cycles

    @property
    def gflops(self):
        return nominal_gflops(self.macs, self.cycles)

    def as_dict(self):
        """What the JSON files hold of a row."""
        return {
            "layer": self.layer,
            "pass": self.kind,
            "cycles": self.cycles,
            "rtl_cycles": self.rtl_cycles,
            "bound": self.bound,
            "array_share": self.share,
            "dense_macs": self.macs,
            "nominal_gflops": self.gflops,
            "bytes": self.port_bytes,
        }


@dataclass(frozen=True)
class StepPlan:
    """One training step of a network on one core, predicted.

    Attributes
    ----------
    network : str
    graph : Graph
    config : CoreConfig
    batch : int
    passes : list of LayerPass
        In order, with tiles.
    rows : list of Row
        One a pass.
    cycles : int
        From the doorbell to END.
    memory : dict
        What is kept in DRAM, to bytes.
    footprint : dict
        The same by finer kinds, see ``footprint.KINDS``.
    """

    network: str
    graph: object
    config: object
    batch: int
    passes: list
    rows: list
    cycles: int
    memory: dict
    footprint: dict

    @cached_property
    def macs(self):
        return sum(row.macs for row in self.rows)

    @property
    def gflops(self):
        return nominal_gflops(self.macs, self.cycles)

    @property
    def share(self):
        """Part of all cycles in which the array takes a vector."""
        return sum(row.active for row in self.rows) / self.cycles

    def as_dict(self):
        """The JSON file."""
        return {
            "network": self.network,
            "array": self.config.array,
            "format": self.config.format,
            "batch": self.batch,
            "clock_hz": int(CLOCK_HZ),
            "totals": {
                "cycles": self.cycles,
                "dense_macs": self.macs,
                "nominal_gflops": self.gflops,
                "array_share": self.share,
            },
            "rows": [row.as_dict() for row in self.rows],
            "memory": self.memory | {"total": sum(self.memory.values())},
        }

    def as_csv(self):
        """The rows as text, with a column for the bytes of each port."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*COLUMNS, *(f"bytes_{port}" for port in PORTS)])
        for row in self.rows:
            values = row.as_dict()
            moved = [row.port_bytes.get(port, 0) for port in PORTS]
            writer.writerow([*(values[column] for column in COLUMNS), *moved])
        return text.getvalue()


def plan_step(network, graph, config, batch, optimizer=None, size=ADDRESSABLE):
    """Plan one training step and predict its cycles.

    Parameters
    ----------
    network : str
        For titles.
    graph : Graph
    config : CoreConfig
    batch : int
        At least 1.
    optimizer : SGD, optional
        By default with momentum.
    size : int
        Bytes of device memory.

    Returns
    -------
    StepPlan

    Raises
    ------
    UserError
        If a layer does not fit the core's buffers, or the step does not fit what it can address.
    """
    schedule = Schedule(graph, config, optimizer or OPTIMIZER)
    job = Job(schedule, [Section("fit", "train", batch, batch)], 0, size)
    passes = mark_loop(schedule.training_step(batch))
    predictions, cycles = predict_program(passes, config)
    rows = [
        Row(
            *name,
            prediction.cycles,
            prediction.active,
            layer_pass.macs,
            prediction.bound,
            prediction.port_bytes or {},
        )
        for name, layer_pass, prediction in zip(
            pass_names(passes), passes, predictions, strict=True
        )
    ]
    memory, kinds = _memory(job.memory), footprint(job.memory, passes, schedule.stages)
    return StepPlan(network, graph, config, batch, passes, rows, cycles, memory, kinds)


def _memory(memory):
    """Bytes of a memory map by purpose."""
    found = dict.fromkeys(("parameters", "momentum", "activations", "gradients", "batch data"), 0)
    for region in memory.report():
        name = region["name"]
        if name.startswith(MOMENTUM):
            purpose = "momentum"
        elif name.startswith("gradient"):
            purpose = "gradients"
        elif name == BIASES or name.split(".")[0].isdigit():
            purpose = "parameters"
        elif name.startswith(("images", "labels", "records", "program")):
            purpose = "batch data"
        else:
            purpose = "activations"
        found[purpose] += region["bytes"]
    return found
