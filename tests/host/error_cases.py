"""Programs the device must refuse, and how it recovers; every function takes any ``Device``.

The same cases run on the interpreter and on the simulated core.
"""

import numpy as np
import pytest

from eftrain import layers
from eftrain.driver import DeviceProgramError, Driver
from eftrain_hdl import isa
from eftrain_hdl.isa import ErrorCode, Flag, Opcode

RESULT, PROGRAM, END_OF_WINDOW = 0x1000, 0x8000, 0x10000
"""Offsets from the start of the device's memory."""

NEXT = isa.encode(Opcode.NEXT)
LOOP = isa.encode(Opcode.LOOP, count=1)
END = isa.encode(Opcode.END)


def copy_pass(device, flags=(), **changes):
    """A legal 4x4 copy to ``RESULT``, with some fields changed; bases are given as offsets."""
    row = 4 * 4 * Driver(device).config.group
    fields = (
        {f"{name}_{axis}": 1 for name in ("kernel", "stride") for axis in ("rows", "cols")}
        | {f"{name}_{axis}": 4 for name in ("big", "small", "tile") for axis in ("rows", "cols")}
        | {
            "images": 1,
            "tile_images": 1,
            "out_blocks": 1,
            "tile_out_blocks": 1,
            "in_blocks": 1,
            "stream_base": 0,
            "stream_row_stride": row,
            "output_base": RESULT,
            "output_row_stride": row,
            "scale": 1.0,
        }
        | changes
    )
    for name in ("stream_base", "output_base"):
        fields[name] += device.memory_base
    return isa.encode(Opcode.PASS, flags, **fields)


def _copy(flags=(), **changes):
    return lambda device: [copy_pass(device, flags, **changes), END]


ERROR_CASES = {
    # name: (descriptors of a device, code, index of the descriptor that stops or None for any)
    "opcode": (
        lambda device: [b"\xee" + bytes(isa.DESCRIPTOR_BYTES - 1), END],
        ErrorCode.UNKNOWN_OPCODE,
        0,
    ),
    "no images": (_copy(images=0), ErrorCode.ZERO_DIMENSION, 0),
    "no kernel": (_copy(kernel_cols=0), ErrorCode.ZERO_DIMENSION, 0),
    "kernel of 12": (
        lambda device: [copy_pass(device), copy_pass(device, kernel_rows=12), END],
        ErrorCode.OVERSIZED_DIMENSION,
        1,
    ),
    "stride of 5": (_copy(stride_cols=5), ErrorCode.OVERSIZED_DIMENSION, 0),
    "padding of a kernel": (_copy(pad_cols=1), ErrorCode.OVERSIZED_DIMENSION, 0),
    "tile of 5 rows of 4": (_copy(tile_rows=5), ErrorCode.OVERSIZED_DIMENSION, 0),
    "odd address": (_copy(output_base=RESULT + 8), ErrorCode.MISALIGNED_ADDRESS, 0),
    "read before the window": (_copy(stream_base=-16), ErrorCode.ADDRESS_OUT_OF_WINDOW, 0),
    "write past the window": (
        _copy(output_base=END_OF_WINDOW - 16),
        ErrorCode.ADDRESS_OUT_OF_WINDOW,
        0,
    ),
    "flag of another opcode": (_copy([Flag.UPDATE]), ErrorCode.ILLEGAL_FLAGS, 0),
    "flags that exclude each other": (
        _copy([Flag.POOL, Flag.UNPOOL]),
        ErrorCode.ILLEGAL_FLAGS,
        0,
    ),
    "NEXT without LOOP": (lambda device: [NEXT, END], ErrorCode.LOOP_NESTING, 0),
    "five nested loops": (lambda device: [*[LOOP] * 5, END], ErrorCode.LOOP_NESTING, 4),
    "no END": (lambda device: [copy_pass(device)], ErrorCode.PROGRAM_OVERRUN, None),
    "tile beyond the buffers": (
        _copy(
            big_rows=9999, small_rows=9999, tile_rows=9999, big_cols=9, small_cols=9, tile_cols=9
        ),
        ErrorCode.TILE_OVERFLOW,
        0,
    ),
}


def run(driver, *descriptors, end_of_window=END_OF_WINDOW):
    """Run a program of these descriptors, in a window at the start of memory."""
    base = driver.device.memory_base
    driver.write(base + PROGRAM, b"".join(descriptors))
    return driver.run(base + PROGRAM, len(descriptors), (base, base + end_of_window))


def check_error(device, name):
    """The program stops with its code and place, and the next one runs."""
    descriptors, code, index = ERROR_CASES[name]
    driver = Driver(device)
    with pytest.raises(DeviceProgramError) as error:
        run(driver, *descriptors(device))
    assert error.value.code is code
    assert index is None or error.value.descriptor == index
    assert isa.ERROR_HELP[code] in str(error.value) and str(error.value).endswith(".")
    values = np.arange(16 * driver.config.group, dtype="<f4").tobytes()
    driver.write(device.memory_base, values)
    run(driver, copy_pass(device), END)
    assert driver.read(device.memory_base + RESULT, len(values)) == values


def check_label_error(device):
    """A label that is no class stops the LOSS; the next one runs."""
    logits = np.zeros((2, 3), np.float32)
    with pytest.raises(DeviceProgramError) as error:
        layers.softmax_cross_entropy(device, logits, np.array([1, 3]))
    assert error.value.code is ErrorCode.LABEL_OUT_OF_RANGE
    loss, _, _ = layers.softmax_cross_entropy(device, logits, np.array([1, 2]))
    assert abs(loss - np.log(3)) < 1e-5
