"""What takes a network takes a classifier too, which knows its own input shape and classes."""

from collections.abc import Callable

import numpy as np
import pytest
from optimised_networks import tiny

from cytolens.activations.layers import resolve_layer
from cytolens.classifier.model import Classifier
from cytolens.errors import SettingError
from cytolens.features.ascent import Ascent
from cytolens.features.faithfulness import measure_faithfulness, prepare_yardstick
from cytolens.features.importance import measure_ablation, measure_importance
from cytolens.features.modulation import explain_cell
from cytolens.features.optimisation import feature_images
from cytolens.features.priors import fit_prior
from cytolens.features.saliency import measure_saliency

SHAPE = (1, 16, 16)
CLASSIFIER = Classifier(tiny(), ("a", "b", "c"), ("dna",), SHAPE)
NETWORK = CLASSIFIER.network
CELLS = np.random.default_rng(0).random((40, *SHAPE), dtype=np.float32)
ASCENT = Ascent(steps=3)


def test_feature_images_of_a_classifier_are_those_of_its_network() -> None:
    made = feature_images(CLASSIFIER, layer="conv2", ascent=ASCENT, rng=0)
    plain = feature_images(NETWORK, layer="conv2", input_shape=SHAPE, ascent=ASCENT, rng=0)
    assert np.array_equal(made.images, plain.images)
    assert made.images.shape[1:] == SHAPE


def test_a_module_needs_an_input_shape_and_a_classifier_keeps_its_own() -> None:
    with pytest.raises(SettingError, match="no input_shape"):
        feature_images(NETWORK, layer="conv2", ascent=ASCENT)
    with pytest.raises(SettingError, match="the classifier takes"):
        feature_images(CLASSIFIER, layer="conv2", input_shape=(1, 20, 20), ascent=ASCENT)


def test_a_cell_is_explained_in_the_classes_of_the_classifier() -> None:
    found = explain_cell(CLASSIFIER, CELLS[0], layer="conv2")
    named = explain_cell(NETWORK, CELLS[0], layer="conv2", class_names=("a", "b", "c"))
    assert found.predicted_class == named.predicted_class
    assert np.array_equal(found.saliency, named.saliency)
    with pytest.raises(SettingError, match="class_names"):
        explain_cell(NETWORK, CELLS[0], layer="conv2")


@pytest.mark.parametrize("measure", [measure_importance, measure_ablation, measure_saliency])
def test_what_is_measured_on_a_classifier_is_measured_on_its_network(
    measure: Callable[..., np.ndarray],
) -> None:
    of_classifier, of_network = (
        measure(m, CELLS[:6], layer="conv2") for m in (CLASSIFIER, NETWORK)
    )
    assert np.array_equal(of_classifier, of_network)


def test_faithfulness_is_measured_of_a_classifier() -> None:
    layers, prior = [resolve_layer(NETWORK, SHAPE, "conv2")], fit_prior(CELLS[:20], rng=0)
    made = feature_images(CLASSIFIER, layer="conv2", prior=prior, ascent=ASCENT, rng=0)
    first, second = (
        measure_faithfulness(
            model, made, prepare_yardstick(model, layers, prior=prior, held_out=CELLS[20:]), rng=0
        )
        for model in (CLASSIFIER, NETWORK)
    )
    assert np.array_equal(first.table["predictivity"], second.table["predictivity"], equal_nan=True)
