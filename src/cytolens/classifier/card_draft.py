"""A model card drafted from what a network and some cells say of themselves."""

import os
from dataclasses import replace
from pathlib import Path

from torch import nn

from cytolens.classifier.card import ModelCard, Normalisation
from cytolens.classifier.factories import of_package
from cytolens.classifier.packages import what_is_known
from cytolens.classifier.wrapping import load_module
from cytolens.records.cells import Cells


def draft_card(
    model: str,
    weights: str | None,
    cells: Cells | None,
    *,
    beside: Path,
    allow_pickle: bool = False,
) -> tuple[ModelCard, tuple[str, ...]]:
    """A card of ``model`` (**its code is run**), and what in it is left to fill in or to check.

    Sizes, names and normalisation are those that the network says, else those of the cells. Paths
    are written as seen from the folder ``beside``, where the card is going to be. Raises ModelError
    where the network cannot be made.
    """
    module = load_module(model, weights, allow_pickle=allow_pickle)
    known = what_is_known(module)
    n_channels, n_outputs = _first_channels(module), _last_features(module)
    card = ModelCard(model=_seen_from(beside, model), weights=_path_from(beside, weights))
    left: list[str] = []
    if "normalisation" in known:
        said = known["normalisation"]
        how = Normalisation(tuple(said["mean"]), tuple(said["std"]), said["scale"])
        card = replace(card, normalisation=how)
        left.append(
            "normalisation is that of the package's own weights; check that yours is the same"
        )
    else:
        left.append(
            "normalisation is not known: null leaves it to --intensity (by default crops are "
            "scaled to the data set); give mean, std and scale if your training normalised"
        )
    size = known.get("size") or (None if cells is None else int(min(cells.shape[1:])))
    card = replace(card, size=size)
    if size is None:
        left.append("size is not known")
    elif "size" not in known:
        left.append(f"size {size} is that of the cells; check that the network was trained on it")
    names = known.get("class_names")
    if cells is not None and n_outputs == len(cells.class_names):
        names = list(cells.class_names) if names is None else names
    card = replace(card, class_names=None if names is None else tuple(names))
    if names is None:
        counted = "" if n_outputs is None else f": {n_outputs} outputs"
        left.append(f"class_names are not known{counted}; give them in the order of the outputs")
    elif "class_names" not in known:
        left.append("class_names are those of the cells; check that the outputs have this order")
    if cells is not None and n_channels == cells.shape[0]:
        card = replace(card, channels=tuple(cells.channel_names))
    elif n_channels is not None and n_channels > 1:
        left.append(f"channels are not known: the network takes {n_channels}")
    if card.outputs == "classes":
        left.append(
            'outputs are taken for logits of "classes"; else say "labels" (several may '
            'hold), "values" (regression) or "embedding"'
        )
    return card, tuple(left)


def _first_channels(module: nn.Module) -> int | None:
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    return None if first is None else first.in_channels


def _last_features(module: nn.Module) -> int | None:
    found = [m for m in module.modules() if isinstance(m, nn.Linear)]
    return found[-1].out_features if found else None


def _seen_from(folder: Path, model: str) -> str:
    place, colon, name = model.rpartition(":")
    if of_package(model) is not None or not place.endswith(".py"):
        return model
    return f"{_path_from(folder, place)}{colon}{name}"


def _path_from(folder: Path, path: str | None) -> str | None:
    if path is None:
        return None
    full = Path(path).expanduser().resolve()
    inside = full.is_relative_to(folder.resolve())
    return os.path.relpath(full, folder.resolve()) if inside else str(full)
