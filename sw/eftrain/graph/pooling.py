"""Max-pooling and average pooling."""

from dataclasses import dataclass, field

from eftrain_hdl.isa import MAX_KERNEL, MAX_STRIDE

from .values import LATER, Layer, no_pictures, pair, set_field

_AXES = ("rows", "columns")


@dataclass(frozen=True, repr=False)
class MaxPool2d(Layer):
    """Maximum over windows; what is left over at the last row or column belongs to no window.

    Parameters
    ----------
    kernel_size : int or tuple of int
        Rows and columns of a window, 2 or 3.
    stride : int or tuple of int, optional
        Distance of windows, 2 or 3; by default as large as they are.
    padding : int or tuple of int
        Rows and columns on each side that no maximum is taken from, 0 or 1.
    """

    kernel_size: int | tuple = 2
    stride: int | tuple | None = field(default=None, metadata=LATER)
    padding: int | tuple = field(default=0, metadata=LATER)

    kind = "MaxPool2d"

    def __post_init__(self):
        if self.stride is None:
            set_field(self, "stride", self.kernel_size)
        for name in ("kernel_size", "stride", "padding"):
            set_field(self, name, pair(getattr(self, name), f"MaxPool2d {name}"))

    def output_shape(self, shape):
        """Shape (C, rows, columns) that follows ``shape``; a string says what is unsupported."""
        for axis, kernel, stride, pad in zip(
            _AXES, self.kernel_size, self.stride, self.padding, strict=True
        ):
            if kernel not in (2, 3):
                return f"has windows of {kernel} {axis}; use 2 or 3"
            if stride not in (2, 3):
                return f"has stride {stride} over {axis}; use 2 or 3"
            if pad not in (0, 1):
                return f"has padding {pad} over {axis}; use 0 or 1"
        if problem := no_pictures(shape):
            return problem
        sizes = list(zip(shape[1:], self.kernel_size, self.stride, self.padding, strict=True))
        if any(size + 2 * pad < kernel for size, kernel, _, pad in sizes):
            least = "x".join(str(max(1, kernel - 2 * pad)) for _, kernel, _, pad in sizes)
            return f"needs pictures of at least {least} but receives {shape[1]}x{shape[2]}"
        return (
            shape[0],
            *((size + 2 * pad - kernel) // stride + 1 for size, kernel, stride, pad in sizes),
        )


@dataclass(frozen=True, repr=False)
class AvgPool2d(Layer):
    """Mean over windows as far apart as they are large; None: one window, the whole picture."""

    kernel_size: int | tuple | None = None

    kind = "AvgPool2d"

    def __post_init__(self):
        if self.kernel_size is not None:
            set_field(self, "kernel_size", pair(self.kernel_size, "AvgPool2d kernel_size"))

    def window(self, shape):
        """(rows, columns) of a window on pictures of ``shape`` (C, H, W)."""
        return self.kernel_size or shape[1:]

    def output_shape(self, shape):
        """Shape (C, rows, columns) that follows ``shape``; a string says what is unsupported."""
        if problem := no_pictures(shape):
            return problem
        sizes = []
        for axis, size, kernel in zip(_AXES, shape[1:], self.window(shape), strict=True):
            if not 1 <= kernel <= MAX_KERNEL:
                return f"has windows of {kernel} {axis}; the device takes 1 to {MAX_KERNEL}"
            if size < kernel:
                return f"has windows of {kernel} {axis} but its input has {size}"
            sizes.append(size // kernel)
            if sizes[-1] > 1 and kernel > MAX_STRIDE:
                return (
                    f"has several windows of {kernel} {axis}; the device takes windows of up to "
                    f"{MAX_STRIDE}, or a single one of up to {MAX_KERNEL}"
                )
        return (shape[0], *sizes)
