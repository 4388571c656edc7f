"""Import of PyTorch modules: what each operator of ``torch.export`` means."""

from ..errors import UserError
from ..graph import PICTURE, checked_input_shape
from .builder import GraphBuilder
from .torch_export import BATCH, exported, is_torch_module, line_of, module_of, where
from .values import Parameter, Place, unsupported

__all__ = ["from_torch", "is_torch_module"]

COUNTER = "num_batches_tracked"
"""Buffer of batch-norms that the layers here have no use for."""


def from_torch(module, input_shape):
    """Turn a PyTorch module into a ``Graph``, copying its weights.

    Layers are numbered in the order in which ``forward`` calls them, which in a plain Sequential of
    supported layers is PyTorch's own numbering. They are named by their paths in the module, for
    example ``"layer1.0.conv1"``, unless that is only a number.

    Parameters
    ----------
    module : torch.nn.Module
        Its ``forward`` may use layers and functions; ``docs/import.md`` lists them. It is left
        unchanged. In evaluation mode it is imported as it would train; in training mode, parts that
        are in evaluation mode stay so, which makes a batch-norm a frozen one.
    input_shape : tuple of int
        One picture (C, H, W), or (N,).

    Returns
    -------
    Graph
        ``trainable`` is the parameters' ``requires_grad``.

    Raises
    ------
    UserError
        If an operator or one of its options is unsupported; names the layer, and the line of the
        user's code where that is known.
    """
    shape = checked_input_shape(input_shape)
    if not is_torch_module(module):
        raise UserError(
            f"The model is a {type(module).__name__}; give a torch.nn.Module, for example a "
            "torch.nn.Sequential."
        )
    program = exported(module, shape)
    return _Import(module, program, GraphBuilder(shape)).graph()


class _Import:
    """Walks the operators once.

    Attributes
    ----------
    values : dict
        Step of the program to the builder's value, a ``Parameter``, or None for what no layer
        needs.
    """

    def __init__(self, module, program, builder):
        self.module, self.program, self.builder = module, program, builder
        self.values = {}

    def graph(self):
        steps = self.program.graph.nodes
        self._inputs()
        calls = [step for step in steps if step.op == "call_function" and not self._ignored(step)]
        unknown = [step for step in calls if _operator(step) not in _OPERATORS]
        if unknown:
            raise unsupported([self._describe(step) for step in unknown])
        for step in calls:
            self.values[step] = _OPERATORS[_operator(step)](self, step, self._place(step))
        (outputs,) = (step.args[0] for step in steps if step.op == "output")
        results = [self.values.get(step) for step in outputs]
        if len(results) != 1 or isinstance(results[0], Parameter):
            raise UserError(
                f"{type(self.module).__name__} does not return the result of its last layer; give "
                "a model that returns its class scores alone."
            )
        return self.builder.finish(results[0])

    def _inputs(self):
        """Values of the program's placeholders."""
        tensors = dict(self.module.named_parameters(remove_duplicate=False))
        tensors |= dict(self.module.named_buffers(remove_duplicate=False))
        signature = self.program.graph_signature
        names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        constants = signature.inputs_to_lifted_tensor_constants
        for step in self.program.graph.nodes:
            if step.op != "placeholder":
                continue
            if step.name in names:
                tensor = tensors[names[step.name]]
            elif step.name in constants:
                tensor = self.program.constants[constants[step.name]]
            else:
                self.values[step] = PICTURE
                continue
            self.values[step] = None
            if not names.get(step.name, "").endswith(COUNTER):
                values = tensor.detach().float().cpu().numpy()
                self.values[step] = Parameter(values, id(tensor), tensor.requires_grad)

    def _ignored(self, step):
        """Whether an operator only counts batches or checks what the export has found out."""
        first = step.args[0] if step.args else None
        counts = first in self.values and self.values[first] is None
        return counts or _operator(step).startswith("_assert")

    def _describe(self, step):
        path, kind = module_of(step)
        layer = f" of {where(path, kind)}" if path else ""
        return f"{_operator(step)} (node {step.name}{layer}{line_of(step)})"

    def _place(self, step):
        path, kind = module_of(step)
        leaf = path and not any(self.module.get_submodule(path).children())
        name = path if leaf and not path.isdigit() else None
        return Place(kind if leaf else _operator(step), name, line_of(step))

    def parameter(self, step, place, what):
        """The stored array that an argument is, or None for a missing one."""
        if step is None:
            return None
        value = self.values.get(step)
        if not isinstance(value, Parameter):
            raise self.builder.error(place, f"computes its {what}; give it a plain parameter")
        return value

    def value(self, step, place):
        """The builder's value that an argument is."""
        value = self.values.get(step) if hasattr(step, "op") else None
        if value is None or isinstance(value, Parameter):
            raise self.builder.error(
                place, f"works on {step}, which is no result of a layer; use layers' results"
            )
        return value


def _operator(step):
    """``"relu"`` of ``aten.relu_.default``."""
    name = getattr(step.target, "_opname", None) or getattr(step.target, "__name__", "")
    return name if name.startswith("_") else name.removesuffix("_")


