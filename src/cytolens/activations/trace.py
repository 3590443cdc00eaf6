"""One forward pass written down: which operation made which tensor, and where modules hand it over.

Operations are seen as PyTorch's own functions are called, so that ``F.relu``, ``out += identity``
and ``torch.flatten`` are part of the graph as much as modules are. Tensors are recognised by
identity. The receptive field is computed along (Araujo, Norris & Sim, Distill 2019, eq. 2).
"""

import math
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cytolens.activations.capture import (
    Place,
    device_of,
    evaluating,
    every_module_called,
    handed_over,
)
from cytolens.activations.layout import channel_axis, first_token, mixes_positions
from cytolens.errors import ModelError

LINEAR = {"conv1d", "conv2d", "conv3d", "conv_transpose2d", "linear"}
NORM = {
    "batch_norm",
    "group_norm",
    "layer_norm",
    "instance_norm",
    "local_response_norm",
    "rms_norm",
}
NON_LINEAR = {
    *("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu"),
    *("mish", "softplus", "softsign", "hardtanh", "hardswish", "hardsigmoid", "threshold"),
    *("tanh", "sigmoid", "clamp", "clip", "clamp_min"),
}
WEIGHTED = LINEAR | {"multi_head_attention_forward", "bilinear", "lstm", "gru"}
UPSAMPLING = {"interpolate", "upsample", "conv_transpose2d", "pixel_shuffle", "max_unpool2d"}
MERGE = {
    *("add", "sub", "mul", "div", "rsub", "cat", "concat", "concatenate", "stack"),
    *("maximum", "minimum"),
}
_SAME = {
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
    *(
        "contiguous",
        "to",
        "float",
        "clone",
        "detach",
        "requires_grad",
        "identity",
        "native_dropout",
    ),
}
_POINTWISE = (
    NORM
    | NON_LINEAR
    | MERGE
    | {
        *(
            "softmax",
            "log_softmax",
            "normalize",
            "neg",
            "abs",
            "exp",
            "log",
            "sqrt",
            "square",
            "pow",
        ),
        *(
            "flatten",
            "unflatten",
            "view",
            "reshape",
            "squeeze",
            "unsqueeze",
            "permute",
            "transpose",
        ),
        *("movedim", "swapaxes", "chunk", "split", "getitem", "pad", "channel_shuffle", "expand"),
    }
)
_OVER_SPACE = {"mean", "sum", "amax", "amin", "max", "min", "std", "var", "logsumexp"}

Axis = tuple[float, float]  # receptive field and step between neighbours, in input pixels
Field = tuple[Axis, Axis]  # down, across
_POINT: Field = ((1.0, 1.0), (1.0, 1.0))
_WHOLE: Field = ((math.inf, math.inf), (math.inf, math.inf))


@dataclass(frozen=True)
class Node:
    """A tensor of the forward pass and the operation that made it."""

    index: int
    op: str  # PyTorch's name without decoration: "conv2d", "add", "relu"; "input" for the image
    inputs: tuple[int, ...]  # nodes it was made from
    module: tuple[str, int]  # innermost module around it, and which call of it, from 0
    shape: tuple[int, ...]  # without the batch
    field: Field | None
    default: bool  # called with no more than a tensor (and inplace)
    batch: int = 2  # length of the first axis
    stack: tuple[
        tuple[str, int], ...
    ] = ()  # all modules around it, and which call, outermost first
    axis: int | None = 1  # of the channels
    first: int | None = None  # tokens before the grid; None where none was put to it


@dataclass
class Trace:
    """Nodes in the order they were made, and the places where each is handed over."""

    input_shape: tuple[int, ...]
    nodes: list[Node] = field(default_factory=list[Node])
    places: dict[int, list[Place]] = field(default_factory=dict[int, list[Place]])
    outputs: dict[str, list[int]] = field(default_factory=dict[str, list[int]])  # module -> nodes
    called: dict[str, int] = field(default_factory=dict[str, int])  # module -> times
    given: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    """The node that each call of a module gives."""

    def users(self, node: Node) -> list[Node]:
        """What is made from a node, in order."""
        return [other for other in self.nodes if node.index in other.inputs]

    def receptive_field(self, node: Node) -> int | None:
        """Pixels of the input, at most all of it; the larger of the two directions."""
        if node.field is None or len(self.input_shape) != 3:
            return None
        return max(int(min(a[0], n)) for a, n in zip(node.field, self.input_shape[1:], strict=True))


