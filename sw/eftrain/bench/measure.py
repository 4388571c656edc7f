"""Passes and whole steps of real layers on the simulated gateware, beside the model.

A *task* is one run; tasks are independent, so several processes may share them.
"""

import hashlib
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from multiprocessing import get_context

from eftrain_hdl.config import CoreConfig
from eftrain_hdl.isa import Opcode

from ..devices import DeviceError
from ..devices.sim import SimDevice
from ..errors import UserError
from ..network_file import load_network
from ..pack import program
from ..plan.model import BENCHMARK_MEMORY, predict, predict_program
from ..plan.model_clock import Seen
from ..plan.overlap import mark_ahead
from ..plan.report import plan_step
from ..profile.sampling import CompletionDevice
from .rtl import MEMORY_SIZE, check, largest_error, mean_error, random_tensors, run_passes

__all__ = ["ALL", "Measured", "Task", "measure", "run_tasks", "tasks_of", "worst"]

ALL = "all"
"""Layer of a task that runs a whole step."""

STEP = "whole step"

CONVOLUTIONS = (Opcode.CONV_FP, Opcode.CONV_BP, Opcode.CONV_WU)

ERROR_LIMITS = {"fp32": {"pass": 1e-4, "step": 1e-2}, "bf16": {"pass": 3e-2, "step": 0.2}}
"""Errors against float64 that rounding can explain. The array adds thousands of products in fp32;
in a step, roundings also decide ReLUs and maxima."""


@dataclass(frozen=True)
class Task:
    """One run: a pass of a layer alone, or with ``layer`` ``ALL`` a whole step.

    ``cycles`` is the model's prediction, by which progress is counted.
    """

    network: str
    array: str
    format: str
    batch: int
    layer: str
    kind: str
    cycles: int

    @property
    def title(self):
        name = STEP if self.layer == ALL else f"{self.layer} {self.kind}"
        return f"{self.network} batch {self.batch}, {name}"


@dataclass(frozen=True)
class Measured:
    """A pass, or a whole step, on the RTL.

    Attributes
    ----------
    network, array, format, batch, layer : str, str, str, int, str
    kind : str
        ``"FP"`` and so on; in a whole step ``"all"`` for its sum.
    alone : bool
        The pass was the only one of its program; else it was one of a step.
    cycles, rtl_cycles : int
        Predicted for a memory that refreshes when it did here, and counted by the device.
    bound : str
    array_share : float or None
        Part of the RTL's cycles in which a vector entered the array; None for the passes of a step.
    error : float or None
        Of the worst tensor against float64; None for the passes of a step.
    digest : str
        Of what was run, descriptors included.
    gone : int or None
        Cycles of the memory's refresh period that had gone at the doorbell; None if unknown.
    """

    network: str
    array: str
    format: str
    batch: int
    layer: str
    kind: str
    alone: bool
    cycles: int
    rtl_cycles: int
    bound: str
    array_share: float | None
    error: float | None
    digest: str
    gone: int | None = None

    @property
    def deviation(self):
        """Of the model, relative to the RTL."""
        return self.cycles / self.rtl_cycles - 1

    @property
    def title(self):
        name = STEP if self.kind == ALL else f"{self.layer} {self.kind}"
        return f"{self.network} batch {self.batch}, {name}"

    @property
    def values_right(self):
        """Whether the values agree with float64; None where they were not compared."""
        if self.error is None:
            return None
        return self.error <= ERROR_LIMITS[self.format]["pass" if self.alone else "step"]

    @property
    def replaces(self):
        """A newer run with the same key replaces this one."""
        place = (self.layer, self.kind) if self.alone else ()
        return (self.network, self.array, self.format, self.batch, self.alone, *place)

    def as_dict(self):
        """A row of ``rtl.json``."""
        values = asdict(self)
        values["pass"] = values.pop("kind")
        return values | {"deviation": self.deviation}

    @classmethod
    def from_dict(cls, values):
        """The inverse of ``as_dict``."""
        values = dict(values)
        del values["deviation"]
        return cls(kind=values.pop("pass"), **values)


def worst(measured):
    """The one whose prediction is off by most."""
    return max(measured, key=lambda one: abs(one.deviation))


