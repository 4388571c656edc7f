"""Training with frozen parameters on the simulated core: values, and cycles that are saved."""

import pytest
from frozen_cases import CASES, MOVING, SHAPE, check_sections, check_steps, network
from training_cases import data

from eftrain.plan.check import check_network
from eftrain.trainer import Trainer
from eftrain_hdl.config import CoreConfig

ON_THE_CORE = [
    "last two",
    "biases",
    "norms: convolutions",
    "norms: batch-norms",
    "residual: the projection",
    "sums: behind the sum",
]


@pytest.mark.parametrize("name", ON_THE_CORE)
def test_three_steps_with_momentum(device, name):
    check_steps(device, name)


def test_sections_follow_each_other(device):
    check_sections(device, "residual: the projection")


def cycles(device, name):
    """Of one step: what four more take."""
    x, y = data(4, SHAPE, 3)
    once, often = (
        Trainer(network(*CASES[name]), device, MOVING).fit(x, y, epochs, 4).cycles
        for epochs in (1, 5)
    )
    return (often - once) / 4


def test_frozen_layers_save_the_cycles_that_check_says(device):
    found = {}
    for name in ("all", "last two", "last layer"):
        graph = network(*CASES[name])
        predicted = check_network("", graph, CoreConfig.parse("4x4"), 4, chosen=True).step.cycles
        found[name] = cycles(device, name)
        assert found[name] == pytest.approx(predicted, rel=0.05)
    assert found["last layer"] < found["last two"] < 0.7 * found["all"]
