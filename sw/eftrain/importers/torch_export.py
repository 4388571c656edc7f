"""A PyTorch module as a list of operators, by ``torch.export``; the module stays as it is."""

import copy
import inspect
import io
import logging
import warnings
from contextlib import contextmanager, redirect_stderr

from ..errors import UserError
from .values import source_line

__all__ = ["check_module", "copied", "exported", "is_torch_module", "line_of", "module_of", "where"]

BATCH = 2
"""Pictures in the exported batch: one would hide reshapes that mix the batch with a picture."""


def is_torch_module(model):
    """True for a ``torch.nn.Module``; does not import PyTorch."""
    return any(base.__module__.startswith("torch.nn") for base in type(model).__mro__)


def check_module(module):
    """Refuse what is wrong with a module whatever its input is.

    Raises
    ------
    UserError
        If parameters have no numbers yet, or a batch-norm has no momentum.
    """
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.parameter import is_lazy

    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        path, _, kind = name.rpartition(".")
        place = _where(module, path)
        if is_lazy(value):
            raise UserError(
                f"{place} is not supported before its sizes are known; run the model once first."
            )
        if value.is_meta:
            raise UserError(
                f"{place} has a {kind} on the meta device, without numbers; make the model on the "
                "CPU."
            )
    for path, child in module.named_modules():
        if isinstance(child, _BatchNorm) and child.momentum is None:
            raise UserError(
                f"{_where(module, path)} has momentum=None; give a number, for example 0.1."
            )


def copied(module, share):
    """A copy of a module; with ``share`` its parameters and buffers are the module's own."""
    tensors = [*module.parameters(), *module.buffers()] if share else []
    try:
        return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
    except Exception as error:  # Whatever the user's module holds.
        raise UserError(
            f"The model {type(module).__name__} cannot be copied ({_first_line(error)}); give one "
            "that copy.deepcopy takes."
        ) from error


def exported(module, input_shape):
    """The ``torch.export.ExportedProgram`` of the module in training mode.

    A module in evaluation mode is taken as one in training mode. In a module that is in training
    mode already, parts keep their own: a batch-norm in evaluation mode is a frozen one.

    Raises
    ------
    UserError
        If the module takes several inputs, or its ``forward`` cannot be followed.
    """
    import torch

    check_module(module)
    _check_inputs(module)
    module = copied(module, share=True)
    if not module.training:
        module.train()
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    example = torch.zeros(BATCH, *input_shape, dtype=like.dtype, device=like.device)
    try:
        with _quiet():
            return torch.export.export(module, (example,))
    except Exception as error:  # Whatever the user's forward does with its input.
        raise UserError(
            f"The forward of {type(module).__name__} cannot be followed"
            f"{_culprit(error.__traceback__, module)} ({_first_line(error)}); use layers without "
            "conditions on the data, and pictures of the shape it takes."
        ) from error


@contextmanager
def _quiet():
    """Without what PyTorch logs and prints of an error before it raises it."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _check_inputs(module):
    parameters = inspect.signature(module.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.default is p.empty and p.kind in positional]
    if len(needed) > 1:
        raise UserError(f"{type(module).__name__} takes several inputs; give a model of one.")


def module_of(step):
    """``(path, name of the class)`` of the innermost module that an operator belongs to."""
    stack = list(step.meta.get("nn_module_stack", {}).values())
    path, kind = stack[-1] if stack else ("", "")
    return path, str(kind).rpartition(".")[2]


def line_of(step):
    """``" at model.py line 7"`` of the user's code that called an operator, or nothing."""
    return source_line(step.meta.get("stack_trace") or "")


def _culprit(trace, module):
    """``" in layer 3 (Linear) at model.py line 7"``: the innermost that a traceback has, or
    nothing."""
    paths = {id(child): path for path, child in module.named_modules()}
    found, frames = None, []
    while trace:
        frame = trace.tb_frame
        first = next(iter(frame.f_code.co_varnames), None)
        child = frame.f_locals.get(first)
        if id(child) in paths and frame.f_code.co_filename != __file__:
            if first == "self" and child is not module:
                found = _where(module, paths[id(child)])
            frames.append(f'File "{frame.f_code.co_filename}", line {trace.tb_lineno}')
        trace = trace.tb_next
    return (f" in {found}" if found else "") + source_line("\n".join(frames))


def where(path, kind):
    """How messages name a module of a class by its path."""
    if not path:
        return f"The model ({kind})"
    return f"layer {path} ({kind})" if path.isdigit() else f"{path} ({kind})"


def _where(module, path):
    return where(path, type(module.get_submodule(path)).__name__)


def _first_line(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = (lines[0] if lines else type(error).__name__).rstrip(".:")
    return text if len(text) <= 100 else text[:97] + "..."
