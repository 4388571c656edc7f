"""What is measured: networks, batches and targets, and EF-Train's model of the same layers."""

from dataclasses import dataclass

from ..graph import Conv2d
from ..networks import network
from ..plan.report import StepPlan, nominal_gflops, plan_step
from .baseline import EFTrainModel, LayerShape

__all__ = ["BENCHMARKS", "Benchmark", "KINDS", "Result", "evaluate"]

KINDS = ("FP", "BP", "WU")


@dataclass(frozen=True)
class Benchmark:
    """A training step; ``target`` in nominal GFLOPS holds for a 16x16 fp32 core."""

    network: str
    title: str
    batch: int
    target: float


BENCHMARKS = (
    Benchmark("vgg16", "VGG-16", 16, 51.2),
    Benchmark("cifar-1x", "CIFAR-10 1X", 128, 51.2),
    Benchmark("resnet20", "ResNet-20", 128, 51.2),
    Benchmark("alexnet", "AlexNet", 128, 50.0),
)
SHARE_TARGET = ("vgg16", 0.97)
"""Part of all cycles of this network's step in which the array takes a vector."""


@dataclass(frozen=True)
class Result:
    """One benchmark, evaluated.

    Attributes
    ----------
    benchmark : Benchmark
    plan : StepPlan
    baseline : dict
        ``(layer, kind)`` to cycles by EF-Train's model, for convolutions it can run.
    """

    benchmark: Benchmark
    plan: StepPlan
    baseline: dict

    @property
    def target(self):
        """GFLOPS, or None for a core that has no targets."""
        return self.benchmark.target if self._has_targets else None

    @property
    def share_target(self):
        """Part of the cycles, or None."""
        network, share = SHARE_TARGET
        return share if self._has_targets and self.benchmark.network == network else None

    @property
    def _has_targets(self):
        return (self.plan.config.array, self.plan.config.format) == ("16x16", "fp32")

    @property
    def convolutions(self):
        """Rows of convolutions that EF-Train's model covers."""
        return [row for row in self.plan.rows if (row.layer, row.kind) in self.baseline]

    @property
    def convolution_gflops(self):
        """Nominal rate of ``convolutions``, with everything that rides along in them."""
        rows = self.convolutions
        return nominal_gflops(sum(row.macs for row in rows), sum(row.cycles for row in rows))

    @property
    def baseline_gflops(self):
        """The same layers by EF-Train's model."""
        macs = sum(row.macs for row in self.convolutions)
        return nominal_gflops(macs, sum(self.baseline.values()))

    def baseline_of(self, row):
        """Rate of one row by EF-Train's model, or None."""
        cycles = self.baseline.get((row.layer, row.kind))
        return nominal_gflops(row.macs, cycles) if cycles else None

    def as_dict(self):
        """The JSON file: that of the plan, with what is compared."""
        content = self.plan.as_dict()
        content["totals"] |= {
            "convolution_gflops": self.convolution_gflops,
            "baseline_gflops": self.baseline_gflops,
        }
        content["targets"] = {"nominal_gflops": self.target, "array_share": self.share_target}
        for row, values in zip(self.plan.rows, content["rows"], strict=True):
            values["baseline_gflops"] = self.baseline_of(row)
        return content


def evaluate(benchmark, config):
    """Plan the step and apply EF-Train's model to it; returns a ``Result``."""
    graph = network(benchmark.network)
    plan = plan_step(benchmark.network, graph, config, benchmark.batch)
    return Result(benchmark, plan, _baseline(plan))


def _baseline(plan):
    model, shapes, cycles = EFTrainModel(side=plan.config.rows), _shapes(plan.graph), {}
    for row in plan.rows:
        if row.kind not in KINDS or row.layer not in shapes:
            continue
        try:
            found = model.cycles(shapes[row.layer], row.kind, plan.batch)
        except ValueError:  # A layer that EF-Train's buffers cannot hold.
            continue
        cycles[row.layer, row.kind] = found
    return cycles


def _shapes(graph):
    """Name to shape of the convolutions that EF-Train's equations describe."""
    shapes = {}
    for index, node in enumerate(graph.nodes):
        layer = node.layer
        if not isinstance(layer, Conv2d):
            continue
        square = len({*layer.kernel_size}) == len({*layer.stride}) == 1
        if square:
            _, rows, cols = graph.shapes[index + 1]
            shapes[graph.layer_name(index)] = LayerShape(
                layer.out_channels, layer.in_channels, rows, cols, layer.kernel_size[0],
                layer.stride[0],
            )  # fmt: skip
    return shapes
