"""Infinities and NaNs on the interpreter."""

import nonfinite_cases as cases
import pytest


@pytest.mark.parametrize(("name", "operand", "value"), cases.CASES)
def test_nonfinite(make_device, name, operand, value):
    cases.check_nonfinite(make_device("4x4"), name, operand, value)


@pytest.mark.parametrize(("name", "operand", "value"), cases.QUIET_CASES)
def test_ends(make_device, name, operand, value):
    cases.check_quiet(make_device("4x4"), name, operand, value)
