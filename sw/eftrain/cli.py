"""The ``eftrain`` command.

Exit codes: 0 done; 2 the input is wrong or a program is missing, and nothing was written; 1 the
device or the build of its model failed; 130 interrupted. Errors are one sentence, no traceback.
"""

import importlib.metadata
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import Exit, TyperException

from . import report
from .devices import DeviceError
from .display import Display
from .errors import UserError
from .personalize import Settings, personalize, prepare

DEFAULTS = Settings()

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


@app.command(name="personalize")
def personalize_command(
    array: Annotated[
        str, typer.Option(help="Array size: 4x4, 8x8 or 16x16.", metavar="ROWSxLANES")
    ] = DEFAULTS.array,
    format: Annotated[
        str, typer.Option(help="Number format of the array: fp32 or bf16.")
    ] = DEFAULTS.format,
    device: Annotated[
        str, typer.Option(help="Device: sim, the simulated gateware.")
    ] = DEFAULTS.device,
    epochs: Annotated[int, typer.Option(help="Times each picture is used.")] = DEFAULTS.epochs,
    batch_size: Annotated[int, typer.Option(help="Pictures a step.")] = DEFAULTS.batch_size,
    learning_rate: Annotated[
        float, typer.Option(help="Learning rate of SGD.")
    ] = DEFAULTS.learning_rate,
    momentum: Annotated[float, typer.Option(help="Momentum of SGD.")] = DEFAULTS.momentum,
    seed: Annotated[int, typer.Option(help="Seed of the pictures' order.")] = DEFAULTS.seed,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Your pictures instead of the bundled ones: an .npz file with x, y, x_test and "
            "y_test; 8x8 pictures from 0 to 1, labels 0 to 9.",
            metavar="FILE.npz",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights to start from, instead of the base network's.", metavar="FILE"),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Folder of the results.", metavar="FOLDER")
    ] = DEFAULTS.output,
):
    """Adapt the bundled digit classifier to a new user's handwriting, on the device."""
    settings = Settings(
        array=array, format=format, device=device, epochs=epochs, batch_size=batch_size,
        learning_rate=learning_rate, momentum=momentum, seed=seed, data=data, weights=weights,
        output=output,
    )  # fmt: skip
    report.check_output(settings.output)
    task = prepare(settings)
    with Display(task) as display:
        result = personalize(task, on_status=display.status, on_step=display.step)
    report.write(result, settings.output)
    display.finish(result)


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
        # By name: a board has no simulator to import them from.
        name = type(error).__name__
        if name not in ("ToolchainError", "ModelBuildError"):
            raise
        return _fail(error, 2 if name == "ToolchainError" else 1)


def _fail(message, code):
    print(f"eftrain: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
