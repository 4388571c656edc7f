"""The generated tables of docs/performance.md, and the markers they stand between."""

import json
import re

from ..errors import UserError
from ..plan.report import peak_gflops
from .measure import ALL, STEP, worst
from .networks import KINDS

__all__ = ["fill", "layer_table", "network_table", "resource_table", "rtl_table", "step_table"]

PASS_LIMIT = 0.01
"""How far the model may be from the RTL."""


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def network_table(results):
    """Networks: rate of a whole step beside the target and EF-Train's model."""
    head = [
        "network", "batch", "cycles a step", "whole step", "target", "convolutions",
        "EF-Train's model", "array share",
    ]  # fmt: skip
    rows = []
    for result in results:
        plan, share = result.plan, f"{result.plan.share:.1%}"
        if result.share_target:
            share += f" ({_verdict(plan.share, result.share_target, '.0%')})"
        target = _verdict(plan.gflops, result.target, ".1f") if result.target else "–"
        rows.append(
            [
                result.benchmark.title, str(plan.batch), f"{plan.cycles:,}", f"{plan.gflops:.1f}",
                target, f"{result.convolution_gflops:.1f}", f"{result.baseline_gflops:.1f}", share,
            ]
        )  # fmt: skip
    return _table(head, rows)


def _verdict(value, target, style):
    """The target, and whether it is reached."""
    return f"{target:{style}} {'reached' if value >= target else '**missed**'}"


def layer_table(result):
    """Convolutions of one network: rates of the three passes, EF-Train's in brackets."""
    rows = {}
    for row in result.plan.rows:
        if row.kind in KINDS:
            rows.setdefault(row.layer, {})[row.kind] = row
    lines = []
    for layer, kinds in rows.items():
        cells = []
        for kind in KINDS:
            row = kinds.get(kind)
            if row is None:
                cells += ["–", ""]
                continue
            theirs = result.baseline_of(row)
            cells.append(f"{row.gflops:.1f} ({theirs:.1f})" if theirs else f"{row.gflops:.1f}")
            cells.append(_bound(row))
        lines.append([layer, *cells])
    head = ["layer"]
    for kind in KINDS:
        head += [f"{kind} GFLOPS", "bound by"]
    return _table(head, lines)


def _bound(row):
    return f"{row.bound}, {row.share:.0%}"


def rtl_table(measured):
    """Single passes: the model beside the RTL; None if there are none."""
    measured = [one for one in measured if one.alone]
    if not measured:
        return None
    head = ["network", "batch", "layer", "pass", "model", "RTL", "model off by", "array share",
            "error"]  # fmt: skip
    rows = [
        [
            one.network, str(one.batch), one.layer, one.kind, f"{one.cycles:,}",
            f"{one.rtl_cycles:,}", f"{one.deviation:+.2%}", f"{one.array_share:.1%}", _error(one),
        ]
        for one in measured
    ]  # fmt: skip
    return f"{_table(head, rows)}\n\n{worst_sentence(measured)}"


def _error(one):
    return f"{one.error:.1e}" if one.values_right else f"{one.error:.1e} **wrong**"


def worst_sentence(measured):
    """How far the model is off at most, and where."""
    off = worst(measured)
    verdict = "within" if abs(off.deviation) <= PASS_LIMIT else "**outside**"
    return (
        f"Worst of {len(measured)}: {off.title}, {off.deviation:+.2%} "
        f"({verdict} the limit of {PASS_LIMIT:.0%})."
    )


def step_table(measured):
    """Whole steps, every pass where it stands in the program; None if there are none."""
    steps = {}
    for one in measured:
        if not one.alone:
            steps.setdefault((one.network, one.batch), []).append(one)
    if not steps:
        return None
    parts = []
    for (network, batch), rows in steps.items():
        whole = next(one for one in rows if one.kind == ALL)
        lines = [
            [
                STEP if one is whole else one.layer, "" if one is whole else one.kind,
                f"{one.cycles:,}", f"{one.rtl_cycles:,}", f"{one.deviation:+.2%}",
            ]
            for one in rows
        ]  # fmt: skip
        parts.append(
            f"{network}, batch {batch}; array share on the RTL {whole.array_share:.1%}, error of "
            f"the worst tensor {_error(whole)}:\n\n"
            + _table(["layer", "pass", "model", "RTL", "model off by"], lines)
            + f"\n\n{worst_sentence(rows)}"
        )
    return "\n\n".join(parts)


def resource_table(folder):
    """What ``eftrain resources`` wrote to ``resources-ARRAY-FORMAT-TARGET.json`` in ``folder``;
    None if there is nothing."""
    rows = []  # Without flip-flops: yosys leaves those in Xilinx multipliers outside.
    for path in sorted(folder.glob("resources-*.json")):
        found = re.fullmatch(r"resources-(\d+x\d+)-(\w+)-(\w+)", path.stem)
        try:
            total = json.loads(path.read_text())["total"]
            rows.append(
                [*found.groups(), *(f"{total[name]:,}" for name in ("lut", "dsp", "bram36"))]
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                f"{path} was not written by `eftrain resources`; delete it and run `make "
                "resources`."
            ) from None
    if not rows:
        return None
    rows.sort(key=lambda row: (int(row[0].split("x")[0]), row[1:]))
    return _table(["array", "format", "family", "LUT", "DSP", "BRAM36"], rows)


def peak_sentence(config):
    """What all rates compare with."""
    return f"Peak of a {config.array} array at 100 MHz: {peak_gflops(config):.1f} GFLOPS."


def fill(text, tables, where):
    """``text`` with each table between its markers ``<!-- bench:NAME -->``.

    Raises
    ------
    UserError
        If a marker is missing.
    """
    for name, table in tables.items():
        begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
        if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
            raise UserError(f"{where} needs the markers {begin} and {end} once each; restore them.")
        head, rest = text.split(begin)
        text = f"{head}{begin}\n{table}\n{end}{rest.split(end)[1]}"
    return text
