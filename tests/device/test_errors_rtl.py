"""Programs and memories that make the simulated core stop: why, where, and that it recovers."""

import random

import error_cases
import numpy as np
import pytest

import eftrain.driver
from eftrain.devices import DeviceError
from eftrain.driver import DeviceProgramError, Driver
from eftrain_hdl import isa
from eftrain_hdl.isa import ErrorCode, ErrorUnit, Flag, Opcode

SEED = 20220331
T = 4

# Offsets from the first byte of the window; the window is in the middle of what is watched.
(
    X, WEIGHTS, BIAS, ADDEND, OUTPUT, LOGITS, LABELS, GRADIENT, RECORD, COEFFICIENTS, SECOND,
    STATISTICS, PARAMETERS, PROGRAM,
) = range(0, 0xE000, 0x1000)  # fmt: skip
WINDOW = 0x10000
GUARD = 0x4000
PIXELS = 16
VECTOR = T * 4
BLOCK = PIXELS * VECTOR
"""Bytes of one channel block of the 4x4 pictures."""
AHEAD = (Flag.AHEAD_STREAM, Flag.AHEAD_STATIONARY, Flag.AHEAD_SIDE)

END = isa.encode(Opcode.END)
NEXT = isa.encode(Opcode.NEXT)


def loop(count):
    return isa.encode(Opcode.LOOP, count=count)


