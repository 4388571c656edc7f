"""Infinities and NaNs in every operand of every pass: it must end, and say what it met.

Every check takes any ``Device``; the same cases run on the interpreter and on the simulated core.
"""

import numpy as np
from raw_program import Conv, Program

from eftrain_hdl import isa
from eftrain_hdl.isa import Flag, Opcode

FP, BP, PASS, PASS_BP = Opcode.CONV_FP, Opcode.CONV_BP, Opcode.PASS, Opcode.PASS_BP
VALUES = {"infinity": np.inf, "minus infinity": -np.inf, "NaN": np.nan}

CHANNELS, SIZE = 6, (4, 4)
SHAPE, DOUBLED = (2, CHANNELS, *SIZE), (2, CHANNELS, 8, 8)
WEIGHTS = (CHANNELS, CHANNELS, 3, 3)


class _Poisoned(Program):
    """A program whose operands are all ones but for one element of one operand."""

    def __init__(self, device, victim, value):
        super().__init__(device)
        self.victim, self.value, self.found = victim, value, False

    def operand(self, name, *shape, place=None):
        """Ones, or with the poison at flat index ``place``; by default in the middle, so that
        windows before and behind it stay finite."""
        values = np.ones(shape, np.float32)
        if name == self.victim:
            values.reshape(-1)[values.size // 2 if place is None else place] = self.value
            self.found = True
        return values

    def a_map(self, name, shape=SHAPE):
        return self.map(self.operand(name, *shape))

    def a_weight(self, name="weights"):
        return self.weights(self.operand(name, *WEIGHTS))

    def a_vector(self, name):
        return self.vector(self.operand(name, CHANNELS))

    def a_record(self, name):
        k0 = self.operand(name, CHANNELS)
        return self.coefficients(k0, *np.ones((3, CHANNELS)))

    def a_layer(self, opcode, *flags, shape=SHAPE, **more):
        conv = Conv() if opcode in (FP, BP) else Conv((1, 1), (1, 1), (0, 0))
        if opcode in (FP, BP):
            more["stationary"] = self.a_weight()
        self.layer(opcode, flags, conv, stream=self.a_map("x"), output=self.new_map(*shape), **more)


def _forward(p):
    p.a_layer(FP, Flag.ADD, Flag.BIAS, auxiliary=p.a_map("addend"), bias=p.a_vector("bias"))


def _rectified(p):
    p.a_layer(FP, Flag.RELU)


def _statistics(p):
    p.a_layer(FP, Flag.STATISTICS, statistics=p.new_statistics(CHANNELS))


def _pooled(p):
    p.a_layer(
        FP, Flag.POOL, Flag.KEEP, Flag.STATISTICS, shape=(2, CHANNELS, 2, 2), grid=SIZE,
        second=p.new_map(*SHAPE), statistics=p.new_statistics(CHANNELS), bias=p.a_vector("gamma"),
    )  # fmt: skip


def _normalised(p):
    p.a_layer(
        FP, Flag.NORM_X, Flag.X_PAIR, Flag.TEE, companion=p.a_map("companion"),
        stream_coefficients=p.a_record("coefficients"), second=p.new_map(*SHAPE),
    )  # fmt: skip


def _backward(p):
    p.a_layer(
        BP, Flag.NORM_DY, Flag.ADD, Flag.SIDE_MASK, companion=p.a_map("companion"),
        stream_coefficients=p.a_record("coefficients"), side=p.a_map("side"),
        auxiliary=p.a_map("addend"),
    )  # fmt: skip


def _unpooled(p):
    p.a_layer(
        BP, Flag.UNPOOL, Flag.STATISTICS, Flag.NORM_MASK, shape=DOUBLED, norm=p.a_map("norm"),
        auxiliary=p.a_map("windows", DOUBLED), bias=p.a_record("coefficients"),
        statistics=p.new_statistics(CHANNELS),
    )  # fmt: skip


def _copied(p):
    p.a_layer(PASS)


def _spread(p):
    p.a_layer(PASS_BP, Flag.STATISTICS, norm=p.a_map("norm"), bias=p.a_record("coefficients"),
              statistics=p.new_statistics(CHANNELS))  # fmt: skip


def _gradient(p):
    p.update(
        [Flag.NORM_X, Flag.NORM_DY, Flag.BIAS], Conv(), x=p.a_map("x"), dy=p.a_map("dy"),
        output=p.new_weights(*WEIGHTS), bias=p.vector(np.zeros(CHANNELS)),
        companion=p.a_map("companion"), stream_coefficients=p.a_record("coefficients"),
        stationary_coefficients=p.a_record("coefficients of x"),
    )  # fmt: skip


def _update(p):
    p.update(
        [Flag.UPDATE, Flag.MOMENTUM, Flag.BIAS], Conv(), x=p.a_map("x"), dy=p.a_map("dy"),
        output=p.a_weight(), bias=p.a_vector("bias"), velocity=p.a_weight("velocity"),
        bias_velocity=p.a_vector("velocity of the bias"), learning_rate=0.5, momentum=0.5,
        weight_decay=0.5,
    )  # fmt: skip


def _norm(p, flags=(), pair=False):
    # In the first sum: the shift of a gradient is not used, a variance below zero is none.
    blocks = -(-CHANNELS // p.group)
    words = p.operand("statistics", blocks, p.group + 64, place=p.group)
    more = {"pair": p.a_record("pair")} if pair else {}
    p.norm(
        flags, channels=CHANNELS, statistics=p.put(words.tobytes()), pixels=4, epsilon=1e-5,
        statistics_momentum=0.5, learning_rate=0.5, momentum=0.5,
        parameters=p.parameters(p.operand("parameters", CHANNELS), *np.ones((7, CHANNELS))),
        coefficients=p.new_coefficients(CHANNELS), **more,
    )  # fmt: skip


def _norm_gradient(p):
    _norm(p, [Flag.GRADIENT, Flag.UPDATE, Flag.MOMENTUM])


def _norm_forward(p):
    _norm(p, [Flag.X_PAIR], pair=True)


def _loss(p):
    logits = p.a_map("logits", (2, CHANNELS, 1, 1))
    p.add(
        isa.encode(
            Opcode.LOSS, [Flag.GRADIENT], images=2, classes=CHANNELS, scale=0.5,
            stream_base=logits.address, side_base=p.put(bytes(16)), bias_base=p.space(16),
            output_base=p.new_map(2, CHANNELS, 1, 1).address,
        )
    )  # fmt: skip


PASSES = {
    # name: (builder, operands that reach the result)
    "FP": (_forward, ("x", "weights", "addend", "bias")),
    "FP with statistics": (_statistics, ("x", "weights")),
    "FP with pooling": (_pooled, ("x", "weights")),
    "FP with norm": (_normalised, ("x", "companion", "coefficients", "weights")),
    "BP": (_backward, ("x", "companion", "coefficients", "weights", "addend")),
    "BP with un-pooling": (_unpooled, ("x", "weights")),
    "PASS": (_copied, ("x",)),
    "PASS_BP": (_spread, ("x",)),
    "WU": (_gradient, ("x", "dy", "companion", "coefficients", "coefficients of x")),
    "WU with update": (
        _update, ("x", "dy", "weights", "velocity", "bias", "velocity of the bias"),
    ),
    "NORM": (_norm_forward, ("statistics", "parameters", "pair")),
    "NORM of a gradient": (_norm_gradient, ("statistics", "parameters")),
    "LOSS": (_loss, ("logits",)),
}  # fmt: skip

QUIET = {
    # Operands that are compared or decide a sign, and ReLU: the pass ends, whatever it reports.
    "FP with ReLU": (_rectified, ("x", "weights")),
    "FP with pooling": (_pooled, ("gamma",)),
    "BP": (_backward, ("side",)),
    "BP with un-pooling": (_unpooled, ("windows", "norm", "coefficients")),
    "PASS_BP": (_spread, ("norm", "coefficients")),
}


def _cases(table):
    return [
        (name, operand, value)
        for name, (_, operands) in table.items()
        for operand in operands
        for value in VALUES
    ]


CASES, QUIET_CASES = _cases(PASSES), _cases(QUIET)


def check_nonfinite(device, name, operand, value):
    """The program ends and reports what it met, and the next one does not."""
    assert _run(device, PASSES[name][0], operand, VALUES[value]).nonfinite
    assert not _run(device, PASSES[name][0], None, None).nonfinite


def check_quiet(device, name, operand, value):
    """The program ends."""
    _run(device, QUIET[name][0], operand, VALUES[value])


def _run(device, build, operand, value):
    program = _Poisoned(device, operand, value)
    build(program)
    assert program.found == (operand is not None)
    return program.run()
