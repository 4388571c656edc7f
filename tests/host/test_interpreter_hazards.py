"""Reads that may overtake writes fail a test on the interpreter."""

import pytest
from comparison import integers
from interpreter_memory import HazardError
from raw_program import Conv, Program, Tensor

from eftrain.driver import DeviceProgramError
from eftrain_hdl import isa
from eftrain_hdl.isa import ErrorCode, Flag, Opcode

FP, BP, PASS = Opcode.CONV_FP, Opcode.CONV_BP, Opcode.PASS
SHAPE = (2, 4, 4, 4)


class _Chain(Program):
    """``first`` writes what ``copy`` reads through the port it is told to."""

    def __init__(self, device):
        super().__init__(device)
        self.x, self.result = self.map(integers(*SHAPE)), self.new_map(*SHAPE)
        self.other = self.new_map(*SHAPE)
        self.record = self.coefficients(*integers(4, 4))

    def first(self, **more):
        self.layer(PASS, [], stream=self.x, output=self.result, **more)

    def through(self, port, *flags):
        ports = {"stream": self.x, "output": self.other} | {port: self.result}
        needed = {
            "stream": [],
            "companion": [Flag.NORM_X, Flag.X_PAIR],
            "side": [Flag.SIDE_MASK],
            "norm": [Flag.STATISTICS],
            "auxiliary": [Flag.ADD],
            "stream_coefficients": [Flag.NORM_X],
            "bias": [Flag.STATISTICS],
        }[port]
        ports.setdefault("stream_coefficients", self.record)
        if Flag.STATISTICS in needed:
            ports |= {"statistics": self.new_statistics(4)}
            ports = {"norm": self.x, "bias": self.record} | ports
        if port in ("stream_coefficients", "bias"):
            ports[port] = self.result.address
        self.layer(PASS, [*needed, *flags], **ports)


PORTS = {
    "stream": Flag.AHEAD_STREAM,
    "companion": Flag.AHEAD_STREAM,
    "stream_coefficients": Flag.AHEAD_STREAM,
    "side": Flag.AHEAD_SIDE,
    "norm": Flag.AHEAD_SIDE,
    "auxiliary": Flag.AHEAD_SIDE,
    "bias": Flag.AHEAD_SIDE,
}
AHEAD = set(PORTS.values()) | {Flag.AHEAD_STATIONARY}


@pytest.mark.parametrize("port", PORTS)
def test_reads_ahead_of_the_writes_of_the_descriptor_before(make_device, port):
    p = _Chain(make_device("4x4"))
    p.first()
    p.through(port, PORTS[port])
    with pytest.raises(HazardError, match=r"Descriptor 1 reads ahead through .* the one before"):
        p.run()
    # The other flags do no harm, and neither does any flag two descriptors later.
    p.first()
    p.through(port, *AHEAD - {PORTS[port]})
    p.run()
    p.first()
    p.layer(PASS, [], stream=p.x, output=p.other)
    p.through(port, *AHEAD)
    p.run()


def test_weights_and_x_of_wu_ahead(make_device):
    p = Program(make_device("4x4"))
    x, dy = p.map(integers(*SHAPE)), p.map(integers(*SHAPE, seed=1))
    w, y, dw = p.weights(integers(4, 4, 3, 3)), p.new_map(*SHAPE), p.new_weights(4, 4, 3, 3)
    p.update([Flag.UPDATE], Conv(), x=x, dy=dy, output=w)
    p.layer(FP, [Flag.AHEAD_STATIONARY], Conv(), stream=x, stationary=w, output=y)
    with pytest.raises(HazardError, match="1 reads ahead through stationary"):
        p.run()
    p.layer(PASS, [], stream=x, output=y)
    p.update([Flag.AHEAD_STATIONARY], Conv(), x=y, dy=dy, output=dw)
    with pytest.raises(HazardError, match="1 reads ahead through stationary"):
        p.run()
    p.layer(PASS, [], stream=x, output=y)
    p.update([Flag.AHEAD_STATIONARY], Conv(), x=x, dy=y, output=dw)
    p.run()


def test_in_a_loop_the_first_descriptor_follows_the_last(make_device):
    p = _Chain(make_device("4x4"))
    p.add(isa.encode(Opcode.LOOP, count=2))
    p.through("stream", Flag.AHEAD_STREAM)
    p.first()
    p.add(isa.encode(Opcode.NEXT))
    with pytest.raises(HazardError, match="Descriptor 1 reads ahead"):
        p.run()


def test_nothing_runs_ahead_of_norm_and_loss(make_device):
    p = Program(make_device("4x4"))
    x, y = p.map(integers(*SHAPE)), p.new_map(*SHAPE)
    parameters, coefficients = p.parameters(*integers(2, 4)), p.new_coefficients(4)
    p.norm([Flag.FROZEN], channels=4, parameters=parameters, coefficients=coefficients, epsilon=1)
    p.layer(
        PASS, [Flag.NORM_X, *AHEAD], stream=x, output=y, stream_coefficients=coefficients
    )  # fmt: skip
    p.run()


