"""Random programs, before the core gets them: legal, without hazards, and they reach everything."""

import pytest
from interpreter_checks import SUMMING
from random_programs import assert_same, prepared

from eftrain_hdl import isa
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.isa import ErrorCode

SEED = 20221106
BASE = 0x1000_0000


def test_random_programs_reach_everything():
    seen = set()
    for program, _, _, outcome in prepared(CoreConfig.parse("4x4"), BASE, SEED, 150):
        assert isinstance(outcome, bytes) or outcome[0] is ErrorCode.TILE_OVERFLOW
        for opcode, flags, _ in program.readable():
            seen |= {(opcode, flag) for flag in flags}
    expected = {
        (opcode, flag)
        for opcode, flags in isa.LEGAL_FLAGS.items()
        for flag in flags
        if opcode is not isa.Opcode.LOSS
    }
    assert seen == expected


def test_the_comparison():
    """It sees one wrong bit, and takes no offence at sums that are split in another way."""
    config = CoreConfig.parse("4x4")
    for program, _, _, outcome in prepared(config, BASE, SEED, 20):
        if program.records and isinstance(outcome, bytes):
            break
    assert_same(outcome, outcome, program, config)
    offset = program.records[0][0]
    changed = bytearray(outcome)
    sums = slice(offset + 16, offset + 16 + 32)
    first, second = outcome[sums][:16], outcome[sums][16:]
    changed[sums] = second + first
    assert_same(bytes(changed), outcome, program, config)
    for place in (offset, len(outcome) - 4):
        changed = bytearray(outcome)
        changed[place + 2] ^= 1
        with pytest.raises(AssertionError, match="byte 0x"):
            assert_same(bytes(changed), outcome, program, config)
    assert SUMMING & {flag for _, flags, _ in program.readable() for flag in flags}
