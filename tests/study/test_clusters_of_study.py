"""The clusters of a study: what they are, the parts of the classes, what the summary says."""

import numpy as np
import pytest

from cytolens.simulation.optics import Optics
from cytolens.simulation.simulate import simulate
from cytolens.store.files import write_simulation
from cytolens.study.settings import StudySettings
from cytolens.study.stage import table
from cytolens.study.study import Study

SMALL = StudySettings(
    epochs=1, gallery=1, steps=2, map_cells=100, permutations=20, halves=2, methods=["pca"],
    layers=["input", "conv1", "pre_softmax", "logits"],
)  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("data")
    made = simulate(120, size=32, difficulty=0.0, optics=Optics(pixel_size_um=0.5), rng=0)
    return Study(folder / "run", write_simulation(folder / "cells", made), SMALL)


def test_every_class_of_enough_cells_is_parted_and_told(study: Study):
    made = study["populations"]
    labels = study["cells"].labels[study["mapped"]]
    assert made.layer == study["main_layer"]
    assert len(made.described) == study["clusters"][made.layer].n
    for parts in made.classes:
        np.testing.assert_array_equal(labels[parts.cells], parts.class_index)
        assert len(parts.described) == parts.clusters.n
        assert {d.name for d in parts.described[0].differences} >= {"area", "focus"}
    several = sum(parts.clusters.n for parts in made.classes if parts.clusters.n > 1)
    assert len(made.images.targets) == several
    assert made.flow.layers == tuple(layer.name for layer in study["layers"])


def test_the_main_layer_is_judged_on_more_halves(study: Study):
    main = study["main_layer"]
    halves = {name: found.stability.halves for name, found in study["clusters"].items()}
    assert halves == {name: 6 if name == main else 2 for name in halves}


def test_the_summary_has_the_promised_keys(study: Study):
    made = study["populations"]
    layers = table()["clusters"].summarise(study).layers
    entries = layers["conv1"]["clusters"]
    assert {"n", "method", "ari", "nmi", "purity", "stability", "parts"} <= set(entries)
    assert set(entries["stability"]) == {"value", "low", "high", "null"}
    assert {"value", "low", "high", "null"} == set(entries["shared_with_next"])
    assert "shared_with_next" not in layers["logits"]["clusters"]
    whole = table()["populations"].summarise(study).study
    assert whole["clusters"]["layer"] == made.layer
    assert len(whole["sub_populations"]) == len(made.classes)


def test_it_is_read_back_as_it_was_made(study: Study):
    first = study["populations"]
    again = Study(study.folder.path)["populations"]
    assert again.described == first.described
    np.testing.assert_array_equal(again.flow.labels, first.flow.labels)
