"""A network brought by the user: checked before anything is done with it, loaded without danger."""

import inspect
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from cytolens.activations.capture import device_of, evaluating
from cytolens.classifier.card import OUTPUTS, ModelCard, Normalisation, card_of
from cytolens.classifier.factories import factory_parts, of_package
from cytolens.classifier.model import Classifier
from cytolens.classifier.networks import seeded
from cytolens.classifier.normalising import Normalise
from cytolens.classifier.packages import make_of_package
from cytolens.classifier.trial import unchanged_globals
from cytolens.classifier.weights import load_weights, read_weights, tensors_in
from cytolens.errors import ModelError, choose
from cytolens.records.cells import Cells, Preparation, Settings


def wrap(
    module: nn.Module,
    *,
    class_names: Sequence[str],
    input_shape: tuple[int, int, int],
    channel_names: Sequence[str] = (),
    preparation: Preparation | None = None,
    spec: Settings | None = None,
    outputs: str = "classes",
) -> Classifier:
    """Any classifier as the study's: a module from prepared crops to logits (N, class).

    ``class_names`` in the order of the module's outputs; ``input_shape`` (C, H, W) of a crop.
    ``spec`` is the JSON that helps to rebuild the module; a ``"factory": "file.py:function"``
    in it lets a run be reopened (`load_module`). A softmax at the end is not needed: the module
    should give logits. Raises ModelError if two blank crops do not give (2, class) finite numbers.

    ``outputs``: "classes"; "labels", of which several may hold for a cell; "values" of a
    regression; or an "embedding". With the last three ``class_names`` are the names of the
    outputs, one or more, "output 1" … where there are none.

    >>> module = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    >>> wrap(module, class_names=("G1", "M"), input_shape=(1, 4, 4)).channel_names
    ('channel 1',)
    """
    shape = tuple(int(side) for side in input_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise ModelError(f"input_shape {shape} must be three positive numbers, (C, H, W)")
    outputs = choose("outputs", outputs, OUTPUTS)
    names = tuple(str(name) for name in class_names)
    if outputs == "classes" and len(names) < 2:
        raise ModelError(f"{len(names)} class names given; a classifier needs at least two")
    channels = tuple(str(name) for name in channel_names) or tuple(
        f"channel {number + 1}" for number in range(shape[0])
    )
    if len(channels) != shape[0]:
        raise ModelError(f"{len(channels)} channel names for crops of {shape[0]} channels")
    wanted = len(names) if names or outputs == "classes" else None
    n = _check_forward(module, (shape[0], shape[1], shape[2]), wanted)
    names = names or tuple(f"output {number + 1}" for number in range(n))
    return Classifier(
        network=module,
        class_names=names,
        channel_names=channels,
        input_shape=(shape[0], shape[1], shape[2]),
        preparation=preparation,
        spec={"kind": "wrapped", "module": type(module).__qualname__, **(spec or {})},
        outputs=outputs,
    )


def wrap_for(
    module: nn.Module,
    cells: Cells,
    *,
    spec: Settings | None = None,
    outputs: str = "classes",
    output_names: Sequence[str] = (),
) -> Classifier:
    """`wrap` with the channels, size and preparation of ``cells``, and their classes if any."""
    return wrap(
        module,
        outputs=outputs,
        class_names=cells.class_names if outputs == "classes" else output_names,
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
    can import. **Its code is run**, so it must be one that you trust. Also ``"timm:NAME"`` and
    ``"hf:REPO"`` where the package is installed, and a model card (see ``card``), which names one
    of these with its weights, and how crops are normalised, which is then part of the module; or
    the description (``rdf.yaml``) of a model of bioimage.io.

    Weights: ``.safetensors``, or a PyTorch state dict, wherever in the file (`load_weights`). Files
    that can run code when read, as whole pickled modules, are refused unless ``allow_pickle=True``
    (then the module in the file only gives its weights). Raises ModelError.
    """
    card = card_of(factory, None if weights is None else str(weights))
    file = weights or card.weights
    state = {} if file is None else read_weights(Path(file), allow_pickle=allow_pickle)
    with unchanged_globals([]):
        module = _made(card, tensors_in(state))
    if file is not None:
        load_weights(module, state, source=f"'{file}'")
    if card.normalisation is not None:
        module.register_forward_pre_hook(Normalise(card.normalisation))
    return module


def _made(card: ModelCard, weights: Mapping[str, Tensor]) -> nn.Module:
    named, how = of_package(card.model), card.normalisation
    if named is None:
        return _make(card.model, card.arguments or {})
    return make_of_package(
        *named,
        weights,
        n_outputs=None if card.class_names is None else len(card.class_names),
        n_channels=len(how.mean) if isinstance(how, Normalisation) else None,
    )


def gives_random_weights(factory: str) -> bool:
    """Whether the module that a factory makes has weights that were drawn, not read from a file.

    It is made twice, from different seeds. Weights that differ were drawn; so were those that are
    equal because the code sets the seed. **Its code is run.** Raises ModelError.
    """
    card = card_of(factory)
    if (of_package(card.model) or ("", ""))[0] == "hf":
        return False
    made: list[tuple[Mapping[str, Tensor], Tensor]] = []
    for seed in (1, 2):
        with unchanged_globals([]), seeded(seed):
            weights = _made(card, {}).state_dict()
            made.append((weights, torch.get_rng_state()))
    (first, after), (second, after_too) = made
    if not any(weight.is_floating_point() for weight in first.values()):
        return False
    return torch.equal(after, after_too) or not all(
        torch.equal(first[name], second[name]) for name in first
    )


def _check_forward(module: nn.Module, shape: tuple[int, int, int], n_classes: int | None) -> int:
    """The number of outputs; ``n_classes`` is the number that there should be, if it is known."""
    blank = torch.zeros(2, *shape, device=device_of(module))
    taken = _required(module)
    if len(taken) > 1:
        raise ModelError(
            f"the module takes {len(taken)} inputs ({', '.join(taken)}); only networks that take "
            "crops alone can be studied: wrap it in a module that fills in the others"
        )
    try:
        with evaluating(module), torch.inference_mode(), unchanged_globals([]):
            logits = module(blank)
    except (Exception, SystemExit) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"the module cannot take crops of (channel, height, width) {shape}: {reason[0]}"
        ) from error
    if not isinstance(logits, Tensor):
        raise ModelError(
            f"the module gives a {type(logits).__name__}; it must give one tensor, a row of "
            "logits for each crop: wrap it in a module that picks it out"
        )
    if n_classes is None and logits.ndim != 2:
        raise ModelError(
            f"the module gives {tuple(logits.shape)} for two crops; it must give one row of "
            "outputs for each"
        )
    if n_classes is not None and tuple(logits.shape) != (2, n_classes):
        raise ModelError(
            f"the module gives {tuple(logits.shape)} for two crops; with {n_classes} names "
            f"it must give logits (2, {n_classes}). Keep the classes that it was trained on "
            "(--classes); or if its outputs are no classes, say so: --outputs labels, values or "
            "embedding"
        )
    if not bool(torch.isfinite(logits).all()):
        raise ModelError("the module gives NaN or infinity for blank crops; check its weights")
    return int(logits.shape[1])


def _required(module: nn.Module) -> list[str]:
    """The parameters that forward() cannot do without."""
    try:
        given = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # not written in Python
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    kinds = (*positional, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in given if p.default is p.empty and p.kind in kinds]


def _make(factory: str, arguments: Mapping[str, Any]) -> nn.Module:
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
            module = make(**arguments)
    except ModelError:
        raise
    except (Exception, SystemExit) as error:  # sys.exit() in it would end us with its own code
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
