"""Does a planted feature survive modulation, where plain contrast does not find it?

python benchmarks/modulation.py [--cells 300] [--epochs 14]
python benchmarks/modulation.py RUN …     what the feature images of finished studies keep

Cells in twins, with a plant and without; a network that has to use it; and held-out planted cells
modulated by the activation maps of the channels that decide them, weighted by their contributions,
at the layer that cells are explained at and at the last convolution. Beside them the same gains in
the salient part (what in the cell drives these channels), in the order of the class's saliency, on
the brightest pixels, on those of strongest contrast, and in a random place.

plant kept: share of the light that the plant adds which is left. rest kept: the mean gain of the
cell beside the plant, what would be kept of anything. evidence kept: of the log-odds that the plant
makes, the share that it still makes between the two twins once both are modulated.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from cytolens.classifier.model import Classifier, predict
from cytolens.classifier.training import TrainingSettings, train
from cytolens.features.decision import logits_of
from cytolens.features.gain import apply_gain, moved_to
from cytolens.features.insertion import displaced, local_contrast, measure_kept
from cytolens.features.modulation import explain_cell, modulate
from cytolens.images.preparation import prepared_background
from cytolens.numerics.estimates import mean_of
from cytolens.records.layers import Layer
from cytolens.simulation.simulate import Plant
from cytolens.study.finished_run import open_run
from cytolens.validation.baselines import brightness
from cytolens.validation.known_answers import PLANTED, layers_to_explain
from cytolens.validation.measures import points_at
from cytolens.validation.planting import Pairs, plant_pairs

MOST = 40  # cells of each case
Maps = NDArray[np.float32]


def cases() -> Iterator[tuple[str, Plant]]:
    for kind in ("granule", "bar", "rim", "texture"):
        plant = Plant(kind=kind)
        yield kind, plant
        yield f"{kind}, half the contrast", replace(plant, contrast=0.5 * plant.peak)


def evidence(model: Classifier, images: NDArray[np.float32]) -> NDArray[np.floating]:
    logits = logits_of(model.network, images)
    return logits[:, PLANTED] - logits[:, 1 - PLANTED]


def gains_of(
    model: Classifier, images: NDArray[np.float32], layer: Layer, background: list[float]
) -> tuple[Maps, Maps, Maps]:
    """Of the deciding channels: weighted gain, salient part; and saliency, (N, H, W), peak 1."""
    gains: list[Maps] = []
    salient: list[Maps] = []
    saliency: list[Maps] = []
    for image in images:
        found = explain_cell(model, image, layer=layer, background=background)
        weights = np.maximum(found.contributions, 0)
        weights = weights / max(float(weights.sum()), 1e-9)
        gain = np.tensordot(weights, found.modulated.gain, axes=1)
        gains.append((gain / max(float(gain.max()), 1e-9)).astype(np.float32))
        part = found.modulated.gain if found.modulated.salient is None else found.modulated.salient
        salient.append(np.tensordot(weights, part, axes=1).astype(np.float32))
        saliency.append(found.saliency)
    return np.stack(gains), np.stack(salient), np.stack(saliency)


def judged(name: str, plant: Plant, cells: int, epochs: int, seed: int) -> Iterator[str]:
    pairs: Pairs = plant_pairs(cells, plant, rng=seed)
    settings = TrainingSettings(epochs=epochs, patience=epochs)
    model = train(pairs.cells, split=pairs.split, settings=settings, rng=seed).model
    planted = pairs.planted()
    called = predict(model, pairs.cells.subset(planted))[:, PLANTED] > 0.5
    plain = predict(model, pairs.cells.subset(pairs.plain_of(planted)))[:, PLANTED] > 0.5
    rows = planted[called & ~plain][:MOST]
    if len(rows) < 10:
        yield f"| {name} | not used by the network | | | | | |"
        return
    images, twins = pairs.cells.read(rows), pairs.cells.read(pairs.plain_of(rows))
    masks, inside = pairs.of(rows, pairs.masks), pairs.of(rows, pairs.cell_masks)
    background = prepared_background(pairs.cells.preparation).tolist()
    contrast = local_contrast(images)
    found = float(points_at(contrast, masks).mean())
    whole = evidence(model, images) - evidence(model, twins)
    added = np.abs(images - twins).sum(1)
    for place, layer in zip(("explained", "last"), layers_to_explain(model), strict=True):
        gain, salient, saliency = gains_of(model, images, layer, background)
        orders = {
            "activation maps": gain,
            "salient part": moved_to(gain, salient),
            "saliency of the class": moved_to(gain, saliency),
            "brightest": moved_to(gain, brightness(images, background)),
            "contrast": moved_to(gain, contrast),
            "random": displaced(gain, rng=seed),
        }
        for order, gains in orders.items():
            kept = (gains * added * masks).sum((1, 2)) / (added * masks).sum((1, 2))
            beside = inside & ~masks
            rest = (gains * beside).sum((1, 2)) / np.maximum(beside.sum((1, 2)), 1)
            with_plant, without = (
                evidence(model, apply_gain(one, gains.astype(np.float32), background=background))
                for one in (images, twins)
            )
            said = (with_plant - without) / np.where(whole > 0, whole, np.nan)
            numbers = [mean_of(v, rng=0) for v in (kept, rest, np.clip(said, 0, 1))]
            cellsaid = " | ".join(f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]" for e in numbers)
            yield f"| {name} | {found:.2f} | {layer.name} ({place}) | {order} | {cellsaid} |"


def of_run(path: Path) -> Iterator[str]:
    """What the feature images of a finished study keep: `measure_kept` at every depth."""
    run = open_run(path)
    spatial = {layer.name for layer in run["layers"] if len(layer.shape) == 3}
    for gallery in run["features"].channels:
        if gallery.layer not in spatial or gallery.dead.all():
            continue
        modulated = modulate(gallery, model=run["network"])
        found = measure_kept(run["network"], gallery, modulated, rng=0)
        for name, prefix in (
            ("salient part", "salient_"), ("activation map", ""), ("brightest", "brightness_"),
            ("contrast", "contrast_"), ("random", "random_"),
        ):  # fmt: skip
            shares = " | ".join(
                f"{found[prefix + key].value:.2f}" for key in ("insertion", "deletion", "kept")
            )
            ahead = found.get(f"salient_ahead_of_{prefix[:-1]}")
            more = (
                "" if ahead is None else f"{ahead.value:+.2f} [{ahead.low:+.2f}, {ahead.high:+.2f}]"
            )
            yield f"| {path.name} | {gallery.layer} | {name} | {shares} | {more} |"


def main(
    runs: Annotated[list[Path] | None, typer.Argument()] = None,
    cells: int = 300,
    epochs: int = 14,
    seed: int = 0,
) -> None:
    if runs:
        print("| run | layer | gain from | insertion | deletion | kept | salient part keeps more |")
        print("|---|---|---|---|---|---|---|")
        for path in runs:
            for line in of_run(path):
                print(line, flush=True)
        return
    header = "plant | contrast points at it | layer | gain from | plant kept | rest kept"
    print(f"| {header} | evidence kept |\n|---|---|---|---|---|---|---|")
    for name, plant in cases():
        for line in judged(name, plant, cells, epochs, seed):
            print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
