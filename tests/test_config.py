"""Configurations that are refused, and what the refusal says."""

import pytest

from eftrain_hdl.config import CoreConfig
from eftrain_hdl.verilog import main


@pytest.mark.parametrize(
    ("array", "sizes", "message"),
    [
        ("6x6", {}, "no multiple of the channel group 4; the nearest that is supported is 4x4"),
        ("12x12", {}, "not one of the square arrays 4x4, 8x8, 16x16, 32x32"),
        ("8x4", {}, "not one of the square arrays"),
        ("64x64", {}, "the nearest that is supported is 32x32"),
        ("8", {}, "not written ROWSxLANES"),
        ("8x8", {"format": "fp8"}, "'fp8' is unknown; choose one of fp32, bf16"),
        ("8x8", {"stream_depth": 100}, "stream_depth 100 is not a power of two from 64 to 32768"),
        ("16x16", {"accumulator_depth": 16384}, "the deepest is 8192"),
        ("8x8", {"max_outstanding": 0}, "max_outstanding 0 is not from 1 to 64"),
    ],
)
def test_refused(array, sizes, message):
    with pytest.raises(ValueError, match=message):
        CoreConfig.parse(array, **sizes)


@pytest.mark.parametrize("side", [4, 8, 16, 32])
@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_derived_sizes(side, name):
    config = CoreConfig.parse(f"{side}x{side}", name)
    assert (config.group, config.array, config.vector_bytes) == (side, f"{side}x{side}", 4 * side)
    assert config.vector_beats * config.beat_bytes == config.vector_bytes
    assert config.block_bytes == 4 * side * side
    assert config.name == f"eftrain_{side}x{side}_{name}"


def test_verilog_command_refuses_in_one_sentence(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    for arguments in (["--array", "6x6"], ["-o", str(tmp_path / "file" / "core.v")]):
        assert main(arguments) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
