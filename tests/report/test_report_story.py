import re
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_records import (
    begun_as_cells,
    make_atlas,
    make_cells,
    make_clusters,
    make_complexity,
    make_context,
    make_embedding,
    make_evaluation,
    make_explanation,
    make_field_images,
    make_gains,
    make_history,
    make_images,
    make_layers,
    make_modulated,
    make_pairs,
    make_probabilities,
    make_ranking,
    make_separation,
    texts,
)
from PIL import Image

from cytolens.figures.style import render
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Skipped, Split
from cytolens.records.classifier import Checkpoint, Folds, Predictions, TrainedNetwork
from cytolens.records.clusters import Clusters
from cytolens.records.contrast import Contrasts
from cytolens.records.features import Faithfulness, Galleries, Modulation
from cytolens.records.knowledge import Alarm, Confounds, Knowledge, Suspects
from cytolens.records.layers import Activations
from cytolens.records.separation import Similarity
from cytolens.report import chapters
from cytolens.report.chapter import MOST_WORDS, Drawing
from cytolens.report.findings import answer, facts, rise_of_separation, warnings
from cytolens.report.growth import growth_of_complexity
from cytolens.report.page import render_report
from cytolens.report.results import Results
from cytolens.report.story import find_chapters, plots, tell

FIGURES = [
    "cells",
    "measures",
    "confusion",
    "reliability",
    "training",
    "map_panel",
    "map_clusters",
    "map_thumbnails",
    "maps_by_depth_pca",
    "maps_by_depth_tsne",
    "separation",
    "similarity",
    "knowledge",
    "suspects",
    "clusters",
    "pairs_G2_rather_than_S",
    "pairs_conv2__channel_6",
    "pairs_in_steps",
    "class_images",
    "fields",
    "gallery",
    "faithfulness",
    "kinds_conv2",
    "unconstrained",
    "gallery_conv2",
    "complexity",
    "atlas",
    "channels_conv2",
    "channels_conv1",
    "explanation_1",
    "modulated_conv2",
    "modulated_conv1",
    "kept",
]

BRIEF = [
    "front_separation",
    "front_map_thumbnails",
    "front_knowledge",
    "front_channels_conv2",
    "front_suspects",
]


def _picture() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, format="png")
    return buffer.getvalue()


PICTURE = _picture()
UNUSUAL = ("told", "beside", "parted", "goes along with", "calls forth", "one cloud", "likes deny")


