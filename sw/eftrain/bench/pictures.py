"""The two pictures of docs/performance.md, drawn from the figures of a benchmark run."""

import io

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

KINDS = ("FP", "BP", "WU")
TITLES = {"FP": "forward", "BP": "input gradient", "WU": "weight gradient"}
OURS, THEIRS, LIMIT = "#1668a8", "#c8c8c8", "#b03030"

# The same figures give the same bytes, so that a picture changes only when its numbers do.
_STYLE = {"svg.hashsalt": "eftrain", "svg.fonttype": "path", "font.size": 9}


def _svg(figure):
    text = io.StringIO()
    metadata = {"Date": None, "Creator": None}
    FigureCanvasSVG(figure)  # Without pyplot no window system is asked for.
    figure.savefig(text, format="svg", metadata=metadata)
    # No spaces at the ends of lines, which reviewers' tools complain about.
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def draw_rates(rows, peak):
    """Nominal rate of each convolution and pass beside EF-Train's own model, as SVG text.

    Parameters
    ----------
    rows : list of dict
        Rows of a benchmark with ``layer``, ``pass``, ``nominal_gflops``, ``baseline_gflops``.
    peak : float
        Peak of the array in GFLOPS.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8, 6.5), layout="constrained")
        every = figure.subplots(len(KINDS), 1, sharex=True, sharey=True)
        layers = list(dict.fromkeys(row["layer"] for row in rows if row.get("baseline_gflops")))
        for axes, kind in zip(every, KINDS, strict=True):
            found = {row["layer"]: row for row in rows if row["pass"] == kind}
            for offset, key, colour, label in (
                (-0.2, "baseline_gflops", THEIRS, "EF-Train, its authors' model"),
                (0.2, "nominal_gflops", OURS, "eftrain, predicted"),
            ):
                places = [i for i, layer in enumerate(layers) if (found.get(layer) or {}).get(key)]
                heights = [found[layers[i]][key] for i in places]
                axes.bar([i + offset for i in places], heights, 0.4, color=colour, label=label)
            axes.axhline(peak, color=LIMIT, linewidth=1, linestyle="--", label=f"peak {peak:g}")
            axes.set_title(TITLES[kind], loc="left", fontsize=9)
            axes.set_ylabel("nominal GFLOPS")
            axes.spines[["top", "right"]].set_visible(False)
        every[-1].set_xticks(range(len(layers)), layers, rotation=45, ha="right")
        every[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.15), ncols=3, frameon=False)
        return _svg(figure)


def draw_roofline(rows, peak, port_bandwidth, ports):
    """Nominal rate of each pass over its arithmetic intensity, under the two roofs, as SVG text.

    Parameters
    ----------
    rows : list of dict
        Rows with ``pass``, ``nominal_gflops``, ``dense_macs`` and ``bytes`` (port to bytes).
    peak : float
        GFLOPS.
    port_bandwidth : float
        GB/s of one port.
    ports : int
    """
    # Passes without arithmetic are not in the picture.
    styles = {"FP": ("o", OURS), "BP": ("s", "#d08010"), "WU": ("^", "#3a8a3a")}
    bandwidth = ports * port_bandwidth
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.subplots()
        intensities = []
        for kind, (marker, colour) in styles.items():
            points = [row for row in rows if row["pass"] == kind and row["dense_macs"]]
            x = [2 * row["dense_macs"] / sum(row["bytes"].values()) for row in points]
            intensities += x
            y = [row["nominal_gflops"] for row in points]
            axes.scatter(x, y, marker=marker, color=colour, s=26, label=TITLES[kind], zorder=3)
        low, high = min([*intensities, 1]) / 1.5, max([*intensities, 10]) * 1.5
        axes.plot(
            [low, peak / bandwidth, high],
            [low * bandwidth, peak, peak],
            color=LIMIT,
            linewidth=1.2,
            label=f"{ports} ports of {port_bandwidth:g} GB/s, {peak:g} GFLOPS",
        )
        axes.set(xscale="log", yscale="log", xlim=(low, high))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_locator(NullLocator())
        axes.set_xlabel("dense FLOP a byte moved")
        axes.set_ylabel("nominal GFLOPS")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower right")
        return _svg(figure)
