"""``eftrain bitstream``: from a board's name to a folder with its bitstream."""

from pathlib import Path

from .boards import BOARDS, OTHER_ECP5, Family, find
from .errors import UserError

__all__ = ["MIN_CLOCK_MHZ", "choose", "run"]

MIN_CLOCK_MHZ, MAX_CLOCK_MHZ = 10, 400
"""What any of the boards could be asked for."""


def run(
    board, *, array=None, format=None, batch_norm=None, clock=None, seed=None, output=None,
    project_only=False,
):  # fmt: skip
    """Build a bitstream and say where it is.

    Parameters
    ----------
    board : str
        Name in :data:`eftrain.boards.BOARDS`, or that of an ECP5 board in amaranth-boards: its
        module or its class.
    array, format : str, optional
        The core; a part that is not given is that of the board's first preset that has the other.
    batch_norm : bool, optional
        Whether the core has batch-norm; as ``Board.without_batch_norm`` says if it is not given.
    clock : float, optional
        MHz; the board's, if it is not given.
    seed : int, optional
        Of placement.
    output : path, optional
        Folder; ``build/<board>``, and for what is not the board's first preset
        ``build/<board>/<array>-<format>``.
    project_only : bool
        Stop when the vendor's project is written.

    Returns
    -------
    Artefact

    Raises
    ------
    UserError
        For bad input; nothing has been written.
    platforms.BitstreamError
        If a tool fails or timing is not met; no bitstream has been written.
    """
    board, config, clock_hz, folder = choose(
        board, array=array, format=format, batch_norm=batch_norm, clock=clock, output=output
    )
    if project_only and board.family is Family.ECP5:
        raise UserError(
            f"--project-only is for boards that need Vivado; leave it out for {board.name}."
        )
    from platforms import flow

    chosen = flow(board)
    if project_only:
        return chosen.write_project(board, config, folder, clock_hz=clock_hz)
    seeds = {} if seed is None else {"seed": seed}
    artefact = chosen.build(board, config, folder, clock_hz=clock_hz, **seeds)
    if artefact.bitstream:
        print(f"Wrote {artefact.bitstream_path} for {board.title}.")
    return artefact


def choose(board, *, array=None, format=None, batch_norm=None, clock=None, output=None):
    """Board, core, clock in Hz and folder for a command line; see :func:`run`."""
    if board in BOARDS:
        board = find(board)
    else:
        from platforms.ecp5_boards import board_of

        board = board_of(board)
    config = board.core(array, format, batch_norm)
    if clock is not None and not MIN_CLOCK_MHZ <= clock <= MAX_CLOCK_MHZ:
        raise UserError(
            f"--clock {clock:g} is not from {MIN_CLOCK_MHZ} to {MAX_CLOCK_MHZ} MHz; the clock of "
            f"{board.name} is {board.clock_hz / 1e6:g}."
        )
    clock_hz = board.clock_hz if clock is None else round(clock * 1e6)
    if output is None:
        output = Path("build") / board.name.removeprefix(OTHER_ECP5)
        if (config.array, config.format) != board.presets[0]:
            output /= f"{config.array}-{config.format}"
    return board, config, clock_hz, Path(output)
