"""What `eftrain build` writes, and what runs on a board: with numpy alone, on a fake Linux."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_board import BUILD, MEMORY_BASE

from eftrain import board_program
from eftrain.artefact import Artefact
from eftrain.board_folder import BuildSettings, artefact_folder, prepare, write
from eftrain.board_program import main
from eftrain.board_run import BoardRun, relocated
from eftrain.boards import BOARDS
from eftrain.commands import build
from eftrain.devices import fpga_manager
from eftrain.devices.sim import SimDevice
from eftrain.doctor import examine
from eftrain.errors import UserError
from eftrain.trainer import Trainer
from eftrain.weights_file import load_weights, save_weights
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.isa import DESCRIPTOR_BYTES, Opcode, decode

HERE = Path(__file__).parent

ALONE = """
import importlib.abc, sys

ALLOWED = {*sys.stdlib_module_names, "numpy", "eftrain", "eftrain_hdl", "fake_board"}
refused = []


class OnlyNumpy(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "pynq":
            return None  # Looked for, and used where it is.
        if name.partition(".")[0] not in ALLOWED:
            refused.append(name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, OnlyNumpy())
package, tests, folder, root, model, base = sys.argv[1:]
sys.path[:0] = [package, tests]

from fake_board import FakeBoard

import eftrain.doctor
from eftrain import board_program
from eftrain.artefact import Artefact
from eftrain.devices import base as _, fpga_manager, frames, linux, mapped, open, pynq, serial
from eftrain.devices import serial_link, serial_port, udmabuf, uio
from eftrain.devices.sim import SimDevice
from eftrain.driver import Driver
from eftrain_hdl import config, isa

assert eftrain.__file__.startswith(package) and isa.__file__.startswith(package)
artefact = Artefact.read(folder)
with SimDevice(shared_object=model, memory_base=int(base), memory_size=4 << 20) as core:
    with FakeBoard(root, core, artefact.build_word, artefact.clock_hz) as board:
        code = board_program.main([folder, "--root", root], open_device=board.open)
        arguments = ["--artefact", folder, "--root", root]
        code = code or eftrain.doctor.main(arguments, open_device=board.open)
# The standard library itself looks for Jython's package org.
assert set(refused) <= {"org"}, refused
sys.exit(code)
"""


def expected(settings, model):
    """The same run, put together by hand, on the simulated device."""
    run = prepare(settings)
    with SimDevice(shared_object=model) as device:
        trainer = Trainer(run.graph, device, run.optimizer, seed=0)
        history = trainer.fit(*run.train, run.epochs, run.batch_size, test=run.test)
    return trainer.state_dict(), history


def check_results(folder, settings, model):
    weights, history = expected(settings, model)
    found = load_weights(folder / "results/personalised.npz", prepare(settings).graph.layers)
    assert found.keys() == weights.keys()
    for name, value in weights.items():
        assert found[name].tobytes() == value.tobytes(), name
    numbers = json.loads((folder / "results/result.json").read_text())
    assert numbers["accuracy_after"] == history.after["accuracy"]
    assert (numbers["device"], numbers["array"], numbers["steps"]) == ("zcu102", "4x4", 9)
    rows = (folder / "results/history.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows[1:]] == [repr(loss) for loss in history.losses]
    assert sorted(os.listdir(folder / "results")) == [
        "history.csv", "personalised.npz", "result.json",
    ]  # fmt: skip


def test_a_folder_trains_with_numpy_alone_to_the_bits_of_the_simulated_device(
    folder, settings, model, tmp_path
):
    """Its own copy of the package, in a process where nothing but numpy can be imported."""
    paths = [folder / "python", HERE, folder, tmp_path / "fake", model, MEMORY_BASE]
    ran = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, *map(str, paths)],
        capture_output=True, text=True, timeout=300, cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    lines = ran.stdout.splitlines()
    assert lines[0] == ("small on AMD ZCU102, 4x4 array, fp32: 20 pictures, 7 to test, 3 epochs.")
    assert f"of 4.0 MiB from 0x{MEMORY_BASE:08x}." in lines[1]
    assert [line.split(" loss")[0].strip() for line in lines[2:7]] == [
        "test before", "epoch 1/3", "epoch 2/3", "epoch 3/3", "test after",
    ]  # fmt: skip
    assert lines[-1] == "Everything is fine."
    check_results(folder, settings, model)


def test_the_folder_has_what_a_board_needs(folder, artefact):
    assert sorted(os.listdir(folder)) == [
        "99-eftrain.rules", "config.json", "data.npz", "doctor.sh", "eftrain.bit", "eftrain.dtso",
        "eftrain.hwh", "network.json", "program.bin", "python", "run.json", "run.sh", "weights.npz",
    ]  # fmt: skip
    copied = Artefact.read(folder)
    copied.verify()
    assert copied == artefact
    names = {path.name for path in (folder / "python").rglob("*.py")}
    assert not names & {"cli.py", "display.py", "resources.py", "core.py", "bench.py"}
    assert not list((folder / "python").rglob("*.safetensors"))
    program = (folder / "program.bin").read_bytes()
    opcodes = [
        decode(program[place : place + DESCRIPTOR_BYTES])[0]
        for place in range(0, len(program), DESCRIPTOR_BYTES)
    ]
    assert opcodes[-1] == Opcode.END and Opcode.CONV_WU in opcodes


@pytest.mark.parametrize(("script", "arguments", "text", "code"), [
    ("run.sh", [], "no UIO device named 'eftrain'", 1),
    ("run.sh", ["--load"], "There is no .*fpga0|no .*overlays", 1),
    ("run.sh", ["--device", "toaster"], "'toaster' is unknown", 2),
    ("doctor.sh", [], "missing  registers", 1),
])  # fmt: skip
def test_the_scripts_start_anywhere_and_fail_in_one_sentence(
    folder, tmp_path, script, arguments, text, code
):
    root = tmp_path / "empty"
    root.mkdir()
    (folder / "eftrain.dtso").unlink()
    ran = subprocess.run(
        [folder / script, *arguments, "--root", str(root)],
        env={"PATH": os.environ["PATH"], "PYTHON": sys.executable},
        capture_output=True, text=True, timeout=60, cwd="/",
    )  # fmt: skip
    output = ran.stdout + ran.stderr
    assert ran.returncode == code, output
    assert re.search(text, output), output
    assert "Traceback" not in output
    if script == "run.sh":
        assert ran.stderr.startswith("eftrain: ") and ran.stderr.count("\n") == 1
    assert not (folder / "results").exists()


def fails(capsys, code, *arguments, **options):
    """The message of a run that fails."""
    assert main(list(map(str, arguments)), **options) == code
    message = capsys.readouterr().err
    assert message.startswith("eftrain: ") and message.count("\n") == 1
    return message


def test_another_bitstream_is_refused(folder, board, capsys):
    board.build ^= 1
    message = fails(capsys, 1, folder, open_device=board.open)
    assert f"holds another bitstream: its BUILD register reads {board.build:08x}" in message
    assert Artefact.read(folder).build in message
    assert not (folder / "results").exists()
    board.build ^= 1
    assert main([str(folder)], open_device=board.open) == 0, "the device was given back"


def test_a_core_of_another_size_is_refused(folder, board, capsys):
    change(folder / "config.json", lambda entries: entries["buffers"].update(stream_depth=64))
    message = fails(capsys, 2, folder, open_device=board.open)
    assert "is not the one in program.bin" in message
    change(folder / "config.json", lambda entries: entries.update(array="8x8"))
    assert fails(capsys, 2, folder, open_device=board.open)


def test_a_locked_window_is_reported(folder, board, capsys):
    with board.open() as device:
        device.write_register(0x5C, 4096)
        device.write_register(0x40, 4)
    message = fails(capsys, 1, folder, open_device=board.open)
    assert "memory window of uio:eftrain is locked" in message


def test_a_buffer_that_is_too_small_is_named_with_numbers(folder, board, capsys):
    (board.root / "sys/class/u-dma-buf/udmabuf-eftrain/size").write_text("8192")
    message = fails(capsys, 2, folder, open_device=board.open)
    assert "The run needs 0.05 MiB and the memory of uio:eftrain has 0.01 MiB" in message
    assert "cma= on the kernel's command line" in message


def test_a_serial_board_is_opened_at_its_baud_rate(settings, core, tmp_path, capsys, monkeypatch):
    config = CoreConfig.parse("4x4", "fp32")
    monkeypatch.chdir(tmp_path)
    serial = Artefact.describe("ulx3s", config, "text", baud=1_000_000).write(tmp_path / "serial")
    write(prepare(options(settings, board="ulx3s", bitstream=serial.folder)), tmp_path / "out")
    assert not (tmp_path / "out/99-eftrain.rules").exists(), "the host is another computer"
    message = fails(capsys, 2, tmp_path / "out")
    assert "name the port, for example --device serial:/dev/ttyUSB0" in message
    opened = []

    def open_port(path, baud):
        opened.append((path, baud))
        read = core.read_register
        core.read_register = lambda a: serial.build_word if a == BUILD else read(a)
        return core

    monkeypatch.setattr("eftrain.devices.serial.SerialDevice", open_port)
    assert main([str(tmp_path / "out"), "--device", "serial:/dev/ttyUSB7"]) == 0
    assert opened == [("/dev/ttyUSB7", 1_000_000)]
    list(examine("serial:/dev/ttyUSB8", artefact=serial.folder))
    assert opened[1:] == [("/dev/ttyUSB8", 1_000_000)]


def change(path, function):
    entries = json.loads(path.read_text())
    function(entries)
    path.write_text(json.dumps(entries))


@pytest.mark.parametrize(("damage", "message"), [
    (lambda f: (f / "config.json").unlink(), "There is no .*config.json"),
    (lambda f: (f / "config.json").write_text("{"), "config.json is not a JSON file"),
    (lambda f: change(f / "config.json", lambda e: e.pop("build")), "has no entry 'build'"),
    (lambda f: change(f / "config.json", lambda e: e.update(isa_version=1)), "ISA version 1 and"),
    (lambda f: (f / "eftrain.bit").write_bytes(b"another"), "not the bitstream that config.json"),
    (lambda f: (f / "eftrain.bit").unlink(), "There is no .*eftrain.bit"),
    (lambda f: (f / "run.json").write_text("{}"), "run.json does not describe a run"),
    (lambda f: change(f / "run.json", lambda e: e.update(epochs=0)), "epochs is 0"),
    (lambda f: (f / "run.json").unlink(), "run.json cannot be read"),
    (lambda f: (f / "network.json").write_text("[]"), "network.json describes no network"),
    (lambda f: (f / "weights.npz").write_bytes(b"PK"), "weights.npz is not a readable .npz"),
    (lambda f: (f / "weights.npz").unlink(), "no weight file"),
    (lambda f: (f / "data.npz").write_bytes(b""), "data.npz is not a readable .npz"),
    (lambda f: (f / "program.bin").write_bytes(b""), "not the one in program.bin"),
])  # fmt: skip
def test_damaged_folders_are_refused(folder, board, capsys, damage, message):
    damage(folder)
    assert re.search(message, fails(capsys, 2, folder, open_device=board.open))
    assert not (folder / "results").exists()


def test_addresses_move_and_nothing_else(folder):
    run = BoardRun.read(folder)
    moved = run.plan(0x4000_0000, 1 << 22).program
    distance = 0x4000_0000 - run.memory_base
    assert moved != run.program == run.plan(run.memory_base, 1 << 22).program
    assert relocated(run.program, distance) == moved
    assert relocated(moved, -distance) == run.program


def test_loading_takes_the_overlay_where_there_is_one(folder, monkeypatch):
    artefact, calls = Artefact.read(folder), []
    for name in ("compile_overlay", "load_overlay", "load_bitstream"):
        monkeypatch.setattr(
            fpga_manager, name, lambda *given, name=name: calls.append((name, *given))
        )
    bit, source, overlay = (folder / f"eftrain.{kind}" for kind in ("bit", "dtso", "dtbo"))
    board_program.load(artefact, "/r")
    assert calls == [("compile_overlay", source, overlay), ("load_bitstream", bit, "/r")]
    overlay.write_bytes(b"compiled")
    board_program.load(artefact, "/r")
    assert calls[2:] == [("load_overlay", overlay, bit, "/r")]
    bare = Artefact(**{**artefact.as_dict(), "bitstream": None}, folder=folder)
    with pytest.raises(UserError, match="has no bitstream; build it with `eftrain bitstream zcu"):
        board_program.load(bare)


def options(settings, **changes):
    return BuildSettings(**{**vars(settings), **changes})


@pytest.mark.parametrize(("changes", "message"), [
    ({"board": "de10"}, "Board 'de10' is unknown; choose one of zcu102"),
    ({"array": "5x5"}, "nearest that is supported"),
    ({"array": "8x8"}, r"holds a 4x4 fp32 core for zcu102, but 8x8 fp32 .*--array 8x8"),
    ({"board": "pynq-z1"}, "core for zcu102, but .* for pynq-z1 is asked for"),
    ({"network": "resnet50"}, "no network 'resnet50'"),
    ({"data": None}, "comes without pictures; give an .npz file"),
    ({"batch_size": 0}, "batch_size is 0"),
    ({"epochs": 100_000_000}, "MiB of device memory but the device has 512.0 MiB"),
    ({"learning_rate": -1.0}, "lr is -1.0|learning_rate"),
    ({"bitstream": Path("/nowhere")}, "There is no /nowhere/config.json"),
])  # fmt: skip
def test_bad_input_of_a_build_is_one_sentence_and_writes_nothing(settings, changes, message):
    with pytest.raises(UserError, match=message):
        prepare(options(settings, **changes))
    assert not settings.folder.exists()


def test_a_folder_without_a_bitstream_says_so(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    run = prepare(
        options(settings, bitstream=None), on_status=said.append,
        describe=lambda board, config, on_status: Artefact.describe(board, config, "text"),
    )  # fmt: skip
    assert said == [
        "There is no bitstream in build/zcu102/4x4-fp32; the folder is written without one."
    ]
    write(run, tmp_path / "bare")
    assert Artefact.read(tmp_path / "bare").bitstream is None
    assert BoardRun.read(tmp_path / "bare").program == run.program


def test_where_bitstreams_are_looked_for():
    board = BOARDS["zcu102"]
    folders = [
        str(artefact_folder(board, CoreConfig.parse(*core)))
        for core in (("16x16", "fp32"), ("32x32", "bf16"))
    ]
    assert folders == ["build/zcu102", "build/zcu102/32x32-bf16"]


def test_the_command_writes_again_over_an_older_folder(settings, capsys):
    (settings.folder / "python/old").mkdir(parents=True)
    (settings.folder / "mine.txt").write_text("kept")
    build.command(
        settings.network, settings.board, array="4x4", batch=8, epochs=3, data=settings.data,
        bitstream=settings.bitstream, output=settings.output,
    )  # fmt: skip
    output = capsys.readouterr().out
    assert "small for zcu102, 4x4 fp32" in output and "run.sh on the board, as root" in output
    assert not (settings.folder / "python/old").exists()
    assert (settings.folder / "mine.txt").read_text() == "kept"
    assert not list(settings.folder.glob(".new*"))
    assert BoardRun.read(settings.folder).epochs == 3


def test_npz_weights_are_the_same_and_refuse_other_networks(settings, tmp_path):
    run = prepare(settings)
    layers, path = run.graph.layers, tmp_path / "w.npz"
    for _ in range(2):
        save_weights(path, layers, run.graph.weights)
        content = path.read_bytes()
    assert path.read_bytes() == content, "equal weights give equal files"
    found = load_weights(path, layers)
    assert all((found[name] == value).all() for name, value in run.graph.weights.items())
    with pytest.raises(UserError, match="weights of another network"):
        load_weights(path, layers[:-1])
    np.save(tmp_path / "w.npy", np.zeros(3))
    shutil.move(tmp_path / "w.npy", path)
    with pytest.raises(UserError, match="not a readable .npz file of weights"):
        load_weights(path, layers)
