"""The user's own network: where its code is, whether it may be run, and what it rests on."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolens.classifier.card import ModelCard, card_of, read_card
from cytolens.classifier.factories import is_card, of_package, resolve_factory, source_files
from cytolens.errors import ModelError, SettingError
from cytolens.study.settings import StudySettings

if TYPE_CHECKING:
    from torch import nn


def with_absolute_paths(settings: StudySettings) -> StudySettings:
    """The same settings, with the files that the user names by full path."""
    paths = {
        name: str(Path(text).resolve())
        for name in ("relabel", "weights", "trained_on", "held_out")
        if (text := getattr(settings, name)) and Path(text).is_file()
    }
    model = settings.model and resolve_factory(settings.model)
    return replace(settings, **{**paths, "model": model})


def as_the_card_says(settings: StudySettings) -> StudySettings:
    """The same settings, with what a model card says and they leave open.

    Raises ModelError for a card that cannot be read, SettingError where the two contradict.
    """
    if settings.model is None or not is_card(settings.model):
        return settings
    if not Path(settings.model).is_file():  # of a run from elsewhere, which holds what it said
        return settings
    card = read_card(Path(settings.model))
    said: dict[str, Any] = {
        "size": card.size,
        "classes": None if card.class_names is None else list(card.class_names),
        "channels": None if card.channels is None else list(card.channels),
        "weights": card.weights,
    }
    if card.outputs != "classes":
        said["output_names"] = said.pop("classes")
    for name in ("size", "classes", "channels", "output_names"):
        given = getattr(settings, name)
        if said.get(name) and given and given != said[name]:
            flag = {"channels": "channel"}.get(name, name).replace("_", "-")
            raise SettingError(
                f"--{flag} {_words(given)}: the model card '{settings.model}' says "
                f"{_words(said[name])}; give the one or change the other"
            )
    if card.outputs != settings.outputs and settings.outputs != "classes":
        raise SettingError(
            f"--outputs {settings.outputs}: the model card '{settings.model}' says {card.outputs}"
        )
    said["outputs"] = card.outputs
    if card.normalisation is not None:  # it is of the intensities as the files have them
        if settings.intensity == "image":
            raise SettingError(
                "--intensity image: the model card normalises the files' own intensities; take "
                "its normalisation out, or leave --intensity away"
            )
        said["intensity"] = "none"
    always = ("intensity", "outputs")
    wanted = {n: v for n, v in said.items() if v and (n in always or not getattr(settings, n))}
    return replace(settings, **wanted)


def _words(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


def content_hash(settings: StudySettings) -> str:
    """What the network rests on: the bytes of its file and of its weights, and the function's name.

    Raises ModelError where a file is missing.
    """
    from cytolens.images.content import content_of

    card = _card(settings)
    files = source_files(card.model, settings.weights)
    if is_card(str(settings.model)):
        files.append(Path(str(settings.model)))
    digests = [content_of([path], root=path.parent).digest[:16] for path in files]
    return ":".join([*digests, card.model.rpartition(":")[2]])


def runs_code(settings: StudySettings) -> bool:
    """Whether a model card names Python code, so that naming the card is not naming the code."""
    model = settings.model
    return model is not None and is_card(model) and of_package(_card(settings).model) is None


def not_trusted(settings: StudySettings) -> ModelError:
    """The error for a network that is code, named by something that may come from anyone."""
    model = str(settings.model)
    code, came = (_card(settings).model, "model card") if is_card(model) else (model, "run")
    return ModelError(
        f"this {came}'s network is made by running '{code}', and a {came} may come from "
        "anyone; if you trust that file, say so with --trust-model (trust_model=True)"
    )


def _card(settings: StudySettings) -> ModelCard:
    return card_of(str(settings.model), settings.weights)


def weights_hash(module: "nn.Module") -> str:
    """What tells one module from another: its structure and its weights."""
    digest = hashlib.sha256(repr(module).encode())
    for name, value in module.state_dict().items():
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()


def load(settings: StudySettings, module: Any, *, trusted: bool) -> Any:
    """The user's network; None where the reference network is studied.

    ``module`` is taken where it is given. A file that a run names is run only if it is
    ``trusted``. Raises ModelError.
    """
    if module is not None or settings.model is None:
        return module
    if not trusted:
        raise not_trusted(settings)
    from cytolens.classifier.wrapping import gives_random_weights, load_module

    if settings.weights is None and not settings.untrained and gives_random_weights(settings.model):
        raise ModelError(
            f"--model '{settings.model}' makes random weights, and no trained ones were named; "
            "name them with --weights FILE, or say --untrained to study the network without them"
        )
    return load_module(settings.model, settings.weights, allow_pickle=settings.allow_pickle)