class Bench:
    """A device whose memory is known, and a layer that is known to be right.

    The layer is a 1x1 convolution from 4 to 8 channels of a 4x4 picture, with bias and with another
    tensor added: it uses all four buses. Its values are small integers, so that it is exact.
    """

    def __init__(self, device):
        print(f"seed {SEED}")
        self.device = device
        self.driver = Driver(device)
        self.base = device.memory_base + GUARD
        rng = np.random.default_rng(SEED)
        device.write_memory(device.memory_base, rng.bytes(WINDOW + 2 * GUARD))
        x = rng.integers(-8, 8, (PIXELS, T))
        weights = rng.integers(-8, 8, (2, T, T))
        addend, bias = rng.integers(-8, 8, (2, PIXELS, T)), rng.integers(-8, 8, (2, 1, T))
        known = {X: x, WEIGHTS: weights, ADDEND: addend, BIAS: bias, COEFFICIENTS: np.ones((4, T))}
        for place, array in known.items():
            device.write_array(self.base + place, array.astype(np.float32))
        expected = np.einsum("bmn,pn->bpm", weights, x) + addend + bias
        self.expected = expected.astype("<f4").tobytes()

    def layer(self, flags=(Flag.ADD, Flag.BIAS), opcode=Opcode.CONV_FP, **changes):
        """The layer's descriptor with some fields changed; bases are offsets."""
        pairs = {"kernel": 1, "stride": 1, "big": 4, "small": 4, "tile": 4}
        fields = {f"{name}_{axis}": v for name, v in pairs.items() for axis in ("rows", "cols")}
        fields |= {
            "images": 1, "tile_images": 1, "out_blocks": 2, "tile_out_blocks": 2, "in_blocks": 1,
            "stream_base": X, "stationary_base": WEIGHTS, "auxiliary_base": ADDEND,
            "output_base": OUTPUT, "stationary_image_stride": T * T * 4, "bias_base": BIAS,
            "bias_block_stride": VECTOR,
        }  # fmt: skip
        for port in ("stream", "auxiliary", "output"):
            fields |= {f"{port}_row_stride": 4 * VECTOR, f"{port}_block_stride": BLOCK}
        return isa.encode(opcode, flags, **self._placed(fields | changes))

    def copy(self, flags=(), opcode=Opcode.PASS, **changes):
        """A PASS over one block."""
        blocks = {"out_blocks": 1, "tile_out_blocks": 1, "scale": 1.0}
        return self.layer(flags, opcode, **(blocks | changes))

    def paired(self, flags=(), **changes):
        """A convolution of a residual sum, with its tee."""
        flags = (Flag.NORM_X, Flag.X_PAIR, Flag.X_RELU, Flag.TEE, *flags)
        fields = {
            "companion_base": ADDEND, "stream_coefficients_base": COEFFICIENTS,
            "second_base": SECOND,
        }  # fmt: skip
        return self.layer(flags, **(fields | changes))

    def masked(self, flags=(Flag.SIDE_MASK, Flag.STATISTICS), **changes):
        """A copy that masks and sums."""
        fields = {
            "side_base": ADDEND, "side_row_stride": 4 * VECTOR, "norm_base": X,
            "bias_base": COEFFICIENTS, "statistics_base": STATISTICS,
        }  # fmt: skip
        return self.copy(flags, **(fields | changes))

    def weight_gradient(self, flags=(), **changes):
        """The layer's own, with the addend as the gradient of its result."""
        fields = {"stream_base": ADDEND, "stationary_base": X, "stationary_row_stride": 4 * VECTOR}
        return self.layer(flags, Opcode.CONV_WU, **(fields | changes))

    def norm(self, flags=(), **changes):
        fields = {
            "out_blocks": 1, "statistics_base": STATISTICS, "parameters_base": PARAMETERS,
            "coefficients_base": GRADIENT, "pair_base": COEFFICIENTS, "scale": 1.0, "epsilon": 1.0,
        }  # fmt: skip
        return isa.encode(Opcode.NORM, flags, **self._placed(fields | changes))

    def loss(self, **changes):
        fields = {
            "images": 3, "classes": 5, "stream_base": LOGITS, "side_base": LABELS,
            "output_base": GRADIENT, "bias_base": RECORD, "scale": 1.0,
        }  # fmt: skip
        return isa.encode(Opcode.LOSS, [Flag.GRADIENT], **self._placed(fields | changes))

    def _placed(self, fields):
        return {k: v + self.base if k.endswith("_base") else v for k, v in fields.items()}

    def write_program(self, descriptors, place=PROGRAM):
        self.device.write_memory(self.base + place, b"".join(descriptors))

    def run(self, *descriptors, place=PROGRAM, length=None, window=(0, WINDOW)):
        self.write_program(descriptors, place)
        return self.driver.run(
            self.base + place,
            len(descriptors) if length is None else length,
            (self.base + window[0], self.base + window[1]),
        )

    def memory(self):
        data = self.device.read_memory(self.device.memory_base, WINDOW + 2 * GUARD)
        return np.frombuffer(data, np.uint8)

    def stops(self, *descriptors, code, unit, index=0, written=(), **options):
        """The program stops with this error and leaves memory alone but for the ``written`` ranges
        (offset, size); then the layer works."""
        self.write_program(descriptors, options.get("place", PROGRAM))
        before = self.memory()
        with pytest.raises(DeviceProgramError) as caught:
            self.run(*descriptors, **options)
        error = caught.value
        assert (error.code, error.unit, error.descriptor) == (code, unit, index)
        text = str(error)
        assert isa.ERROR_HELP[code] in text and code.name in text and unit.name in text
        self.unchanged(before, *written)
        self.works()

    def unchanged(self, before, *but):
        changed = before != self.memory()
        for place, size in but:
            changed[GUARD + place : GUARD + place + size] = False
        assert not changed.any(), f"written at offset {changed.argmax() - GUARD:#x}"

    def works(self):
        """The layer gives its result and changes nothing else."""
        place = self.base + OUTPUT
        self.device.write_memory(place, bytes(len(self.expected)))
        self.write_program((self.layer(), END))
        before = self.memory()
        outcome = self.run(self.layer(), END)
        assert self.device.read_memory(place, len(self.expected)) == self.expected
        self.unchanged(before, (OUTPUT, len(self.expected)))
        assert not outcome.nonfinite

    # What the driver does in one go, by hand.

    def register(self, name):
        return self.device.read_register(isa.REGISTER[name].address)

    def field(self, register, name):
        (field,) = (f for f in isa.REGISTER[register].fields if f.name == name)
        return self.register(register) >> field.lsb & field.mask

    def write_register(self, name, value):
        self.device.write_register(isa.REGISTER[name].address, value)

    def command(self, name):
        (field,) = (f for f in isa.REGISTER["CONTROL"].fields if f.name == name)
        self.write_register("CONTROL", 1 << field.lsb)

    def start(self, *descriptors):
        """Ring the doorbell and come back at once."""
        self.write_program(descriptors)
        for name, value in (
            ("WINDOW_BASE", self.base), ("WINDOW_LIMIT", self.base + WINDOW), ("WATCHDOG", 0),
            ("PROGRAM_ADDRESS", self.base + PROGRAM), ("PROGRAM_LENGTH", len(descriptors)),
            ("IRQ_STATUS", 7), ("IRQ_ENABLE", 3),
        ):  # fmt: skip
            self.write_register(name, value)
        self.command("start")