@cache
def complete() -> dict[str, Any]:
    """A made-up study with a result of nearly every kind."""
    cells = make_cells(
        80,
        class_names=("G2", "Prophase"),
        remarks=("The innermost folder was taken as the class.",),
        skipped=(Skipped("bad.png", "truncated"),),
    )
    layers = make_layers(5)
    names = tuple(layer.name for layer in layers)
    order = np.random.default_rng(0).permutation(80)
    split = Split(order[:50], order[50:60], order[60:])
    mapped = np.arange(0, 80, 2)
    shown = cells.subset(mapped)
    channels = (
        make_images("conv1"), begun_as_cells(make_images("conv2", count=16, dead=(1,))),
    )  # fmt: skip
    half, read = Estimate(0.5, 0.4, 0.6, 0.1, 0.2), Estimate(0.6, 0.5, 0.7, 0.1, 0.2)
    parts = ("kept", "random_kept", "insertion", "random_insertion", "deletion", "random_deletion")
    alarm = Alarm("crop_size", "artefact", (), read, "conv2", read, "r2", read, read, 0.5)
    judged = {
        images.layer: Faithfulness(
            images.layer, images.channels, {"predictivity": np.full(len(images.targets), 0.8)},
            {"predictivity": half, "start_cell": half, "rotation": half, "above_start": half},
            ("at chance", *[""] * (len(images.targets) - 1)), 300,
            np.arange(len(images.targets)) == 3,
        )
        for images in channels
    }  # fmt: skip
    squares = [np.full((5, 5), value) for value in (0.7, 0.6, 0.8, 0.1)]
    return {
        "cells": cells,
        "classifier": TrainedNetwork(Checkpoint({}, {}), make_history(5)),
        "split": split,
        "layers": layers,
        "main_layer": "pre_softmax",
        "mapped": mapped,
        "activations": Activations(
            layers, {name: np.random.default_rng(1).random((80, 16)) for name in names}, "mean"
        ),
        "evaluation": Predictions(
            make_probabilities(cells.labels, 2), make_evaluation(), make_evaluation(good=0.64),
            {"balanced_accuracy": Estimate(0.22, 0.17, 0.27)},
        ),
        "folds": Folds(
            ("donor 1", "donor 2"), (make_evaluation(), make_evaluation()),
            make_evaluation(good=0.8).measures, np.zeros((80, 2), np.float32), "",
        ),
        "maps": {
            method: {name: replace(make_embedding(40, layer=name), method=method) for name in names}
            for method in ("pca", "tsne")
        },
        "clusters": {name: make_clusters(shown, layer=name) for name in names},
        "separation": make_separation(layers),
        "gains": make_gains(make_separation(layers)),
        "similarity": Similarity(
            names, *squares, np.full((4, 5), 0.5), np.full((5, 5), 0.6), 300
        ),
        "knowledge": Knowledge(
            {name: {"area": read, "class": read} for name in names},
            {"area": "r2", "class": "auc"}, {"area": 40, "class": 80}, ("area",), {"lobes": "none"},
        ),
        "confounds": Confounds({"crop_size": read}, {"crop_size": "artefact"}, (alarm,), {}, 80),
        "suspects": Suspects(
            np.arange(80), np.array([3]), np.array([0]), np.array([1]), np.array([1.5]),
            {"probe at conv1": np.array([0.1])}, np.array([5]), ("empty",), np.array([35.0]),
        ),
        "ranking": {name: make_ranking(name) for name in ("conv1", "conv2", "pre_softmax")},
        "features": Galleries(
            channels=channels,
            unconstrained=channels,
            kinds=(make_images("conv2", count=4),),
            classes=make_images("logits", count=2, targets=("G2 - Prophase", "Prophase - G2")),
            clusters=make_images("pre_softmax", count=4, targets=tuple("abcd")),
            fields=(make_field_images("conv1"),),
            twins={"conv2/6": "conv1/3"},
        ),
        "channels": {
            name: tuple(make_context(cells, channel, layer=name) for channel in (3, 6))
            for name in ("conv1", "conv2")
        },
        "atlas": make_atlas(shown),
        "faithfulness": judged,
        "complexity": make_complexity(layers),
        "contrasts": Contrasts(
            (make_pairs(), make_pairs("conv2, channel 6", cells=0)), (half,), 80
        ),
        "modulated": Modulation(
            tuple(make_modulated(images) for images in channels),
            {"conv2": dict.fromkeys(parts, half)},
            (make_explanation(cells),),
        ),
    }  # fmt: skip


def results(**changed: Any) -> Results:
    """The made-up study; a result that is changed to None is missing."""
    stages = {**complete(), **changed}
    return Results(
        {name: found for name, found in stages.items() if found is not None},
        settings={"seed": 0, "methods": ["tsne"], "train": {"epochs": 5, "rate": None}},
        versions={"cytolens": "0.1.0"},
        timings={"cells": 1.0, "training": 60.0},
        summary={"cells": {"n": 80}},
    )


def drawings(shown: Results) -> list[Drawing]:
    return [drawing for chapter in find_chapters() for drawing in chapter.figures(shown)]


def names(shown: Results) -> list[str]:
    return [drawing.name for drawing in drawings(shown)]


def test_the_chapters_come_in_the_order_of_the_story() -> None:
    found = names(results())
    assert found == FIGURES
    content = tell(results(), dict.fromkeys(found, PICTURE))
    assert [section.anchor for section in content.sections] == [
        "cells", "classifier", "maps", "separation", "knowledge", "clusters", "contrasts",
        "features",
        "complexity", "channels", "modulated", "settings",
    ]  # fmt: skip


def test_five_brief_figures_come_first_and_lead_to_the_whole_ones() -> None:
    content = tell(results(), dict.fromkeys([*FIGURES, *BRIEF], PICTURE))
    assert [figure.name for figure in content.front] == BRIEF
    whole = {figure.name for section in content.sections for figure in section.figures}
    assert {figure.whole for figure in content.front} <= whole
    assert not any(figure.note for figure in content.front)
    page = render_report(content)
    for figure in content.front:
        assert f'href="#figure-{figure.whole}"' in page
        assert f'id="figure-{figure.whole}"' in page
    untold = [section.anchor for section in content.sections if not section.result]
    assert untold == ["clusters"]  # whose stability these made-up ones do not have


