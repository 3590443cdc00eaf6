"""The report: the results of a study told in order, on one self-contained HTML page."""

from cytolens.report.page import (
    Fact,
    ReportContent,
    ReportFigure,
    ReportTable,
    Section,
    render_report,
)
from cytolens.report.results import StudyResults
from cytolens.report.story import draw, tell

__all__ = [
    "Fact",
    "ReportContent",
    "ReportFigure",
    "ReportTable",
    "Section",
    "StudyResults",
    "draw",
    "render_report",
    "tell",
]
