"""A network brought by the user: checked before anything is done with it, loaded without danger."""

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cytolens.activations.capture import device_of, evaluating
from cytolens.classifier.factories import factory_parts
from cytolens.classifier.model import Classifier
from cytolens.classifier.networks import seeded
from cytolens.classifier.trial import unchanged_globals
from cytolens.errors import ModelError
from cytolens.records.cells import Cells, Preparation, Settings

SAFE = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")


def wrap(
    module: nn.Module,
    *,
    class_names: Sequence[str],
    input_shape: tuple[int, int, int],
    channel_names: Sequence[str] = (),
    preparation: Preparation | None = None,
    spec: Settings | None = None,
) -> Classifier:
    """Any classifier as the study's: a module from prepared crops to logits (N, class).

    ``class_names`` in the order of the module's outputs; ``input_shape`` (C, H, W) of a crop.
    ``spec`` is the JSON that helps to rebuild the module; a ``"factory": "file.py:function"``
    in it lets a run be reopened (`load_module`). A softmax at the end is not needed: the module
    should give logits. Raises ModelError if two blank crops do not give (2, class) finite numbers.

    >>> module = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    >>> wrap(module, class_names=("G1", "M"), input_shape=(1, 4, 4)).channel_names
    ('channel 1',)
    """
    shape = tuple(int(side) for side in input_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise ModelError(f"input_shape {shape} must be three positive numbers, (C, H, W)")
    names = tuple(str(name) for name in class_names)
    if len(names) < 2:
        raise ModelError(f"{len(names)} class names given; a classifier needs at least two")
    channels = tuple(str(name) for name in channel_names) or tuple(
        f"channel {number + 1}" for number in range(shape[0])
    )
    if len(channels) != shape[0]:
        raise ModelError(f"{len(channels)} channel names for crops of {shape[0]} channels")
    _check_forward(module, (shape[0], shape[1], shape[2]), len(names))
    return Classifier(
        network=module,
        class_names=names,
        channel_names=channels,
        input_shape=(shape[0], shape[1], shape[2]),
        preparation=preparation,
        spec={"kind": "wrapped", "module": type(module).__qualname__, **(spec or {})},
    )


def wrap_for(module: nn.Module, cells: Cells, *, spec: Settings | None = None) -> Classifier:
    """`wrap` with the classes, channels, size and preparation of ``cells``."""
    return wrap(
        module,
        class_names=cells.class_names,
        input_shape=cells.shape,
        channel_names=cells.channel_names,
        preparation=cells.preparation,
        spec=spec,
    )


def load_module(
    factory: str, weights: Path | str | None = None, *, allow_pickle: bool = False
) -> nn.Module:
    """The module that a factory makes, with weights from a file if one is given.

    ``factory``: ``"file.py:function"``, or ``"package.module:function"`` of a module that Python
    can import. **Its code is run**, so it must be one that you trust. Weights: ``.safetensors``,
    or a PyTorch state dict, also as ``{"state_dict": …}``. Files that can run code when read, as
    whole pickled modules and TorchScript, are refused unless ``allow_pickle=True`` (then the
    module in the file only gives its weights). Raises ModelError.
    """
    with unchanged_globals([]):
        module = _make(factory)
    if weights is not None:
        load_weights(module, _read(Path(weights), allow_pickle), source=str(weights))
    return module


def gives_random_weights(factory: str) -> bool:
    """Whether the module that a factory makes has weights that were drawn, not read from a file.

    It is made twice, from different seeds. Weights that differ were drawn; so were those that are
    equal because the code sets the seed. **Its code is run.** Raises ModelError.
    """
    made: list[tuple[Mapping[str, Tensor], Tensor]] = []
    for seed in (1, 2):
        with unchanged_globals([]), seeded(seed):
            weights = _make(factory).state_dict()
            made.append((weights, torch.get_rng_state()))
    (first, after), (second, after_too) = made
    if not any(weight.is_floating_point() for weight in first.values()):
        return False
    return torch.equal(after, after_too) or not all(
        torch.equal(first[name], second[name]) for name in first
    )


def load_weights(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Put weights in by name; a name or shape that does not fit raises ModelError."""
    names = list(state)
    if names and all(name.startswith("module.") for name in names):  # from DataParallel
        state = {name.removeprefix("module."): value for name, value in state.items()}
    own = module.state_dict()
    missing, surplus = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    shapes = [n for n in own if n in state and own[n].shape != state[n].shape]
    problems = {"missing": missing, "not in the module": surplus, "of another shape": shapes}
    found = [f"{_few(entries)} {what}" for what, entries in problems.items() if entries]
    if found:
        raise ModelError(f"the weights of {source} do not fit the module: {'; '.join(found)}")
    module.load_state_dict(dict(state))


def _check_forward(module: nn.Module, shape: tuple[int, int, int], n_classes: int) -> None:
    blank = torch.zeros(2, *shape, device=device_of(module))
    try:
        with evaluating(module), torch.inference_mode(), unchanged_globals([]):
            logits = module(blank)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"the module cannot take crops of (channel, height, width) {shape}: {reason[0]}"
        ) from error
    if not isinstance(logits, Tensor):
        raise ModelError(
            f"the module gives a {type(logits).__name__}; it must give one tensor of logits "
            f"(n, {n_classes}): wrap it in a module that picks it out"
        )
    if tuple(logits.shape) != (2, n_classes):
        raise ModelError(
            f"the module gives {tuple(logits.shape)} for two crops; with {n_classes} class names "
            f"it must give logits (2, {n_classes})"
        )
    if not bool(torch.isfinite(logits).all()):
        raise ModelError("the module gives NaN or infinity for blank crops; check its weights")


def _make(factory: str) -> nn.Module:
    place, name = factory_parts(factory)
    file = Path(place).expanduser().resolve() if place.endswith(".py") else None
    if file is not None and not file.is_file():
        raise ModelError(f"the factory's file '{file}' does not exist")
    try:
        with _importable(file):
            home = import_module(place) if file is None else _run_file(file)
            make = getattr(home, name, None)
            if not callable(make):
                raise ModelError(f"'{place}' has no function '{name}'")
            module = make()
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"factory '{factory}' failed with {type(error).__name__}: {error}"
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"'{factory}' gave a {type(module).__name__}, not a torch nn.Module")
    return module


def _run_file(file: Path) -> ModuleType:
    spec = spec_from_file_location(f"cytolens_model_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    home = module_from_spec(spec)
    sys.modules[spec.name] = home  # dataclasses and pickles look their module up by name
    spec.loader.exec_module(home)
    return home


@contextmanager
def _importable(file: Path | None) -> Generator[None]:
    """Within the block the files next to this one can be imported."""
    if file is None:
        yield
        return
    sys.path.insert(0, str(file.parent))
    try:
        yield
    finally:
        sys.path.remove(str(file.parent))


def _read(path: Path, allow_pickle: bool) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise ModelError(f"the weights file '{path}' does not exist")
    if path.suffix not in SAFE:
        raise ModelError(f"weights '{path.name}' are of no known kind; give {', '.join(SAFE)}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"'{path}' is no readable safetensors file: {error}") from error
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if not allow_pickle:
            raise ModelError(
                f"'{path.name}' is more than plain weights, or damaged; reading it could run code "
                "hidden in it. Save the state_dict as .safetensors or, if you trust its source, "
                "pass allow_pickle=True (--allow-pickle)"
            ) from error
        loaded = _unpickle(path)
    if isinstance(loaded, nn.Module):
        loaded = loaded.state_dict()
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise ModelError(f"'{path.name}' holds no state dict (parameter names and tensors)")
    return cast(Mapping[str, Tensor], loaded)


def _unpickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise ModelError(f"'{path.name}' cannot be read: {error}") from error


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