def trace(model: nn.Module, input_shape: tuple[int, ...], *, images: int = 2) -> Trace:
    """Follow blank images (C, H, W) through the network, in eval mode; it is left as found.

    Raises ModelError when the network does not take images of that shape.
    """
    recorder = _Recorder(Trace(tuple(input_shape)))
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        weight = next((w for w in model.parameters() if w.is_floating_point()), torch.zeros(0))
        blank = torch.zeros(images, *input_shape, device=device_of(model), dtype=weight.dtype)
        recorder.add(blank, "input", (), True, _POINT)
        stack.enter_context(every_module_called())
        stack.enter_context(recorder.watching(model))
        stack.enter_context(torch.no_grad())
        stack.enter_context(recorder)
        try:
            model(blank)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            shape = " x ".join(map(str, input_shape))
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise ModelError(f"the network does not take images of {shape}: {reason}") from error
    return recorder.trace


class _Recorder(TorchFunctionMode):
    """Writes every operation on a traced tensor, and every hand-over, into a Trace."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace
        self.alive: list[Tensor] = []  # so that no identity is used twice
        self.node_of: dict[int, int] = {}
        self.calls: dict[str, int] = {}
        self.inside: list[tuple[str, int]] = []

    def add(
        self,
        value: Tensor,
        op: str,
        inputs: tuple[int, ...],
        default: bool,
        seen: Field | None,
        axis: int | None = 1,
        first: int | None = None,
    ) -> None:
        stack = tuple(self.inside) or (("", 0),)
        nodes = self.trace.nodes
        shape = tuple(value.shape[1:])
        nodes.append(
            Node(
                len(nodes), op, inputs, stack[-1], shape, seen, default,
                batch=len(value), stack=stack, axis=axis, first=first,
            )
        )  # fmt: skip
        self.node_of[id(value)] = len(nodes) - 1
        self.alive.append(value)

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        made = [t for t in _tensors(result) if t.ndim > 0 and t.is_floating_point()]
        used = [t for t in _tensors([args, kwargs]) if id(t) in self.node_of]
        if not made or not used:
            return result
        op = _plain(getattr(func, "__name__", str(func)))
        if op in _SAME:
            self.node_of[id(made[0])] = self.node_of[id(used[0])]
            self.alive.append(made[0])
            return result
        inputs = tuple(dict.fromkeys(self.node_of[id(t)] for t in used))
        parents = [self.trace.nodes[i] for i in inputs]
        like = next((i for i, t in enumerate(used) if t.ndim == made[0].ndim), 0)
        source, parent = used[like], self.trace.nodes[self.node_of[id(used[like])]]
        mixes = op == "linear" and mixes_positions(source, parent.axis)
        seen = _field(op, args, kwargs, [parent.field for parent in parents], used[0], made[0])
        seen = _WHOLE if mixes and seen is not None else seen
        given = [a for a in args if a is not used[0]]
        default = not given and not any(
            v for k, v in kwargs.items() if k != "inplace" and v != "none"
        )
        traced = set(self.node_of)
        for value in made:
            axis = channel_axis(op, args, kwargs, source, parent.axis, value)
            first = first_token(op, args, kwargs, traced, source, parent.first, value)
            self.add(value, op, inputs, default, seen, axis, first)
        return result

    def note(self, place: Place, value: Any) -> None:
        """A module takes or gives ``value``."""
        first = handed_over(value)
        index = None if first is None else self.node_of.get(id(first))
        if index is None:
            return
        self.trace.places.setdefault(index, []).append(place)
        if place[2] == "output":
            self.trace.outputs.setdefault(place[0], []).append(index)
            self.trace.given[place[0], place[1]] = index

    @contextmanager
    def watching(self, model: nn.Module) -> Generator[None, None, None]:
        """Within the block, hand-overs between the modules are noted."""
        names = {module: name for name, module in model.named_modules()}

        def before(module: nn.Module, args: tuple[Any, ...]) -> None:
            name = names[module]
            call = self.calls.get(name, 0)
            self.calls[name] = self.trace.called[name] = call + 1
            self.inside.append((name, call))
            self.note((name, call, "input"), args[:1])

        def after(module: nn.Module, args: Any, output: Any) -> None:
            name, call = self.inside.pop()
            self.note((name, call, "output"), output)

        handles: list[Any] = []
        try:
            for module in names:
                handles.append(module.register_forward_pre_hook(before))
                handles.append(module.register_forward_hook(after))
            yield
        finally:
            for handle in handles:
                handle.remove()


def _plain(name: str) -> str:
    """PyTorch's name of an operation without its decoration: __iadd__, add_ -> add."""
    if name.startswith("__"):
        name = name.strip("_")
        name = name[1:] if name[1:] in MERGE else name
    name = name.rstrip("_").removesuffix("_with_indices").lstrip("_")
    return {"truediv": "div", "itruediv": "div", "subtract": "sub", "multiply": "mul"}.get(
        name, name
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _tensors(entry)
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _tensors(entry)


def _field(
    op: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    parents: list[Field | None],
    image: Tensor,
    result: Tensor,
) -> Field | None:
    """Receptive field of what ``op`` gives; None where the operation is not understood."""
    known = [parent for parent in parents if parent is not None]
    if len(known) < len(parents):
        return None
    parent = _widest(known)

    def setting(position: int, name: str, default: Any) -> Any:
        value = kwargs.get(name, args[position] if len(args) > position else default)
        return default if value is None else value

    if op == "conv2d":
        weight = kwargs.get("weight", args[1] if len(args) > 1 else None)
        kernel = tuple(weight.shape[2:]) if isinstance(weight, Tensor) else 1
        return _grow(parent, kernel, setting(3, "stride", 1), setting(5, "dilation", 1))
    if op in ("max_pool2d", "avg_pool2d", "lp_pool2d"):
        at = 2 if op == "lp_pool2d" else 1
        kernel = setting(at, "kernel_size", 1)
        dilation = setting(4, "dilation", 1) if op == "max_pool2d" else 1
        return _grow(parent, kernel, setting(at + 1, "stride", kernel), dilation)
    if op == "conv_transpose2d":
        weight = kwargs.get("weight", args[1] if len(args) > 1 else None)
        kernel = tuple(weight.shape[2:]) if isinstance(weight, Tensor) else (1, 1)
        steps = _pair(setting(3, "stride", 1))
        seen = tuple(-(-k // s) for k, s in zip(kernel, steps, strict=True))
        return _grow(parent, seen, tuple(1 / s for s in steps), 1)
    if op in ("interpolate", "upsample"):
        seen = 1 if setting(3, "mode", "nearest") == "nearest" else 2
        sizes = zip(image.shape[-2:], result.shape[-2:], strict=True)
        return _grow(parent, seen, tuple(old / new for old, new in sizes), 1)
    if op in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
        return _adapt(parent, tuple(image.shape[-2:]), setting(1, "output_size", 1))
    if op == "linear":
        return _WHOLE if image.ndim == 2 else parent  # on (N, H, W, C) it stays at its pixel
    if op in _OVER_SPACE:
        chosen = setting(1, "dim", None)
        axes = [chosen] if isinstance(chosen, int) else chosen
        one = isinstance(axes, (list, tuple)) and all(a % image.ndim == 1 for a in axes)
        return parent if one or image.ndim == 2 else _WHOLE
    return parent if op in _POINTWISE else None


def _widest(fields: list[Field]) -> Field:
    """The field that holds all of these, as after a sum."""
    down, across = zip(*fields, strict=True)
    return (max(down), max(across))


def _pair(value: Any) -> tuple[Any, Any]:
    if isinstance(value, (list, tuple)):
        return (value[0], value[-1])
    return (value, value)


def _grow(parent: Field, kernel: Any, stride: Any, dilation: Any) -> Field:
    """Receptive field after a window of ``kernel`` that moves by ``stride``."""
    axes: list[Axis] = []
    windows = zip(parent, _pair(kernel), _pair(stride), _pair(dilation), strict=True)
    for (size, jump), k, s, d in windows:
        axes.append((size + (k - 1) * d * jump, jump * s) if math.isfinite(size) else (size, jump))
    return (axes[0], axes[1])


def _adapt(parent: Field, sizes: tuple[int, ...], output: Any) -> Field:
    """Receptive field after adaptive pooling: the window is the widest that PyTorch cuts."""
    axes: list[Axis] = []
    for axis, size, target in zip(parent, sizes, _pair(output), strict=True):
        if target == 1:
            axes.append((math.inf, math.inf))
            continue
        n = size if target is None else int(target)
        window = max(-(-(i + 1) * size // n) - i * size // n for i in range(n))
        grown = _grow((axis, axis), window, size / n, 1)
        axes.append(grown[0])
    return (axes[0], axes[1])
