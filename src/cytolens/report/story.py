"""The report's story: which figures are drawn, in which order, and with what words."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial

from matplotlib.figure import Figure

import cytolens
from cytolens.figures.atlas import plot_atlas
from cytolens.figures.cells import plot_cells
from cytolens.figures.channels import plot_channel_cards
from cytolens.figures.depth import plot_complexity
from cytolens.figures.faithfulness import plot_faithfulness
from cytolens.figures.gallery import plot_feature_gallery, plot_feature_images
from cytolens.figures.modulation import plot_cell_explanation, plot_modulated
from cytolens.figures.performance import (
    plot_confusion,
    plot_measures,
    plot_reliability,
    plot_training,
)
from cytolens.figures.style import render
from cytolens.report import captions, clusters, findings, knowledge, maps, separation, tables
from cytolens.report.page import ReportContent, ReportFigure, ReportTable, Section, fit
from cytolens.report.results import StudyResults

PAPER = (
    "The method: E. Webb, C. Lei, C.-J. Huang, H. Kobayashi, H. Mikami, K. Goda. Exploring the "
    "Deep Feature Space of a Cell Classification Neural Network. arXiv:1811.06488 (2018)."
)
Drawing = tuple[str, str, str, Callable[[], Figure], bool]  # name, title, caption, plot, half
Chapter = tuple[str, str, tuple[str, ...], list[Drawing], Sequence[ReportTable | None]]


def draw(results: StudyResults) -> dict[str, Figure]:
    """Every figure of the report by name, in the order of the story."""
    return {name: plot() for chapter in _story(results) for name, _, _, plot, _ in chapter[3]}


def tell(
    results: StudyResults, pictures: Mapping[str, bytes] | None = None, *, title: str | None = None
) -> ReportContent:
    """The whole page. ``pictures``: PNG bytes of the figures of `draw`, drawn here if not given.

    Results that are missing leave their figures, tables and, where nothing is left, their
    chapter out.
    """
    if pictures is None:
        pictures = {name: render(made)[0] for name, made in draw(results).items()}
    fitted = fit(pictures)
    sections: list[Section] = []
    for anchor, heading, text, drawings, found in _story(results):
        shown = tuple(
            ReportFigure(name, fitted[name], caption_title, caption, half)
            for name, caption_title, caption, _, half in drawings
            if name in fitted
        )
        kept = tuple(table for table in found if table is not None)
        if shown or kept:
            sections.append(Section(anchor, heading, text, shown, kept))
    cells = results.cells
    version = results.versions.get("cytolens", cytolens.__version__)
    return ReportContent(
        title=title or _title(results),
        question=findings.question(results),
        answer=findings.answer(results),
        facts=findings.facts(results),
        warnings=findings.warnings(results),
        remarks=() if cells is None else cells.remarks,
        skipped=() if cells is None else tuple((bad.name, bad.reason) for bad in cells.skipped),
        sections=tuple(sections),
        citations=(f"The software: the cytolens founders. cytolens {version} (2026).", PAPER),
        created=f"Written by cytolens {version} on {date.today().isoformat()}.",
        summary=results.summary,
    )


def _title(results: StudyResults) -> str:
    if results.cells is None:
        return "What the classifier has learnt"
    names = results.cells.class_names
    listed = " or ".join(names) if len(names) <= 4 else f"{len(names)} classes of cells"
    return f"{listed}: what the classifier has learnt"


def _story(results: StudyResults) -> list[Chapter]:
    return [
        _cells(results),
        _classifier(results),
        maps.chapter(results),
        separation.chapter(results),
        knowledge.chapter(results),
        clusters.chapter(results),
        _features(results),
        _channels(results),
        _modulated(results),
        _settings(results),
    ]


def _cells(results: StudyResults) -> Chapter:
    drawings: list[Drawing] = []
    cells = results.cells
    if cells is not None:
        plot = partial(plot_cells, cells)
        drawings.append(("cells", "Cells of each class", captions.cells(cells), plot, False))
    return "cells", "The cells", (), drawings, ()


def _classifier(results: StudyResults) -> Chapter:
    drawings: list[Drawing] = []
    test = results.evaluation
    if test is not None:
        text = captions.measures(
            test, baseline=results.baseline is not None, folds=len(results.fold_evaluations)
        )
        plot = partial(
            plot_measures, test, results.baseline, results.folds,
            fold_evaluations=results.fold_evaluations,
        )  # fmt: skip
        drawings.append(("measures", "How well it does on held-out cells", text, plot, False))
        names = (
            tuple(str(k) for k in range(len(test.confusion)))
            if results.cells is None
            else results.cells.class_names
        )
        drawings += [
            ("confusion", "Class against prediction", captions.confusion(test),
             partial(plot_confusion, test, names), len(names) <= 4),
            ("reliability", "Confidence against truth", captions.reliability(test),
             partial(plot_reliability, test), True),
        ]  # fmt: skip
    if results.history:
        plot = partial(plot_training, results.history)
        text = captions.training(len(results.history))
        drawings.append(("training", "Training", text, plot, False))
    found = (tables.measures_table(results), tables.folds_table(results))
    return "classifier", "The classifier", (), drawings, found


def _features(results: StudyResults) -> Chapter:
    drawings: list[Drawing] = []
    names = () if results.cells is None else results.cells.channel_names
    pixel = None if results.cells is None else results.cells.pixel_size
    if results.class_images is not None:
        images = results.class_images
        plot = partial(plot_feature_images, images, channel_names=names, pixel_size=pixel)
        text = captions.class_images(images)
        drawings.append(("class_images", "Feature images of the classes", text, plot, False))
    if results.galleries:
        plot = partial(
            plot_feature_gallery, results.galleries, layers=results.layers,
            rankings=results.rankings, faithfulness=results.faithfulness, channel_names=names,
            pixel_size=pixel,
        )  # fmt: skip
        text = captions.gallery(
            results.galleries,
            ranked=bool(results.rankings),
            judged=list(results.faithfulness.values()),
        )
        drawings.append(("gallery", "Feature images by depth", text, plot, False))
    if results.faithfulness:
        plot = partial(plot_faithfulness, results.faithfulness, results.layers)
        text = captions.faithfulness(list(results.faithfulness.values()))
        drawings.append(("faithfulness", "How far to believe them", text, plot, False))
    for images in results.kinds:
        plot = partial(
            plot_feature_images, images, channel_names=names, pixel_size=pixel,
            columns=results.settings.get("kinds") or 4,
        )  # fmt: skip
        title = f"What else drives the channels of {images.layer}"
        name = f"kinds_{_file_name(images.layer)}"
        drawings.append((name, title, captions.kinds(), plot, True))
    if results.unconstrained:
        plot = partial(
            plot_feature_gallery, results.unconstrained, layers=results.layers,
            channel_names=names, pixel_size=pixel,
        )  # fmt: skip
        text = captions.unconstrained()
        drawings.append(("unconstrained", "The same without a prior", text, plot, False))
    if results.complexity and results.layers:
        plot = partial(
            plot_complexity, results.complexity, results.layers, results.complexity_trend
        )
        title = "Complexity of the feature images by depth"
        text = captions.complexity(results.complexity_trend)
        drawings.append(("complexity", title, text, plot, False))
    fields = {layer.name: layer.receptive_field for layer in results.layers}
    for images in results.galleries:
        if len(images.targets) > 12:  # more than the gallery by depth can show
            plot = partial(
                plot_feature_images, images, channel_names=names, pixel_size=pixel,
                receptive_field=fields.get(images.layer), columns=12,
            )  # fmt: skip
            title = f"All feature images of {images.layer}"
            name = f"gallery_{_file_name(images.layer)}"
            drawings.append((name, title, captions.layer_gallery(images), plot, False))
    heading = "What each layer looks for"
    return "features", heading, findings.images(results), drawings, ()


def _channels(results: StudyResults) -> Chapter:
    drawings: list[Drawing] = []
    cells = results.cells
    layers = {layer.name: layer for layer in results.layers}
    if results.atlas is not None and results.mapped_cells is not None:
        plot = partial(plot_atlas, results.atlas, results.mapped_cells)
        title = f"Activation atlas of {results.atlas.layer}"
        drawings.append(("atlas", title, captions.atlas(results.atlas), plot, False))
    described = [(name, found) for name, found in results.contexts.items() if found]
    for place, (name, found) in enumerate(reversed(described)):  # the deepest first
        images, layer = results.gallery(name), layers.get(name)
        if cells is None or images is None:
            continue
        field = None if layer is None else layer.receptive_field
        whole = field is None or field >= max(cells.shape[1:])
        plot = partial(plot_channel_cards, found, images, cells, whole_field=whole)
        text = captions.channel_cards(found, results.rankings.get(name), first=place == 0)
        title = f"What the channels of {name} are for"
        drawings.append((f"channels_{_file_name(name)}", title, text, plot, False))
    heading, found = "What the channels are for", (tables.ranking_table(results),)
    return "channels", heading, findings.channels(results), drawings, found


def _modulated(results: StudyResults) -> Chapter:
    drawings: list[Drawing] = []
    names = () if results.cells is None else results.cells.channel_names
    pixel = None if results.cells is None else results.cells.pixel_size
    for place, shown in enumerate(results.explanations):
        images = results.gallery(shown.layer)
        limits = None if images is None else images.settings.get("value_range")
        plot = partial(
            plot_cell_explanation, shown, channel_names=names, pixel_size=pixel,
            value_range=limits,
        )  # fmt: skip
        title = f"Why {shown.name} is called {shown.predicted_class}"
        text = captions.explanation(shown)
        drawings.append((f"explanation_{place + 1}", title, text, plot, False))
    deepest = results.modulated[-1].layer if results.modulated else None
    for found in reversed(results.modulated):  # the deepest, which the explanations use, first
        images = results.gallery(found.layer)
        if images is None or len(images.targets) != len(found.targets):
            continue
        plot = partial(plot_modulated, images, found, channel_names=names, pixel_size=pixel)
        title = f"Modulated feature images of {found.layer}"
        name = f"modulated_{_file_name(found.layer)}"
        drawings.append(
            (
                name,
                title,
                captions.modulated(found, first=found.layer == deepest)
                + captions.kept(results.kept.get(found.layer, {})),
                plot,
                False,
            )
        )
    return "modulated", "What matters in a cell", (), drawings, ()


def _settings(results: StudyResults) -> Chapter:
    return "settings", "Settings and versions", (), [], tables.settings_tables(results)


def _file_name(layer: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in layer)
