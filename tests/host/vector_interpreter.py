"""LOSS and NORM of the interpreter, in float64."""

import numpy as np
from drain_interpreter import record_bytes, split_record
from interpreter_memory import ProgramStop

from eftrain_hdl import isa
from eftrain_hdl.isa import (
    COEFFICIENT_VECTORS,
    PARAMETER_VECTORS,
    ErrorCode,
    ErrorUnit,
    Flag,
)  # fmt: skip

GAMMA, BETA, RUNNING_MEAN, RUNNING_VAR, V_GAMMA, V_BETA, MEAN, RSTD = range(PARAMETER_VECTORS)
"""Vectors of a parameter record."""


def run_loss(device, flags, v):
    """Softmax cross-entropy; ``v`` holds the fields, bases with pointers added."""
    images, classes, group = v["images"], v["classes"], device.config.group
    memory = device.memory
    width = -(-classes // group) * group
    offsets = 4 * np.arange(images * width).reshape(images, width)
    logits = memory.read("stream", v["stream_base"] + offsets)[:, :classes].astype(np.float64)
    labels = memory.read("side", v["side_base"] + 4 * np.arange(images)).view(np.uint32)
    if (labels >= classes).any():
        raise ProgramStop(ErrorCode.LABEL_OUT_OF_RANGE, ErrorUnit.LOSS)
    shifted = logits - logits.max(axis=1, keepdims=True)
    chances = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    rows = np.arange(images)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[rows, labels]
    device.saw(losses)
    correct = int((logits.argmax(axis=1) == labels).sum())
    if Flag.GRADIENT in flags:
        gradient = np.zeros((images, width))
        gradient[:, :classes] = chances
        gradient[rows, labels] -= 1
        memory.write("output", v["output_base"] + offsets, gradient * v["scale"])
    device.registers["RESULTS"] += 1
    record = np.array([0, correct, images, device.registers["RESULTS"]], np.uint32)
    record[:1].view(np.float32)[0] = losses.sum() * v["scale"]
    where = v["bias_base"] + 4 * np.arange(isa.RESULT_WORDS)
    memory.write("output", where, record.view(np.float32))


def run_norm(device, flags, v):
    """Coefficients of every channel block from its statistics and parameters."""
    memory, config = device.memory, device.config
    group = config.group

    def vectors(base, block, count):
        return base + 4 * np.arange(block * count * group, (block + 1) * count * group)

    for block in range(v["out_blocks"]):
        sums = None
        if Flag.FROZEN not in flags:
            size = record_bytes(config)
            where = v["statistics_base"] + block * size + 4 * np.arange(size // 4)
            sums = split_record(config, memory.read("side", where))
        where = vectors(v["parameters_base"], block, PARAMETER_VECTORS)
        parameters = memory.read("side", where).astype(np.float64).reshape(-1, group)
        if Flag.GRADIENT in flags:
            coefficients = _backward(flags, v, sums, parameters)
        else:
            coefficients = _forward(v, sums, parameters)
        if Flag.X_PAIR in flags:
            other = memory.read("side", vectors(v["pair_base"], block, COEFFICIENT_VECTORS))
            other = other.astype(np.float64).reshape(-1, group)
            coefficients[1] = other[0]
            coefficients[2] += other[2]
        if Flag.FROZEN not in flags:
            device.saw(parameters)
            memory.write("output", where, parameters.reshape(-1))
        device.saw(coefficients)
        where = vectors(v["coefficients_base"], block, COEFFICIENT_VECTORS)
        memory.write("output", where, coefficients.reshape(-1))


def _forward(v, sums, parameters):
    """Coefficients that normalise; updates ``parameters`` unless ``sums`` is None (FROZEN)."""
    if sums is None:
        mean, variance = parameters[RUNNING_MEAN], np.maximum(parameters[RUNNING_VAR], 0)
        rstd = 1 / np.sqrt(variance + v["epsilon"])
    else:
        shift, first, second = sums
        distance = first * v["scale"]
        mean = shift + distance
        variance = np.maximum(second * v["scale"] - distance**2, 0)
        rstd = 1 / np.sqrt(variance + v["epsilon"])
        share = v["statistics_momentum"]
        parameters[RUNNING_MEAN] += share * (mean - parameters[RUNNING_MEAN])
        parameters[RUNNING_VAR] += share * (variance * v["unbias"] - parameters[RUNNING_VAR])
        parameters[MEAN], parameters[RSTD] = mean, rstd
    k0 = parameters[GAMMA] * rstd
    return np.stack([k0, np.ones_like(k0), parameters[BETA] - mean * k0, mean])


def _backward(flags, v, sums, parameters):
    """Coefficients of the gradient, with gamma as it was; updates gamma and beta."""
    _, first, second = sums
    mean, rstd = parameters[MEAN], parameters[RSTD]
    k0 = parameters[GAMMA] * rstd
    k1 = -k0 * rstd**2 * second * v["scale"]
    k2 = -k0 * first * v["scale"] - k1 * mean
    if Flag.UPDATE in flags:
        for row, velocity_row, gradient in ((GAMMA, V_GAMMA, second * rstd), (BETA, V_BETA, first)):
            velocity = gradient + v["weight_decay"] * parameters[row]
            if Flag.MOMENTUM in flags:
                velocity = v["momentum"] * parameters[velocity_row] + velocity
                parameters[velocity_row] = velocity
            parameters[row] = parameters[row] - v["learning_rate"] * velocity
    return np.stack([k0, k1, k2, mean])