def _arguments(step):
    """Every argument by name, defaults included."""
    schema = step.target._schema.arguments
    given = dict(zip((argument.name for argument in schema), step.args, strict=False))
    defaults = {a.name: a.default_value for a in schema if a.has_default_value()}
    return {**defaults, **given, **step.kwargs}


def _call(*names, inputs=("input",), parameters=()):
    """Decorator: the function translates these operators, and gets their arguments by name."""

    def add(function):
        def translate(self, step, place):
            a = _arguments(step)
            for name in inputs:
                a[name] = self.value(a.pop(name if name in a else "self"), place)
            for name in parameters:
                a[name] = self.parameter(a[name], place, name)
            return function(self.builder, place, **a)

        _OPERATORS.update(dict.fromkeys(names, translate))
        return function

    return add


_OPERATORS = {}
"""Operator's name to what translates it."""


def _pair(values):
    """What operators take for two numbers: two, or one for both."""
    values = values if isinstance(values, (list, tuple)) else (values,)
    return (*values, *values) if len(values) == 1 else tuple(values)


@_call("conv2d", parameters=("weight", "bias"))
def _conv2d(builder, place, input, weight, bias, stride, padding, dilation, groups):
    if padding == "valid":
        padding = 0
    padding = padding if padding == "same" else _pair(padding)
    sizes = (_pair(stride), padding, _pair(dilation), groups)
    return builder.conv(place, input, weight, bias, *sizes)


@_call("linear", parameters=("weight", "bias"))
def _linear(builder, place, input, weight, bias):
    return builder.linear(place, input, weight, bias)


@_call("batch_norm", parameters=("weight", "bias", "running_mean", "running_var"))
def _batch_norm(builder, place, input, training, momentum, eps, cudnn_enabled, **parameters):
    names = ("weight", "bias", "running_mean", "running_var")
    found = [parameters[name] for name in names]
    return builder.batch_norm(place, input, found, eps, momentum, frozen=not training)


@_call("group_norm", parameters=("weight", "bias"))
def _group_norm(builder, place, input, num_groups, weight, bias, eps, cudnn_enabled):
    return builder.group_norm(place, input, num_groups, weight, bias, eps)


@_call("relu")
def _relu(builder, place, input):
    return builder.relu(place, input)


@_call("relu6")
def _relu6(builder, place, input):
    return builder.clip(place, input, 0, 6)


@_call("hardtanh")
def _hardtanh(builder, place, input, min_val, max_val):
    return builder.clip(place, input, min_val, max_val)


@_call("clamp")
def _clamp(builder, place, input, min, max):
    return builder.clip(place, input, min, max)


@_call("leaky_relu")
def _leaky_relu(builder, place, input, negative_slope):
    return builder.leaky_relu(place, input, negative_slope)


@_call("max_pool2d")
def _max_pool2d(builder, place, input, kernel_size, stride, padding, dilation, ceil_mode):
    kernel = _pair(kernel_size)
    sizes = (_pair(stride or kernel), _pair(padding), _pair(dilation), ceil_mode)
    return builder.max_pool(place, input, kernel, *sizes)


@_call("avg_pool2d")
def _avg_pool2d(
    builder, place, input, kernel_size, stride, padding, ceil_mode, count_include_pad,
    divisor_override,
):  # fmt: skip
    builder.require(place, "divisor_override", divisor_override, None)
    kernel = _pair(kernel_size)
    return builder.avg_pool(
        place, input, kernel, _pair(stride or kernel), _pair(padding), ceil_mode
    )


@_call("adaptive_avg_pool2d")
def _adaptive_avg_pool2d(builder, place, input, output_size):
    builder.require(place, "output_size", _pair(output_size), 1)
    return builder.global_avg_pool(place, input)


@_call("mean")
def _mean(builder, place, input, dim=None, keepdim=False, dtype=None):
    return builder.mean(place, input, dim or (), keepdim)


@_call("dropout")
def _dropout(builder, place, input, p, train):
    return builder.dropout(place, input, p) if train else input


@_call("softmax", "log_softmax")
def _softmax(builder, place, input, dim, dtype):
    return builder.softmax(place, input, dim)


@_call("contiguous", "clone", "alias")
def _identity(builder, place, input, memory_format=None):
    return input


def _add(self, step, place):
    a = _arguments(step)
    self.builder.require(place, "alpha", a["alpha"], 1)
    return self.builder.add(place, *(self.value(a[name], place) for name in ("self", "other")))


def _flatten(self, step, place):
    a = _arguments(step)
    x, rank = self.value(a["self"], place), len(step.args[0].meta["val"].shape)
    self.builder.require(place, "start_dim", a["start_dim"] % rank, 1)
    self.builder.require(place, "end_dim", a["end_dim"] % rank - rank, -1)
    return self.builder.flatten(place, x)


def _reshape(self, step, place):
    x = self.value(step.args[0], place)
    return self.builder.reshape(place, x, tuple(step.meta["val"].shape), BATCH)


_OPERATORS["add"] = _add
_OPERATORS["flatten"] = _flatten
_OPERATORS.update(dict.fromkeys(("view", "reshape", "squeeze"), _reshape))