def test_what_is_not_folded_is_short() -> None:
    page = render_report(tell(results(), dict.fromkeys(FIGURES, PICTURE)))
    seen = re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.DOTALL)
    seen = re.sub(
        r"<figcaption>.*?</figcaption>",
        lambda m: re.sub(r"<details>.*?</details>", "", m[0], flags=re.DOTALL),
        seen,
        flags=re.DOTALL,
    )
    seen = re.sub(r"(</summary>)(?:(?!</?details).)*", r"\1", seen, flags=re.DOTALL)
    assert len(re.sub(r"<[^>]+>", " ", seen).split()) <= 1800


def test_every_file_of_the_folder_is_a_chapter() -> None:
    files = {path.stem for path in Path(chapters.__file__).parent.glob("[a-z]*.py")}
    assert {chapter.anchor for chapter in find_chapters()} == files
    places = [chapter.place for chapter in find_chapters()]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("longest", [False, True])
def test_every_caption_is_short_and_plain(longest: bool) -> None:
    changed: dict[str, Any] = {}
    if longest:  # a cell that the network gets wrong, gains of another cell
        modulated = complete()["modulated"]
        shown = replace(modulated.explanations[0], true_class="Prophase", predicted_class="G2")
        galleries = tuple(replace(one, source="a cell.png") for one in modulated.galleries)
        changed["modulated"] = replace(modulated, explanations=(shown,), galleries=galleries)
    for drawing in drawings(results(**changed)):
        assert 5 <= len(drawing.caption.split()) <= MOST_WORDS, drawing.name
        text = f"{drawing.title} {drawing.caption} {drawing.note}".lower()
        assert "nan" not in text.split()
        assert not [word for word in UNUSUAL if word in text.split()], drawing.name


def test_a_study_becomes_a_page_from_end_to_end() -> None:
    maps = {"tsne": dict(list(complete()["maps"]["tsne"].items())[-2:])}
    shown = results(maps=maps)
    made = {name: plot() for name, plot in plots(shown).items()}
    assert [name for name in made if name not in BRIEF] == names(shown)
    assert set(BRIEF) <= set(made)
    pictures = {name: render(figure, dpi=60)[0] for name, figure in made.items()}
    page = render_report(tell(shown, pictures, title="G2 or Prophase?"))
    assert page.count("<figure") == len(made)
    assert len(page) < 15e6
    assert "bad.png: truncated" in page
    assert "arXiv:1811.06488" in page


def test_a_network_that_learnt_from_mixed_crops_says_so_beneath_its_training_curve() -> None:
    def note(**training: Any) -> str:
        held = complete()["classifier"]
        spec = {**held.checkpoint.spec, "training": training}
        network = replace(held, checkpoint=replace(held.checkpoint, spec=spec))
        made = drawings(results(classifier=network))
        return next(one.note for one in made if one.name == "training")

    assert "mixup" in note(augmentation={"mixup": 0.2})
    assert note(augmentation={"mixup": 0.0}) == note() == ""
    assert "bfloat16" in note(precision="bfloat16")
    assert note(precision="float32") == ""


def test_figures_on_demand_can_be_left_out() -> None:
    shown = results()
    on_demand = {drawing.name for drawing in drawings(shown) if drawing.fold}
    assert on_demand
    assert set(plots(shown)) - set(plots(shown, folded=False)) == on_demand


def test_nothing_found_is_still_a_report() -> None:
    assert plots(Results({})) == {}
    page = render_report(tell(Results({}), {}))
    assert 'id="cite"' in page


@pytest.mark.parametrize("missing", [*complete()])
def test_any_result_may_be_missing(missing: str) -> None:
    changed: dict[str, Any] = {missing: None}
    if missing == "mapped":  # then all cells are on the maps
        mapped = complete()["cells"].subset(complete()["mapped"])
        changed |= {"cells": mapped, "evaluation": None, "split": None}
    shown = results(**changed)
    found = names(shown)
    assert set(found) <= set(FIGURES)
    assert render_report(tell(shown, dict.fromkeys(found, PICTURE)))


