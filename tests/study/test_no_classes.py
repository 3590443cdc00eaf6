"""Networks whose outputs are no classes: maps, knowledge and images, without the class parts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from cytolens.classifier.model import predict
from cytolens.classifier.wrapping import wrap
from cytolens.errors import ModelError, SettingError
from cytolens.simulation.optics import Optics
from cytolens.simulation.simulate import simulate
from cytolens.store.files import write_simulation
from cytolens.study.place import place
from cytolens.study.settings import StudySettings
from cytolens.study.study import Study

TINY: dict[str, Any] = {
    "quick": True, "gallery": 1, "cards": 1, "atlas": 0, "steps": 2, "explain": 1,
    "permutations": 20, "trained_on": "none",
}  # fmt: skip


def network(outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(16, outputs),
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    seen = simulate(120, size=32, difficulty=0.0, optics=Optics(pixel_size_um=0.5), rng=0)
    return write_simulation(tmp_path_factory.mktemp("none") / "cells", seen)


def test_a_study_of_labels_has_no_class_parts_and_says_so(data: Path, tmp_path: Path) -> None:
    names = ["nucleus", "granules", "rim"]
    settings = StudySettings(**TINY, outputs="labels", output_names=names, pairs=1)
    study = Study(tmp_path / "run", data, settings, module=network(3))
    page = study["report"].read_text()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["classifier"]["outputs"] == "labels"
    assert "test" not in summary["classifier"]
    assert summary["alarms"] is None
    assert "labels of which several may hold, not one class for each cell" in page
    assert "Feature images of the outputs" in page
    for absent in ("Feature images of the classes", "balanced accuracy of the network"):
        assert absent not in page
    assert study["evaluation"] is None
    assert study["features"].classes.targets == tuple(names)
    assert study["modulated"].explanations == ()
    shown = {layer["name"]: layer for layer in summary["layers"]}
    assert shown["0"]["separation"]["probe_accuracy"]["value"] > 0
    assert shown["0"]["knows"]
    targets = {pairs.target.name: pairs.target.kind for pairs in study["contrasts"].pairs}
    assert targets == {"nucleus": "output"}
    study.make("maps")
    placed = place(data, on=tmp_path / "run", module=network(3), out=tmp_path / "placed")
    assert placed.probabilities is None
    assert not placed.overall.with_energy
    table = pd.read_csv(tmp_path / "placed" / "placed.csv")
    assert "prediction" not in table
    outputs = study["activations"]["logits"]  # the same cells in the same order
    given = table[[f"output_{name}" for name in names]].to_numpy()
    np.testing.assert_allclose(given, outputs, atol=1e-4)
    inside = study["split"].train
    own = [f"{name}" == near for name, near in zip(table["name"], table["nearest"])]
    assert np.mean(np.array(own)[inside]) > 0.9  # but for duplicates
    text = (tmp_path / "placed" / "placed.html").read_text()
    assert "The network gives no classes" in text
    assert "Predicted" not in text


@pytest.mark.parametrize("outputs", ["values", "embedding"])
def test_values_and_embeddings_go_through_the_images(
    outputs: str, data: Path, tmp_path: Path
) -> None:
    settings = StudySettings(**TINY, outputs=outputs)
    study = Study(tmp_path / "run", data, settings, module=network(1 if outputs == "values" else 5))
    images = study["features"].classes
    assert (images is None) == (outputs == "embedding")
    assert study["network"].outputs == outputs
    study.make("maps")
    placed = place(data, on=tmp_path / "run", module=network(len(study["network"].class_names)))
    assert len(placed.answered.outputs) == len(study["network"].class_names)
    with pytest.raises(ModelError, match="nothing to predict"):
        predict(study["network"], study["cells"])


def test_outputs_that_are_no_classes_are_asked_about() -> None:
    with pytest.raises(ModelError, match="--outputs labels, values or embedding"):
        wrap(network(3), class_names=("a", "b"), input_shape=(1, 16, 16))
    given = wrap(network(3), class_names=(), input_shape=(1, 16, 16), outputs="values")
    assert given.class_names == ("output 1", "output 2", "output 3")
    with pytest.raises(SettingError, match="outputs"):
        wrap(network(3), class_names=(), input_shape=(1, 16, 16), outputs="numbers")
