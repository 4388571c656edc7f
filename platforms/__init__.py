"""Boards: pins, clocks, and the flows that turn a core into a bitstream.

What host and gateware both know of a board is in :mod:`eftrain.boards`.

A flow is a module with

``build(board, config, folder, *, clock_hz=None, seed=None, on_step=print_step) -> Artefact``
    Runs every tool and writes ``folder``, or leaves it as it was and raises :class:`BitstreamError`
    (a tool failed, timing is not met) or ``UserError`` (it cannot fit, a package is missing).
"""

import importlib

from eftrain.boards import Family

__all__ = ["BitstreamError", "VivadoMissing", "flow", "print_step"]

_FLOWS = {
    Family.ECP5: "platforms.ecp5",
    Family.SERIES7: "platforms.zynq",
    Family.ULTRASCALE_PLUS: "platforms.zynq",
}


class BitstreamError(RuntimeError):
    """A tool failed, or its result is not good enough to be used; no bitstream was written."""


class VivadoMissing(BitstreamError):
    """The project is there, and Vivado, which would make a bitstream of it, is not."""


def flow(board):
    """The module that builds bitstreams of this board's family.

    Parameters
    ----------
    board : eftrain.boards.Board
    """
    return importlib.import_module(_FLOWS[board.family])


def print_step(index, total, text):
    """Show that a step begins, as ``[2/5] Synthesising ...``."""
    print(f"[{index}/{total}] {text}", flush=True)