def test_a_result_is_read_once_and_a_missing_one_is_none() -> None:
    asked: list[str] = []

    class Lazy(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            asked.append(key)
            return super().get(key, default)

    shown = Results(Lazy(main_layer="conv1"))
    assert [shown.main_layer, shown.main_layer, shown.read("main_layer", str)] == ["conv1"] * 3
    assert asked == ["main_layer"]
    assert shown.read("similarity", Similarity) is None
    assert shown.by_layer("clusters", Clusters) == shown.nested("separation", Estimate) == {}
    assert shown.layers == ()


def test_a_result_of_another_type_is_refused() -> None:
    half = Estimate(0.5, 0.4, 0.6)
    shown = Results({"similarity": half, "clusters": {"conv1": half}, "layers": (half,)})
    for read in (
        lambda: shown.read("similarity", Similarity),
        lambda: shown.by_layer("clusters", Clusters),
        lambda: shown.nested("clusters", Estimate),
        lambda: shown.layers,
    ):
        with pytest.raises(TypeError, match="Estimate, not"):
            read()


def test_the_headline_gives_interval_baseline_and_depth() -> None:
    text = " ".join(answer(results()))
    assert "0.86 [0.82, 0.90]" in text
    assert "0.64 [0.60, 0.68]; the network minus that is 0.22 [0.17, 0.27], so it is better" in text
    assert "of 4)" in text
    assert [fact.value for fact in facts(results())][:2] == ["0.86", "0.94"]


def test_no_rise_of_separation_is_called_what_it_is() -> None:
    layers = complete()["layers"]
    flat = {layer.name: {"probe_accuracy": Estimate(0.6, 0.5, 0.7)} for layer in layers}
    shown = results(separation=flat, gains=make_gains(flat))
    rise = rise_of_separation(shown)
    assert rise is not None
    assert rise.onset is None
    assert "At no depth" in " ".join(answer(shown))
    assert rise_of_separation(results(separation=None)) is None
    assert rise_of_separation(results(gains=None)) is None


def test_a_rise_over_two_groups_is_neither_claimed_nor_denied() -> None:
    layers = complete()["layers"]
    nothing = Estimate(0.6, np.nan, np.nan, no_interval="2 groups")
    unknown = {layer.name: {"probe_accuracy": nothing} for layer in layers}
    shown = results(separation=unknown, gains=make_gains(unknown))
    text = " ".join(answer(shown))
    assert "0.60 (no interval: 2 groups)" in text
    assert "At no depth" not in text


def test_the_onset_is_where_nine_tenths_of_the_rise_is_reached() -> None:
    layers = complete()["layers"]
    values = dict(zip([layer.name for layer in layers], (0.5, 0.6, 0.88, 0.9, 0.9)))
    separation = {
        name: {"probe_accuracy": Estimate(value, value - 0.05, value + 0.05)}
        for name, value in values.items()
    }
    rise = rise_of_separation(results(separation=separation, gains=make_gains(separation)))
    assert rise is not None
    assert (rise.onset, rise.onset_depth) == ("conv2", 2)
    doubtful = make_gains(separation, half=0.5)  # the intervals of the layers are as narrow
    rise = rise_of_separation(results(separation=separation, gains=doubtful))
    assert rise is not None
    assert rise.onset is None


def test_a_network_at_chance_is_warned_of_first() -> None:
    level = {"balanced_accuracy": Estimate(0.02, -0.03, 0.07)}
    weak = replace(complete()["evaluation"], test=make_evaluation(good=0.52), ahead=level)
    text = warnings(results(evaluation=weak, confounds=None))
    assert "not clearly better than chance" in text[0]
    assert "minus that of the linear model: 0.02 [-0.03, 0.07]" in text[1].replace("−", "-")


def test_two_groups_have_no_interval_and_the_report_says_so() -> None:
    nothing = Estimate(0.22, np.nan, np.nan, no_interval="2 groups")
    donors = replace(complete()["evaluation"], ahead={"balanced_accuracy": nothing})
    shown = results(evaluation=donors)
    assert "the network minus that is 0.22 (no interval: 2 groups)." in " ".join(answer(shown))
    assert "test cells are of 2 groups" in " ".join(warnings(shown))


def test_what_speaks_against_the_numbers_is_said() -> None:
    cells = complete()["cells"]
    sizes = np.stack([10 + 5 * cells.labels + np.arange(80) % 3] * 2, axis=1)
    unequal = replace(cells, original_sizes=sizes)
    text = " ".join(warnings(results(cells=unequal, confounds=None)))
    assert "No groups" in text
    assert "size of the crops alone" in text
    grouped = replace(cells, groups=np.repeat("donor 1", 80), group_name="donor")
    assert "come from 1 donor only" in " ".join(warnings(results(cells=grouped)))


def test_many_dead_channels_are_warned_of() -> None:
    dead = replace(complete()["features"], channels=(make_images(count=4, dead=(0, 1)),))
    text = " ".join(warnings(results(features=dead)))
    assert "2 of the 4 channels looked at are dead" in text


def test_the_note_of_the_map_counts_errors_and_names_the_channel_shown() -> None:
    note = next(one.note for one in drawings(results()) if one.name == "map_panel")
    assert "are test cells; the other" in note
    assert "Channel 0 is the one of this layer that matters most" in note


def test_what_differs_between_less_and_more_is_told_in_words_and_beside_the_trivial_displays() -> (
    None
):
    chapter = next(one for one in find_chapters() if one.anchor == "contrasts")
    first, rest = chapter.told(results())
    assert (
        first == "More of G2 rather than S: focus +1.3 s.d. [0.9, 1.7]; area unchanged. Take "
        "care: focus is of the crop, not of the cell alone."
    )
    assert "nine pairs answer 0.80" in rest[1]
    assert "the nine most active 0.80 and 0.80" in rest[1]
    assert "Of 8 edited cells 7 are accepted" in rest[2]


def test_series_come_after_the_open_pairs_and_say_how_far_to_believe_their_order() -> None:
    shown = [one for one in drawings(results()) if one.name.startswith("pairs_")]
    assert [one.name for one in shown][2] == "pairs_in_steps"
    assert not shown[2].fold
    assert len(shown[2].caption.split()) <= 60
    order = "order 0.80 [0.70, 0.90] (0.70) and 0.80 [0.70, 0.90] (0.70); apart 0.75"
    assert f"G2 rather than S: {order}; focus −1.0, −0.5, +0.0, +0.5, +1.0 s.d." in shown[2].note


def test_channels_come_from_the_deepest_and_are_explained_once() -> None:
    content = tell(results(), dict.fromkeys(names(results()), PICTURE))
    chapter = next(s for s in content.sections if s.anchor == "channels")
    shown = [figure.name for figure in chapter.figures]
    assert shown == ["atlas", "channels_conv2", "channels_conv1"]
    first, second = chapter.figures[1:]
    assert "held-out cells" in first.note
    assert "held out from training" not in second.note
    assert second.caption.startswith("The same for the channels of conv1")
    assert "16 channels fall into 15 groups" in first.note
    table = chapter.tables[0]
    assert table.rows[0] == ("conv1", "16", "15", "3", "0.40", "0.80", "0.80 [0.70, 0.90]")
    assert chapter.result.startswith("conv2: the decision changes most (0.50 logits) without")
    assert "and correlates with area 0.71 [0.60, 0.80]." in chapter.result


def test_growing_complexity_is_claimed_only_against_the_untrained_network() -> None:
    found = make_complexity(make_layers(8))
    layer = list(found.layers)[-1]
    assert "has made the network's features more complex" in growth_of_complexity(found)

    def with_gap(**gaps: Estimate) -> str:
        return growth_of_complexity(replace(found, gaps={layer: {**found.gaps[layer], **gaps}}))

    level = dict.fromkeys(found.gaps[layer], Estimate(0.0, -0.1, 0.1))
    assert "not clearly" in with_gap(**level)
    less = with_gap(**{**level, "intensity": Estimate(-0.5, -0.6, -0.4)})
    assert "brightness and size explain less" in less
    two = Estimate(-0.1, np.nan, np.nan, no_interval="2 groups")
    assert "cannot be said" in with_gap(**dict.fromkeys(level, two))
    assert growth_of_complexity(None) == ""
    assert any("more complex than their depth" in said for said in answer(results()))


def test_images_that_say_no_more_than_their_cells_are_not_said_to_predict() -> None:
    """Nor are they passed over: what to keep in mind says it, and so does the chapter."""
    text = " ".join(warnings(results()))
    assert "Of 28 feature images of whole cells 2 clearly say more" in text
    chapter = next(one for one in find_chapters() if one.anchor == "features")
    first, rest = chapter.told(results())
    assert "the cells they began as: 0.50" in first
    assert "2 of 28 images predict more" in rest[0]
    judged = complete()["faithfulness"]
    none = {k: replace(v, predicts=np.zeros(len(v.failures), bool)) for k, v in judged.items()}
    assert "whole cells none clearly say more" in " ".join(warnings(results(faithfulness=none)))
    assert "No image predicts more" in chapter.told(results(faithfulness=none))[1][0]
    every = {k: replace(v, predicts=np.ones(len(v.failures), bool)) for k, v in judged.items()}
    assert "whole cells" not in " ".join(warnings(results(faithfulness=every)))


def test_the_caption_of_images_made_from_cells_says_that_they_are_like_them_anyway() -> None:
    shown = {drawing.name: drawing for drawing in drawings(results())}
    assert "like the cells that it was made from" in shown["gallery"].caption
    assert "rotated channels" in shown["faithfulness"].caption
    assert "conv1" not in texts(shown["gallery"].plot())  # its neurons see less than a cell
    assert "conv1" in texts(shown["fields"].plot())
