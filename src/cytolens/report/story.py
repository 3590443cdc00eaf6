"""The whole report: the chapters found in ``chapters``, their figures, and the page."""

import pkgutil
from collections.abc import Callable, Mapping
from datetime import date
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

import cytolens
from cytolens.report import chapters, findings
from cytolens.report.chapter import Chapter, Drawing
from cytolens.report.page import ReportContent, ReportFigure, Section, shrink_to_fit
from cytolens.report.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = (
    "The method: E. Webb, C. Lei, C.-J. Huang, H. Kobayashi, H. Mikami, K. Goda. Exploring the "
    "Deep Feature Space of a Cell Classification Neural Network. arXiv:1811.06488 (2018)."
)

FRONT = "front_"  # begins the names of the figures at the top


@cache
def find_chapters() -> tuple[Chapter, ...]:
    """The ``CHAPTER`` of every file in the folder ``chapters``, in the order of the story."""
    names = [found.name for found in pkgutil.iter_modules(chapters.__path__)]
    found = [import_module(f"{chapters.__name__}.{name}").CHAPTER for name in names]
    return tuple(sorted(found, key=lambda chapter: (chapter.place, chapter.anchor)))


def plots(results: Results, *, folded: bool = True) -> "dict[str, Callable[[], Figure]]":
    """What draws each figure of the report, by name, in the order of the story.

    ``folded=False`` leaves out those that are shown on demand.
    """
    found: dict[str, Callable[[], Figure]] = {}
    for chapter in find_chapters():
        for drawing in chapter.figures(results):
            if drawing.fold and not folded:
                continue
            found[drawing.name] = drawing.plot
            if drawing.front and drawing.brief is not None:
                found[FRONT + drawing.name] = drawing.brief
    return found


def tell(
    results: Results,
    pictures: Mapping[str, bytes],
    *,
    title: str | None = None,
    cores: int = 1,
) -> ReportContent:
    """The whole page. ``pictures``: PNG bytes of the figures of `plots`, by name.

    A figure without a picture, and a chapter with neither figures nor tables, is left out.
    """
    fitted = shrink_to_fit(pictures, cores=cores)
    front: list[tuple[int, ReportFigure]] = []
    sections: list[Section] = []
    for chapter in find_chapters():
        figures: list[ReportFigure] = []
        for one in chapter.figures(results):
            if FRONT + one.name in fitted:
                front.append((one.front, _figure(one, fitted, brief=True)))
            if one.name in fitted:
                figures.append(_figure(one, fitted))
        tables = tuple(table for table in chapter.tables(results) if table is not None)
        if figures or tables:
            result, text = chapter.told(results)
            sections.append(
                Section(chapter.anchor, chapter.title, result, text, tuple(figures), tables)
            )
    cells = results.cells
    version = results.versions.get("cytolens", cytolens.__version__)
    return ReportContent(
        title=title or _title(results),
        question=findings.question(results),
        answer=findings.answer(results),
        facts=findings.facts(results),
        warnings=findings.warnings(results),
        leads={text: name for text, name in findings.leads(results).items() if name in fitted},
        remarks=() if cells is None else cells.remarks,
        skipped=() if cells is None else tuple((bad.name, bad.reason) for bad in cells.skipped),
        front=tuple(figure for _, figure in sorted(front, key=lambda entry: entry[0])),
        sections=tuple(sections),
        folded=True,
        citations=(f"The software: the cytolens founders. cytolens {version} (2026).", PAPER),
        created=f"Written by cytolens {version} on {date.today().isoformat()}.",
        summary=results.summary,
    )


def _figure(one: Drawing, pictures: Mapping[str, bytes], *, brief: bool = False) -> ReportFigure:
    """The figure as the page shows it; at the top without its note, which its chapter has."""
    if brief:
        name = FRONT + one.name
        return ReportFigure(name, pictures[name], one.title, one.caption, whole=one.name)
    return ReportFigure(
        one.name, pictures[one.name], one.title, one.caption, one.note, one.half, one.fold
    )


def _title(results: Results) -> str:
    if results.cells is None:
        return "What the classifier has learnt"
    names = results.cells.class_names
    listed = " or ".join(names) if len(names) <= 4 else f"{len(names)} classes of cells"
    return f"{listed}: what the classifier has learnt"
