"""Stand-ins of Vivado's Tcl commands, which check what they are given.

They know what the block design's parts look like: which pins a processing system has with the
parameters that were set, which ports were made, which files exist. A name that does not exist is an
error, as in Vivado. The names of parameters and pins are from AMD's PG201 (Zynq UltraScale+) and
PG082 (Zynq-7000), and not from the project.
"""

import re
from pathlib import Path

from tcl_interpreter import TclError

__all__ = ["FakeVivado"]

PS8_PARAMETERS = re.compile(
    r"PSU__(FPGA_PL[0-3]_ENABLE|CRL_APB__PL[0-3]_REF_CTRL__FREQMHZ|USE__FABRIC__RST"
    r"|NUM_FABRIC_RESETS|USE__IRQ[01]|USE__M_AXI_GP[0-2]|MAXIGP[0-2]__DATA_WIDTH"
    r"|USE__S_AXI_GP[0-6]|SAXIGP[0-6]__DATA_WIDTH)"
)
PS7_PARAMETERS = re.compile(
    r"PCW_(EN_CLK[0-3]_PORT|FPGA[0-3]_PERIPHERAL_FREQMHZ|EN_RST[0-3]_PORT|USE_FABRIC_INTERRUPT"
    r"|IRQ_F2P_INTR|USE_M_AXI_GP[01]|USE_S_AXI_HP[0-3]|S_AXI_HP[0-3]_DATA_WIDTH"
    r"|CRYSTAL_PERIPHERAL_FREQMHZ|APU_PERIPHERAL_FREQMHZ|PRESET_BANK[01]_VOLTAGE"
    r"|UIPARAM_DDR_(PARTNO|MEMORY_TYPE|BUS_WIDTH|DRAM_WIDTH|DEVICE_CAPACITY|(ROW|COL|BANK)_ADDR_COUNT"
    r"|FREQ_MHZ|SPEED_BIN|CL|CWL|T_RCD|T_RP|T_RC|T_RAS_MIN|T_FAW|BOARD_DELAY[0-3]"
    r"|DQS_TO_CLK_DELAY_[0-3])"
    r"|QSPI_PERIPHERAL_(ENABLE|FREQMHZ)|QSPI_GRP_(SINGLE_SS|FBCLK)_ENABLE"
    r"|ENET0_(PERIPHERAL_ENABLE|ENET0_IO|GRP_MDIO_ENABLE)"
    r"|SD0_(PERIPHERAL_ENABLE|SD0_IO|GRP_CD_ENABLE|GRP_CD_IO)|SDIO_PERIPHERAL_FREQMHZ"
    r"|UART0_(PERIPHERAL_ENABLE|UART0_IO)|USB0_(PERIPHERAL_ENABLE|USB0_IO))"
)
INTERFACE_PARAMETERS = {
    "PROTOCOL", "READ_WRITE_MODE", "ADDR_WIDTH", "DATA_WIDTH", "ID_WIDTH", "HAS_BURST", "HAS_CACHE",
    "HAS_LOCK", "HAS_PROT", "HAS_QOS", "HAS_REGION", "ARUSER_WIDTH", "AWUSER_WIDTH", "RUSER_WIDTH",
    "WUSER_WIDTH", "BUSER_WIDTH", "FREQ_HZ",
}  # fmt: skip
RUN_PROPERTIES = {
    "STEPS.SYNTH_DESIGN.ARGS.DIRECTIVE": {"AreaOptimized_high", "AreaOptimized_medium", "Default"},
    "STEPS.OPT_DESIGN.ARGS.DIRECTIVE": {"Explore", "ExploreArea", "Default"},
}

