"""The interpreter's layer passes, every flag, against PyTorch in float64."""

import pass_cases as cases
import pytest


@pytest.fixture(params=["4x4", "8x8"])
def device(make_device, request):
    return make_device(request.param)


@pytest.mark.parametrize("case", cases.KEEP_CASES)
def test_keep(device, case):
    cases.check_keep(device, *case)


@pytest.mark.parametrize("case", cases.STATISTICS_CASES)
def test_forward_statistics(device, case):
    cases.check_forward_statistics(device, *case)


@pytest.mark.parametrize("case", cases.DRAIN_CASES)
def test_drain(device, case):
    cases.check_drain(device, *case)


@pytest.mark.parametrize("case", cases.LOAD_CASES)
def test_load(device, case):
    cases.check_load(device, *case)


@pytest.mark.parametrize("case", cases.AVERAGE_CASES)
def test_average_pool(device, case):
    cases.check_average_pool(device, *case)
