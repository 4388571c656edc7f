"""``eftrain bench``: predictions of four networks, runs on the RTL, tables and pictures."""

import json
from pathlib import Path

from ..errors import UserError
from ..files import write_files
from ..plan.layout import WORD
from ..plan.model import PORTS
from ..plan.report import CLOCK_HZ, peak_gflops
from . import tables
from .measure import Measured, current, merged, worst
from .networks import BENCHMARKS, evaluate
from .pictures import draw_rates, draw_roofline
from .reference import BEAT_WORDS

__all__ = ["RTL_FILE", "Report", "load_measured", "report", "save_measured"]

RTL_FILE = "rtl.json"
PICTURED = "vgg16"
"""Network of the picture of rates and of the table of layers."""

_PORT_BANDWIDTH = WORD * BEAT_WORDS * CLOCK_HZ / 1e9


def load_measured(folder):
    """Runs on the RTL that are kept in ``folder``, an empty list if there are none.

    Raises
    ------
    UserError
        If the file is not one that ``save_measured`` wrote.
    """
    path = Path(folder) / RTL_FILE
    try:
        return [Measured.from_dict(row) for row in json.loads(path.read_text())["rows"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{path} does not hold runs on the RTL; delete it and run `make bench-rtl`."
        ) from None


def save_measured(folder, newer):
    """Add runs to those kept in ``folder``."""
    measured = merged(load_measured(folder), newer)
    off = worst(measured)
    content = {
        "rows": [one.as_dict() for one in measured],
        "worst": {"run": off.title, "deviation": off.deviation},
    }
    write_files({Path(folder) / RTL_FILE: _json(content)})


def _json(content):
    return json.dumps(content, indent=2) + "\n"


class Report:
    """Everything one run of the benchmark shows.

    Attributes
    ----------
    results : list of Result
    measured : list of Measured
        Runs on the RTL of the same core that are still up to date.
    outdated : int
        Runs that were left out, because what they ran is planned differently now.
    """

    def __init__(self, results, measured, outdated, folder):
        self.results = results
        self.measured = measured
        self.outdated = outdated
        self._folder = folder
        self.config = results[0].plan.config
        self._pictured = next(r for r in results if r.benchmark.network == PICTURED)

    def tables(self):
        """Marker name to markdown.

        Without those of runs that ``folder`` does not keep: on the page they stay as they were, so
        that a new checkout does not lose what took long.
        """
        found = {
            "networks": tables.network_table(self.results),
            "layers": tables.layer_table(self._pictured),
            "rtl": tables.rtl_table(self.measured),
            "step": tables.step_table(self.measured),
            "resources": tables.resource_table(self._folder),
        }
        return {name: table for name, table in found.items() if table}

    def pictures(self):
        """File name to SVG."""
        peak = peak_gflops(self.config)
        rows = self._pictured.as_dict()["rows"]
        every = [row for result in self.results for row in result.as_dict()["rows"]]
        return {
            "rates.svg": draw_rates(rows, peak),
            "roofline.svg": draw_roofline(every, peak, _PORT_BANDWIDTH, len(PORTS)),
        }

    def write(self, page=None):
        """Write JSON files and pictures, and the tables into ``page`` if one is given.

        Returns
        -------
        list of Path
            What was written.
        """
        files = {
            self._folder / f"{result.benchmark.network}.json": _json(result.as_dict())
            for result in self.results
        }
        found, pictures = self.tables(), self.pictures()
        files |= {self._folder / name: text for name, text in pictures.items()}
        files[self._folder / "tables.md"] = "\n\n".join(found.values()) + "\n"
        if page:
            files[page] = tables.fill(page.read_text(), found, page)
            files |= {page.parent / "images" / name: text for name, text in pictures.items()}
        write_files(files)
        return list(files)


def report(config, folder, on_network=None):
    """Evaluate every network and gather the runs on the RTL that ``folder`` keeps.

    Parameters
    ----------
    config : CoreConfig
    folder : path
    on_network : callable, optional
        Called with each ``Benchmark`` before it is evaluated.
    """
    folder, results = Path(folder), []
    kept = load_measured(folder)
    tables.resource_table(folder)  # A damaged file is refused before the work.
    for benchmark in BENCHMARKS:
        if on_network:
            on_network(benchmark)
        results.append(evaluate(benchmark, config))
    same = [one for one in kept if (one.array, one.format) == (config.array, config.format)]
    measured = current(same)
    return Report(results, measured, len(same) - len(measured), folder)
