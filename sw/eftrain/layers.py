"""Single layer passes on a device, numpy in and numpy out: for tests and experiments.

Planner, packer and driver are those of the ``Trainer``. Results are filled with NaN before a pass
runs, so that what a pass does not write is seen. Passes on maps take ``tile`` to force a tile
shape.
"""

import numpy as np

from eftrain_hdl.isa import DESCRIPTOR_BYTES

from .driver import Driver
from .graph import PICTURE, Conv2d, Linear, MaxPool2d, layer_name
from .pack import program
from .pack.parameters import pack_parameters, unpack_parameters
from .pack.tensors import pack_labels, pack_map, unpack_map, unpack_records
from .plan import passes
from .plan.backward import MOMENTUM
from .plan.layout import RECORD_BYTES, WORD, FeatureMap
from .plan.memory import MemoryMap
from .plan.passes import Finish, Gradient, Load
from .plan.search import choose
from .plan.stages import Stage


def conv_forward(device, x, w, b=None, stride=1, padding=0, relu=False, pool=False, tile=None):
    """``[B, N, H, W]`` and ``[M, N, Kr, Kc]`` (or ``[M, N*H*W]``: fully connected) to the output.

    Fully connected outputs are ``[B, M, 1, 1]``. ``pool`` takes the 2x2 maximum on the way out; the
    output then has even rows and columns before it.
    """
    stage, run = _stage(device, x.shape, w, b, stride, padding)
    pooled = _halved(stage.y) if pool else None
    layer_pass = passes.forward(
        stage.matrix(len(x)), Load(stage.x), stage.y, relu=relu, pooled=pooled, keep=False
    )
    y = pooled or stage.y
    run.input(stage.x, x)
    run.parameters(stage, w, b)
    run.result(y)
    return run(layer_pass, tile).map(y)


def conv_input_gradient(device, shape, w, dy, stride=1, padding=0, mask=None, tile=None):
    """Gradient of the input of ``shape`` (B, N, H, W), zero where ``mask`` is not positive."""
    stage, run = _stage(device, shape, w, None, stride, padding)
    dx = FeatureMap("dx", stage.x.shape, stage.x.group)
    finish = Finish(mask=stage.x if mask is not None else None)
    layer_pass = passes.input_gradient(stage.matrix(shape[0]), Gradient(stage.y), dx, finish)
    run.input(stage.y, dy)
    run.parameters(stage, w)
    if mask is not None:
        run.input(stage.x, mask)
    run.result(dx)
    return run(layer_pass, tile).map(dx)


def conv_weight_gradient(device, x, dy, w_shape, bias=True, stride=1, padding=0, tile=None):
    """``(dW, db)``, ``db`` None without ``bias``; raw sums over images and pixels."""
    w, b = np.full(w_shape, np.nan, np.float32), None
    if bias:
        b = np.full(w_shape[0], np.nan, np.float32)
    stage, run = _stage(device, x.shape, w, b, stride, padding)
    layer_pass = passes.weight_gradient(
        stage.matrix(len(x)), Load(stage.x), Gradient(stage.y), stage.weight, stage.bias
    )
    run.input(stage.x, x)
    run.input(stage.y, dy)
    run.parameters(stage, w, b)
    values = unpack_parameters([stage], run(layer_pass, tile).bytes)
    return values[stage.weight], values.get(stage.bias)


def conv_update(device, x, dy, parameters, momentum, sgd, stride=1, padding=0, tile=None):
    """One SGD step in place: new ``((w, b), (momentum of w, momentum of b))``.

    ``parameters`` and ``momentum`` are pairs; ``b`` and its momentum may be None.
    """
    stage, run = _stage(device, x.shape, *parameters, stride, padding)
    names = MOMENTUM + stage.weight, MOMENTUM + f"{stage.index}.bias"
    layer_pass = passes.weight_gradient(
        stage.matrix(len(x)),
        Load(stage.x),
        Gradient(stage.y),
        stage.weight,
        stage.bias,
        (sgd, *names),
    )
    run.input(stage.x, x)
    run.input(stage.y, dy)
    run.parameters(stage, *parameters)
    run.parameters(stage, *momentum, prefix=MOMENTUM)
    run(layer_pass, tile)
    new = unpack_parameters([stage], run.bytes)
    moved = unpack_parameters([stage], lambda name: run.bytes(MOMENTUM + name))
    return tuple((values[stage.weight], values.get(stage.bias)) for values in (new, moved))


def max_pool(device, x, tile=None):
    """2x2 maximum with stride 2; an odd last row or column is left out."""
    run = _Run(device, len(x))
    source = FeatureMap("x", x.shape[1:], run.group)
    result = _halved(source)
    run.input(source, x)
    run.result(result)
    return run(passes.pool(MaxPool2d.kind, len(x), Load(source), result), tile).map(result)


