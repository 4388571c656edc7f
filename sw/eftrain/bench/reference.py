"""What layer passes compute, in float64 and without tiles: the reference of the RTL runs.

Written from the texts of ``eftrain_hdl/isa.py``. Tensors are flat arrays of words, read and written
through the strides of a pass, exactly as the device addresses them.
"""

from dataclasses import dataclass

import numpy as np

from eftrain_hdl.isa import COEFFICIENT_VECTORS, PARAMETER_VECTORS, PARTIAL_BEATS, Flag, Opcode

from ..plan.layout import WORD, Operand, ceil_div
from ..plan.passes import BACKWARD_GRID

__all__ = ["Reference", "ports", "tensor_words"]

BEAT_WORDS = 4


@dataclass(frozen=True)
class Port:
    """One operand of a pass as an array ``[images, blocks, rows, cols, T]`` or of records."""

    operand: Operand
    shape: tuple
    strides: tuple
    """Words."""

    @property
    def words(self):
        """Words from the tensor's first to the last one it touches, both included."""
        spans = ((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        return self._offset + 1 + sum(spans)

    def view(self, words):
        """The operand as an array over the flat tensor ``words``; writes go through."""
        strides = [stride * words.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(words[self._offset :], self.shape, strides)

    @property
    def _offset(self):
        return self.operand.offset // WORD


def ports(layer_pass, group):
    """``{role: Port}`` of everything the pass reads or writes; roles are the ISA's field names."""
    if layer_pass.opcode is Opcode.LOSS:
        return _loss_ports(layer_pass, group)
    if layer_pass.opcode is Opcode.NORM:
        return _record_ports(layer_pass, group)
    g, flags = layer_pass.geometry, layer_pass.flags
    is_wu = layer_pass.opcode is Opcode.CONV_WU
    backward = layer_pass.opcode in BACKWARD_GRID
    moves_blocks = layer_pass.opcode in (Opcode.PASS, Opcode.PASS_BP) or is_wu
    streamed = layer_pass.out_blocks if moves_blocks else layer_pass.in_blocks
    result = layer_pass.grid
    grids = {"stream": g.small if backward or is_wu else g.big, "second": result, "side": result}
    grids["companion"], grids["norm"] = grids["stream"], result
    blocks = dict.fromkeys(("output", "second", "side", "norm", "auxiliary"), layer_pass.out_blocks)
    blocks |= {"stream": streamed, "companion": streamed, "stationary": layer_pass.in_blocks}
    if Flag.TEE in flags:
        grids["second"], blocks["second"] = g.big, streamed
    scaled = {"pool": (n // 2 for n in result), "unpool": (2 * n for n in result)}
    grids["output"] = result
    if Flag.POOL in flags:
        grids["output"] = tuple(scaled["pool"])
    grids["auxiliary"] = result
    if Flag.UNPOOL in flags:
        grids["auxiliary"] = grids["output"] = tuple(scaled["unpool"])
    grids["stationary"] = g.big

    found = {}
    for role, grid in grids.items():
        operand = getattr(layer_pass, role)
        if operand is None or (is_wu and role in ("output", "side")):
            continue
        if role == "stationary" and not is_wu:
            continue
        strides = (operand.image_stride, operand.block_stride, operand.row_stride)
        strides = (*(stride // WORD for stride in strides), group, 1)
        found[role] = Port(operand, (g.images, blocks[role], *grid, group), strides)
    found |= _weight_ports(layer_pass, group)
    found |= _record_ports(layer_pass, group, streamed)
    return found


def _weight_ports(layer_pass, group):
    """Blocks ``[out, in, tap, m, n]``; BP walks the same blocks with m and n swapped."""
    is_wu = layer_pass.opcode is Opcode.CONV_WU
    if is_wu:
        operands = {"output": layer_pass.output}
        if layer_pass.side:
            # The momentum lies as the weights do.
            operands["side"] = Operand(
                layer_pass.side.tensor, layer_pass.output.image_stride,
                layer_pass.output.block_stride,
            )  # fmt: skip
        order = ("block_stride", "image_stride")
    else:
        operands = {"stationary": layer_pass.stationary} if layer_pass.stationary else {}
        order = ("image_stride", "block_stride")
    shape = (layer_pass.out_blocks, layer_pass.in_blocks, layer_pass.geometry.taps, group, group)
    return {
        role: Port(
            operand,
            shape,
            (*(getattr(operand, name) // WORD for name in order), group * group, group, 1),
        )
        for role, operand in operands.items()
    }


def _record_ports(layer_pass, group, streamed=0):
    """Vectors and records, one a channel block."""
    out, bases = layer_pass.out_blocks, layer_pass.bases
    is_wu = layer_pass.opcode is Opcode.CONV_WU
    statistics = (group + 2 * PARTIAL_BEATS * BEAT_WORDS,)
    bias_stride = layer_pass.scalars.get("bias_block_stride", group * WORD) // WORD
    vectors = 1 if is_wu or layer_pass.opcode is Opcode.CONV_FP else COEFFICIENT_VECTORS
    shapes = {
        "bias": ((out, vectors, group), (bias_stride, group, 1)),
        "bias_momentum": ((out, 1, group), (group, group, 1)),
        "stream_coefficients": _records(streamed, COEFFICIENT_VECTORS, group),
        "stationary_coefficients": _records(layer_pass.in_blocks, COEFFICIENT_VECTORS, group),
        "coefficients": _records(out, COEFFICIENT_VECTORS, group),
        "pair": _records(out, COEFFICIENT_VECTORS, group),
        "parameters": _records(out, PARAMETER_VECTORS, group),
        "statistics": ((out, *statistics), (*statistics, 1)),
    }
    return {
        role: Port(entry if isinstance(entry, Operand) else Operand(entry), *shapes[role])
        for role, entry in bases.items()
    }


def _records(count, vectors, group):
    return (count, vectors, group), (vectors * group, group, 1)


def _loss_ports(layer_pass, group):
    images, classes = layer_pass.scalars["images"], layer_pass.scalars["classes"]
    width = ceil_div(classes, group) * group
    found = {
        "stream": Port(layer_pass.stream, (images, width), (width, 1)),
        "side": Port(layer_pass.side, (images,), (1,)),
        "bias": Port(Operand(layer_pass.bases["bias"]), (4,), (1,)),
    }
    if layer_pass.output:
        found["output"] = Port(layer_pass.output, (images, width), (width, 1))
    return found


def tensor_words(layer_passes, group):
    """``{tensor: words}``: the size of every tensor that the passes touch."""
    sizes = {}
    for layer_pass in layer_passes:
        for port in ports(layer_pass, group).values():
            name = port.operand.tensor
            sizes[name] = max(sizes.get(name, 0), port.words)
    return sizes


class Reference:
    """Executes passes on float64 tensors.

    Parameters
    ----------
    group : int
        The channel group T.
    tensors : dict
        Name to flat array of words; converted to float64 and changed by ``run``.
    """

    def __init__(self, group, tensors):
        self.group = group
        self.tensors = {name: np.asarray(v, np.float64).copy() for name, v in tensors.items()}

    def run(self, layer_passes):
        for layer_pass in layer_passes:
            self._pass, self._flags = layer_pass, layer_pass.flags
            self._ports = ports(layer_pass, self.group)
            if layer_pass.opcode is Opcode.LOSS:
                self._loss()
            elif layer_pass.opcode is Opcode.NORM:
                self._norm()
            elif layer_pass.opcode is Opcode.CONV_WU:
                self._weight_gradient()
            else:
                self._finish(self._result(self._streamed()))

    def _view(self, role):
        port = self._ports[role]
        return port.view(self.tensors[port.operand.tensor])

    # -- operands ----------------------------------------------------------------------------------

    def _normalised(self, role, coefficients, relu, companion=False):
        x = self._view(role)
        records = self._view(coefficients)[:, :, None, None, :]
        value = records[:, 0] * x + records[:, 2]
        if companion:
            value = value + records[:, 1] * self._view("companion")
        return np.maximum(value, 0) if relu else value

    def _streamed(self):
        """The streamed operand as the array sees it."""
        flags = self._flags
        is_wu = self._pass.opcode is Opcode.CONV_WU
        if Flag.NORM_DY in flags:
            return self._normalised("stream", "stream_coefficients", False, companion=True)
        if Flag.NORM_X not in flags or is_wu:
            return self._view("stream")
        x = self._normalised(
            "stream", "stream_coefficients", Flag.X_RELU in flags, Flag.X_PAIR in flags
        )
        if Flag.TEE in flags:
            self._view("second")[...] = x
        return x

    def _taps(self):
        """``(tap, small slices, big slices)``: the pixels of the two grids that meet there."""
        g = self._pass.geometry
        for index in range(g.taps):
            small, big = [], []
            for axis, tap in enumerate(divmod(index, g.kernel[1])):
                stride, pad = g.stride[axis], g.pad[axis]
                first = max(0, ceil_div(pad - tap, stride))
                last = min(g.small[axis] - 1, (g.big[axis] - 1 + pad - tap) // stride)
                start = first * stride + tap - pad
                small.append(slice(first, max(first, last + 1)))
                big.append(slice(start, start + max(0, last - first) * stride + 1, stride))
                if last < first:
                    big[-1] = slice(0, 0)
            yield index, tuple(small), tuple(big)

    def _result(self, x):
        """FP, BP, PASS and PASS_BP: ``[images, out blocks, rows, cols, T]``."""
        layer_pass, group = self._pass, self.group
        scatter = layer_pass.opcode in BACKWARD_GRID
        copies = layer_pass.opcode in (Opcode.PASS, Opcode.PASS_BP)
        images, out = layer_pass.geometry.images, layer_pass.out_blocks
        y = np.zeros((images, out, *layer_pass.grid, group))
        for tap, small, big in self._taps():
            source, target = (small, big) if scatter else (big, small)
            part = x[:, :, *source]
            if copies:
                y[:, :, *target] += np.float64(np.float32(layer_pass.scalars["scale"])) * part
                continue
            blocks = self._view("stationary")[:, :, tap]
            # FP: [out, in, m, n] with m of out; BP: [out, in, m, n] with n of out.
            matrix = blocks.transpose((1, 2, 0, 3) if scatter else (1, 3, 0, 2))
            matrix = matrix.reshape(blocks.shape[1] * group, out * group)
            rows, cols = part.shape[2:4]
            lanes = part.transpose(0, 2, 3, 1, 4).reshape(-1, len(matrix))
            sums = (lanes @ matrix).reshape(images, rows, cols, out, group)
            y[:, :, *target] += sums.transpose(0, 3, 1, 2, 4)
        return y

    # -- the drain ---------------------------------------------------------------------------------

    def _finish(self, y):
        flags = self._flags
        forward = self._pass.opcode is Opcode.CONV_FP
        if Flag.BIAS in flags:
            y = y + self._view("bias")[:, 0, None, None, :]
        if Flag.ADD in flags:
            y = y + self._view("auxiliary")
        records = self._view("bias")[:, :, None, None, :] if Flag.STATISTICS in flags and (
            not forward or Flag.POOL in flags
        ) else None  # fmt: skip
        if Flag.SIDE_MASK in flags:
            y = np.where(self._view("side") > 0, y, 0)
        if Flag.NORM_MASK in flags:
            y = np.where(records[:, 0] * self._view("norm") + records[:, 2] > 0, y, 0)
        if flags & {Flag.STATISTICS, Flag.SUMS}:
            self._statistics(y, forward, records)
        if Flag.RELU in flags:
            y = np.maximum(y, 0)
        if Flag.KEEP in flags:
            self._view("second")[...] = y
        inverted = records[:, 0] < 0 if records is not None else np.zeros((1, 1, 1, 1), bool)
        if Flag.POOL in flags:
            windows = _pixels(y)
            y = np.where(inverted, windows.min(axis=-1), windows.max(axis=-1))
        if Flag.UNPOOL in flags:
            windows = _pixels(self._view("auxiliary"))
            chosen = np.where(inverted, windows.argmin(axis=-1), windows.argmax(axis=-1))
            target = _windows(self._view("output"))
            for place in range(4):
                target[..., place // 2, place % 2] = np.where(chosen == place, y, 0)
        else:
            self._view("output")[...] = y

    def _statistics(self, y, forward, coefficients):
        """One record a block; the totals lie in the first partial sum of each channel."""
        images, blocks = y.shape[:2]
        records = self._view("statistics")
        records[...] = 0
        pixels = y.transpose(1, 0, 2, 3, 4).reshape(blocks, -1, self.group)
        shift, first, other = np.zeros((blocks, self.group)), pixels, np.zeros_like(pixels)
        if forward:
            shift = pixels[:, 0]
            other = first = pixels - shift[:, None]
        elif Flag.STATISTICS in self._flags:
            norm = self._view("norm").transpose(1, 0, 2, 3, 4).reshape(pixels.shape)
            other = norm - coefficients[:, 3, 0]
        size = PARTIAL_BEATS * BEAT_WORDS
        records[:, : self.group] = shift
        records[:, self.group :][:, : self.group] = first.sum(axis=1)
        records[:, self.group + size :][:, : self.group] = (first * other).sum(axis=1)

    # -- weight gradient ---------------------------------------------------------------------------

    def _weight_gradient(self):
        flags, group = self._flags, self.group
        dy = self._streamed()
        x = self._view("stationary")
        if Flag.NORM_X in flags:
            x = self._normalised("stationary", "stationary_coefficients", Flag.X_RELU in flags)
        gradient = np.zeros(self._ports["output"].shape)
        for tap, small, big in self._taps():
            left = dy[:, :, *small].transpose(1, 4, 0, 2, 3).reshape(len(gradient) * group, -1)
            right = x[:, :, *big].transpose(1, 4, 0, 2, 3).reshape(gradient.shape[1] * group, -1)
            blocks = (left @ right.T).reshape(len(gradient), group, gradient.shape[1], group)
            gradient[:, :, tap] = blocks.transpose(0, 2, 1, 3)
        self._update("output", "side", gradient)
        if Flag.BIAS in flags:
            self._update("bias", "bias_momentum", dy.sum(axis=(0, 2, 3))[:, None])

    def _update(self, parameter, velocity, gradient):
        target = self._view(parameter)
        if Flag.UPDATE not in self._flags:
            target[...] = gradient
            return
        rate, decay, factor = (
            np.float64(np.float32(self._pass.scalars.get(name, 0.0)))
            for name in ("learning_rate", "weight_decay", "momentum")
        )
        step = gradient + decay * target
        if Flag.MOMENTUM in self._flags:
            moving = self._view(velocity)
            step = factor * moving + step
            moving[...] = step
        target[...] = target - rate * step

    # -- vector unit -------------------------------------------------------------------------------

    def _sums(self):
        """``(shift, sum 1, sum 2)`` of each block ``[blocks, T]``."""
        records, group, size = self._view("statistics"), self.group, PARTIAL_BEATS * BEAT_WORDS
        sets = [records[:, group + k * size :][:, :size] for k in (0, 1)]
        return records[:, :group], *(s.reshape(len(s), -1, group).sum(axis=1) for s in sets)

    def _norm(self):
        flags, scalars = self._flags, self._pass.scalars
        parameters, target = self._view("parameters"), self._view("coefficients")
        gamma, beta = parameters[:, 0].copy(), parameters[:, 1].copy()
        part = np.float64(np.float32(scalars.get("scale", 0.0)))
        if Flag.GRADIENT in flags:
            _, first, second = self._sums()
            mean, rstd = parameters[:, 6], parameters[:, 7]
            k0 = gamma * rstd
            k1 = -k0 * rstd**2 * second * part
            target[:, 0], target[:, 1], target[:, 3] = k0, k1, mean
            target[:, 2] = -k0 * first * part - k1 * mean
            if Flag.UPDATE in flags:
                self._update_vector(parameters, 0, second * rstd)
                self._update_vector(parameters, 1, first)
            return
        if Flag.FROZEN in flags:
            mean, variance = parameters[:, 2], parameters[:, 3]
        else:
            shift, first, second = self._sums()
            mean = shift + first * part
            variance = np.maximum(second * part - (first * part) ** 2, 0)
            rate = scalars["statistics_momentum"]
            parameters[:, 2] += rate * (mean - parameters[:, 2])
            parameters[:, 3] += rate * (variance * scalars["unbias"] - parameters[:, 3])
        rstd = 1 / np.sqrt(variance + scalars["epsilon"])
        if Flag.FROZEN not in flags:
            parameters[:, 6], parameters[:, 7] = mean, rstd
        k0 = gamma * rstd
        target[:, 0], target[:, 1], target[:, 3] = k0, 1, mean
        target[:, 2] = beta - mean * k0
        if Flag.X_PAIR in flags:
            pair = self._view("pair")
            target[:, 1] = pair[:, 0]
            target[:, 2] += pair[:, 2]

    def _update_vector(self, parameters, index, gradient):
        rate, decay, factor = (
            np.float64(np.float32(self._pass.scalars.get(name, 0.0)))
            for name in ("learning_rate", "weight_decay", "momentum")
        )
        step = gradient + decay * parameters[:, index]
        if Flag.MOMENTUM in self._flags:
            step = factor * parameters[:, 4 + index] + step
            parameters[:, 4 + index] = step
        parameters[:, index] -= rate * step

    def _loss(self):
        images, classes = (self._pass.scalars[name] for name in ("images", "classes"))
        logits = self._view("stream")[:, :classes]
        # Labels and the counts of a record are integers in the same words.
        labels = self._view("side").astype(np.int64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        powers = np.exp(shifted)
        total = powers.sum(axis=1, keepdims=True)
        rows = np.arange(images)
        part = self._pass.scalars["scale"]
        self._view("bias")[0] = (np.log(total[:, 0]) - shifted[rows, labels]).sum() * part
        if Flag.GRADIENT in self._flags:
            target = self._view("output")
            target[...] = 0
            target[:, :classes] = powers / total * part
            target[rows, labels] -= part


def _windows(array):
    """``[images, blocks, rows, cols, T]`` seen as 2x2 windows ``[images, blocks, rows/2, cols/2, T,
    2, 2]``; writes go through."""
    images, blocks, rows, cols, group = array.shape
    a, b, r, c, t = array.strides
    shape = (images, blocks, rows // 2, cols // 2, group, 2, 2)
    return np.lib.stride_tricks.as_strided(array, shape, (a, b, 2 * r, 2 * c, t, r, c))


def _pixels(array):
    """The pixels of each window in row-major order on the last axis, as a copy."""
    windows = _windows(array)
    return windows.reshape(*windows.shape[:-2], 4)
