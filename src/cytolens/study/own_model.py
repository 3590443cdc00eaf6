"""The user's own network: where its code is, whether it may be run, and what it rests on."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolens.classifier.factories import resolve_factory, source_files
from cytolens.errors import ModelError
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


def content_hash(settings: StudySettings) -> str:
    """What the network rests on: the bytes of its file and of its weights, and the function's name.

    Raises ModelError where a file is missing.
    """
    from cytolens.images.content import content_of

    files = source_files(str(settings.model), settings.weights)
    digests = [content_of([path], root=path.parent).digest[:16] for path in files]
    return ":".join([*digests, str(settings.model).rpartition(":")[2]])


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
        raise ModelError(
            f"this run's network is made by running '{settings.model}', and a run may come from "
            "anyone; if you trust that file, say so with --trust-model"
        )
    from cytolens.classifier.wrapping import gives_random_weights, load_module

    if settings.weights is None and not settings.untrained and gives_random_weights(settings.model):
        raise ModelError(
            f"--model '{settings.model}' makes random weights, and no trained ones were named; "
            "name them with --weights FILE, or say --untrained to study the network without them"
        )
    return load_module(settings.model, settings.weights, allow_pickle=settings.allow_pickle)
