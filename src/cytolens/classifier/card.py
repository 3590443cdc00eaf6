"""A model card: a small file that says where a network is, and what it takes and gives.

    {
      "model": "my_model.py:build",      or package.module:function, timm:NAME, hf:REPO
      "weights": "weights.safetensors",  next to the card, or null
      "outputs": "classes",              or "labels", "values", "embedding"
      "class_names": ["G1", "G2"],       in the order of the outputs
      "size": 64,                        side of the crops in pixels
      "channels": ["DNA"],               image channels by name, in the network's order
      "normalisation": {"scale": 255, "mean": [0.5], "std": [0.2]},
      "arguments": {"width": 32}         what the function is called with
    }

What is not known is null. A description of bioimage.io (``rdf.yaml``) is read as a card, too.
Nothing is run when a card is read, and torch is not needed.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from cytolens.classifier.factories import factory_parts, is_card, of_package
from cytolens.errors import MissingExtra, ModelError, choose
from cytolens.records.shown import record

_LARGEST = 2**20  # bytes of a card
OUTPUTS = ("classes", "labels", "values", "embedding")


@record
class Normalisation:
    """What the network is given in place of the intensities x of the files: (x / scale - m) / s.

    A mean and a standard deviation for each image channel that the network takes. A crop of one
    image channel is given to a network of several as each of them.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1.0


@record
class CropNormalisation:
    """What the network is given in place of the intensities of a crop, by that crop alone.

    (x - low) / (high - low + eps), where low and high are two ``percentiles`` of the crop; where
    these are None (x - mean) / (std + eps). ``each_channel``: of each image channel by itself.
    """

    percentiles: tuple[float, float] | None
    eps: float = 1e-6
    each_channel: bool = True
    of: str = "crop"  # what tells it from the other kind in a file


@record
class ModelCard:
    """Where a network is, and what it takes and gives; None: not said."""

    model: str
    weights: str | None = None
    outputs: str = "classes"
    class_names: tuple[str, ...] | None = None
    size: int | None = None  # pixels
    channels: tuple[str, ...] | None = None
    normalisation: Normalisation | CropNormalisation | None = None
    arguments: Mapping[str, Any] | None = None  # of the function that makes the network


def read_card(path: Path) -> ModelCard:
    """A card from JSON or YAML; files that it names are looked for next to it.

    Raises ModelError for a file that is no card, naming the entry that is wrong.
    """
    entries = _read(path)
    from cytolens.classifier.bioimageio import card_of_description, is_description

    if is_description(entries):
        return card_of_description(path, entries)
    known = [field.name for field in fields(ModelCard)]
    for name in entries:
        if name not in known:
            raise ModelError(f"model card '{path}': '{name}' is no entry; known: {known}")

    def wrong(name: str, wanted: str) -> ModelError:
        return ModelError(f"model card '{path}': {name} is {entries[name]!r}; give {wanted}")

    model = entries.get("model")
    if not isinstance(model, str) or is_card(model):
        raise ModelError(
            f"model card '{path}' names no model; give file.py:function, timm:NAME or hf:REPO"
        )
    weights, size = entries.get("weights"), entries.get("size")
    if weights is not None and not isinstance(weights, str):
        raise wrong("weights", "the name of a file next to the card, or null")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
        raise wrong("size", "the side of a crop in pixels, or null")
    outputs = entries.get("outputs") or "classes"
    if not isinstance(outputs, str):
        raise wrong("outputs", ", ".join(OUTPUTS))
    names: dict[str, tuple[str, ...] | None] = {}
    for name in ("class_names", "channels"):
        value = entries.get(name)
        if value is not None and (
            not isinstance(value, list) or not value or not all(isinstance(n, str) for n in value)
        ):
            raise wrong(name, "a list of names, or null")
        names[name] = None if value is None else tuple(value)
    arguments = entries.get("arguments")
    if arguments is not None and not isinstance(arguments, dict):
        raise wrong("arguments", "names and values, or null")
    return ModelCard(
        model=_beside(path, model),
        weights=None if weights is None else str((path.parent / weights).resolve()),
        outputs=choose("outputs", outputs, OUTPUTS),
        size=size,
        normalisation=_normalisation(path, entries.get("normalisation")),
        arguments=arguments or None,
        **names,
    )


def card_text(card: ModelCard, *, yaml: bool = False) -> str:
    """The card as it is written; `read_card` gives it back."""
    entries = json.loads(json.dumps(asdict(card)))
    if yaml:
        return _yaml().safe_dump(entries, sort_keys=False, allow_unicode=True)
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"


def card_of(model: str, weights: str | None = None) -> ModelCard:
    """The card that ``--model`` names; for anything else one that says no more than that."""
    if is_card(model):
        return read_card(Path(model))
    return ModelCard(model, weights)


def is_yaml(path: Path) -> bool:
    """Whether a card of that name is YAML."""
    return path.suffix.lower() in (".yaml", ".yml")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _LARGEST or not path.is_file():
            raise ModelError(f"'{path}' is no model card: it is no file of less than a megabyte")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ModelError(f"model card '{path}' cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"model card '{path}' is no text in UTF-8") from error
    try:
        entries = _yaml().safe_load(text) if is_yaml(path) else json.loads(text)
    except MissingExtra:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"model card '{path}' cannot be read: {reason}") from error
    if not isinstance(entries, dict):
        raise ModelError(f"model card '{path}' holds no entries; `cytolens card` drafts one")
    return entries


def _normalisation(path: Path, entry: Any) -> Normalisation | CropNormalisation | None:
    if entry is None:
        return None
    if isinstance(entry, dict) and entry.get("of") == "crop":
        return _of_each_crop(path, entry)
    try:
        mean, std = (tuple(float(n) for n in entry[name]) for name in ("mean", "std"))
        scale = float(entry.get("scale") or 1)
        if set(entry) - {"mean", "std", "scale"} or len(mean) != len(std) or not mean:
            raise ValueError
        if min(std) <= 0 or not scale > 0:
            raise ValueError
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(
            f"model card '{path}': normalisation is {entry!r}; give mean and std, lists with a "
            "number for each image channel, std above 0, and scale, a number above 0"
        ) from error
    return Normalisation(mean, std, scale)


def _of_each_crop(path: Path, entry: Mapping[str, Any]) -> CropNormalisation:
    try:
        ends, eps = entry.get("percentiles"), float(entry.get("eps", 1e-6))
        each = entry.get("each_channel", True)
        if set(entry) - {"of", "percentiles", "eps", "each_channel"} or eps < 0:
            raise ValueError
        if ends is not None:
            low, high = map(float, ends)
            if not 0 <= low < high <= 100:
                raise ValueError
            ends = (low, high)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"model card '{path}': normalisation is {entry!r}; of a crop it has percentiles, two "
            "numbers from 0 to 100 or null for mean and std, eps, and each_channel"
        ) from error
    return CropNormalisation(ends, eps, bool(each))


def _beside(path: Path, model: str) -> str:
    """The model, with the path of a file made absolute from the card's folder."""
    if of_package(model) is not None:
        return model
    place, name = factory_parts(model)
    return f"{(path.parent / place).resolve()}:{name}" if place.endswith(".py") else model


def _yaml() -> Any:
    try:
        return import_module("yaml")
    except ImportError:
        raise MissingExtra("a model card in YAML", "yaml") from None
