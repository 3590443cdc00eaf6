"""The only hooks in the project: values at named places of a network.

A place is (module name, call index, side), as in ``records.Layer``. The side is "input" or
"output"; "output.relu" (or another entry of ``NON_LINEARITIES``) stands for an activation that no
module hands over, because the network applies the function between two modules: it is made anew
from the output. A view behind it (``views``) shows tokens as maps. The network is left as found.

Two of PyTorch's short cuts are off meanwhile: the fused path of its transformer layers, in which
modules are not called, and half precision, which would limit what is measured.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytolens.activations.views import parts_of, view_of
from cytolens.errors import ModelError, SettingError

Place = tuple[str, int, str]
Consume = Callable[[Place, Tensor], Tensor | None]

NON_LINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "softplus": F.softplus,
    "hardswish": F.hardswish,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
"""Functions a place may name after "output."; with their default parameters."""


class HasNetwork(Protocol):
    """A network with what is known of it, as a `Classifier` is."""

    @property
    def network(self) -> nn.Module:
        """The network itself."""
        ...

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the crops it takes."""
        ...


Model = nn.Module | HasNetwork


def network_of(model: Model) -> nn.Module:
    """The network itself, of a `Classifier` or a module. Raises ModelError for anything else."""
    network = model if isinstance(model, nn.Module) else getattr(model, "network", None)
    if not isinstance(network, nn.Module):
        kind = type(model).__name__
        raise ModelError(f"a {kind} came; give a torch nn.Module or a Classifier")
    return bare(network)


def bare(network: nn.Module) -> nn.Module:
    """The network within what ``torch.compile``, DataParallel and the like put around it.

    >>> bare(nn.DataParallel(nn.ReLU()))
    ReLU()
    """
    while True:
        name = "_orig_mod" if type(network).__name__ == "OptimizedModule" else "module"
        around = type(network).__name__ in ("OptimizedModule", "DataParallel")
        around = around or type(network).__name__ == "DistributedDataParallel"
        inner = getattr(network, name, None) if around else None
        if not isinstance(inner, nn.Module):
            return network
        network = inner


def network_and_shape(
    model: Model, input_shape: tuple[int, int, int] | None
) -> tuple[nn.Module, tuple[int, int, int]]:
    """The network, and the shape (C, H, W) of the crops it takes, which a classifier knows.

    Raises SettingError where the shape is not known, or where the classifier has another.
    """
    network = network_of(model)
    known = None if isinstance(model, nn.Module) else model.input_shape
    shape = known if input_shape is None else input_shape
    if shape is None:
        raise SettingError(
            "no input_shape came; give the (channel, height, width) of the crops that the network "
            "takes, or a Classifier"
        )
    if known is not None and tuple(shape) != known:
        raise SettingError(f"input_shape={shape} came; the classifier takes {known}")
    return network, shape


class _Stopped(Exception):
    """Leaves the forward pass once everything asked for is there; never seen outside."""


