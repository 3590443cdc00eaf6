"""Every architecture through layers, extraction, separation, maps, images, modulation, complexity.

Weights are random: what is asked is that each stage says something true of each architecture.
"""

import numpy as np
import pytest
import torch

from architectures import ARCHITECTURES, SIZE, made
from cytolens.activations.capture import evaluating
from cytolens.activations.extraction import extract
from cytolens.activations.layers import find_layers
from cytolens.activations.maps import capture_maps
from cytolens.classifier.wrapping import wrap_for
from cytolens.embedding.methods import embed
from cytolens.features.ascent import Ascent
from cytolens.features.complexity import measure_complexity
from cytolens.features.importance import measure_ablation, measure_contributions
from cytolens.features.modulation import explain_cell, modulate
from cytolens.features.optimisation import feature_images
from cytolens.features.priors import Prior, fit_prior
from cytolens.features.saliency import measure_saliency
from cytolens.images.arrays import cells_from_arrays
from cytolens.records.cells import Cells
from cytolens.separation.pairwise import measure_pairs
from cytolens.separation.separation import measure_separation
from cytolens.simulation.optics import Optics
from cytolens.simulation.simulate import simulate

N = 60


@pytest.fixture(scope="module")
def cells() -> Cells:
    seen = simulate(N, size=SIZE, difficulty=0.0, optics=Optics(pixel_size_um=0.5), rng=0)
    return cells_from_arrays(seen.images, [seen.class_names[label] for label in seen.labels])


@pytest.fixture(scope="module")
def prior(cells: Cells) -> Prior:
    return fit_prior(cells, rng=0)


@pytest.mark.parametrize("name", [*ARCHITECTURES, "resnet in half precision"])
def test_every_stage_works_on(name: str, cells: Cells, prior: Prior) -> None:
    network, half = made(name.split()[0]), "half" in name
    if half:
        network = network.bfloat16()
    model = wrap_for(network, cells)
    crops = cells.read(slice(0, 12))
    layers = find_layers(network, cells.shape)
    spatial = [la for la in layers[1:-2] if len(la.shape) == 3]
    middle = spatial[len(spatial) // 2]

    acts = extract(network, cells)
    assert [acts[la.name].shape for la in layers[1:]] == [(N, la.channels) for la in layers[1:]]
    with torch.no_grad(), evaluating(network):
        logits = network(torch.from_numpy(crops)).numpy()
    np.testing.assert_allclose(acts["logits"][:12], logits, atol=1e-4)
    maps = capture_maps(network, crops, middle)
    assert maps.shape == (12, *middle.shape)

    given = (acts[middle.name], cells.labels)
    separation = measure_separation(*given, permutations=20, resamples=20, rng=0)
    assert 0 <= separation["probe_accuracy"].value <= 1
    pairs = measure_pairs(
        *given, class_names=cells.class_names, permutations=20, resamples=20, rng=0
    )
    assert len(pairs.by_pair) == 1
    embedded = embed(acts[middle.name], method="pca")
    assert embedded.coordinates.shape == (N, 2)

    contributions = measure_contributions(network, crops, layer=middle)
    assert contributions.shape == (12, middle.channels)
    assert np.abs(contributions).max() > 0
    channel = int(np.abs(contributions).mean(0).argmax())
    assert measure_ablation(network, crops, layer=middle, channels=[channel])[0] > 0

    images = feature_images(
        model, layer=middle, channels=[channel, 0], prior=prior, cells=crops,
        ascent=Ascent(steps=5), rng=0,
    )  # fmt: skip
    own = capture_maps(network, images.images, middle)[0, channel]
    np.testing.assert_allclose(own, images.activation_maps[0], atol=1e-3)
    free = feature_images(
        model, layer=middle, channels=[channel], cells=crops, ascent=Ascent(steps=16), rng=0
    )
    assert free.activation[0] > free.history[0, 0]
    salient = modulate(images)
    assert salient.gain.shape == (2, SIZE, SIZE)
    halves = [cells.subset(np.arange(N) % 2 == k) for k in (0, 1)]
    assert middle.name in measure_complexity(model, *halves, layers=[middle], rng=0).layers

    why = explain_cell(model, crops[0], layer=middle, features=images, top=2)
    assert why.saliency.shape == (SIZE, SIZE)
    assert measure_saliency(network, crops[:1], layer=middle).max() > 0
    assert next(network.parameters()).dtype == (torch.bfloat16 if half else torch.float32)
