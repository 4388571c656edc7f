"""Networks from the command line: built in, or from a Python or ONNX file of the user's."""

import runpy
from pathlib import Path

from .data.normalisation import declared_normalisation
from .errors import UserError
from .graph import Graph
from .importers.onnx_model import from_onnx
from .importers.torch_export import is_torch_module
from .importers.torch_module import from_torch
from .networks import NETWORKS
from .networks import network as built_in
from .plan.names import conventional_names

__all__ = ["HELP", "load_network"]

FUNCTION = "network"

HELP = (
    f"A built-in network ({', '.join(NETWORKS)}), an ONNX file (.onnx), or a Python file with a "
    "function network() that returns an eftrain.Graph, or a PyTorch module and the shape of one "
    "picture, for example (model, (3, 32, 32)). A Python file is executed."
)


def load_network(name):
    """``(title, Graph)`` of a built-in network's name, or of the path of a Python or ONNX file.

    Layers get conventional names if the file gives none.

    Raises
    ------
    UserError
        If there is no such network or file, it cannot be imported, or its function does not return
        a network.
    """
    path = Path(name)
    if name in NETWORKS:
        return name, built_in(name)
    if path.suffix == ".onnx":
        return path.stem, _named(from_onnx(path))
    if path.suffix != ".py":
        raise UserError(
            f"There is no network {name!r}; choose one of {', '.join(NETWORKS)}, or give an ONNX "
            f"file (.onnx) or a Python file (.py) with a function {FUNCTION}()."
        )
    if not path.is_file():
        raise UserError(f"There is no network file {name}; check the path.")
    return path.stem, _named(_graph(name, _function(name, path)))


def _named(graph):
    graph.names = graph.names or conventional_names(graph)
    return graph


def _function(name, path):
    try:
        # Unlike an import, this leaves no compiled file behind.
        names = runpy.run_path(str(path), run_name="eftrain_network")
    except Exception as error:  # Anything a user's file may do.
        raise UserError(f"{name} cannot be executed: {_what(error)}.") from error
    function = names.get(FUNCTION)
    if not callable(function):
        raise UserError(f"{name} has no function {FUNCTION}(); add one that returns the network.")
    return function


def _graph(name, function):
    try:
        made = function()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{FUNCTION}() in {name} fails: {_what(error)}.") from error
    if isinstance(made, Graph):
        return made
    pair = isinstance(made, (tuple, list)) and len(made) == 2
    if pair and is_torch_module(made[0]) and isinstance(made[1], (tuple, list)):
        graph = from_torch(*made)
        graph.normalisation = declared_normalisation(made[0])
        return graph
    if is_torch_module(made):
        raise UserError(
            f"{FUNCTION}() in {name} returns a PyTorch module alone; return it with the shape of "
            "one picture, for example (model, (3, 32, 32))."
        )
    raise UserError(
        f"{FUNCTION}() in {name} returns a {type(made).__name__}; return an eftrain.Graph, or a "
        "PyTorch module and the shape of one picture."
    )


def _what(error):
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}{': ' if text else ''}{text}"
