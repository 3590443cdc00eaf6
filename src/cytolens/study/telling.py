"""The end of a study: figures, the table of cells, the summary and the page, from its results."""

from typing import TYPE_CHECKING

from cytolens.figures.style import render_png, render_svg
from cytolens.records.cells import Progress
from cytolens.report.page import render_report
from cytolens.report.results import StudyResults
from cytolens.report.story import draw, tell
from cytolens.store.files import write_bytes, write_json, write_text
from cytolens.study import knowing
from cytolens.study.exporting import main_channel, write_cells
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
    write_cells(study, folder / "cells.h5ad")
    progress(len(figures) + 1, len(figures) + 2, "report.html")
    write_text(folder / "suspects.csv", knowing.suspects_table(study.suspects(), study.cells()))
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
        populations=study.populations(),
        separation=study.separation(),
        pairs=study.pairs(),
        similarity=study.similarity(),
        knowledge=study.knowledge(),
        confounds=study.confounds(),
        suspects=study.suspects(),
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
    main = StudyResults(layers=study.layers(), maps=study.maps()).main_layer
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
        map_values=main_channel(study, main),
        clusters=study.clusters(),
        cluster_images=features["clusters"],
        populations=study.populations(),
        separation=study.separation(),
        pairs=study.pairs()["layers"],
        onsets=study.pairs()["onsets"],
        similarity=study.similarity(),
        knowledge=study.knowledge(),
        confounds=study.confounds(),
        suspects=study.suspects(),
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
