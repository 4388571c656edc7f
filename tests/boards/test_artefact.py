"""config.json beside a bitstream: what is written is read again, and what is wrong is refused."""

import hashlib
import json

import pytest

from eftrain.artefact import Artefact
from eftrain.boards import BOARDS
from eftrain.devices.base import DeviceError
from eftrain.errors import UserError
from eftrain_hdl import isa
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.version import VERSION

TEXT = "module eftrain_4x4_bf16; endmodule\n"


@pytest.fixture
def written(tmp_path):
    config = CoreConfig.parse("4x4", "bf16", stream_depth=1024, max_outstanding=8, batch_norm=False)
    artefact = Artefact.describe("ulx3s", config, TEXT, clock_hz=55_000_000, baud=3_000_000)
    tmp_path.joinpath("eftrain.bit").write_bytes(b"bits")
    return artefact.with_bitstream(tmp_path / "eftrain.bit").write(tmp_path)


def test_the_file_holds_what_the_format_says(written, tmp_path):
    digest = hashlib.sha256(TEXT.encode()).hexdigest()
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "board": "ulx3s", "part": "LFE5U-85F-6BG381C", "array": "4x4", "format": "bf16",
        "clock_hz": 55_000_000, "isa_version": isa.ISA_VERSION,
        "gateware_version": ".".join(map(str, VERSION)),
        "buffers": {
            "stream_depth": 1024, "stationary_depth": 4096, "accumulator_depth": 2048,
            "max_classes": 1024, "max_outstanding": 8,
        },
        "batch_norm": False,
        "verilog_sha256": digest, "build": digest[:8],
        "memory": {"base": 0x1000_0000, "size": 32 << 20}, "serial": {"baud": 3_000_000},
        "bitstream": {"file": "eftrain.bit", "sha256": hashlib.sha256(b"bits").hexdigest()},
    }  # fmt: skip


def test_it_is_read_again(written, tmp_path):
    again = Artefact.read(tmp_path)
    assert again == written and again.folder == tmp_path
    assert again.config == CoreConfig.parse(
        "4x4", "bf16", stream_depth=1024, max_outstanding=8, batch_norm=False
    )
    assert again.build_word == int(hashlib.sha256(TEXT.encode()).hexdigest()[:8], 16)
    again.verify()


def test_the_board_gives_what_is_not_given():
    config = CoreConfig.parse("16x16")
    digest = hashlib.sha256(TEXT.encode()).hexdigest()
    board = BOARDS["zcu102"]
    artefact = Artefact.describe(board, config, digest)
    assert artefact == Artefact.describe("zcu102", config, TEXT)
    assert (artefact.clock_hz, artefact.memory["size"]) == (board.clock_hz, board.memory_size)
    assert artefact.serial is artefact.bitstream is artefact.bitstream_path is None
    artefact.verify()


@pytest.mark.parametrize(("change", "message"), [
    ({"board": "de10"}, "'de10' is unknown"),
    ({"array": "5x5"}, "nearest that is supported is 4x4"),
    ({"buffers": {"depth": 3}}, "describes no core"),
    ({"buffers": []}, r"has buffers \[\]"),
    ({"batch_norm": 1}, "has batch_norm 1"),
    ({"clock_hz": "fast"}, "has clock_hz 'fast'"),
    ({"clock_hz": 0}, "has clock_hz 0"),
    ({"build": "00000000"}, "does not begin its verilog_sha256"),
    ({"verilog_sha256": "abc"}, "does not begin its verilog_sha256"),
    ({"memory": {"base": 0}}, "has memory"),
    ({"bitstream": {"file": "../../etc/passwd", "sha256": "0" * 64}}, "has bitstream"),
    ({"bitstream": {"file": "eftrain.bit"}}, "has bitstream"),
])  # fmt: skip
def test_entries_that_are_wrong_are_named(written, tmp_path, change, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message) as caught:
        Artefact.read(tmp_path)
    assert "build it again with `eftrain bitstream`" in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [
    ("", "is not a JSON file"), ("[]", "does not describe a bitstream"),
    ("{}", "has no entry 'array'"), (None, "There is no"),
])  # fmt: skip
def test_files_that_are_no_artefact_are_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=message):
        Artefact.read(tmp_path)


def test_another_version_or_bitstream_is_refused(written, tmp_path):
    (tmp_path / "eftrain.bit").write_bytes(b"bitz")
    with pytest.raises(UserError, match=r"not the bitstream that config\.json describes"):
        written.verify()
    (tmp_path / "eftrain.bit").unlink()
    with pytest.raises(UserError, match=r"There is no .*eftrain\.bit"):
        written.verify()
    old = Artefact(**written.as_dict() | {"isa_version": 1}, folder=tmp_path)
    with pytest.raises(UserError, match="ISA version 1 and this package speaks"):
        old.verify()


def test_a_folder_that_cannot_be_written_is_refused(written, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        written.write(tmp_path / "file" / "folder")


def test_a_device_is_compared_by_its_build_register(written):
    class Device:
        name = "serial"
        build = written.build_word

        def read_register(self, address):
            assert address == isa.REGISTER["BUILD"].address
            return self.build

    written.check_device(Device())
    Device.build = 0
    with pytest.raises(DeviceError, match=f"reads 00000000 and .* made for {written.build}"):
        written.check_device(Device())