@pytest.fixture
def bench(fresh_device):
    return Bench(fresh_device)


def test_the_layer_works(bench):
    bench.works()
    # Noise where the result belongs is a result that is missing.
    with pytest.raises(AssertionError):
        bench.unchanged(np.zeros_like(bench.memory()))


@pytest.mark.parametrize("name", error_cases.ERROR_CASES)
def test_errors_of_the_host_tests(device, name):
    error_cases.check_error(device, name)


def test_label_error_of_the_host_tests(device):
    error_cases.check_label_error(device)


def with_raw_flag(descriptor, bit):
    """Set a bit of the flags field that has no name."""
    word = int.from_bytes(descriptor[:4], "little") | 1 << (8 + bit)
    return word.to_bytes(4, "little") + descriptor[4:]


SIZES = (
    "kernel_rows", "kernel_cols", "stride_rows", "stride_cols", "big_rows", "big_cols",
    "small_rows", "small_cols", "images", "tile_images", "tile_rows", "tile_cols", "out_blocks",
    "tile_out_blocks", "in_blocks",
)  # fmt: skip
MISPLACED = {
    # Addresses and strides that must be checked, of each descriptor of the bench.
    "layer": (
        *(
            f"{port}_{part}"
            for port in ("stream", "output", "auxiliary", "stationary")
            for part in ("base", "image_stride", "block_stride", "row_stride")
            if (port, part) != ("stationary", "row_stride")
        ),
        "bias_base", "bias_block_stride",
    ),
    "paired": ("companion_base", "stream_coefficients_base", "second_base"),
    "masked": (
        "side_base", "side_image_stride", "side_block_stride", "side_row_stride", "norm_base",
        "bias_base", "bias_block_stride", "statistics_base",
    ),
    "norm": ("statistics_base", "parameters_base", "coefficients_base"),
}  # fmt: skip


