"""Infinities and NaNs in the operands of every pass on the simulated core: it ends and says so."""

import nonfinite_cases as cases
import pytest


@pytest.mark.parametrize(("name", "operand", "value"), cases.CASES)
def test_nonfinite(device, name, operand, value):
    cases.check_nonfinite(device, name, operand, value)


@pytest.mark.parametrize(("name", "operand", "value"), cases.QUIET_CASES)
def test_ends(device, name, operand, value):
    cases.check_quiet(device, name, operand, value)


@pytest.mark.parametrize("value", cases.VALUES)
def test_bf16_core(bf16_device, value):
    for name, (_, operands) in cases.PASSES.items():
        for operand in operands:
            cases.check_nonfinite(bf16_device, name, operand, value)
