"""Loading bitstreams: conversion of .bit files, the FPGA manager's files, overlays."""

import os
import shutil
import struct
import subprocess

import pytest
from fake_board import write

from eftrain.devices import fpga_manager
from eftrain.devices.base import DeviceError

MANAGER = "sys/class/fpga_manager/fpga0"
OVERLAYS = "sys/kernel/config/device-tree/overlays"
WORDS = [0xFFFFFFFF] * 8 + [0x000000BB, 0x11220044, 0xFFFFFFFF, 0xAA995566, 0x20000000, 0x30022001]


def bit_file(words=WORDS, design=b"top;UserID=0XFFFFFFFF;Version=2022.2\0", cut=0):
    """A .bit file as Vivado writes it (fields: https://www.fpga-faq.com, FAQ 26)."""
    data = struct.pack(f">{len(words)}I", *words)
    fields = {b"a": design, b"b": b"7z020clg400\0", b"c": b"2022/12/01\0", b"d": b"10:20:30\0"}
    header = bytes.fromhex("0009 0ff0 0ff0 0ff0 0ff0 00 0001")
    for tag, text in fields.items():
        header += tag + struct.pack(">H", len(text)) + text
    return (header + b"e" + struct.pack(">I", len(data)) + data)[: -cut or None]


@pytest.fixture
def root(tmp_path):
    for name, text in {"flags": "", "firmware": "", "state": "operating\n"}.items():
        write(tmp_path / MANAGER / name, text)
    (tmp_path / OVERLAYS).mkdir(parents=True)
    (tmp_path / "eftrain.bit").write_bytes(bit_file())
    return tmp_path


def has_sync(data):
    """The check of the kernel's zynq-fpga driver: the sync word at a multiple of four bytes."""
    return any(data[i : i + 4] == b"\x66\x55\x99\xaa" for i in range(0, len(data) - 3, 4))


def test_bit_files_become_byte_swapped_words():
    data = fpga_manager.bit_to_bin(bit_file())
    assert struct.unpack(f"<{len(WORDS)}I", data) == tuple(WORDS)
    assert has_sync(data)
    assert fpga_manager.bit_to_bin(data) == data, "a converted file stays as it is"


@pytest.mark.parametrize(("content", "message"), [
    (bit_file(cut=3), r"cut off: it holds 53 of 56 bytes"),
    (bit_file()[:20], "header of the .bit file is damaged|cut off"),
    (bit_file(words=WORDS[:8]), "no configuration of a Zynq"),
    (b"", "neither a .bit nor"),
    (b"\x7fELF" + bytes(100), "neither a .bit nor"),
])  # fmt: skip
def test_damaged_files_are_refused(root, content, message):
    (root / "eftrain.bit").write_bytes(content)
    with pytest.raises(DeviceError, match=message):
        fpga_manager.load_bitstream(root / "eftrain.bit", root)
    assert not (root / "lib").exists() and (root / MANAGER / "firmware").read_text() == ""


def test_a_bitstream_goes_through_firmware_folder_and_manager(root):
    for _ in range(2):
        fpga_manager.load_bitstream(root / "eftrain.bit", root)
    assert os.listdir(root / "lib/firmware") == ["eftrain.bin"]
    assert has_sync((root / "lib/firmware/eftrain.bin").read_bytes())
    assert (root / MANAGER / "flags").read_text() == "0"
    assert (root / MANAGER / "firmware").read_text() == "eftrain.bin"


@pytest.mark.parametrize(("change", "message"), [
    (lambda root: write(root / MANAGER / "state", "write error\n"), r"state is 'write error'"),
    (lambda root: shutil.rmtree(root / MANAGER), r"There is no .*fpga0; use a kernel with"),
    (lambda root: (root / "eftrain.bit").unlink(), "cannot be read"),
    (lambda root: write(root / "lib/firmware", ""), r"lib/firmware.* cannot be written.*as root"),
])  # fmt: skip
def test_what_goes_wrong_is_said(root, change, message):
    change(root)
    with pytest.raises(DeviceError, match=message):
        fpga_manager.load_bitstream(root / "eftrain.bit", root)


def load(root):
    (root / "eftrain.dtbo").write_bytes(b"\xd0\x0d\xfe\xed overlay")
    fpga_manager.load_overlay(root / "eftrain.dtbo", root / "eftrain.bit", root)


def test_an_overlay_brings_its_bitstream_and_replaces_the_one_before(root, monkeypatch):
    place = root / OVERLAYS / "eftrain"
    kernel = KernelFolder(monkeypatch, place)
    load(root)
    load(root)
    assert (place / "path").read_text() == "eftrain.dtbo"
    assert sorted(os.listdir(root / "lib/firmware")) == ["eftrain.bin", "eftrain.dtbo"]
    assert kernel.removed == 1
    assert fpga_manager.remove_overlay(root) is True
    assert fpga_manager.remove_overlay(root) is False


def test_a_refused_overlay_and_missing_configfs_are_reported(root, monkeypatch):
    KernelFolder(monkeypatch, root / OVERLAYS / "eftrain", status="unapplied")
    with pytest.raises(DeviceError, match="did not apply the overlay .*eftrain.dtbo; `dmesg`"):
        load(root)
    shutil.rmtree(root / OVERLAYS)
    with pytest.raises(DeviceError, match="mount -t configfs"):
        load(root)


class KernelFolder:
    """A folder of configfs: its files come and go with it."""

    def __init__(self, monkeypatch, place, status="applied"):
        self.removed = 0
        mkdir, rmdir = type(place).mkdir, type(place).rmdir

        def made(path, *options, **named):
            mkdir(path, *options, **named)
            if path == place:
                (path / "path").write_text("")
                (path / "status").write_text(status)

        def gone(path):
            if path == place:
                self.removed += 1
                for file in path.iterdir():
                    file.unlink()
            rmdir(path)

        monkeypatch.setattr(type(place), "mkdir", made)
        monkeypatch.setattr(type(place), "rmdir", gone)


def test_overlays_are_compiled_with_dtc(tmp_path, monkeypatch):
    calls = []

    def run(command, **options):
        calls.append(command)
        raise answers.pop(0)

    answers = [
        FileNotFoundError(),
        subprocess.CalledProcessError(1, "dtc", stderr="warning\nError: a.dtso:3 syntax error\n"),
    ]
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DeviceError, match="device-tree-compiler"):
        fpga_manager.compile_overlay("a.dtso", "a.dtbo")
    with pytest.raises(DeviceError, match=r"dtc refuses a\.dtso: Error: a\.dtso:3 syntax error\.$"):
        fpga_manager.compile_overlay("a.dtso", "a.dtbo")
    assert calls[0] == ["dtc", "-@", "-I", "dts", "-O", "dtb", "-o", "a.dtbo", "a.dtso"]
