"""How far the feature images of a study can be believed."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytolens.records.cells import Cells, Progress, Split
from cytolens.records.features import Faithfulness, Galleries
from cytolens.records.layers import Layer
from cytolens.study.parts import Made, Parts
from cytolens.study.stage import Stage, Summary, as_entries
from cytolens.study.stages.cells import Rows
from cytolens.study.stages.classifier import layers_with_channels
from cytolens.study.stages.features import Appearance, Ascents, Layers, prior_of

if TYPE_CHECKING:
    from cytolens.classifier.model import Classifier
    from cytolens.features.faithfulness import Yardstick

Described = dict[str, NDArray[np.float32]]
"""Cells (n, F) by representation."""

_JUDGED_ON = 600  # held-out cells
_BLOCK = 200  # cells that are described together
_STEPS = 3  # of progress, at each layer
_CONTROLLED = 3  # images of each layer that controls are made for, and that are made again


def yardstick(
    cells: Cells, split: Split, appearance: Appearance, *, seed: int, progress: Progress
) -> Made[Described, Described]:
    """The cells that images are compared with: those of a prior, then held-out ones."""
    from cytolens.features.comparison import REPRESENTATIONS, described

    prior = prior_of("cells", cells, split, appearance)
    crops = np.concatenate([prior.crops, cells.read(_held_out(split, seed)[0])])
    starts = range(0, len(crops), _BLOCK)

    def of_block(number: int) -> Described:
        progress(number, len(starts), "describing cells")
        some = crops[starts[number] : starts[number] + _BLOCK]
        return {name: described(prior, some, name) for name in REPRESENTATIONS}

    made = list((yield Parts([f"cells from {start}" for start in starts], of_block)))
    return {name: np.concatenate([part[name] for part in made]) for name in REPRESENTATIONS}


def _held_out(split: Split, seed: int) -> tuple[Rows, np.random.Generator]:
    """The cells that images are judged on, and what further draws come from."""
    draw = np.random.default_rng(seed)
    held_out = np.concatenate([split.validation, split.test])
    return np.sort(draw.permutation(held_out)[:_JUDGED_ON]), draw


def faithfulness(
    network: "Classifier",
    cells: Cells,
    split: Split,
    layers: tuple[Layer, ...],
    features: Galleries,
    appearance: Appearance,
    ascents: Ascents,
    yardstick: Described,
    *,
    seed: int,
    progress: Progress,
) -> Made[Faithfulness, dict[str, Faithfulness]]:
    """How far the images of each gallery can be believed, on held-out cells, by layer.

    With a prior, only images that were made with it are judged, beside controls of the first of
    them. Stability is between these and images with another seed from half of the prior's cells.
    """
    from cytolens.features.controls import make_controls
    from cytolens.features.faithfulness import measure_faithfulness, prepare_yardstick

    prior = ascents.prior or prior_of("cells", cells, split, appearance)
    held_out, draw = _held_out(split, seed)
    shown = layers_with_channels(layers)

    @cache
    def compared_with() -> "Yardstick":
        return prepare_yardstick(
            network, shown,
            prior=prior, held_out=cells.read(held_out),
            groups=None if cells.groups is None else cells.groups[held_out],
            known=yardstick,
        )  # fmt: skip

    half = None
    if ascents.prior is not None:
        half = np.sort(draw.permutation(len(prior.crops))[: max(10, len(prior.crops) // 2)])
    again = ascents.repeated(half)
    on_fields = {found.layer for found in features.fields}
    pairs = [
        (images, plain)
        for images, plain in zip(features.channels, features.unconstrained, strict=True)
        if images.layer not in on_fields
    ]
    names = [images.layer for images, _ in pairs]
    total = _STEPS * len(pairs)

    def of_layer(number: int) -> Faithfulness:
        images, plain = pairs[number]
        judged_by, name = compared_with(), names[number]
        done = _STEPS * number
        progress(done, total, f"{name}, controls")
        first = images.channels[~images.dead][:_CONTROLLED].tolist()
        controls = None
        if images.starts is not None and ascents.prior is not None:
            controls = make_controls(
                network, images, judged_by.made_from.score[images.layer], prior=ascents.prior,
                ascent=ascents.ascent, count=_CONTROLLED, rng=seed, device=ascents.device,
            )  # fmt: skip
        progress(done + 1, total, f"{name}, once more from other cells")
        repeated = again.of_channels(network, name, first) if first else None
        progress(done + 2, total, f"{name}, what its images predict")
        return measure_faithfulness(
            network, images, judged_by,
            unconstrained=plain, controls=controls, rng=seed, again=repeated,
        )  # fmt: skip

    judged = yield Parts(names, of_layer)
    return dict(zip(names, judged, strict=True))


_COMPARED = (
    "start_cell", "hold_only", "wrong_channel", "rotation", "others", "driving_cells", "best_cell",
    "nine_best_cells", "unconstrained", "random_cell",
)  # fmt: skip
_SECOND = "_by_wavelets"


def _entries_of_faithfulness(found: Faithfulness) -> dict[str, Any]:
    """Means over images; next to the predictivity of the images, that of its rivals."""
    compared = {f"{name}{end}" for name in _COMPARED for end in ("", _SECOND)}
    entries = as_entries({k: v for k, v in found.estimates.items() if k not in compared})
    for end in ("", _SECOND):
        beside = {k: found.estimates[f"{k}{end}"].value for k in _COMPARED
                  if f"{k}{end}" in found.estimates}  # fmt: skip
        if f"predictivity{end}" in entries:
            entries[f"predictivity{end}"] = {**entries[f"predictivity{end}"], **beside}
    predicts = found.predicts
    images = [
        {
            "channel": int(channel),
            "failure": failure or None,
            "predicts": None if predicts is None else bool(predicts[k]),
            **{name: float(values[k]) for name, values in found.table.items()},
        }
        for k, (channel, failure) in enumerate(zip(found.channels, found.failures, strict=True))
    ]
    counted = {} if predicts is None else {"images_that_predict": int(predicts.sum())}
    return {**entries, **counted, "held_out_cells": found.n, "images": images}


def _summary_of_faithfulness(faithfulness: Mapping[str, Faithfulness], layers: Layers) -> Summary:
    entries = {name: _entries_of_faithfulness(found) for name, found in faithfulness.items()}
    return Summary(layers={la.name: {"faithfulness": entries.get(la.name, {})} for la in layers})


YARDSTICK = Stage("yardstick", "describing cells that images are compared with", yardstick)
FAITHFULNESS = Stage(
    "faithfulness",
    "judging the feature images",
    faithfulness,
    version=3,
    summary=_summary_of_faithfulness,
)
