"""Stages: what one forward descriptor computes together, and how others read it."""

from dataclasses import dataclass, field
from math import prod

from ..errors import UserError
from ..graph import BatchNorm2d, Conv2d, Linear, MaxPool2d
from . import passes
from .fold import Fold
from .geometry import Geometry
from .layout import BETA, FeatureMap, Operand, WeightTensor, parameter_bytes

BIASES = "biases"
"""Tensor of the biases that lie as the offsets of batch-norms, in parameter records."""


@dataclass(frozen=True)
class Norm:
    """A batch-norm on the device; tensors are named after its number in the network.

    ``name`` is its own for messages, ``owner`` that of the layer whose result ``y`` it normalises.
    ``trained``: a step updates scale and offset; the running statistics move in any case.
    """

    index: int
    layer: BatchNorm2d
    y: FeatureMap
    name: str
    owner: str
    trained: bool = True

    @property
    def blocks(self):
        return self.y.blocks

    @property
    def parameters(self):
        return f"{self.index}.parameters"

    @property
    def statistics(self):
        return f"{self.index}.statistics"

    @property
    def coefficients(self):
        """Records with which readers of the map normalise it."""
        return f"{self.index}.coefficients"

    @property
    def gradient_coefficients(self):
        """Records with which readers of the gradient form that of the convolution's result."""
        return f"{self.index}.gradient_coefficients"

    def pixels(self, images):
        """Values that a channel's mean and variance are taken over; ``UserError`` if only one."""
        pixels = images * prod(self.y.grid)
        if pixels == 1:
            raise UserError(
                f"{self.name} has one value a channel in a batch of one picture, so no variance; "
                "choose a batch size that leaves no picture alone."
            )
        return pixels


