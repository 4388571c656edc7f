"""Batch-norm, descriptor by descriptor, on the simulated core against PyTorch in float64."""

import norm_cases as cases
import pytest
from comparison import assert_close
from isa_interpreter import InterpretedDevice
from overlapped_program import OverlappedProgram
from raw_program import Program

from eftrain_hdl.config import CoreConfig

SEED = 20221107


@pytest.fixture(scope="session", params=["device", "default_device"])
def core(request):
    """The 4x4 core, then the default one: channel counts below, at and above both groups."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("program", [Program, OverlappedProgram])
@pytest.mark.parametrize("case", cases.NORM_CASES, ids=str)
def test_convolution_and_norm(core, case, program):
    cases.check_norm(core, case, program=program)


@pytest.mark.parametrize("program", [Program, OverlappedProgram])
@pytest.mark.parametrize("case", cases.RESIDUAL_CASES)
def test_residual_sum(core, case, program):
    cases.check_residual(core, *case, program=program)


def test_frozen(core):
    cases.check_frozen(core)


def test_partial_sums(core):
    cases.check_partial_sums(core)


@pytest.mark.parametrize("case", cases.BIAS_CASES)
def test_bias_update(core, case):
    cases.check_bias_update(core, *case)


def test_constant_channel(core):
    cases.check_constant_channel(core)


@pytest.mark.parametrize("stalls", [0.3, 0.8])
def test_with_a_stalling_memory(fresh_device, stalls):
    fresh_device.set_stalls(SEED, stalls)
    for case in cases.NORM_CASES:
        cases.check_norm(fresh_device, case, program=OverlappedProgram)
    for case in cases.RESIDUAL_CASES:
        cases.check_residual(fresh_device, *case, program=OverlappedProgram)


def test_bf16_core(bf16_device):
    """The same results as the interpreter, which rounds operands once on their way into the array:
    statistics, coefficients and what a prologue computes are fp32."""
    interpreter = InterpretedDevice(CoreConfig.parse("4x4", "bf16"))
    for case in cases.NORM_CASES:
        results = []
        for device in (interpreter, bf16_device):
            found = []
            cases.check_norm(
                device, case, compare=lambda value, _, __, what, to=found: to.append((what, value))
            )
            results.append(found)
        for (what, expected), (_, value) in zip(*results, strict=True):
            assert_close(value, expected, 1e-5, f"{case}: {what}")
