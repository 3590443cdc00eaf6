"""Stages over a run folder: what is kept, what is made again, what an interruption costs."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cytolens.classifier.model import Classifier
from cytolens.classifier.networks import build_network
from cytolens.errors import SettingError
from cytolens.simulation.optics import Optics
from cytolens.simulation.simulate import simulate
from cytolens.store.files import write_simulation
from cytolens.study.settings import StudySettings
from cytolens.study.stage import Stage, table
from cytolens.study.stages.classifier import layers as layers_stage
from cytolens.study.stages.classifier import layers_with_channels
from cytolens.study.stages.report import summarise
from cytolens.study.study import Study

SMALL = StudySettings(
    epochs=1,
    gallery=1,
    steps=2,
    map_cells=60,
    permutations=20,
    explain=1,
    pairs=2,
    judges=1,
    methods=["pca"],
    halves=2,
)


SECTION_3 = ("channel", "importance", "ablation", "stands_for", "auc", "correlates")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = simulate(120, size=32, difficulty=0.0, optics=Optics(pixel_size_um=0.5), rng=0)
    return write_simulation(tmp_path_factory.mktemp("data") / "cells", made)


class Listener:
    """Notes which stages are made."""

    def __init__(self) -> None:
        self.made: list[str] = []

    @contextmanager
    def __call__(self, title: str):
        self.made.append(title)
        yield lambda done, total, note: None


def test_an_interrupted_study_goes_on_where_it_stopped(data: Path, tmp_path: Path):
    class Stop(Listener):
        @contextmanager
        def __call__(self, title: str):
            if title == "clustering":
                raise KeyboardInterrupt
            with super().__call__(title) as progress:
                yield progress

    first = Stop()
    with pytest.raises(KeyboardInterrupt):
        Study(tmp_path / "run", data, SMALL, announce=first)["clusters"]
    second = Listener()
    again = Study(tmp_path / "run", announce=second)
    assert again["clusters"]
    assert second.made == ["clustering"]
    assert again.settings == SMALL


def test_the_same_seed_gives_the_same_study_and_another_seed_another(data: Path, tmp_path: Path):
    maps = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        settings = StudySettings(**{**SMALL.__dict__, "seed": seed})
        maps.append(Study(tmp_path / name, data, settings)["maps"]["pca"]["conv2"].coordinates)
    np.testing.assert_array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])


def test_cells_on_maps_are_drawn_and_the_held_out_were_not_trained_on(data: Path, tmp_path: Path):
    study = Study(tmp_path / "run", data, SMALL)
    assert len(study["mapped"]) == 60
    assert not set(study["held_out"]) & set(study["split"].train)


def test_a_draw_of_cells_is_even_and_said(data: Path, tmp_path: Path):
    settings = StudySettings(**{**SMALL.__dict__, "limit": 60})
    cells = Study(tmp_path / "run", data, settings)["cells"]
    assert np.bincount(cells.labels).tolist() == [30, 30]
    assert "60 of these 120 cells" in cells.remarks[-1]


def test_a_run_folder_inside_the_data_is_refused(data: Path):
    with pytest.raises(SettingError, match="inside the data"):
        Study(data.parent / "run", data.parent)


def test_quick_changes_only_what_was_not_chosen_even_where_that_is_the_default():
    quick = StudySettings(quick=True, epochs=3, map_cells=StudySettings().map_cells)
    assert quick.epochs == 3
    assert quick.map_cells == StudySettings().map_cells
    assert quick.gallery < StudySettings().gallery


@pytest.mark.parametrize(
    ("layers", "depths", "found"),
    [
        ([], None, ["conv1", "conv2", "conv3", "conv4", "pre_softmax"]),
        ([], 3, ["conv1", "conv3", "pre_softmax"]),
        ([], 2, ["conv1", "pre_softmax"]),
        ([], 9, ["conv1", "conv2", "conv3", "conv4", "pre_softmax"]),
        (["conv2", "conv3", "logits"], 2, ["conv2", "conv3"]),  # what is named always holds
    ],
)
def test_depths_are_spread_over_the_layers(
    layers: list[str], depths: int | None, found: list[str]
) -> None:
    network = Classifier(build_network((1, 24, 24), 2), ("a", "b"), ("light",), (1, 24, 24))
    looked = layers_stage(network, layers=layers, depths=depths)
    assert [layer.name for layer in layers_with_channels(looked)] == found
    assert looked[-1].name == "logits"


def test_a_name_that_is_no_setting_is_named():
    with pytest.raises(SettingError, match="'epoch' is no setting"):
        StudySettings(epoch=3)


@pytest.mark.parametrize(
    "wrong", [{"gallery": -1}, {"methods": ["sammon"]}, {"steps": 0}, {"limit": 3}]
)
def test_settings_out_of_range_are_named(wrong: dict[str, object]):
    with pytest.raises(SettingError, match=next(iter(wrong)).replace("_", "-")):
        StudySettings(**wrong)


@pytest.fixture(scope="module")
def told(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    settings = replace(SMALL, gallery=3, cards=2, atlas=3)
    return Study(tmp_path_factory.mktemp("told") / "run", data, settings)


def test_galleries_begin_with_what_the_decision_needs_and_show_duplicates_once(told: Study):
    rankings = told["ranking"]
    for gallery in told["features"].channels:
        ranking = rankings[gallery.layer]
        assert gallery.channels.tolist() == ranking.representatives[:3].tolist()
        assert np.all(np.diff(ranking.ablation[gallery.channels]) <= 0)
        groups = [set(ranking.members(channel).tolist()) for channel in gallery.channels.tolist()]
        assert len(set.union(*groups)) == sum(map(len, groups))


def test_where_neurons_see_less_than_a_cell_they_are_shown_that_and_the_rest_is_judged(told: Study):
    features, judged = told["features"], told["faithfulness"]
    on_fields = [found.layer for found in features.fields]
    assert on_fields
    assert on_fields == [images.layer for images in features.channels][: len(on_fields)]
    assert "pre_softmax" not in on_fields
    fields = {layer.name: layer.receptive_field for layer in told["layers"]}
    for found, images in zip(features.fields, features.channels):
        assert found.made.channels.tolist() == images.channels.tolist()
        assert found.patches.shape[-1] == fields[found.layer]
        assert images.starts is None  # no image of a whole cell
    for images in features.channels[len(on_fields) :]:
        assert images.starts is not None
        found = judged[images.layer]
        assert np.isfinite(found.table["start_cell"]).all()
        assert {"hold_only", "rotation_by_wavelets", "above_start"} <= set(found.estimates)
    assert set(judged) == {images.layer for images in features.channels[len(on_fields) :]}


def test_twins_are_channels_of_the_gallery_and_of_an_earlier_layer(told: Study):
    shown = [
        f"{images.layer}/{channel}"
        for images in told["features"].channels
        for channel in images.channels
    ]
    for twin, first in told["features"].twins.items():
        assert shown.index(first) < shown.index(twin)
        assert twin.partition("/")[0] != first.partition("/")[0]
        assert first not in told["features"].twins


def test_channels_are_described_by_held_out_cells(told: Study):
    held_out = set(told["held_out"].tolist())
    described = told["channels"]
    assert set(described) == {gallery.layer for gallery in told["features"].channels}
    for contexts in described.values():
        assert len(contexts) <= 2
        for context in contexts:
            assert set(context.best.tolist()) <= held_out
            assert context.n == len(held_out)
            assert {"area", "n_lobes"} & set(context.correlations)


def test_the_atlas_is_of_the_main_map_and_can_be_left_out(told: Study, data: Path):
    atlas = told["atlas"]
    assert atlas is not None
    assert (atlas.layer, atlas.method, atlas.grid) == ("pre_softmax", "pca", 3)
    assert atlas.counts.sum() + atlas.left_out == len(told["mapped"])
    without = Study(told.folder.path, data, replace(told.settings, atlas=0))
    assert without["atlas"] is None


def test_the_layer_shown_is_the_same_everywhere(told: Study):
    main = told["main_layer"]
    assert told["populations"].layer == told["features"].clusters.layer == told["atlas"].layer
    assert told["atlas"].layer == main


def test_the_summary_says_what_the_channels_are_for(told: Study):
    layers = summarise(told)["layers"]
    assert layers[0]["channels_shown"] == []
    for layer in layers:
        for shown in layer["channels_shown"]:
            assert tuple(shown) == SECTION_3
            assert set(shown["auc"]) == set(told["cells"].class_names)
            assert 1 <= len(shown["correlates"]) <= 4
            assert {"property", "value", "low", "high", "null"} == set(shown["correlates"][0])
            assert shown["stands_for"] >= 1
            assert layer["channel_groups"] <= layer["channels"]


def test_the_summary_says_what_else_the_network_knows(told: Study):
    summary = summarise(told)
    knows = summary["layers"][-1]["knows"]
    assert {"class", "area", "n_lobes"} <= set(knows)
    assert set(knows["class"]) == {
        "measure", "value", "low", "high", "null", "untrained", "gain"
    }  # fmt: skip
    assert told["knowledge"].left_out["crop_size"] == "the same for all cells"
    assert {"total_brightness", "focus"} <= set(summary["nuisances"])
    for alarm in summary["alarms"]:
        assert {"nuisance", "label_from_nuisance", "encoded_at", "performance_fixed"} <= set(alarm)
    assert {"labels", "odd", "judged"} <= set(summary["suspects"])
    assert summary["suspects"]["judged"] >= len(told["mapped"])


def test_a_change_of_cards_repeats_no_feature_image(told: Study, data: Path):
    told["channels"]
    listener = Listener()
    changed = replace(told.settings, cards=1)
    again = Study(told.folder.path, data, changed, announce=listener)
    assert all(len(contexts) <= 1 for contexts in again["channels"].values())
    assert listener.made == ["describing the channels"]


def test_stages_run_on_one_thread_unless_more_are_asked_for(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before, run, seen = torch.get_num_threads(), Stage.run, dict[str, int]()

    def watched(stage: Stage, *given: Any, **more: Any) -> Any:
        seen[stage.name] = torch.get_num_threads()
        return run(stage, *given, **more)

    monkeypatch.setattr(Stage, "run", watched)
    for threads, expected in ((None, 1), (3, 3)):
        settings = replace(SMALL, threads=threads, limit=60)
        Study(tmp_path / str(threads), data, settings).make("ascents", "evaluation")
        assert {"classifier", "ascents", "evaluation"} <= set(seen)
        assert {seen[name] for name in seen if table()[name].computes} == {expected}
        assert torch.get_num_threads() == before