def max_pool_backward(device, x, dy, masked=False, tile=None):
    """Gradient of the input of ``max_pool``; ``masked``: zero where the maximum is not positive."""
    run = _Run(device, len(x))
    source = FeatureMap("x", x.shape[1:], run.group)
    result = _halved(source)
    dx = FeatureMap("dx", source.shape, source.group)
    run.input(source, x)
    run.input(result, dy)
    run.input(dx, np.zeros_like(x))  # Odd last rows and columns are not written.
    finish = Finish(windows=source)
    if masked:
        maxima = FeatureMap("maxima", result.shape, result.group)
        rows, cols = (2 * size for size in result.grid)
        windows = x[:, :, :rows, :cols].reshape(*x.shape[:2], rows // 2, 2, cols // 2, 2)
        run.input(maxima, windows.max(axis=(3, 5)))
        finish = Finish(windows=source, mask=maxima)
    layer_pass = passes.finish_gradient(MaxPool2d.kind, len(x), result, dx, finish)
    return run(layer_pass, tile).map(dx)


def softmax_cross_entropy(device, logits, labels):
    """``(mean loss, correct answers, gradient [B, classes])`` of logits ``[B, classes]``."""
    run = _Run(device, len(logits))
    scores = passes.linear_map("logits", logits.shape[1], run.group)
    gradient = passes.linear_map("gradient", logits.shape[1], run.group)
    run.input(scores, logits[:, :, None, None])
    run.result(gradient)
    run.tensors["labels"] = pack_labels(labels, len(labels))
    run.tensors["record"] = bytes(RECORD_BYTES)
    layer_pass = passes.loss(len(logits), logits.shape[1], scores, "labels", "record", gradient)
    result = run(layer_pass, None).map(gradient)[:, :, 0, 0]
    record = unpack_records(run.bytes("record"))[0]
    return float(record["loss"]), int(record["correct"]), result


def _stage(device, shape, w, b, stride, padding):
    """The layer that ``w`` and the input ``shape`` describe, as a stage, and its run."""
    run = _Run(device, shape[0])
    if w.ndim == 2:
        layer = Linear(w.shape[1], w.shape[0], b is not None)
        size = (layer.out_features, 1, 1)
    else:
        layer = Conv2d(w.shape[1], w.shape[0], w.shape[2:], stride, padding, b is not None)
        size = layer.output_shape(shape[1:])
    x, y = FeatureMap("x", tuple(shape[1:]), run.group), FeatureMap("y", size, run.group)
    return Stage(0, layer, layer_name(0, layer), Stage(PICTURE, None, "x", None, x), y), run


def _halved(feature_map):
    return FeatureMap("pooled", MaxPool2d().output_shape(feature_map.shape), feature_map.group)


class _Run:
    """Tensors of one pass, and the program that runs it."""

    def __init__(self, device, images):
        self.driver = Driver(device)
        self.images = images
        self.tensors = {}

    @property
    def group(self):
        return self.driver.config.group

    def input(self, feature_map, values):
        self.tensors[feature_map.name] = pack_map(values, self.group).tobytes()

    def result(self, feature_map):
        """Reserve a map that the pass writes."""
        words = self.images * feature_map.image_bytes // WORD
        self.tensors[feature_map.name] = np.full(words, np.nan, "<f4").tobytes()

    def parameters(self, stage, w, b=None, prefix=""):
        values = {stage.weight: w, f"{stage.index}.bias": b}
        for name, data in pack_parameters([stage], values).items():
            self.tensors[prefix + name] = data

    def __call__(self, layer_pass, tile):
        if not layer_pass.exclusive:
            layer_pass = choose(layer_pass, self.driver.config, tile)
        device = self.driver.device
        self.memory = MemoryMap(device.memory_base, device.memory_size)
        for name, data in self.tensors.items():
            self.memory.add(name, len(data))
        addresses = {name: region.address for name, region in self.memory.regions.items()}
        code = program.encode_pass(layer_pass, program.Slots(addresses, {})) + program.end()
        address = self.memory.add("program", len(code)).address
        self.memory.check()
        for name, data in {**self.tensors, "program": code}.items():
            self.driver.write(self.memory.address(name), data)
        records = (addresses["record"], 1) if "record" in addresses else (0, 0)
        self.outcome = self.driver.run(
            address,
            len(code) // DESCRIPTOR_BYTES,
            window=(self.memory.base, self.memory.limit),
            records=records,
        )
        return self

    def bytes(self, name):
        region = self.memory.regions[name]
        return self.driver.read(region.address, region.nbytes)

    def map(self, feature_map):
        data = self.bytes(feature_map.name)
        return unpack_map(data, self.images, feature_map.shape, self.group)