ILLEGAL = {
    # name: (descriptor of a bench, code). Found by the checker, before anything happens.
    "opcode 0": (lambda b: bytes(isa.DESCRIPTOR_BYTES), ErrorCode.UNKNOWN_OPCODE),
    "opcode 255": (lambda b: b"\xff" * isa.DESCRIPTOR_BYTES, ErrorCode.UNKNOWN_OPCODE),
    **{f"{s} 0": (lambda b, s=s: b.layer(**{s: 0}), ErrorCode.ZERO_DIMENSION) for s in SIZES},
    "loss without images": (lambda b: b.loss(images=0), ErrorCode.ZERO_DIMENSION),
    "loss without classes": (lambda b: b.loss(classes=0), ErrorCode.ZERO_DIMENSION),
    "norm of no blocks": (lambda b: b.norm(out_blocks=0), ErrorCode.ZERO_DIMENSION),
    "loop of none": (lambda b: loop(0), ErrorCode.ZERO_DIMENSION),
    **{
        f"{name} {value}": (
            lambda b, name=name, value=value: b.layer(**{name: value}),
            ErrorCode.OVERSIZED_DIMENSION,
        )
        for name, value in (
            ("kernel_rows", 12), ("kernel_cols", 255), ("stride_rows", 5), ("stride_cols", 8),
            ("pad_rows", 1), ("pad_cols", 200), ("tile_rows", 5), ("tile_cols", 5),
            ("tile_images", 2), ("tile_out_blocks", 3), ("small_rows", 5), ("small_cols", 65535),
        )
    },
    "pass over two in blocks": (lambda b: b.copy(in_blocks=2), ErrorCode.OVERSIZED_DIMENSION),
    "PASS_BP over two in blocks": (
        lambda b: b.copy(opcode=Opcode.PASS_BP, in_blocks=2), ErrorCode.OVERSIZED_DIMENSION,
    ),
    "PASS_BP tile beyond the big grid": (
        lambda b: b.copy(opcode=Opcode.PASS_BP, tile_rows=5), ErrorCode.OVERSIZED_DIMENSION,
    ),
    "statistics of too many blocks": (
        lambda b: b.layer(
            [Flag.STATISTICS], out_blocks=isa.MAX_STATISTICS_BLOCKS + 1,
            tile_out_blocks=isa.MAX_STATISTICS_BLOCKS + 1, statistics_base=STATISTICS,
        ),
        ErrorCode.OVERSIZED_DIMENSION,
    ),
    "too many classes": (lambda b: b.loss(classes=1025), ErrorCode.OVERSIZED_DIMENSION),
    **{
        f"{name} of {kind} plus 8": (
            lambda b, name=name, kind=kind: getattr(b, kind)(**{name: 0x2008}),
            ErrorCode.MISALIGNED_ADDRESS,
        )
        for kind, names in MISPLACED.items()
        for name in names
    },
    "misplaced pair": (
        lambda b: b.norm([Flag.X_PAIR], pair_base=8), ErrorCode.MISALIGNED_ADDRESS,
    ),
    "misplaced coefficients of X": (
        lambda b: b.weight_gradient([Flag.NORM_X], stationary_coefficients_base=8),
        ErrorCode.MISALIGNED_ADDRESS,
    ),
    "misplaced kept results": (
        lambda b: b.copy([Flag.POOL, Flag.KEEP], second_row_stride=8),
        ErrorCode.MISALIGNED_ADDRESS,
    ),
    "misplaced labels": (lambda b: b.loss(side_base=LABELS + 4), ErrorCode.MISALIGNED_ADDRESS),
    "update in a forward pass": (lambda b: b.layer([Flag.UPDATE]), ErrorCode.ILLEGAL_FLAGS),
    "pooling and adding": (
        lambda b: b.layer([Flag.POOL, Flag.ADD]), ErrorCode.ILLEGAL_FLAGS,
    ),
    **{
        f"{flag.name} without {other.name}": (
            # The opcodes that take the first: WU takes MOMENTUM, PASS the others.
            lambda b, flag=flag: (b.weight_gradient if flag is Flag.MOMENTUM else b.copy)([flag]),
            ErrorCode.ILLEGAL_FLAGS,
        )
        for flag, other in isa.REQUIRED_FLAGS
    },
    "X_PAIR without NORM_X": (lambda b: b.copy([Flag.X_PAIR]), ErrorCode.ILLEGAL_FLAGS),
    "running ahead in NORM": (lambda b: b.norm([Flag.AHEAD_SIDE]), ErrorCode.ILLEGAL_FLAGS),
    "frozen gradient": (
        lambda b: b.norm([Flag.FROZEN, Flag.GRADIENT]), ErrorCode.ILLEGAL_FLAGS,
    ),
    "pooling of odd tiles": (
        lambda b: b.copy([Flag.POOL], tile_rows=3), ErrorCode.ILLEGAL_FLAGS,
    ),
    "a flag that does not exist": (
        lambda b: with_raw_flag(b.layer(), 23), ErrorCode.ILLEGAL_FLAGS,
    ),
    "a flag on END": (lambda b: with_raw_flag(END, 0), ErrorCode.ILLEGAL_FLAGS),
}  # fmt: skip


@pytest.mark.parametrize("name", ILLEGAL)
def test_illegal_descriptors(bench, name):
    descriptor, code = ILLEGAL[name]
    bench.stops(descriptor(bench), END, code=code, unit=ErrorUnit.CONTROL)


def test_what_comes_before_an_illegal_descriptor_takes_effect(bench):
    """Its place is found through a loop and a pointer that moves the output."""
    move = isa.encode(Opcode.NEXT, increment_1=2 * BLOCK)
    program = (
        loop(2), bench.layer(output_pointer=1), move, bench.copy(images=0), bench.copy(), END,
    )  # fmt: skip
    bench.stops(
        *program, code=ErrorCode.ZERO_DIMENSION, unit=ErrorUnit.CONTROL, index=3,
        written=((OUTPUT, 4 * BLOCK),),
    )  # fmt: skip
    second = bench.device.read_memory(bench.base + OUTPUT + 2 * BLOCK, 2 * BLOCK)
    assert second == bench.expected


def test_a_pointer_that_misplaces_an_address(bench):
    move = isa.encode(Opcode.NEXT, increment_2=8)
    bench.stops(
        loop(2), bench.layer(output_pointer=2), move, END, index=1, written=((OUTPUT, 2 * BLOCK),),
        code=ErrorCode.MISALIGNED_ADDRESS, unit=ErrorUnit.CONTROL,
    )  # fmt: skip


