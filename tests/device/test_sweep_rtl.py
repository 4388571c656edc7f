"""All small shapes on the simulated 4x4 core: no sum meets itself in the adder."""

import pytest
import sweep_cases
from overlapped_program import OverlappedProgram
from raw_program import Program


@pytest.mark.parametrize("program", [OverlappedProgram, Program])
@pytest.mark.parametrize("name", sweep_cases.PROGRAMS)
def test_small_shapes(device, name, program):
    sweep_cases.check_program(device, name, program)


@pytest.mark.parametrize("name", ["k1-s1-p0", "k3-s1-p1", "k2x3"])
def test_small_shapes_with_a_stalling_memory(fresh_device, name):
    fresh_device.set_stalls(sweep_cases.SEED, 0.5)
    sweep_cases.check_program(fresh_device, name, OverlappedProgram)


@pytest.mark.parametrize("name", ["k1-s1-p0", "k2-s2-p1", "k3-s1-p1", "k1x3", "k3x2"])
def test_small_shapes_of_the_default_core(default_device, name):
    sweep_cases.check_program(default_device, name, OverlappedProgram)