@dataclass(eq=False)
class Stage:
    """One result of the network and how it is computed.

    Attributes
    ----------
    index, layer, name : int, layer, str
        The network's layer it stands for.
    source : Stage
        What it reads; None for the network's input itself.
    y : FeatureMap
        What the forward descriptor computes; with ``norm`` before the normalisation.
    norm : Norm, optional
    addend : Stage, optional
        Added to the (normalised) result.
    relu : bool
    pooled : FeatureMap, optional
        2x2 maxima of ``y``, which readers then read.
    fold : Fold, optional
        How the host packed the input; ``source.y`` is the packed map.
    whole_kernel : bool
        A fully connected layer runs as a convolution whose kernel is the whole map.
    readers : list
        ``(Stage, role)`` in forward order; roles are "source", "addend" and, with None, "loss".
    record : int, optional
        Number of its first record in ``BIASES``. Without one its bias is a tensor of its own, whose
        gradient the weight gradient's pass computes if it is trained.
    trained : frozenset of str
        ``"weight"`` and ``"bias"`` if a step updates them.
    needs_gradient : bool
        Whether a step updates anything at or below the stage, so that the gradient of its result is
        computed.
    """

    index: int
    layer: object
    name: str
    source: "Stage | None"
    y: FeatureMap
    norm: Norm | None = None
    addend: "Stage | None" = None
    relu: bool = False
    pooled: FeatureMap | None = None
    fold: Fold | None = None
    whole_kernel: bool = False
    readers: list = field(default_factory=list)
    record: int | None = None
    trained: frozenset = frozenset({"weight", "bias"})
    needs_gradient: bool = False

    def __post_init__(self):
        # Pooling on the drain makes ``y`` smaller, but not the layer.
        self._pixels = prod(self.y.grid)

    @property
    def x(self):
        """The map it reads, as readers see it."""
        return self.source.result

    @property
    def sources(self):
        """Stages that must be computed before this one."""
        return [stage for stage in (self.source, self.addend) if stage]

    # -- results -----------------------------------------------------------------------------------

    @property
    def result(self):
        """The map readers load."""
        return self.pooled or self.y

    @property
    def virtual(self):
        """Whether readers have to form the values on load."""
        return self.norm is not None

    @property
    def plain(self):
        """The map of the final values, which exists if not ``virtual`` or where it was written."""
        if not self.virtual:
            return self.result
        return FeatureMap(f"activation.{self.index}", self.result.shape, self.y.group)

    @property
    def joined(self):
        """Whether the only reader adds it as it is, normalising both addends at once."""
        return (
            self.virtual
            and not (self.relu or self.addend)
            and [bool(reader and reader.norm and role == "addend") for reader, role in self.readers]
            == [True]
        )

    def written(self, training):
        """Whether the final values of a ``virtual`` stage are written for other readers."""
        if not self.virtual or self.joined:
            return False
        reader, role = self.readers[0]
        if len(self.readers) > 1 or role != "source":
            return True
        # Neither a mask nor the weight gradient's pass can form a sum of two maps.
        masks = self.relu and self.needs_gradient
        if training and self.addend and (masks or reader.trains_weight):
            return True
        # Un-pooling needs windows of final values; a vector has no record for each of its blocks.
        unpools = isinstance(reader.layer, MaxPool2d) and self.needs_gradient
        return reader.flat or training and unpools

    # -- what a training step updates --------------------------------------------------------------

    @property
    def trains_weight(self):
        return self.trainable and "weight" in self.trained

    @property
    def trains_bias(self):
        """Whether a step updates a bias that reaches the output."""
        return "bias" in self.trained and self.adds_bias

    @property
    def trains(self):
        """Whether a step updates any parameter of the stage."""
        return self.trains_weight or self.trains_bias or bool(self.norm and self.norm.trained)

    @property
    def differentiates(self):
        """Whether the gradient goes on behind the addend: to its parameters or its source."""
        return self.trains or bool(self.source and self.source.needs_gradient)

    # -- convolutions and fully connected layers ---------------------------------------------------

    @property
    def trainable(self):
        """Whether it has weights, which may be frozen all the same."""
        return isinstance(self.layer, (Conv2d, Linear))

    @property
    def weight(self):
        return f"{self.index}.weight"

    @property
    def adds_bias(self):
        """Whether the device adds a bias; a batch-norm would take it off."""
        return self.trainable and self.layer.bias and not self.norm

    @property
    def bias(self):
        """Tensor of a bias that lies alone, or None."""
        return f"{self.index}.bias" if self.adds_bias and self.record is None else None

    def bias_operand(self):
        """Where the bias lies, wherever that is, or None."""
        if not self.adds_bias:
            return None
        group, vector = self.y.group, self.y.vector_bytes
        if self.record is None:
            return Operand(self.bias, block_stride=vector)
        offset = parameter_bytes(self.record, group) + BETA * vector
        return Operand(BIASES, block_stride=parameter_bytes(1, group), offset=offset)

    @property
    def flat(self):
        """Whether it reads its input as a vector whose every pixel is a channel block."""
        return isinstance(self.layer, Linear) and not self.whole_kernel and self.x.grid != (1, 1)

    @property
    def kernel(self):
        if isinstance(self.layer, Linear):
            return (1, 1) if self.flat else self.x.grid
        return self.fold.kernel if self.fold else self.layer.kernel_size

    def weight_tensor(self):
        blocks = self.x.flat_blocks if self.flat else self.x.blocks
        taps = prod(self.kernel)
        return WeightTensor(self.weight, self.y.blocks, blocks, taps, self.x.group)

    def matrix(self, images):
        """The stage's convolution for a batch of ``images``.

        Its multiply-adds are those of the network's layer: all pixels of its output count, even
        where pooling drops an odd last row or column and the device does not compute it.
        """
        layer = self.layer
        if self.flat:
            geometry = Geometry.pointwise(images, (1, 1))
        else:
            sizes = {"images": images, "big": self.x.grid, "small": self.y.grid}
            if isinstance(layer, Conv2d):
                view = self.fold
                sizes["stride"] = view.stride if view else layer.stride
                sizes["pad"] = view.pad if view else layer.padding
            geometry = Geometry(kernel=self.kernel, **sizes)
        macs = images * self._pixels * prod(layer.weight_shape)
        return passes.Matrix(
            self.name, self.weight_tensor(), self.bias_operand(), geometry, self.flat, macs
        )