LARGE = {"big_rows": 128, "small_rows": 128, "big_cols": 64, "small_cols": 64}
OVERFLOWS = {
    # 8192 vectors for a stream buffer of 4096.
    "stream": lambda b: b.copy(**LARGE, tile_rows=128, tile_cols=64),
    # 2 x 2048 sums for 2048, out of 2048 vectors of the stream.
    "accumulators": lambda b: b.layer(**LARGE, tile_rows=32, tile_cols=64),
    # 17 x 4 x 4 + ... sums of weights; 2 x 121 x 4 fit, 5 x 121 x 4 do not.
    "accumulators of weights": lambda b: b.weight_gradient(
        kernel_rows=11, kernel_cols=11, pad_rows=10, pad_cols=10, out_blocks=5, tile_out_blocks=5,
    ),
    "stationary": lambda b: b.weight_gradient(
        big_rows=128, big_cols=64, small_rows=32, small_cols=16, stride_rows=4, stride_cols=4,
        kernel_rows=4, kernel_cols=4, tile_rows=32, tile_cols=16,
    ),
    # More than any counter of vectors holds.
    "products": lambda b: b.copy(
        big_rows=65535, small_rows=65535, tile_rows=65535, big_cols=65535, small_cols=65535,
        tile_cols=65535,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OVERFLOWS)
def test_tiles_that_overflow_a_buffer(bench, name):
    bench.stops(OVERFLOWS[name](bench), END, code=ErrorCode.TILE_OVERFLOW, unit=ErrorUnit.CONTROL)


PORTS = {
    # name: (descriptor, field, unit that finds it)
    "stream": ("layer", "stream_base", ErrorUnit.STREAM),
    "stationary": ("layer", "stationary_base", ErrorUnit.STATIONARY),
    "bias": ("layer", "bias_base", ErrorUnit.SIDE),
    "auxiliary": ("layer", "auxiliary_base", ErrorUnit.AUXILIARY),
    "output": ("layer", "output_base", ErrorUnit.WRITE),
    "companion": ("paired", "companion_base", ErrorUnit.COMPANION),
    "coefficients": ("paired", "stream_coefficients_base", ErrorUnit.STREAM),
    "second": ("paired", "second_base", ErrorUnit.SECOND),
    "side": ("masked", "side_base", ErrorUnit.SIDE),
    "norm": ("masked", "norm_base", ErrorUnit.SIDE),
    "statistics": ("masked", "statistics_base", ErrorUnit.WRITE),
    "sums": ("norm", "statistics_base", ErrorUnit.SIDE),
    # Read and written; the writer gets its requests first.
    "parameters": ("norm", "parameters_base", ErrorUnit.WRITE),
    "norm results": ("norm", "coefficients_base", ErrorUnit.WRITE),
}
AROUND = {
    # Places that a descriptor may have written before the one that is outside.
    "second": ((OUTPUT, 2 * BLOCK),),
    "statistics": ((OUTPUT, BLOCK),),
    "norm results": ((PARAMETERS, 8 * VECTOR),),
}


@pytest.mark.parametrize("place", [-GUARD, -16, WINDOW - 16, WINDOW, -GUARD - 0x100])
@pytest.mark.parametrize("port", PORTS)
def test_accesses_outside_the_window(bench, port, place):
    """Before it, after it, over its end by one beat, and where there is no memory at all."""
    kind, field, unit = PORTS[port]
    written = AROUND.get(port, ())
    if port in ("bias", "statistics", "norm results", "second") and place == WINDOW - 16:
        # Parts that lie inside the window may be written, or used, before the rest is asked for.
        written = (*written, (place, 16), (OUTPUT, 2 * BLOCK))
    bench.stops(
        getattr(bench, kind)(**{field: place}), END, written=written,
        code=ErrorCode.ADDRESS_OUT_OF_WINDOW, unit=unit,
    )  # fmt: skip


def test_the_second_half_outside_the_window(bench):
    """The first block of the result is written, nothing past the window is."""
    place = WINDOW - BLOCK
    bench.stops(
        bench.layer(output_base=place), END, written=((place, BLOCK),),
        code=ErrorCode.ADDRESS_OUT_OF_WINDOW, unit=ErrorUnit.WRITE,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("place", "index"),
    [(-0x400, 0), (WINDOW, 0), (WINDOW - isa.DESCRIPTOR_BYTES, 1), (WINDOW - 16, 0)],
)
def test_programs_outside_the_window(bench, place, index):
    written = ((OUTPUT, 2 * BLOCK),) if index else ()
    bench.stops(
        bench.layer(), END, place=place, index=index, written=written,
        code=ErrorCode.ADDRESS_OUT_OF_WINDOW, unit=ErrorUnit.FETCH,
    )  # fmt: skip


def test_misplaced_program(bench):
    bench.stops(
        bench.layer(), END, place=PROGRAM + 8,
        code=ErrorCode.MISALIGNED_ADDRESS, unit=ErrorUnit.CONTROL,
    )  # fmt: skip


@pytest.mark.parametrize("response", ["SLVERR", "DECERR"])
@pytest.mark.parametrize("beat", ["first", "last"])
@pytest.mark.parametrize(
    "port",
    ["stream", "stationary", "side", "write", "fetch", "auxiliary", "companion", "second"],
)
def test_errors_of_the_memory(bench, port, beat, response):
    place, size, bus = {
        "stream": (X, BLOCK, "stream"),
        "stationary": (WEIGHTS, 2 * T * T * 4, "stationary"),
        "side": (BIAS, 2 * VECTOR, "side"),
        "write": (OUTPUT, 2 * BLOCK, "write"),
        "fetch": (PROGRAM, isa.DESCRIPTOR_BYTES, "side"),
        "auxiliary": (ADDEND, 2 * BLOCK, "stationary"),
        "companion": (ADDEND, BLOCK, "stationary"),
        "second": (SECOND, BLOCK, "write"),
    }[port]
    address = place if beat == "first" else place + size - 16
    layer = bench.paired() if port in ("companion", "second") else bench.layer()
    bench.works()
    bench.device.set_fault(bus, bench.base + address, response)
    bench.write_program((layer, END))
    before = bench.memory()
    with pytest.raises(DeviceProgramError) as caught:
        bench.run(layer, END)
    error = caught.value
    assert error.code is ErrorCode.BUS_RESPONSE
    assert (error.unit, error.descriptor) == (ErrorUnit[port.upper()], 0)
    # Results leave once their sums and their other operands are complete.
    written = {
        "companion": [(SECOND, BLOCK)],
        "second": [(SECOND, BLOCK), (OUTPUT, 2 * BLOCK)],
    } | dict.fromkeys(("side", "auxiliary", "write"), [(OUTPUT, 2 * BLOCK)])
    bench.unchanged(before, *written.get(port, ()))
    # The fault lasts, and so does the error.
    with pytest.raises(DeviceProgramError, match="SLVERR or DECERR"):
        bench.run(layer, END)
    bench.device.set_fault(bus, bench.base + address, "OKAY")
    bench.works()


@pytest.mark.parametrize("stalls", [0.0, 0.5])
@pytest.mark.parametrize("port", ["stream", "write", "fetch"])
def test_an_error_of_the_memory_in_a_later_descriptor(bench, port, stalls):
    """Its place is that of the descriptor, in a loop too; what was done before it stays."""
    move = isa.encode(Opcode.NEXT, increment_1=BLOCK)
    place = GRADIENT + 2 * BLOCK
    copy = bench.copy(output_base=GRADIENT, output_pointer=1)
    program = (bench.layer(), loop(4), copy, move, bench.copy(stream_base=LOGITS), END)
    faulty, index = {
        "stream": (("stream", LOGITS + 0x40), 4),
        "write": (("write", place + 0x40), 2),
        "fetch": (("side", PROGRAM + 5 * isa.DESCRIPTOR_BYTES), 5),
    }[port]
    bench.device.set_stalls(SEED, stalls)
    bench.device.set_fault(faulty[0], bench.base + faulty[1])
    bench.write_program(program)
    before = bench.memory()
    with pytest.raises(DeviceProgramError) as caught:
        bench.run(*program)
    error = caught.value
    assert error.code is ErrorCode.BUS_RESPONSE
    assert (error.unit, error.descriptor) == (ErrorUnit[port.upper()], index)
    # END is fetched as soon as the last copy but one is done.
    after = {"stream": (), "write": (), "fetch": ((OUTPUT, BLOCK),)}[port]
    copies = 3 if port == "write" else 4
    bench.unchanged(before, (OUTPUT, 2 * BLOCK), (GRADIENT, copies * BLOCK), *after)
    if not after:
        result = bench.device.read_memory(bench.base + OUTPUT, 2 * BLOCK)
        assert result == bench.expected
    source = bench.device.read_memory(bench.base + X, BLOCK)
    for number in range({"stream": 4, "write": 2, "fetch": 3}[port]):
        where = bench.base + GRADIENT + number * BLOCK
        assert bench.device.read_memory(where, BLOCK) == source, number
    bench.device.set_fault(faulty[0], 0, "OKAY")
    bench.works()


@pytest.mark.parametrize("stalls", [0.0, 0.5])
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("port", ["stream", "write"])
def test_an_error_with_two_descriptors_in_flight(bench, port, index, stalls):
    """The place is that of the descriptor whose access fails, however close the other one is."""
    first, second = (bench.layer(AHEAD + (Flag.ADD, Flag.BIAS)), bench.copy(AHEAD))
    if port == "stream":
        changes = ({"stream_base": LOGITS}, {"stream_base": GRADIENT})
        first = bench.layer(AHEAD + (Flag.ADD, Flag.BIAS), **changes[0])
        second = bench.copy(AHEAD, **changes[1], output_base=RECORD)
        fault = ("stream", (LOGITS, GRADIENT)[index] + 0x40)
    else:
        second = bench.copy(AHEAD, output_base=RECORD)
        fault = ("write", (OUTPUT, RECORD)[index] + 0x40)
    program = (first, second, END)
    bench.device.set_stalls(SEED, stalls)
    bench.device.set_fault(fault[0], bench.base + fault[1])
    bench.write_program(program)
    before = bench.memory()
    with pytest.raises(DeviceProgramError) as caught:
        bench.run(*program)
    error = caught.value
    unit = ErrorUnit[port.upper()]
    assert (error.code, error.unit, error.descriptor) == (ErrorCode.BUS_RESPONSE, unit, index)
    bench.unchanged(before, (OUTPUT, 2 * BLOCK), (RECORD, BLOCK))
    bench.device.set_fault(fault[0], 0, "OKAY")
    bench.works()


def test_no_memory_inside_the_window(bench):
    """DECERR of the memory itself: the window is larger than the memory."""
    end = bench.device.memory_base + bench.device.memory_size - bench.base
    bench.stops(
        bench.layer(stream_base=end), END, window=(0, end + WINDOW),
        code=ErrorCode.BUS_RESPONSE, unit=ErrorUnit.STREAM,
    )  # fmt: skip


@pytest.mark.parametrize("image", range(3))
@pytest.mark.parametrize("label", [5, 1 << 16, 0xFFFFFFFF])
def test_labels_out_of_range(bench, image, label):
    bench.device.write_array(bench.base + LOGITS, np.zeros((3, 8), np.float32))
    labels = np.array([4, 0, 2, 0xDEADBEEF], np.uint32)
    labels[image] = label
    bench.device.write_array(bench.base + LABELS, labels)
    # The gradient of the images before it, but no record.
    bench.stops(
        bench.layer(), bench.loss(), END, index=1,
        written=((OUTPUT, 2 * BLOCK), (GRADIENT, image * 8 * 4)),
        code=ErrorCode.LABEL_OUT_OF_RANGE, unit=ErrorUnit.LOSS,
    )  # fmt: skip


NESTING = {
    "NEXT alone": ((NEXT, END), 0),
    "NEXT after the end of its loop": ((loop(3), NEXT, NEXT, END), 2),
    "five loops": ((*[loop(2)] * 5, *[NEXT] * 5, END), 4),
}


@pytest.mark.parametrize("name", NESTING)
def test_loop_nesting(bench, name):
    program, index = NESTING[name]
    bench.stops(*program, code=ErrorCode.LOOP_NESTING, unit=ErrorUnit.CONTROL, index=index)


@pytest.mark.parametrize("length", [0, 1, 2])
def test_programs_without_an_end(bench, length):
    program = (bench.layer(), loop(1), END)
    bench.stops(
        *program, length=length, index=length, written=((OUTPUT, 2 * BLOCK),) if length else (),
        code=ErrorCode.PROGRAM_OVERRUN, unit=ErrorUnit.CONTROL,
    )  # fmt: skip


def test_watchdog(bench, monkeypatch):
    """Memory takes 64 cycles to answer: too long for a watchdog of 40, not for one of 100."""
    with monkeypatch.context() as patch:
        patch.setattr(eftrain.driver, "WATCHDOG_CYCLES", 40)
        with pytest.raises(DeviceProgramError) as caught:
            bench.run(bench.layer(), END)
        error = caught.value
        assert (error.code, error.unit, error.descriptor) == (
            ErrorCode.WATCHDOG, ErrorUnit.CONTROL, 0,
        )  # fmt: skip
        patch.setattr(eftrain.driver, "WATCHDOG_CYCLES", 100)
        bench.works()
    bench.works()


def test_registers_after_an_error_and_a_start_without_reset(bench):
    bench.device.wait(4096)
    bench.start(bench.layer(), bench.layer(stream_base=WINDOW), END)
    assert bench.field("STATUS", "busy")
    assert bench.device.wait(100_000)
    assert [bench.field("STATUS", name) for name in ("busy", "done", "error")] == [0, 0, 1]
    assert bench.field("ERROR", "code") == ErrorCode.ADDRESS_OUT_OF_WINDOW
    assert bench.field("ERROR", "unit") == ErrorUnit.STREAM
    assert bench.register("ERROR_DESCRIPTOR") == 1
    # An error; the first descriptor may have been completed before.
    assert bench.register("IRQ_STATUS") & 3 == 2
    bench.start(bench.layer(), END)
    assert bench.device.wait(100_000)
    assert [bench.field("STATUS", name) for name in ("busy", "done", "error")] == [0, 1, 0]
    # END, and the descriptor ahead of it.
    assert (bench.register("ERROR"), bench.register("IRQ_STATUS")) == (0, 5)
    assert bench.device.read_memory(bench.base + OUTPUT, 2 * BLOCK) == bench.expected
    bench.works()


@pytest.mark.parametrize("stalls", [0.0, 0.5])
def test_soft_reset_in_the_middle_of_a_program(bench, stalls):
    rng = random.Random(SEED)
    bench.device.set_stalls(SEED, stalls)
    bench.device.wait(8192)
    gradient = bench.weight_gradient(output_base=GRADIENT, output_block_stride=T * T * 4)
    program = (loop(1 << 30), bench.layer(), gradient, NEXT, END)
    bench.write_program(program)
    before = bench.memory()
    # A pass takes some hundred cycles, so these are moments of every kind of transfer.
    for delay in [1, 2, 3, *(rng.randrange(1500) for _ in range(30))]:
        bench.start(*program)
        assert not bench.device.wait(delay)
        assert bench.field("STATUS", "busy")
        bench.driver.reset()
        assert bench.register("STATUS") == 0 and bench.register("IRQ_STATUS") == 0
        bench.unchanged(before, (OUTPUT, 2 * BLOCK), (GRADIENT, 2 * T * T * 4))
        still = bench.memory()
        bench.device.wait(500)
        bench.unchanged(still)
        bench.run(bench.layer(), END)
        result = bench.device.read_memory(bench.base + OUTPUT, 2 * BLOCK)
        assert result == bench.expected, f"after a reset at {delay}"
        bench.write_program(program)
    bench.works()


def test_hardware_reset_in_the_middle_of_a_program(bench):
    bench.device.wait(4096)
    for delay in (100, 333, 777):
        bench.start(loop(1 << 30), bench.layer(), NEXT, END)
        bench.device.wait(delay)
        bench.device.reset()
        assert not bench.field("STATUS", "error")
        bench.works()


def test_the_window_of_a_running_program_stays(bench):
    """The window is sampled at the doorbell."""
    bench.device.wait(4096)
    bench.start(loop(5), bench.layer(), NEXT, END)
    bench.write_register("WINDOW_BASE", 0)
    bench.write_register("WINDOW_LIMIT", 16)
    assert bench.device.wait(100_000)
    assert bench.field("STATUS", "done")
    assert bench.device.read_memory(bench.base + OUTPUT, 2 * BLOCK) == bench.expected


def test_window_lock(bench):
    bench.works()
    bench.command("lock_window")
    assert bench.field("STATUS", "window_locked")
    place = bench.base
    for name, value in (("WINDOW_BASE", place), ("WINDOW_LIMIT", place + WINDOW)):
        bench.write_register(name, 0xFFFF0000)
        assert bench.register(name) == value
    # What fits the window runs, also after an error and a soft reset.
    bench.works()
    bench.stops(
        bench.layer(stream_base=WINDOW), END,
        code=ErrorCode.ADDRESS_OUT_OF_WINDOW, unit=ErrorUnit.STREAM,
    )  # fmt: skip
    bench.driver.reset()
    assert bench.field("STATUS", "window_locked")
    with pytest.raises(DeviceError, match="window of sim is locked"):
        bench.run(bench.layer(), END, window=(0, WINDOW + 16))
    bench.works()
    bench.device.reset()
    assert not bench.field("STATUS", "window_locked")
    bench.run(bench.layer(), END, window=(0, WINDOW + 16))
