import json

import numpy as np

from cytolens.images.arrays import cells_from_arrays
from cytolens.records.cells import Cells
from cytolens.records.layers import Activations, Layer
from cytolens.study.stages.separation import GAINS, PAIRS, SEPARATION, SIMILARITY

PLACE = ("", 0, "output")
NAMES = ("input", "conv1", "logits")


def silent(done: int, total: int, note: str) -> None:
    pass


def made(classes: int, n: int = 240) -> tuple[Activations, Activations, Cells]:
    """Nothing at the input, the first class apart from conv1 on, all at the logits."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    shift = 5 * np.eye(classes)[labels]
    only_first = shift * (labels == 0)[:, None]
    layers = tuple(Layer(name, "conv", k, (6,), None, PLACE, PLACE) for k, name in enumerate(NAMES))
    noise = {name: rng.normal(size=(n, 6)).astype(np.float32) for name in NAMES}
    features = {
        name: (noise[name] + np.pad(add, [(0, 0), (0, 6 - classes)])).astype(np.float32)
        for name, add in zip(NAMES, (0 * shift, only_first, shift))
    }
    cells = cells_from_arrays(rng.random((n, 1, 8, 8)), labels)
    return Activations(layers, features, "mean"), Activations(layers, noise, "mean"), cells


def test_three_classes_are_told_apart_pair_by_pair_and_written_down() -> None:
    acts, before, cells = made(3)
    chosen = np.arange(len(cells))
    options = {"permutations": 20, "seed": 0, "progress": silent}
    separation = SEPARATION.make(acts, before, cells, chosen, **options)
    pairs = PAIRS.make(acts, before, cells, chosen, separation, **options)
    similarity = SIMILARITY.make(acts, before, cells, chosen, permutations=5, seed=0)
    clear = {onset.classes: onset.clear for onset in pairs.onsets}
    first, second, third = cells.class_names
    assert clear[first, second] == clear[first, third] == "conv1"
    assert clear[second, third] == "logits"
    gains = GAINS.make(acts, before, cells, chosen, permutations=20, seed=0)
    assert [name for name, gain in gains.items() if gain.clear] == ["conv1", "logits"]
    told = GAINS.summarise({"gains": gains}).layers["logits"]["gain"]
    assert told["clear"]
    assert told["over_first"]["low"] > 0.2
    json.dumps(told)
    found = {"pairs": pairs, "similarity": similarity}
    said = [stage.summarise(found) for stage in (PAIRS, SIMILARITY)]
    entries = {name: {**said[0].layers[name], **said[1].layers[name]} for name in NAMES}
    assert set(entries["logits"]["separation_by_class"]) == set(cells.class_names)
    assert entries["conv1"]["separation_by_pair"][0]["classes"] == [first, second]
    assert entries["conv1"]["separation_by_pair"][0]["value"] > 0.95
    assert entries["input"]["similarity"]["before_training"]["value"] > 0.999
    assert "next" not in entries["logits"]["similarity"]
    whole = {**said[0].study, **said[1].study}
    assert whole["onsets"][0]["clear"] == "conv1"
    assert np.shape(whole["similarity"]["value"]) == (3, 3)
    json.dumps([entries, whole])


def test_two_classes_are_one_pair_measured_once() -> None:
    acts, before, cells = made(2)
    chosen = np.arange(len(cells))
    options = {"permutations": 20, "seed": 0, "progress": silent}
    separation = SEPARATION.make(acts, before, cells, chosen, **options)
    pairs = PAIRS.make(acts, before, cells, chosen, separation, **options)
    assert pairs.layers == {}
    (onset,) = pairs.onsets
    assert onset.clear == "conv1"
    assert onset.value == separation[onset.best]["probe_accuracy"]


def test_rows_of_a_layer_are_those_asked_for_in_their_order() -> None:
    acts, *_ = made(2, 20)
    whole = acts["conv1"]
    np.testing.assert_array_equal(acts.rows("conv1", np.arange(20)), whole)
    turned = np.arange(20)[::-1].copy()
    np.testing.assert_array_equal(acts.rows("conv1", turned), whole[::-1])
    np.testing.assert_array_equal(acts.rows("conv1", np.array([3, 7])), whole[[3, 7]])