# Interface pins with the parameter that brings them out, and their clock pin.
PS8_INTERFACES = {
    "M_AXI_HPM0_FPD": ("PSU__USE__M_AXI_GP0", "maxihpm0_fpd_aclk"),
    "M_AXI_HPM1_FPD": ("PSU__USE__M_AXI_GP1", "maxihpm1_fpd_aclk"),
    "M_AXI_HPM0_LPD": ("PSU__USE__M_AXI_GP2", "maxihpm0_lpd_aclk"),
    **{f"S_AXI_HP{n}_FPD": (f"PSU__USE__S_AXI_GP{n + 2}", f"saxihp{n}_fpd_aclk") for n in range(4)},
}
PS7_INTERFACES = {
    **{f"M_AXI_GP{n}": (f"PCW_USE_M_AXI_GP{n}", f"M_AXI_GP{n}_ACLK") for n in range(2)},
    **{f"S_AXI_HP{n}": (f"PCW_USE_S_AXI_HP{n}", f"S_AXI_HP{n}_ACLK") for n in range(4)},
}
SYSTEMS = {
    "zynq_ultra_ps_e": dict(
        parameters=PS8_PARAMETERS, interfaces=PS8_INTERFACES, clock="clk_pl_0",
        pins={"pl_clk0": "PSU__FPGA_PL0_ENABLE", "pl_resetn0": "PSU__USE__FABRIC__RST",
              "pl_ps_irq0": "PSU__USE__IRQ0"},
        frequency="PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ",
        defaults={"PSU__USE__M_AXI_GP0": "1", "PSU__USE__M_AXI_GP1": "1"},
    ),
    "processing_system7": dict(
        parameters=PS7_PARAMETERS, interfaces=PS7_INTERFACES, clock="clk_fpga_0",
        pins={"FCLK_CLK0": "PCW_EN_CLK0_PORT", "FCLK_RESET0_N": "PCW_EN_RST0_PORT",
              "IRQ_F2P": "PCW_IRQ_F2P_INTR"},
        frequency="PCW_FPGA0_PERIPHERAL_FREQMHZ",
        defaults={"PCW_USE_M_AXI_GP0": "1"},
    ),
}  # fmt: skip


UTILISATION = {
    "zynq_ultra_ps_e": """
1. CLB Logic
------------

+----------------------------+-------+-------+------------+-----------+-------+
|          Site Type         |  Used | Fixed | Prohibited | Available | Util% |
+----------------------------+-------+-------+------------+-----------+-------+
| CLB LUTs                   | 81234 |     0 |          0 |    274080 | 29.64 |
|   LUT as Logic             | 75012 |     0 |          0 |    274080 | 27.37 |
|   LUT as Memory            |  6222 |     0 |          0 |    144000 |  4.32 |
| CLB Registers              | 91002 |     0 |          0 |    548160 | 16.60 |
|   Register as Flip Flop    | 91002 |     0 |          0 |    548160 | 16.60 |
| CARRY8                     |  3020 |     0 |          0 |     34260 |  8.81 |
+----------------------------+-------+-------+------------+-----------+-------+

3. BLOCKRAM
-----------

+-------------------+-------+-------+------------+-----------+-------+
|     Site Type     |  Used | Fixed | Prohibited | Available | Util% |
+-------------------+-------+-------+------------+-----------+-------+
| Block RAM Tile    | 191.5 |     0 |          0 |       912 | 21.00 |
|   RAMB36/FIFO*    |   180 |     0 |          0 |       912 | 19.74 |
+-------------------+-------+-------+------------+-----------+-------+

4. ARITHMETIC
-------------

+----------------+------+-------+------------+-----------+-------+
|    Site Type   | Used | Fixed | Prohibited | Available | Util% |
+----------------+------+-------+------------+-----------+-------+
| DSPs           |  587 |     0 |          0 |      2520 | 23.29 |
|   DSP48E2 only |  587 |       |            |           |       |
+----------------+------+-------+------------+-----------+-------+
""",
    "processing_system7": """
1. Slice Logic
--------------

+----------------------------+-------+-------+-----------+-------+
|          Site Type         |  Used | Fixed | Available | Util% |
+----------------------------+-------+-------+-----------+-------+
| Slice LUTs*                | 40001 |     0 |     53200 | 75.19 |
|   LUT as Logic             | 37000 |     0 |     53200 | 69.55 |
| Slice Registers            | 33000 |     0 |    106400 | 31.02 |
+----------------------------+-------+-------+-----------+-------+

| Block RAM Tile    | 79.5 |     0 |       140 | 56.79 |
| DSPs           |  139 |     0 |       220 | 63.18 |
""",
}
"""Excerpts in the form of ``report_utilization``, with and without the column of 2022 and later."""