def tasks_of(layers, network, config, batch, step_network, step_batch):
    """The tasks of a list of layers.

    Parameters
    ----------
    layers : list of str
        Names of convolutions or fully connected layers of ``network``; ``ALL`` for a whole step of
        ``step_network``, ``NETWORK:all`` for one of another network.
    network, step_network : str
        Names or files.
    config : CoreConfig
    batch : int
    step_batch : int or dict
        Pictures of whole steps; or by network, 1 for those that are not named.

    Raises
    ------
    UserError
        If a layer is unknown.
    """
    tasks = []
    layers = list(dict.fromkeys(layers))
    stepped = [layer for layer in layers if layer == ALL or layer.endswith(f":{ALL}")]
    wanted = [layer for layer in layers if layer not in stepped]
    if wanted:
        step = _step(network, config, batch)
        found = dict.fromkeys(row.layer for row, one in _runnable(step))
        for layer in wanted:
            if layer not in found:
                raise UserError(
                    f"{network} has no layer {layer!r} to run on the RTL; choose from "
                    f"{', '.join(found)}, or {ALL}."
                )
        for row, layer_pass in _runnable(step):
            if row.layer in wanted:
                cycles = predict(layer_pass, config).cycles
                tasks.append(
                    Task(network, config.array, config.format, batch, row.layer, row.kind, cycles)
                )
    for layer in stepped:
        other = layer.removesuffix(ALL).removesuffix(":") or step_network
        pictures = step_batch if isinstance(step_batch, int) else step_batch.get(other, 1)
        step = _step(other, config, pictures)
        tasks.append(Task(other, config.array, config.format, pictures, ALL, ALL, step.cycles))
    return tasks


def _step(network, config, batch):
    _, graph = load_network(network)
    return plan_step(network, graph, config, batch)


def _runnable(step):
    return [
        (row, layer_pass)
        for row, layer_pass in zip(step.rows, step.passes, strict=True)
        if layer_pass.opcode in CONVOLUTIONS
    ]


