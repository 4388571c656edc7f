"""The interpreter's batch-norm against PyTorch in float64."""

import norm_cases as cases
import pytest
from overlapped_program import OverlappedProgram


@pytest.fixture(params=["4x4", "8x8", "16x16"])
def device(make_device, request):
    return make_device(request.param)


@pytest.mark.parametrize("case", cases.NORM_CASES, ids=str)
def test_convolution_and_norm(device, case):
    cases.check_norm(device, case)


@pytest.mark.parametrize("case", cases.RESIDUAL_CASES)
def test_residual_sum(device, case):
    cases.check_residual(device, *case)


def test_frozen(device):
    cases.check_frozen(device)


def test_partial_sums(device):
    cases.check_partial_sums(device)


@pytest.mark.parametrize("case", cases.BIAS_CASES)
def test_bias_update(device, case):
    cases.check_bias_update(device, *case)


def test_constant_channel(device):
    cases.check_constant_channel(device)


def test_overlapped_programs(make_device):
    """The flags that OverlappedProgram leaves set are those that do no harm."""
    cases.check_norm(make_device("4x4"), cases.NORM_CASES[3], program=OverlappedProgram)
    cases.check_residual(make_device("4x4"), *cases.RESIDUAL_CASES[3], program=OverlappedProgram)