@contextmanager
def capture(
    model: Model,
    places: Iterable[Place],
    *,
    stop_at_last: bool = False,
    consume: Consume | None = None,
) -> Generator[dict[Place, Tensor], None, None]:
    """Within the block every ``model(x)`` fills the dict that is yielded: place -> tensor.

    The dict holds the latest pass. Tensors are on the autograd graph between the input and the
    output (except at "output.…" places, which are a side branch), and later in-place operations
    cannot change them: ``inplace`` flags are off within the block, and the network goes on with a
    copy. With ``consume`` nothing is kept: it is called with each place and its value the moment
    the value is there, without a copy, and has to be done with it when it returns. With a tensor
    that it returns the network goes on instead (at "output.…" places the function follows still).

    With ``stop_at_last`` the pass ends at the last of the places to be reached, and ``model(x)``
    gives None; nothing behind that place is computed.

    Hooks, ``inplace`` flags and ``forward`` are as before after the block, whatever happens in it.
    Train or eval mode and ``requires_grad`` are the caller's business (see ``evaluating``). The
    network has to be called as ``model(x)``, not through one of its parts.

    Raises ModelError for a place whose module does not exist.

    >>> module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    >>> with capture(module, [("0", 0, "output")]) as values:
    ...     rectified = module(torch.ones(2, 1, 4, 4))
    >>> values["0", 0, "output"].shape
    torch.Size([2, 4, 2, 2])
    """
    network = network_of(model)
    wanted = _by_module(network, tuple(dict.fromkeys(places)))
    views = {place: view_of(parts_of(place[2])[2]) for group in wanted.values() for place in group}
    n_places = sum(len(group) for group in wanted.values())
    captured: dict[Place, Tensor] = {}
    calls: dict[str, int] = {}
    reached: set[Place] = set()

    def start(module: nn.Module, args: tuple[Any, ...]) -> None:
        captured.clear()
        calls.clear()
        reached.clear()

    def take(name: str, side: str, value: Tensor) -> Tensor | None:
        """Keep (or hand over) what is wanted here; the copy to go on with, if one is needed."""
        index = calls[name] - 1
        here = [p for p in wanted[name] if p[1] == index and parts_of(p[2])[0] == side]
        if not here:
            return None
        now = value
        for place in here:
            function, view = parts_of(place[2])[1], views[place]
            seen = NON_LINEARITIES[function](now) if function else now
            seen = seen if view is None else view.take(seen)
            if consume is None:
                captured[place] = seen
                changed = None if function or view is None else seen
            else:
                changed = consume(place, seen)
            if changed is not None:
                now = changed if view is None else view.put_back(changed, now)
        reached.update(here)
        if stop_at_last and name and len(reached) == n_places:
            raise _Stopped
        if consume is not None:
            return None if now is value else now
        return now.clone()

    def before(name: str) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...] | None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            calls[name] = calls.get(name, 0) + 1
            if not args or not isinstance(args[0], Tensor):
                return None
            copy = take(name, "input", args[0])
            return None if copy is None else (copy, *args[1:])

        return hook

    def after(name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            value = handed_over(output)
            changed = None if value is None else take(name, "output", value)
            return None if changed is None else _with_first(output, changed)

        return hook

    handles = [network.register_forward_pre_hook(start)]
    flags = [] if consume else [m for m in network.modules() if getattr(m, "inplace", None) is True]
    try:
        for module in flags:
            _set_inplace(module, False)
        for name in wanted:
            module = network.get_submodule(name)
            handles.append(module.register_forward_pre_hook(before(name)))
            handles.append(module.register_forward_hook(after(name)))
        with _stoppable(network), every_module_called():
            yield captured
    finally:
        for handle in handles:
            handle.remove()
        for module in flags:
            _set_inplace(module, True)


def handed_over(output: Any) -> Tensor | None:
    """The tensor that counts as what a module gives: the output, or the first of several."""
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def _with_first(output: Any, value: Tensor) -> Any:
    """The same output with ``value`` as what counts of it."""
    if isinstance(output, Tensor):
        return value
    rest = (value, *output[1:])
    return type(output)(*rest) if hasattr(output, "_fields") else type(output)(rest)


@contextmanager
def every_module_called() -> Generator[None, None, None]:
    """Within the block PyTorch's transformer layers call their modules, one by one."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextmanager
def evaluating(model: nn.Module) -> Generator[nn.Module, None, None]:
    """Within the block the network is in eval mode and its weights ask for no gradient.

    Weights in half precision are float32 meanwhile, so that crops can be given as they are and
    nothing is measured in three digits. Afterwards every module's mode, every weight and every
    parameter's ``requires_grad`` are as they were.
    """
    halves = _halves(model)
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for weight, data in halves:
            weight.data = data.float()
        for parameter, _ in gradients:
            parameter.requires_grad_(False)
        yield model
    finally:
        for weight, data in halves:
            weight.data = data
        for module, training in modes:
            module.training = training
        for parameter, wanted in gradients:
            parameter.requires_grad_(wanted)


def _halves(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Weights and buffers in half precision, each with its data."""
    half = (torch.float16, torch.bfloat16)
    weights = [*model.parameters(), *model.buffers()]
    return [(weight, weight.data) for weight in weights if weight.dtype in half]


@contextmanager
def on_device(model: nn.Module, target: torch.device) -> Generator[None, None, None]:
    """Within the block the network is on ``target``; afterwards where it was.

    Not to be entered in inference mode: weights moved there could never ask for a gradient again.
    """
    home = device_of(model)
    try:
        model.to(target)
        yield
    finally:
        model.to(home)


def device_of(model: nn.Module) -> torch.device:
    """Where the network's first weight lives; the CPU for a network without weights."""
    weight = next(model.parameters(), None)
    return torch.device("cpu") if weight is None else weight.device


def _set_inplace(module: Any, flag: bool) -> None:
    module.inplace = flag


def _by_module(model: nn.Module, places: tuple[Place, ...]) -> dict[str, list[Place]]:
    """The places, sorted by the module they belong to; each is checked."""
    known = {name for name, _ in model.named_modules(remove_duplicate=False)}
    wanted: dict[str, list[Place]] = {}
    for place in places:
        side, function, _ = parts_of(place[2])
        if place[0] not in known:
            raise ModelError(f"the network has no module '{place[0]}'; see `cytolens layers`")
        if side not in ("input", "output") or (function and function not in NON_LINEARITIES):
            raise ModelError(f"'{place[2]}' is no side of a module; take 'input' or 'output'")
        wanted.setdefault(place[0], []).append(place)
    return wanted


@contextmanager
def _stoppable(model: nn.Module) -> Generator[None, None, None]:
    """Within the block a stopped forward pass of ``model`` gives None."""
    own = model.__dict__.get("forward")
    original = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except _Stopped:
            return None

    model.forward = forward
    try:
        yield
    finally:
        if own is None:
            del model.__dict__["forward"]
        else:
            model.__dict__["forward"] = own
