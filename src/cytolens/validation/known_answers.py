"""One known answer: plant a feature, train a classifier that needs it, ask where it looks."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from torch import nn

from cytolens.activations.layers import find_layers
from cytolens.classifier.model import Classifier, predict, untrained
from cytolens.classifier.training import TrainingSettings, train
from cytolens.errors import ModelError
from cytolens.features.decision import logits_of
from cytolens.features.insertion import Evidence, deletion, displaced, insertion
from cytolens.features.saliency import contrasting, explaining_layer, measure_saliency
from cytolens.images.preparation import prepared_background
from cytolens.numerics.estimates import Estimate, mean_of
from cytolens.records.cells import Progress
from cytolens.records.features import KnownAnswer
from cytolens.records.layers import Layer
from cytolens.simulation.simulate import Plant
from cytolens.validation.baselines import NETWORK_FREE, gradcam, integrated_gradients
from cytolens.validation.measures import chance_of, overlap, points_at
from cytolens.validation.planting import CLASS_NAMES, plant_pairs
from cytolens.validation.twins import measure_twins

PLANTED = CLASS_NAMES.index("planted")
EXAMPLES = 4  # cells that are shown, the first of these
FRACTIONS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16)  # of the pixels: what is looked for is small
RESAMPLES = 500  # of the bootstrap
FEWEST = 10  # cells below which nothing is said about pointing
OURS = "ours"


@dataclass(frozen=True)
class Case:
    """What is planted."""

    setting: str  # "default", "low contrast", …
    plant: Plant


def find_known_answer(
    case: Case,
    *,
    cells: int,
    epochs: int,
    most: int = 60,
    twins: bool = False,
    architecture: nn.Module | None = None,
    rng: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> KnownAnswer:
    """Train on pairs of ``cells`` cells and measure how well explanations find what was planted.

    The cells that are explained, at most ``most``, are held out, planted, called planted, and
    called plain without the plant, and their log-odds fall by at least the standard deviation of
    those of plain cells: their class rests on the plant, so an explanation has to find it.

    ``measures``: ``accuracy`` (balanced, over held-out pairs); ``drop`` of the probability of
    "planted" when the plant is taken away; ``used``, the share of held-out pairs whose class rests
    on the plant; ``chance``, of pointing, for a random pixel of the cell; and ``pointing``,
    ``iou``, ``insertion`` into the plain twin and ``deletion`` from the cell, of our saliency, and
    with a prefix of ``gradcam`` (last convolution), ``gradcam_early`` (at our layer),
    ``integrated_gradients``, our saliency in an ``untrained`` network, ours at a ``random``
    place, and of maps that know of no network (`baselines.NETWORK_FREE`). ``ahead``: ours minus
    each of these, cell by cell. Intervals: bootstrap over cells, for this one network. With fewer
    than ten such cells only the first three are measured.

    With ``twins`` planted cells are also edited until the network sees no more of the plant than in
    the twin (`twins.measure_twins`): ``pairs_cosine`` of the edit with the true change, its sum of
    absolute values over the true one's (``pairs_l1``), the shares of the true effect that the
    network sees (``pairs_own``) and a judge that had no part in it (``pairs_transfer``), medians
    over cells; and ``pairs_named_first``, 1 where the property that real pairs name first is the
    one that the plant shifts most.

    ``device``: where the network is trained. Raises ModelError for an architecture without
    positions, MissingExtra without captum.
    """
    report: Progress = progress or (lambda done, total, note: None)
    report(0, epochs + 2, "simulating cells")
    pairs = plant_pairs(cells, case.plant, rng=rng)
    model = train(
        pairs.cells,
        architecture=architecture,
        split=pairs.split,
        settings=TrainingSettings(epochs=epochs, patience=epochs),
        rng=rng,
        device=device,
        progress=lambda done, total, note: report(done, epochs + 2, note),
    ).model
    layer, last = layers_to_explain(model)
    planted = pairs.planted()
    with_plant, without = (
        predict(model, pairs.cells.subset(rows))[:, PLANTED].astype(np.float64).clip(1e-7, 1 - 1e-7)
        for rows in (planted, pairs.plain_of(planted))
    )
    fall, deviation = logit(with_plant) - logit(without), logit(without).std()
    used = (with_plant > 0.5) & (without <= 0.5) & (fall >= deviation)
    mean = partial(mean_of, resamples=RESAMPLES, rng=rng)
    found = {
        "accuracy": mean(((with_plant > 0.5) + (without <= 0.5).astype(np.float64)) / 2),
        "drop": mean(with_plant - without),
        "used": mean(used.astype(np.float64)),
    }
    shown = planted[used][:most]
    images, masks = pairs.cells.read(shown), pairs.of(shown, pairs.masks)
    maps: dict[str, NDArray[np.floating]] = {}
    ahead: dict[str, Estimate] = {}
    if len(shown) >= FEWEST:
        report(epochs + 1, epochs + 2, "explaining cells")
        background = prepared_background(pairs.cells.preparation).tolist()
        others = pairs.cells.read(np.random.default_rng(rng).permutation(pairs.split.train)[:256])
        maps = _saliencies(model, images, layer, last, background, others, rng)
        plain = pairs.cells.read(pairs.plain_of(shown))
        by_cell = {
            name: _by_cell(saliency, images, plain, masks, _evidence(model.network))
            for name, saliency in maps.items()
        }
        found["chance"] = mean(chance_of(masks, pairs.of(shown, pairs.cell_masks)))
        for name, columns in by_cell.items():
            for quantity, values in columns.items():
                key = quantity if name == OURS else f"{name}_{quantity}"
                found[key] = mean(values)
                if name != OURS:
                    ahead[key] = mean(by_cell[OURS][quantity] - values)
    if twins:
        report(epochs + 1, epochs + 2, "editing cells")
        found |= measure_twins(pairs, model, epochs=epochs, rng=rng).measures(
            resamples=RESAMPLES, rng=rng
        )
    return KnownAnswer(
        kind=case.plant.kind,
        setting=case.setting,
        size_um=case.plant.extent,
        contrast=case.plant.peak,
        layer=layer.name,
        n=len(shown),
        measures=found,
        ahead=ahead,
        images=images[:EXAMPLES],
        masks=masks[:EXAMPLES],
        saliency={name: _to_one(saliency[:EXAMPLES]) for name, saliency in maps.items()},
        pixel_size=pairs.pixel_size,
    )


def _saliencies(
    model: Classifier,
    images: NDArray[np.float32],
    layer: Layer,
    last: Layer,
    background: list[float],
    others: NDArray[np.float32],
    rng: int,
) -> dict[str, NDArray[np.floating]]:
    """Evidence for "planted" in each image (N, H, W), by method. ``others``: training cells."""
    network, before = model.network, untrained(model, others, rng=rng).network
    references = contrasting(network, others[:64], PLANTED)
    ours, control = (
        measure_saliency(
            net,
            images,
            layer=layer,
            target=PLANTED,
            background=background,
            references=references,
        )
        for net in (network, before)
    )
    return {
        OURS: ours,
        "gradcam": gradcam(network, images, layer=last, target=PLANTED),
        "gradcam_early": gradcam(network, images, layer=layer, target=PLANTED),
        "integrated_gradients": integrated_gradients(
            network, images, target=PLANTED, background=background
        ),
        "untrained": control,
        "random": displaced(ours, rng=rng),
        **{name: plain(images, background) for name, plain in NETWORK_FREE.items()},
    }


def layers_to_explain(model: Classifier) -> tuple[Layer, Layer]:
    """The layer that our saliency is taken from, and the last one with positions.

    Raises ModelError for a network without any.
    """
    candidates = [
        layer
        for layer in find_layers(model.network, model.input_shape)
        if layer.kind in ("conv", "block") and len(layer.shape) == 3 and layer.shape[1] > 1
    ]
    found = explaining_layer(candidates, model.input_shape[1])
    if found is None:
        raise ModelError("the network has no convolution with positions; give a convolutional one")
    return found, candidates[-1]


def _by_cell(
    saliency: NDArray[np.floating],
    images: NDArray[np.float32],
    twins: NDArray[np.float32],
    masks: NDArray[np.bool_],
    evidence: Evidence,
) -> dict[str, NDArray[np.float64]]:
    """Every quantity for each cell, (N,)."""
    return {
        "pointing": points_at(saliency, masks).astype(np.float64),
        "iou": overlap(saliency, masks),
        "insertion": insertion(saliency, images, twins, evidence, fractions=FRACTIONS),
        "deletion": deletion(saliency, images, twins, evidence, fractions=FRACTIONS),
    }


def _evidence(network: nn.Module) -> Evidence:
    """Logit of "planted" minus that of "plain", (N,), of images (N, C, H, W)."""

    def evidence(images: NDArray[np.float32]) -> NDArray[np.floating]:
        logits = logits_of(network, images)
        return logits[:, PLANTED] - logits[:, 1 - PLANTED]

    return evidence


def _to_one(saliency: NDArray[np.floating]) -> NDArray[np.float32]:
    """Each map divided by its largest value."""
    peak = saliency.max(axis=(1, 2), keepdims=True)
    return (saliency / np.where(peak > 0, peak, 1)).astype(np.float32)
