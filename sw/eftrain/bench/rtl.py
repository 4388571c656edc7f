"""Layer passes of any size on the simulated gateware: their cycles, and their values checked."""

from dataclasses import dataclass

import numpy as np

from eftrain_hdl.isa import DESCRIPTOR_BYTES, PARTIAL_BEATS, Flag, Opcode

from ..driver import POLL_CYCLES, Driver
from ..pack import program
from ..plan.layout import RECORD_BYTES, WORD
from ..plan.memory import MemoryMap
from ..profile.sampling import read_counters
from .reference import BEAT_WORDS, Reference, ports, tensor_words

__all__ = [
    "MEMORY_SIZE",
    "Run",
    "check",
    "largest_error",
    "mean_error",
    "random_tensors",
    "run_passes",
]

MEMORY_SIZE = 1 << 30
"""Bytes of the simulated memory: a whole layer at full size and all it reads."""

PROGRAM = "program"
_EXACT = ("side", "norm", "auxiliary", "bias", "companion")
"""Operands that a comparison with zero, or among each other, may depend on."""


@dataclass(frozen=True)
class Run:
    """What a program of passes left behind.

    Attributes
    ----------
    cycles : int
        From the doorbell to END.
    counters : Sample
        At the end.
    tensors : dict
        Every tensor as flat words.
    """

    cycles: int
    counters: object
    tensors: dict


def random_tensors(layer_passes, group, seed=0):
    """Values for every tensor of the passes: ``{name: flat fp32 array}``, labels as uint32.

    Values that masks and windows compare have few bits, so that fp32 and float64 decide alike.
    """
    generator = np.random.default_rng(seed)
    exact, scales, labels, positive = set(), {}, {}, {}
    for layer_pass in layer_passes:
        for role, port in ports(layer_pass, group).items():
            name = port.operand.tensor
            if role in _EXACT or role.endswith("coefficients"):
                exact.add(name)
            if role == "stationary" and layer_pass.opcode is not Opcode.CONV_WU:
                fan_in = layer_pass.in_blocks * group * layer_pass.geometry.taps
                scales[name] = fan_in**-0.5
            if role == "parameters":
                positive[name] = port.shape
            if role == "side" and layer_pass.opcode is Opcode.LOSS:
                labels[name] = layer_pass.scalars["classes"]
    values = {}
    for name, words in tensor_words(layer_passes, group).items():
        if name in labels:
            values[name] = generator.integers(0, labels[name], words).astype(np.uint32)
            continue
        array = generator.standard_normal(words, np.float32) * np.float32(scales.get(name, 1))
        if name in exact:
            array = np.round(array * 16).astype(np.float32) / 16
        if name in positive:
            # Variances and their roots.
            array = array.reshape(positive[name])
            array[:, [3, 7]] = np.abs(array[:, [3, 7]]) + 0.5
            array = array.reshape(-1)
        values[name] = array
    return values


def run_passes(device, layer_passes, tensors, poll_cycles=POLL_CYCLES):
    """Run the passes as one program and read everything back.

    Parameters
    ----------
    device : Device
    layer_passes : list of LayerPass
        With tiles.
    tensors : dict
        Name to flat array of words: all tensors that the passes name.
    poll_cycles : int
        As for the ``Driver``.

    Raises
    ------
    UserError
        If the tensors do not fit the device's memory.
    """
    driver = Driver(device, poll_cycles)
    memory = MemoryMap(device.memory_base, device.memory_size)
    for name, array in tensors.items():
        memory.add(name, array.nbytes)
    addresses = {name: memory.address(name) for name in tensors}
    steps = [program.Step(step, program.Slots(addresses, {})) for step in layer_passes]
    code = program.assemble(steps)
    memory.add(PROGRAM, len(code))
    memory.check()
    for name, array in tensors.items():
        driver.write(addresses[name], array.tobytes())
    driver.write(memory.address(PROGRAM), code)
    records = [step.bases["bias"] for step in layer_passes if step.opcode is Opcode.LOSS]
    outcome = driver.run(
        memory.address(PROGRAM),
        len(code) // DESCRIPTOR_BYTES,
        window=(memory.base, memory.limit),
        records=(addresses[records[0]], len(records)) if records else (0, 0),
    )
    found = {}
    for name, array in tensors.items():
        found[name] = np.frombuffer(driver.read(addresses[name], array.nbytes), array.dtype)
    return Run(outcome.cycles, read_counters(device), found)


def largest_error(found, expected):
    """Largest difference, relative to the largest value that is expected."""
    return np.abs(found - expected).max() / (np.abs(expected).max() or 1.0)


def mean_error(found, expected):
    """Root of the mean square difference, relative to that of the values that are expected.

    For several passes in a row, where a rounding that decides a ReLU or a maximum otherwise makes a
    single large difference.
    """
    return np.linalg.norm(found - expected) / (np.linalg.norm(expected) or 1.0)


def check(layer_passes, group, before, after, error=largest_error):
    """Error of each tensor that the passes write, against the float64 reference.

    Parameters
    ----------
    before, after : dict
        Tensors as given to and returned by the device.
    error : callable
        ``largest_error`` or ``mean_error``.

    Returns
    -------
    dict of str to float
        Infinity where a value is missing.
    """
    reference = Reference(group, before)
    reference.run(layer_passes)
    written = {}
    for layer_pass in layer_passes:
        for name in _written(layer_pass):
            statistics = layer_pass.opcode is not Opcode.NORM and name == layer_pass.base(
                "statistics"
            )
            written[name] = statistics or written.get(name, False)
    errors = {}
    for name, statistics in written.items():
        expected, found = reference.tensors[name], after[name].astype(np.float64)
        if statistics:
            expected, found = (_totals(words, group) for words in (expected, found))
        if name in _records(layer_passes):
            expected, found = expected[:1], found[:1]
        difference = error(found, expected)
        errors[name] = float(difference) if np.isfinite(difference) else float("inf")
    return errors


def _written(layer_pass):
    if layer_pass.opcode is Opcode.NORM:
        names = {layer_pass.bases["coefficients"]}
        return (
            names if Flag.FROZEN in layer_pass.flags else names | {layer_pass.bases["parameters"]}
        )
    if layer_pass.opcode is Opcode.LOSS:
        gradient = {layer_pass.output.tensor} if layer_pass.output else set()
        return gradient | {layer_pass.bases["bias"]}
    return layer_pass.writes()


def _records(layer_passes):
    """Result records: of their four words only the first is a number to compare."""
    return {step.bases["bias"] for step in layer_passes if step.opcode is Opcode.LOSS}


def _totals(words, group):
    """Statistics records with their partial sums added up, since their split is the device's."""
    size = PARTIAL_BEATS * BEAT_WORDS
    records = words.reshape(-1, group + 2 * size)
    sums = records[:, group:].reshape(len(records), 2, -1, group).sum(axis=2)
    return sums.reshape(len(records), -1)


assert RECORD_BYTES == 4 * WORD
