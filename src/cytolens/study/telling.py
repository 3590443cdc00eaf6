"""The end of a study: figures, the table of cells, the summary and the page, from its results."""

from typing import TYPE_CHECKING

import numpy as np

from cytolens.figures import render_png, render_svg
from cytolens.figures.style import colours
from cytolens.records import Cells, Progress, Split
from cytolens.report import StudyResults, draw, render_report, tell
from cytolens.store import to_anndata, write_bytes, write_json, write_text
from cytolens.store.files import replacing
from cytolens.study.summary import summarise

if TYPE_CHECKING:
    from cytolens.study.study import Study


def write_report(study: "Study", progress: Progress) -> None:
    """Write figures, ``cells.h5ad``, ``summary.json`` and, last, ``report.html``."""
    results = gather(study)
    folder = study.folder.path
    figures = draw(results)
    pictures: dict[str, bytes] = {}
    for done, (name, figure) in enumerate(figures.items()):
        progress(done, len(figures) + 2, name)
        pictures[name] = render_png(figure)
        write_bytes(folder / "figures" / f"{name}.png", pictures[name])
        write_bytes(folder / "figures" / f"{name}.svg", render_svg(figure))
    for stale in (folder / "figures").iterdir():
        if stale.stem not in figures:
            stale.unlink()
    progress(len(figures), len(figures) + 2, "cells.h5ad")
    write_table(study, results)
    progress(len(figures) + 1, len(figures) + 2, "report.html")
    write_json(folder / "summary.json", results.summary)
    write_text(folder / "report.html", render_report(tell(results, pictures)))


def gather(study: "Study") -> StudyResults:
    """All results of a study; its stages are made where they are not."""
    evaluation, folds = study.evaluation(), study.folds()
    features, complexity, modulated = study.features(), study.complexity(), study.modulated()
    faithfulness = study.faithfulness()
    rankings, contexts = study.ranking(), study.channels()
    training = study.folder.read_result("training")
    summary = summarise(
        cells=study.cells(),
        evaluation=evaluation,
        folds=folds,
        layers=study.layers(),
        maps=study.maps(),
        clusters=study.clusters(),
        separation=study.separation(),
        galleries=features["galleries"],
        rankings=rankings,
        contexts=contexts,
        faithfulness=faithfulness,
        kept=modulated["kept"],
        complexity=complexity,
        timings=study.folder.timings,
        versions=study.versions,
        settings=study.described_settings,
    )
    return StudyResults(
        cells=study.cells(),
        split=training["split"],
        history=training["history"],
        evaluation=evaluation["test"],
        baseline=evaluation["baseline"],
        folds=None if folds is None else folds["measures"],
        fold_evaluations={}
        if folds is None
        else dict(zip(folds["names"], folds["evaluations"], strict=True)),
        probabilities=evaluation["probabilities"],
        layers=study.layers(),
        maps=study.maps(),
        mapped=study.mapped,
        clusters=study.clusters(),
        cluster_images=features["clusters"],
        separation=study.separation(),
        galleries=features["galleries"],
        class_images=features["classes"],
        rankings=rankings,
        contexts=contexts,
        atlas=study.atlas(),
        faithfulness=faithfulness,
        unconstrained=features["unconstrained"],
        kinds=features["kinds"],
        complexity=complexity["layers"],
        complexity_trend=complexity["trend"],
        modulated=modulated["galleries"],
        kept=modulated["kept"],
        explanations=modulated["explanations"],
        settings=study.described_settings,
        versions=study.versions,
        timings=study.folder.timings,
        summary=summary,
    )


def write_table(study: "Study", results: StudyResults) -> None:
    """The mapped cells as ``cells.h5ad``: the pre-softmax layer in ``X``, maps in ``obsm``."""
    cells, layer = results.mapped_cells, results.main_layer
    assert cells is not None
    assert layer is not None
    assert results.split is not None
    table = to_anndata(
        cells,
        features=study.activations()[layer][study.mapped],
        layer=layer,
        probabilities=results.mapped_probabilities,
        parts=parts(study.cells(), results.split)[study.mapped],
        maps=results.maps,
        clusters=results.clusters,
        colors={"class": tuple(colours(len(cells.class_names)))},
    )
    with replacing(study.folder.path / "cells.h5ad") as path:
        table.write_h5ad(path)


def parts(cells: Cells, split: Split) -> np.ndarray[tuple[int, ...], np.dtype[np.str_]]:
    """The part of the split that each cell (N,) was in: train, validation or test."""
    names = np.full(len(cells), "unused", dtype="<U10")
    names[split.train], names[split.validation], names[split.test] = "train", "validation", "test"
    return names
