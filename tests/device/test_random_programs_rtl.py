"""Random programs on the simulated core and on the interpreter: the same numbers in all of memory.

Operands are small integers, so that both are exact; ``random_programs`` says what they reach.
"""

import pytest
from random_programs import assert_same, outcome, prepared

from eftrain.driver import Driver

SEED = 20220424


def check_programs(device, count, stalls, seed=SEED):
    print(f"seed {seed}")
    config = Driver(device).config
    device.set_stalls(seed, stalls)
    for program, places, memory, expected in prepared(config, device.memory_base, seed, count):
        found = outcome(device, places, program.code, memory)
        if isinstance(found, bytes) and isinstance(expected, bytes):
            assert_same(found, expected, program, config)
        else:
            assert found == expected, program.readable()


@pytest.mark.parametrize("stalls", [0.0, 0.7])
def test_random_programs(fresh_device, stalls):
    check_programs(fresh_device, 200, stalls)


@pytest.mark.parametrize("stalls", [0.0, 0.7])
def test_random_programs_of_the_default_core(default_device, stalls):
    try:
        check_programs(default_device, 100, stalls)
    finally:
        default_device.set_stalls(SEED, 0.0)
