"""All small shapes on the interpreter; the same programs look for hazards in the core."""

import pytest
import sweep_cases


@pytest.mark.parametrize("name", sweep_cases.PROGRAMS)
def test_small_shapes(make_device, name):
    sweep_cases.check_program(make_device("4x4"), name)