class FakeVivado:
    """State of the design and the stand-ins: every method ``do_<command>`` is a Tcl command.

    Parameters
    ----------
    folder : path
        Of the project; the current folder of the script.
    slack : (float, float)
        Setup and hold slack that the implementation reaches.
    """

    def __init__(self, folder, *, version="2022.2", slack=(0.5, 0.05), boards=True):
        self.folder = Path(folder)
        self.version, self.slack, self.boards = version, slack, boards
        self.calls = []
        self.output = []
        self.files, self.constraints = [], []
        self.cells = {}  # name: {"kind", "parameters"}
        self.ports = {}  # name: {"dir", "type", "properties"}
        self.interfaces = {}
        self.nets = []
        self.interface_nets = []
        self.addresses = {}
        self.properties = {}
        self.validated = self.generated = False
        self.progress = {"synth_1": "0%", "impl_1": "0%"}
        self.status = {"synth_1": "Not started", "impl_1": "Not started"}

    @property
    def commands(self):
        return [name.removeprefix("do_") for name in dir(self) if name.startswith("do_")]

    def call(self, command, arguments):
        self.calls.append((command, *arguments))
        result = getattr(self, f"do_{command.replace('::', '__')}")(*arguments)
        return "" if result is None else str(result)

    # -- helpers ----------------------------------------------------------------------------------

    def _system(self):
        name, cell = next(
            ((n, c) for n, c in self.cells.items() if c["kind"] in SYSTEMS), (None, None)
        )
        if cell is None:
            raise TclError("there is no processing system")
        return name, cell, SYSTEMS[cell["kind"]]

    def _parameter(self, cell, name):
        defaults = SYSTEMS[cell["kind"]]["defaults"]
        return cell["parameters"].get(name, defaults.get(name, "0"))

    def _pins(self, cell):
        """Scalar and interface pins of a cell, as it is configured."""
        kind = self.cells[cell]["kind"]
        if kind == "smartconnect":
            return {"aclk", "aresetn"}, {"S00_AXI", "M00_AXI"}
        system = SYSTEMS[kind]

        def on(parameter):
            return self._parameter(self.cells[cell], parameter) == "1"

        interfaces = {n: clock for n, (p, clock) in system["interfaces"].items() if on(p)}
        pins = {name for name, parameter in system["pins"].items() if on(parameter)}
        return pins | set(interfaces.values()), set(interfaces)

    def _options(self, arguments, flags=(), values=()):
        options, rest = {}, []
        arguments = iter(arguments)
        for argument in arguments:
            name = argument.removeprefix("-")
            if argument.startswith("-") and name in flags:
                options[name] = True
            elif argument.startswith("-") and name in values:
                options[name] = next(arguments)
            elif argument.startswith("-"):
                raise TclError(f"unknown option {argument}")
            else:
                rest.append(argument)
        return options, rest

    def _exists(self, name, what):
        path = self.folder / name
        if not path.is_file():
            raise TclError(f"{what} {name} does not exist")
        return path

    # -- project ----------------------------------------------------------------------------------

    def do_version(self, *arguments):
        assert arguments == ("-short",)
        return self.version

    def do_create_project(self, *arguments):
        options, (name, folder) = self._options(arguments, ["force"], ["part"])
        self.properties["project"] = {"name": name, "folder": folder, "part": options["part"]}

    def do_current_project(self):
        return "current_project"

    def do_current_fileset(self):
        return "sources_1"

    def do_get_board_parts(self, *arguments):
        _, (pattern,) = self._options(arguments, ["quiet"])
        known = (
            ["xilinx.com:zcu102:part0:3.3", "xilinx.com:zcu102:part0:3.4"] if self.boards else []
        )
        expression = re.escape(pattern).replace(r"\*", ".*")
        return " ".join(name for name in known if re.fullmatch(expression, name))

    def do_add_files(self, *arguments):
        options, (names,) = self._options(arguments, ["norecurse"], ["fileset"])
        for name in names.split():
            if name != "eftrain_ps_wrapper.v":
                self._exists(name, "file")
            (self.constraints if options.get("fileset") == "constrs_1" else self.files).append(name)

    def do_get_files(self, name):
        if name != "eftrain_ps.bd" or not self.properties.get("design"):
            raise TclError(f"no file {name}")
        return name

    def do_generate_target(self, what, design):
        assert (what, design) == ("all", "eftrain_ps.bd")
        if not self.validated:
            raise TclError("the block design has not been validated")
        self.generated = True

    def do_make_wrapper(self, *arguments):
        options, _ = self._options(arguments, ["top"], ["files"])
        assert options == {"top": True, "files": "eftrain_ps.bd"} and self.generated
        return "eftrain_ps_wrapper.v"

    def do_update_compile_order(self, *arguments):
        assert arguments == ("-fileset", "sources_1")

    # -- block design -----------------------------------------------------------------------------

    def do_create_bd_design(self, name):
        self.properties["design"] = name

    def do_create_bd_cell(self, *arguments):
        options, (name,) = self._options(arguments, (), ["type", "vlnv"])
        vendor, library, kind = options["vlnv"].split(":")[:3]
        if (options["type"], vendor, library) != ("ip", "xilinx.com", "ip") or (
            kind not in (*SYSTEMS, "smartconnect")
        ):
            raise TclError(f"no IP {options['vlnv']}")
        self.cells[name] = {"kind": kind, "parameters": {}}
        return f"/{name}"

    def do_apply_bd_automation(self, *arguments):
        options, (cell,) = self._options(arguments, (), ["rule", "config"])
        kind = self.cells[cell.removeprefix("/")]["kind"]
        assert options["rule"] == f"xilinx.com:bd_rule:{kind}"
        if 'apply_board_preset "1"' in options["config"] and not self.properties.get("board_part"):
            raise TclError("no board was chosen for its preset")
        if "make_external" in options["config"]:
            assert kind == "processing_system7" and '"FIXED_IO, DDR"' in options["config"]
            self.properties["package"] = True

    def do_get_bd_cells(self, name):
        if name not in self.cells:
            raise TclError(f"no cell {name}")
        return f"/{name}"

    def do_get_bd_pins(self, name):
        cell, _, pin = name.removeprefix("/").partition("/")
        if cell not in self.cells or pin not in self._pins(cell)[0]:
            raise TclError(f"no pin {name}")
        return f"/{cell}/{pin}"

    def do_get_bd_intf_pins(self, name):
        cell, _, pin = name.removeprefix("/").partition("/")
        if cell not in self.cells or pin not in self._pins(cell)[1]:
            raise TclError(f"no interface pin {name}")
        return f"/{cell}/{pin}"

    def do_create_bd_port(self, *arguments):
        options, (name,) = self._options(arguments, (), ["dir", "type", "from", "to"])
        self.ports[name] = {**options, "properties": {}}
        return f"/{name}"

    def do_create_bd_intf_port(self, *arguments):
        options, (name,) = self._options(arguments, (), ["mode", "vlnv"])
        assert options["vlnv"] == "xilinx.com:interface:aximm_rtl:1.0"
        self.interfaces[name] = {"mode": options["mode"], "properties": {}}
        return f"/{name}"

    def do_get_bd_ports(self, name):
        if name not in self.ports:
            raise TclError(f"no port {name}")
        return f"/{name}"

    def do_get_bd_intf_ports(self, name):
        if name not in self.interfaces:
            raise TclError(f"no interface port {name}")
        return f"/{name}"

    def do_connect_bd_net(self, *ends):
        assert len(ends) == 2 and all(end.startswith("/") for end in ends)
        self.nets.append(ends)

    def do_connect_bd_intf_net(self, *ends):
        assert len(ends) == 2
        used = [end for net in self.interface_nets for end in net]
        for end in ends:
            if end in used:
                raise TclError(f"{end} is connected already")
        self.interface_nets.append(ends)

    def do_get_bd_addr_spaces(self, name):
        assert name.split("/")[0] in self.cells and name.endswith("/Data")
        return name

    def do_get_bd_addr_segs(self, name):
        assert name.split("/")[0] in self.interfaces and name.endswith("/Reg")
        return name

    def do_assign_bd_address(self, *arguments):
        options, segments = self._options(
            arguments, ["force"], ["offset", "range", "target_address_space"]
        )
        if segments:
            self.addresses[segments[0]] = (int(options["offset"], 0), options["range"])
        else:
            self.addresses["*"] = True

    def do_validate_bd_design(self):
        """Every pin that must be connected is, and what is connected agrees."""
        _, cell, _ = self._system()
        ends = {end for net in self.nets for end in net}
        joined = {end for net in self.interface_nets for end in net}
        for name in self.cells:
            pins, interfaces = self._pins(name)
            for pin in sorted(pins):
                if f"/{name}/{pin}" not in ends:
                    raise TclError(f"pin {name}/{pin} is not connected")
            for pin in sorted(interfaces):
                if f"/{name}/{pin}" not in joined:
                    raise TclError(f"interface {name}/{pin} is not connected")
        for name in (*self.ports, *self.interfaces):
            if f"/{name}" not in ends | joined:
                raise TclError(f"port {name} is not connected")
        clock = self.ports["aclk"]["properties"]
        associated = clock.get("ASSOCIATED_BUSIF", "").split(":")
        for name, interface in self.interfaces.items():
            if name not in associated:
                raise TclError(f"interface {name} has no clock")
            if interface["properties"].get("FREQ_HZ") != self._frequency(cell):
                raise TclError(f"the frequency of {name} is not that of its clock")
        self.validated = True

    def do_save_bd_design(self):
        assert self.validated

    def _frequency(self, cell):
        asked = float(self._parameter(cell, SYSTEMS[cell["kind"]]["frequency"])) * 1e6
        # Dividers of the processing system's clock generator do not meet every number.
        return str(int(asked) - 1000)

    # -- properties -------------------------------------------------------------------------------

    def do_set_property(self, *arguments):
        if arguments[0] == "-dict":
            words = self.split(arguments[1])
            pairs = list(zip(words[::2], words[1::2], strict=True))
            target = arguments[2]
        else:
            name, value, target = arguments
            pairs = [(name, value)]
        for name, value in pairs:
            self._set(target, name, value)

    def _set(self, target, name, value):
        plain = target.removeprefix("/")
        if plain in self.cells:
            cell = self.cells[plain]
            parameter = name.removeprefix("CONFIG.")
            if cell["kind"] == "smartconnect":
                assert parameter in ("NUM_SI", "NUM_MI") and value == "1"
            elif not SYSTEMS[cell["kind"]]["parameters"].fullmatch(parameter):
                raise TclError(f"{cell['kind']} has no parameter {parameter}")
            cell["parameters"][parameter] = value
        elif plain in self.interfaces:
            parameter = name.removeprefix("CONFIG.")
            if parameter not in INTERFACE_PARAMETERS:
                raise TclError(f"interfaces have no property {parameter}")
            self.interfaces[plain]["properties"][parameter] = value
        elif plain in self.ports:
            parameter = name.removeprefix("CONFIG.")
            known = {"POLARITY", "SENSITIVITY", "ASSOCIATED_BUSIF", "ASSOCIATED_RESET", "FREQ_HZ"}
            assert parameter in known, parameter
            self.ports[plain]["properties"][parameter] = value
        elif target in self.progress:
            if value not in RUN_PROPERTIES.get(name, ()):
                raise TclError(f"runs have no {name} {value}")
        elif (target, name) in (("current_project", "board_part"), ("sources_1", "top")):
            self.properties[name] = value
        else:
            raise TclError(f"{target} has no property {name}")

    def do_get_property(self, name, target):
        if name == "CONFIG.FREQ_HZ":
            _, cell, _ = self._system()
            return self._frequency(cell)
        if target in self.progress:
            return {"PROGRESS": self.progress, "STATUS": self.status}[name][target]
        if name == "PERIOD":
            _, cell, _ = self._system()
            return f"{1e9 / float(self._frequency(cell)):.3f}"
        assert target in ("setup_path", "hold_path"), target
        return {
            "SLACK": self.slack[target == "hold_path"],
            "STARTPOINT_PIN": "core/a/C",
            "ENDPOINT_PIN": "core/b/D",
        }[name]

    # -- runs -------------------------------------------------------------------------------------

    def do_get_runs(self, name):
        if name not in self.progress:
            raise TclError(f"no run {name}")
        return name

    def do_launch_runs(self, *arguments):
        options, (run,) = self._options(arguments, (), ["to_step", "jobs"])
        step = options.get("to_step")
        if run == "synth_1":
            assert self.properties.get("top") and "eftrain_ps_wrapper.v" in self.files
            self.progress[run], self.status[run] = "100%", "synth_design Complete!"
        elif step == "route_design":
            assert self.progress["synth_1"] == "100%"
            missed = min(self.slack) < 0
            self.progress[run] = "80%"
            self.status[run] = f"route_design Complete{', Failed Timing' if missed else ''}!"
        elif step == "write_bitstream":
            assert self.status[run] == "route_design Complete!"
            self.progress[run], self.status[run] = "100%", "write_bitstream Complete!"
            runs = self.folder / "vivado/eftrain.runs/impl_1"
            runs.mkdir(parents=True, exist_ok=True)
            (runs / f"{self.properties['top']}.bit").write_bytes(b"bits")
            handoff = self.folder / "vivado/eftrain.gen/sources_1/bd/eftrain_ps/hw_handoff"
            handoff.mkdir(parents=True, exist_ok=True)
            (handoff / "eftrain_ps.hwh").write_text("<hwh/>")
        else:
            raise TclError(f"launch_runs {arguments}")

    def do_wait_on_run(self, run):
        assert run in self.progress

    def do_open_run(self, run):
        assert self.status[run].startswith("route_design Complete")

    def do_close_design(self):
        pass

    def do_get_clocks(self, name=None):
        clock = self._system()[2]["clock"]
        if name not in (None, clock):
            raise TclError(f"no clock {name}")
        return clock

    def do_get_timing_paths(self, *arguments):
        options, _ = self._options(arguments, ["setup", "hold"], ["max_paths"])
        return "hold_path" if "hold" in options else "setup_path"

    def _report(self, *arguments):
        options, _ = self._options(arguments, ["hierarchical"], ["file", "hierarchical_depth"])
        text = "a report\n"
        if options["file"] == "report/utilization.rpt":
            text = UTILISATION[self._system()[1]["kind"]]
        (self.folder / options["file"]).write_text(text)

    do_report_timing_summary = do_report_utilization = do_report_cdc = _report

    def do_write_hw_platform(self, *arguments):
        options, _ = self._options(arguments, ["fixed", "include_bit", "force"], ["file"])
        assert {"fixed", "include_bit"} <= set(options)
        (self.folder / options["file"]).write_bytes(b"xsa")
