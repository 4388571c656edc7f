"""Learning-rate schedules against torch.optim.lr_scheduler, and texts that are none."""

import re
from pathlib import Path

import pytest
import torch
from data_files import sentence
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, StepLR

from eftrain.errors import UserError
from eftrain.lr_schedule import Constant, Cosine, StepDecay, parse_schedule

EPOCHS = 7


@pytest.mark.parametrize(
    "text, expected",
    [
        ("constant", lambda sgd: ConstantLR(sgd, 1.0, 1)),
        ("step:2", lambda sgd: StepLR(sgd, 2)),
        ("step:3:0.5", lambda sgd: StepLR(sgd, 3, 0.5)),
        ("step:1:1", lambda sgd: StepLR(sgd, 1, 1.0)),
        ("cosine", lambda sgd: CosineAnnealingLR(sgd, EPOCHS)),
    ],
)
def test_rates_are_those_of_pytorch(text, expected):
    sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.3)
    scheduler, schedule = expected(sgd), parse_schedule(text)
    for epoch in range(EPOCHS):
        found = schedule.rate(0.3, epoch, EPOCHS)
        assert found == pytest.approx(sgd.param_groups[0]["lr"], rel=1e-12), epoch
        assert found > 0
        sgd.step()
        scheduler.step()


@pytest.mark.parametrize("schedule", [Constant(), Cosine(), StepDecay(4), StepDecay(2, 0.25)])
def test_text_and_back(schedule):
    assert parse_schedule(str(schedule)) == schedule


@pytest.mark.parametrize(
    "text, words",
    [
        ("linear", "'linear' is unknown; give constant, step:EPOCHS, step:EPOCHS:FACTOR or cosine"),
        ("", "'' is unknown"),
        ("cosine:3", "'cosine:3' is unknown"),
        ("step", "'step' is unknown"),
        ("step:two", "'step:two' is unknown"),
        ("step:2:half", "'step:2:half' is unknown"),
        ("step:2:0.1:3", "'step:2:0.1:3' is unknown"),
        ("step:0", "is 0; give an integer of 1 or more"),
        ("step:-2:0.5", "is -2; give an integer of 1 or more"),
        ("step:2:0", "is 0; give a number above 0 and at most 1"),
        ("step:2:1.5", "is 1.5; give a number above 0 and at most 1"),
        ("step:2:nan", "is nan; give a number above 0 and at most 1"),
    ],
)
def test_texts_that_are_no_schedule(text, words):
    with pytest.raises(UserError) as error:
        parse_schedule(text)
    assert words in sentence(error)


def test_rates_on_the_page():
    page = (Path(__file__).parents[2] / "docs/train.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9:.]+)` \| ([\d., ]+) \|", page, re.MULTILINE)
    assert [text for text, _ in rows] == ["constant", "step:2", "step:1:0.5", "cosine"]
    for text, rates in rows:
        found = [parse_schedule(text).rate(0.1, epoch, 4) for epoch in range(4)]
        assert ", ".join(f"{rate:.3g}" for rate in found) == rates
