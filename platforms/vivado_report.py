"""What Vivado reports of an implemented design.

``report/timing.json`` and ``report/utilisation.json`` have the form of the ECP5 flow (see
:mod:`platforms.ecp5_report`): the former from ``timing.txt``, which the build's own script writes,
the latter from Vivado's utilisation report.
"""

import re

__all__ = ["timing", "utilisation"]

_SITES = {
    "LUT": ("CLB LUTs", "Slice LUTs"),
    "FF": ("CLB Registers", "Slice Registers"),
    "DSP": ("DSPs",),
    "BRAM36": ("Block RAM Tile",),
}
"""Our name: what Vivado calls it, on UltraScale+ and on 7-series."""

_ROW = re.compile(r"^\|\s*([^|]+?)\*?\s*\|((?:[^|\n]*\|)+)\s*$", re.MULTILINE)


def timing(text, *, part, clock_hz, seed=None, tool=None):
    """Contents of ``timing.json``.

    Parameters
    ----------
    text : str
        Of ``timing.txt``: lines of a name and a value.
    part : str
    clock_hz : int
        What was asked for; the period says what the processing system gives.
    seed : int or None
        Vivado has none.
    tool : str or None
        Name and version.

    Raises
    ------
    ValueError
        If an entry is missing or no number.
    """
    entries = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    try:
        period, wns, whs = (float(entries[name]) for name in ("period_ns", "wns_ns", "whs_ns"))
        name = entries["clock"]
    except KeyError as error:
        raise ValueError(f"has no entry {error.args[0]!r}") from None
    path = {
        "from": entries.get("from"),
        "to": entries.get("to"),
        "delay_ns": round(period - wns, 3),
    }
    clock = {
        "fmax_mhz": round(1000 / (period - wns), 2),
        "requested_mhz": round(clock_hz / 1e6, 4),
        "period_ns": period,
        "slack_ns": wns,
        "hold_slack_ns": whs,
        "critical_path": path,
    }
    met = wns >= 0 and whs >= 0
    return {"tool": tool, "part": part, "seed": seed, "met": met, "clocks": {name: clock}}


def utilisation(text, *, part):
    """Contents of ``utilisation.json``, from the text that ``report_utilization`` writes.

    Raises
    ------
    ValueError
        If a kind of resource is not in the report.
    """
    rows = {}
    for match in _ROW.finditer(text):
        rows.setdefault(match[1], [cell.strip() for cell in match[2].split("|")])
    total = {}
    for kind, names in _SITES.items():
        cells = next((rows[name] for name in names if name in rows), None)
        if cells is None:
            raise ValueError(f"has no row {' or '.join(names)}")
        # Used | Fixed | (Prohibited |) Available | Util%
        numbers = [float(cell.lstrip("<")) for cell in cells if cell]
        used, available = numbers[0], numbers[-2]
        total[kind] = {
            "used": int(used) if used == int(used) else used,
            "available": int(available),
            "percent": round(100 * used / available, 1),
        }
    return {"part": part, "total": total}
