"""The ``eftrain`` command.

Exit codes: 0 done; 2 the input is wrong or a program is missing, and nothing was written; 1 the
device, or the build of its model or bitstream, failed; 3 a Vivado project was written, but there is
no Vivado to build it; 130 interrupted. Those of ``eftrain check`` are its answer. Errors are one
sentence, no traceback.
"""

import importlib.metadata
import sys
from typing import Annotated

import typer
from typer.exceptions import Exit, TyperException

from .commands import (
    bench,
    bitstream,
    build,
    check,
    doctor,
    personalize,
    plan,
    profile,
    resources,
    train,
)
from .devices import DeviceError
from .errors import UserError

_EXIT_CODES = {
    "ToolchainError": 2,
    "ModelBuildError": 1,
    "SynthesisError": 1,
    "BitstreamError": 1,
    "VivadoMissing": 3,
}

app = typer.Typer(
    name="eftrain",
    help="Train convolutional networks on an FPGA accelerator, or on its simulation.",
    add_completion=False,
)


def _version(asked):
    if asked:
        try:
            version = importlib.metadata.version("eftrain")
        except importlib.metadata.PackageNotFoundError:
            version = "(from a checkout that is not installed)"
        print(f"eftrain {version}")
        raise Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
):
    """Options of the command itself."""


for _module in (
    personalize,
    check,
    train,
    plan,
    bench,
    profile,
    resources,
    bitstream,
    build,
    doctor,
):
    app.command(name=_module.__name__.rpartition(".")[2])(_module.command)


def main(arguments=None):
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = app(arguments or ["--help"], standalone_mode=False) or 0
        return _fail("Interrupted; no results were written.", code) if code == 130 else code
    except TyperException as error:
        return _fail(f"{error.format_message().rstrip('.')}; see --help.", error.exit_code)
    except DeviceError as error:
        return _fail(error, 1)
    except UserError as error:
        return _fail(error, 2)
    except RuntimeError as error:
        # By name: a board has neither simulator nor platforms to import them from.
        code = _EXIT_CODES.get(type(error).__name__)
        if code is None:
            raise
        return _fail(error, code)


def _fail(message, code):
    print(f"eftrain: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
