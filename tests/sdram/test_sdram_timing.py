"""Cycles that come of data-sheet times."""

import math
from dataclasses import replace

import pytest

from eftrain_hdl.sdram import IS42S16160G_7, MT48LC16M16A2_75, ULX3S_PART, SdramCycles, slowest


def test_cycles_by_hand():
    assert MT48LC16M16A2_75.cycles(50_000_000) == SdramCycles(
        cas_latency=2,
        t_rcd=1,
        t_rp=1,
        t_ras=3,
        t_rrd=1,
        t_wr=1,
        t_mrd=2,
        t_rfc=4,
        power_up=10_000,
        refresh_interval=390,
    )
    # 7.52 ns
    assert MT48LC16M16A2_75.cycles(133_000_000) == SdramCycles(
        cas_latency=3,
        t_rcd=3,
        t_rp=3,
        t_ras=6,
        t_rrd=2,
        t_wr=2,
        t_mrd=2,
        t_rfc=9,
        power_up=26_600,
        refresh_interval=1037,
    )


@pytest.mark.parametrize("part", [MT48LC16M16A2_75, IS42S16160G_7, ULX3S_PART])
def test_cycles_are_enough_and_not_too_many(part):
    for clock_hz in (25_000_000, 50_000_000, 66_666_667, 80_000_000, 100_000_000, 133_000_000):
        cycles = part.cycles(clock_hz)
        period = 1e9 / clock_hz
        for name in ("t_rcd", "t_rp", "t_rrd", "t_wr", "t_rfc"):
            need = getattr(part, name) / period
            assert math.ceil(need - 1e-6) <= getattr(cycles, name) < need + 1
        assert cycles.t_ras * period >= part.t_ras - 1e-6
        assert (cycles.t_ras + cycles.t_rp) * period >= part.t_rc - 1e-6
        assert period >= (part.t_ck2 if cycles.cas_latency == 2 else part.t_ck3) - 1e-6
        # The last of 8,192 refreshes may come eight intervals late.
        assert (8192 + 8) * cycles.refresh_interval * period <= part.t_ref
        assert (8192 + 12) * cycles.refresh_interval * period > part.t_ref * 0.997


def test_slowest_suits_both():
    for name in ("t_ck2", "t_ck3", "t_rcd", "t_rp", "t_ras", "t_rc", "t_rrd", "t_wr", "t_rfc"):
        both = [getattr(part, name) for part in (MT48LC16M16A2_75, IS42S16160G_7)]
        assert getattr(ULX3S_PART, name) == max(both)
    assert ULX3S_PART.t_ras_max == 100e3 and ULX3S_PART.size == 32 << 20
    with pytest.raises(ValueError, match="A, B differ in rows or columns"):
        slowest(
            "C",
            replace(MT48LC16M16A2_75, name="A"),
            replace(MT48LC16M16A2_75, name="B", column_bits=10),
        )