def test_a_tee_that_overtakes(make_device):
    """It leaves with the loads, so it may meet what the descriptor before still reads or writes."""

    def tee(p, second, *flags):
        p.layer(
            PASS, [Flag.NORM_X, Flag.TEE, *flags], stream=p.x, output=p.other, second=second,
            stream_coefficients=p.record,
        )  # fmt: skip

    p = _Chain(make_device("4x4"))
    p.first()
    tee(p, p.result, Flag.AHEAD_STREAM)
    with pytest.raises(HazardError, match="tees over"):
        p.run()
    p.first()
    tee(p, p.result)
    p.run()
    p.through("auxiliary")
    tee(p, p.result, Flag.AHEAD_STREAM)
    with pytest.raises(HazardError, match="tees over"):
        p.run()


def test_a_descriptor_that_reads_what_it_wrote(make_device):
    p = _Chain(make_device("4x4"))
    rows = Conv((3, 3), (1, 1), (1, 1), (1, 1, 1, 4))
    p.layer(PASS, [], rows, stream=p.x, output=p.x)
    with pytest.raises(HazardError, match="reads through stream what it wrote itself"):
        p.run()
    # In place without halo is sound: every tile is read before it is written.
    p.layer(PASS, [], Conv((1, 1), (1, 1), (0, 0), (1, 1, 1, 4)), stream=p.x, output=p.x)
    p.run()


REFUSED = {
    "KEEP without POOL": [Flag.KEEP],
    "X_RELU without NORM_X": [Flag.X_RELU],
    "TEE without NORM_X": [Flag.TEE],
    "X_PAIR without NORM_X": [Flag.X_PAIR],
    "NORM_MASK without STATISTICS": [Flag.NORM_MASK],
    "KEEP with TEE": [Flag.KEEP, Flag.POOL, Flag.TEE, Flag.NORM_X],
    "two masks": [Flag.SIDE_MASK, Flag.NORM_MASK, Flag.STATISTICS],
    "statistics behind ReLU": [Flag.RELU, Flag.STATISTICS],
    "a flag of WU": [Flag.NORM_DY],
    "statistics of which resolution": [Flag.POOL, Flag.STATISTICS],
    "sums of which resolution": [Flag.POOL, Flag.SUMS],
    "statistics of two kinds": [Flag.STATISTICS, Flag.SUMS],
    "NORM_MASK with SUMS": [Flag.NORM_MASK, Flag.SUMS],
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_flags(make_device, name):
    p = _Chain(make_device("4x4"))
    p.layer(PASS, REFUSED[name], stream=p.x, output=p.other, grid=(4, 4))
    with pytest.raises(DeviceProgramError) as caught:
        p.run()
    assert caught.value.code is ErrorCode.ILLEGAL_FLAGS


def test_a_gradient_joins_no_pair(make_device):
    p = _Chain(make_device("4x4"))
    p.norm([Flag.X_PAIR, Flag.GRADIENT], channels=4, parameters=0, coefficients=0)
    with pytest.raises(DeviceProgramError) as caught:
        p.run()
    assert caught.value.code is ErrorCode.ILLEGAL_FLAGS


@pytest.mark.parametrize(("opcode", "flag"), [(FP, Flag.STATISTICS), (BP, Flag.SUMS)])
def test_too_many_blocks_for_statistics(make_device, opcode, flag):
    p = Program(make_device("4x4"))
    channels = 4 * (isa.MAX_STATISTICS_BLOCKS + 1)
    x = p.map(integers(1, 4, 1, 1))
    w = p.weights(integers(*((channels, 4) if opcode is FP else (4, channels)), 1, 1))
    y, statistics = p.new_map(1, channels, 1, 1), p.new_statistics(channels)
    fields = {"stream": x, "stationary": w, "output": y, "statistics": statistics}
    p.layer(opcode, [flag], **fields)
    with pytest.raises(DeviceProgramError) as caught:
        p.run()
    assert caught.value.code is ErrorCode.OVERSIZED_DIMENSION
    tile = Conv((1, 1), (1, 1), (0, 0), (isa.MAX_STATISTICS_BLOCKS, 1, 1, 1))
    p.layer(opcode, [flag], tile, **fields)
    p.run()


def test_tensors_are_apart(make_device):
    """A base that is off by a vector reads NaN of the guards."""
    p = _Chain(make_device("4x4"))
    moved = Tensor(p.x.address - p.x.vector, p.x.shape, p.group)
    p.layer(PASS, [], stream=moved, output=p.other)
    assert p.run().nonfinite
