"""The chapter on the cells: example crops of every class."""

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from cytolens.figures.cells import plot_cells
from cytolens.records.cells import Cells
from cytolens.report.chapter import Chapter, Drawing
from cytolens.report.page import ReportTable
from cytolens.report.results import Results

_SCALED = {
    "dataset": "All crops are on one intensity scale, so brightness can be compared.",
    "image": "Each crop was scaled by its own limits: do not compare brightness between crops.",
    "none": "Intensities are those of the files.",
}


def figures(results: Results) -> Iterator[Drawing]:
    """Example crops."""
    cells = results.cells
    if cells is not None:
        plot = partial(plot_cells, cells)
        yield Drawing("cells", "Cells of each class", _caption(cells), plot, _note(cells))


def result(results: Results) -> str:
    """How many cells of which classes, and their size."""
    cells = results.cells
    if cells is None:
        return ""
    counts = np.bincount(cells.labels, minlength=len(cells.class_names))
    listed = ", ".join(f"{count:,} {name}" for name, count in zip(cells.class_names, counts))
    height, width = cells.preparation.size
    return f"{len(cells):,} crops of {height} × {width} px: {listed}."


def tables(results: Results) -> Iterable[ReportTable]:
    """What a person decided on single cells."""
    decisions = () if results.cells is None else results.cells.decisions
    if decisions:
        rows = tuple((made.name, made.given, made.label or "left out") for made in decisions)
        text = (
            "A person decided this (--relabel); all else is as in the data. Where the network "
            "pointed at these cells, it now agrees better with the labels than it would with those "
            "of new cells."
        )
        header = ("cell", "was", "is")
        yield ReportTable("Decisions on single cells", header, rows, text, 3, folded=True)


def _caption(cells: Cells) -> str:
    text = (
        "Crops drawn at random from each class, not chosen. Look for what differs between the rows "
        f"by eye. {_SCALED.get(cells.preparation.intensity, '')}"
    )
    if cells.pixel_size is None:
        text += " The pixel size is not known, so the scale bar is in pixels."
    return text


def _note(cells: Cells) -> str:
    height, width = cells.preparation.size
    return (
        f"Each crop was padded or cropped about its centre to {height} × {width} px, never "
        "rescaled. Black and white are the 0.5 and 99.8 percentiles of all crops. Whatever a "
        "network finds beyond what you see needs the controls of the chapters below."
    )


CHAPTER = Chapter("cells", "The cells", 10, figures, tables, result=result)
