"""Layer passes with every flag on the simulated core against PyTorch in float64, exactly."""

import pass_cases as cases
import pytest
from overlapped_program import OverlappedProgram
from raw_program import Program

SEED = 20221108


@pytest.fixture(scope="session", params=["device", "default_device"])
def core(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(params=[Program, OverlappedProgram])
def program(request):
    """One descriptor after the other, or as close together as they may come."""
    return request.param


@pytest.mark.parametrize("case", cases.KEEP_CASES)
def test_keep(core, case, program):
    cases.check_keep(core, *case, program=program)


@pytest.mark.parametrize("case", cases.STATISTICS_CASES)
def test_forward_statistics(core, case, program):
    cases.check_forward_statistics(core, *case, program=program)


@pytest.mark.parametrize("case", cases.DRAIN_CASES)
def test_drain(core, case, program):
    cases.check_drain(core, *case, program=program)


@pytest.mark.parametrize("case", cases.LOAD_CASES)
def test_load(core, case, program):
    cases.check_load(core, *case, program=program)


@pytest.mark.parametrize("case", cases.AVERAGE_CASES)
def test_average_pool(core, case, program):
    cases.check_average_pool(core, *case, program=program)


@pytest.mark.parametrize("stalls", [0.3, 0.8])
def test_with_a_stalling_memory(fresh_device, stalls):
    fresh_device.set_stalls(SEED, stalls)
    for check, table in (
        (cases.check_keep, cases.KEEP_CASES),
        (cases.check_forward_statistics, cases.STATISTICS_CASES),
        (cases.check_drain, cases.DRAIN_CASES),
        (cases.check_load, cases.LOAD_CASES),
        (cases.check_average_pool, cases.AVERAGE_CASES),
    ):
        for case in table:
            check(fresh_device, *case, program=OverlappedProgram)
