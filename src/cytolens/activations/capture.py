"""The only hooks in the project: values at named places of a network.

A place is (module name, call index, side), as in ``records.Layer``. The side is "input" or
"output"; "output.relu" (or another entry of ``NON_LINEARITIES``) stands for an activation that no
module hands over, because the network applies the function between two modules: it is made anew
from the output. The network is left as found.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    return network


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
        here = [p for p in wanted[name] if p[1] == index and p[2].partition(".")[0] == side]
        if not here:
            return None
        changed: Tensor | None = None
        for place in here:
            function = place[2].partition(".")[2]
            seen = NON_LINEARITIES[function](value) if function else value
            if consume is None:
                captured[place] = seen
            else:
                changed = consume(place, seen)
        reached.update(here)
        if stop_at_last and name and len(reached) == n_places:
            raise _Stopped
        return value.clone() if consume is None else changed

    def before(name: str) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...] | None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            calls[name] = calls.get(name, 0) + 1
            if not args or not isinstance(args[0], Tensor):
                return None
            copy = take(name, "input", args[0])
            return None if copy is None else (copy, *args[1:])

        return hook

    def after(name: str) -> Callable[[nn.Module, Any, Any], Tensor | None]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            if isinstance(output, Tensor):
                return take(name, "output", output)
            if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
                changed = take(name, "output", output[0])
                if consume is not None and changed is not None:
                    return (changed, *output[1:])
            return None

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
        with _stoppable(network):
            yield captured
    finally:
        for handle in handles:
            handle.remove()
        for module in flags:
            _set_inplace(module, True)


@contextmanager
def evaluating(model: nn.Module) -> Generator[nn.Module, None, None]:
    """Within the block the network is in eval mode and its weights ask for no gradient.

    Afterwards every module's mode and every parameter's ``requires_grad`` are as they were.
    """
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, _ in gradients:
            parameter.requires_grad_(False)
        yield model
    finally:
        for module, training in modes:
            module.training = training
        for parameter, wanted in gradients:
            parameter.requires_grad_(wanted)


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
        side, dot, function = place[2].partition(".")
        if place[0] not in known:
            raise ModelError(f"the network has no module '{place[0]}'; see `cytolens layers`")
        if side not in ("input", "output") or (dot and function not in NON_LINEARITIES):
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