def run_tasks(tasks, jobs=1, on_status=None):
    """Run tasks in ``jobs`` processes; yields ``(task, list of Measured)`` as they end.

    The longest come first, so that no process waits at the end.
    """
    tasks = sorted(tasks, key=lambda task: -task.cycles)
    if not tasks:
        return
    # Builds the model, if need be, before several processes ask for it.
    config = CoreConfig.parse(tasks[0].array, tasks[0].format)
    with SimDevice(config, memory_size=1 << 20, on_status=on_status):
        pass
    if jobs == 1:
        for task in tasks:
            yield task, measure(task)
        return
    pool = ProcessPoolExecutor(min(jobs, len(tasks)), get_context("spawn"), _die_on_interrupt)
    try:
        futures = {pool.submit(_measure_in_process, task): task for task in tasks}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise DeviceError(
            "A simulation was ended from outside, perhaps for want of memory; run fewer at a time "
            "with --jobs."
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _die_on_interrupt():
    """Without a traceback of each process on the user's screen."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _measure_in_process(task):
    try:
        return measure(task)
    except DeviceError as error:
        # Subclasses cannot be sent from one process to another.
        raise DeviceError(f"{task.title}: {error}") from None


def measure(task, open_device=SimDevice):
    """Run one task; returns a list of ``Measured``.

    Parameters
    ----------
    task : Task
    open_device : callable
        ``open_device(config, memory_size=bytes)`` gives the device.

    Raises
    ------
    DeviceError
        If the device stops the program.
    """
    config = CoreConfig.parse(task.array, task.format)
    step = _step(task.network, config, task.batch)
    with open_device(config, memory_size=MEMORY_SIZE) as device:
        if task.layer == ALL:
            return _measure_step(task, device, config, step)
        row, layer_pass = next(
            (row, layer_pass)
            for row, layer_pass in _runnable(step)
            if (row.layer, row.kind) == (task.layer, task.kind)
        )
        watched = CompletionDevice(device)
        before = random_tensors([layer_pass], config.group)
        run = run_passes(watched, [layer_pass], before)
    gone = _gone(watched)
    errors = check([layer_pass], config.group, before, run.tensors, largest_error)
    return [
        Measured(
            task.network, task.array, task.format, task.batch, task.layer, task.kind, True,
            predict(layer_pass, config, seen=_seen(gone)).cycles, run.cycles, row.bound,
            run.counters.counts["ACTIVE"] / run.cycles, max(errors.values()), digest([layer_pass]),
            gone,
        )
    ]  # fmt: skip


def _gone(watched):
    if watched.doorbell is None:
        return None
    return watched.doorbell % BENCHMARK_MEMORY.refresh_period


def _seen(gone, completed=()):
    return None if gone is None else Seen(gone, completed)


def as_run(layer_passes):
    """The passes with the flags that a program of them, run once, has."""
    before = [[], *([one] for one in layer_passes[:-1])]
    return [mark_ahead(one, others) for one, others in zip(layer_passes, before, strict=True)]


def _measure_step(task, device, config, step):
    passes = as_run(step.passes)
    watched = CompletionDevice(device)
    before = random_tensors(passes, config.group)
    run = run_passes(watched, passes, before)
    errors = check(passes, config.group, before, run.tensors, mean_error)
    name = (task.network, task.array, task.format, task.batch)
    # The last pass ends with the program.
    completed = (*watched.completed[: len(passes) - 1], run.cycles)
    gone = _gone(watched)
    predictions, cycles = predict_program(passes, config, seen=_seen(gone, completed))
    rows = [
        Measured(
            *name, row.layer, row.kind, False, prediction.cycles, end - start, row.bound,
            None, None, digest([layer_pass]), gone,
        )
        for row, layer_pass, prediction, start, end in zip(
            step.rows, passes, predictions, [0, *completed[:-1]], completed, strict=True
        )
    ]  # fmt: skip
    share = run.counters.counts["ACTIVE"] / run.cycles
    whole = Measured(
        *name, ALL, ALL, False, cycles, run.cycles, "", share, max(errors.values()), digest(passes),
        gone,
    )  # fmt: skip
    return [*rows, whole]


def digest(layer_passes):
    """A hash of the descriptors, wherever the tensors lie."""
    names = sorted(set().union(*(one.tensors() for one in layer_passes)))
    slots = program.Slots({name: 16 * place for place, name in enumerate(names)}, {})
    code = b"".join(program.encode_pass(one, slots) for one in layer_passes)
    return hashlib.sha256(code).hexdigest()[:16]


def merged(measured, newer):
    """``measured`` with ``newer`` runs in place of earlier ones of the same, sorted."""
    replaced = {one.replaces for one in newer}
    kept = [one for one in measured if one.replaces not in replaced]
    return sorted([*kept, *newer], key=lambda one: one.replaces)  # Stable: a step keeps its order.


def current(measured):
    """``measured`` with today's predictions, without runs of what is planned differently today."""
    runs, found = {}, []
    for one in measured:
        runs.setdefault((one.network, one.array, one.format, one.batch), []).append(one)
    for key, rows in runs.items():
        try:
            today = _today(*key, rows)
        except UserError:  # A network file that is gone.
            continue
        for one in rows:
            cycles = today.get((one.alone, one.layer, one.kind, one.digest))
            if cycles:
                found.append((one, replace(one, cycles=cycles)))
    order = {id(one): place for place, one in enumerate(measured)}
    return [new for _, new in sorted(found, key=lambda pair: order[id(pair[0])])]


def _today(network, array, number_format, batch, rows):
    """``{(alone, layer, kind, digest): cycles}`` of the runs in ``rows`` as planned now."""
    config = CoreConfig.parse(array, number_format)
    step = _step(network, config, batch)
    alone = {(one.layer, one.kind): one.gone for one in rows if one.alone}
    found = {
        (True, row.layer, row.kind, digest([one])): predict(
            one, config, seen=_seen(alone[row.layer, row.kind])
        ).cycles
        for row, one in _runnable(step)
        if (row.layer, row.kind) in alone
    }
    # There is one run of a step at most: a newer one replaces it as a whole.
    *steps, whole = [one for one in rows if not one.alone] or [None]
    if whole is None:
        return found
    passes = as_run(step.passes)
    digests = [digest([one]) for one in passes]
    # Of another program it is not known what its passes met.
    same = [one.digest for one in steps] == digests
    completed = tuple(accumulate(one.rtl_cycles for one in steps))
    predictions, cycles = predict_program(
        passes, config, seen=_seen(whole.gone, completed) if same else None
    )
    found[False, ALL, ALL, digest(passes)] = cycles
    for row, prediction, name in zip(step.rows, predictions, digests, strict=True):
        found[False, row.layer, row.kind, name] = prediction.cycles
    return found
