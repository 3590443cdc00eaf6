"""The report as one self-contained HTML page: what it holds, and how it is written out."""

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markupsafe import Markup

from cytolens.store.files import plain_json

PAGE_BUDGET = 9_000_000  # bytes of PNG; a third more as base64


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the page; its number is given when the page is written."""

    name: str  # of its files in the run folder
    png: bytes
    title: str  # what it is, a few words
    caption: str  # what is shown, what to read from it, one caution
    note: str = ""  # how it was measured, folded
    half: bool = False  # two of these share a row


@dataclass(frozen=True)
class ReportTable:
    """A table of the page. Columns are text on the left and numbers, right-aligned, after them."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    text_columns: int = 1  # the first so many are text
    folded: bool = False  # shown on demand, as it is long


@dataclass(frozen=True)
class Section:
    """A chapter of the story."""

    anchor: str
    title: str
    text: tuple[str, ...] = ()  # paragraphs
    figures: tuple[ReportFigure, ...] = ()
    tables: tuple[ReportTable, ...] = ()


@dataclass(frozen=True)
class Fact:
    """One number of the headline."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class ReportContent:
    """All that the page says, in order."""

    title: str
    question: str  # what was asked
    answer: tuple[str, ...]  # what came out, as sentences
    facts: tuple[Fact, ...] = ()
    warnings: tuple[str, ...] = ()  # what to keep in mind before believing the answer
    remarks: tuple[str, ...] = ()  # how the data were read
    skipped: tuple[tuple[str, str], ...] = ()  # (file, reason)
    sections: tuple[Section, ...] = ()
    citations: tuple[str, ...] = ()
    created: str = ""  # date and version, as one line
    summary: Mapping[str, Any] = field(default_factory=dict[str, Any])  # as in summary.json


def render_report(content: ReportContent) -> str:
    """The page as HTML text: styles and pictures inside, no scripts, no network.

    ``summary`` is embedded as JSON (``<script type="application/json" id="summary">``), so that
    the numbers can be read back from the page alone.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    source = files("cytolens.report").joinpath("template.html.j2").read_text(encoding="utf-8")
    counter = {"figure": 0, "table": 0}

    def count(kind: str) -> int:
        counter[kind] += 1
        return counter[kind]

    return environment.from_string(source).render(
        content=content,
        summary=_json(content.summary),
        rows_of_figures=_rows,
        count=count,
        embed=_data_uri,
        size=_png_size,
    )


def shrink_to_fit(pictures: Mapping[str, bytes], *, budget: int = PAGE_BUDGET) -> dict[str, bytes]:
    """The same PNG pictures, made smaller where together they would be too much for one page.

    The largest is halved in width, down to 700 pixels, until all fit or none can shrink.
    """
    fitted = dict(pictures)
    while sum(map(len, fitted.values())) > budget:
        able = [name for name, png in fitted.items() if _png_size(png)[0] >= 1400]
        if not able:
            break
        name = max(able, key=lambda able_name: len(fitted[able_name]))
        fitted[name] = _halved(fitted[name])
    return fitted


def _halved(png: bytes) -> bytes:
    from PIL import Image

    with Image.open(BytesIO(png)) as picture:
        width, height = picture.size
        small = picture.convert("RGB").resize(
            (width // 2, max(1, height // 2)), Image.Resampling.BOX
        )
    buffer = BytesIO()
    small.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _png_size(png: bytes) -> tuple[int, int]:
    """Width and height from the header of a PNG file (ISO/IEC 15948, 11.2.2)."""
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def _rows(figures: Sequence[ReportFigure]) -> list[list[ReportFigure]]:
    """Figures in rows: two narrow ones that follow each other share a row."""
    rows: list[list[ReportFigure]] = []
    for figure in figures:
        if figure.half and rows and len(rows[-1]) == 1 and rows[-1][0].half:
            rows[-1].append(figure)
        else:
            rows.append([figure])
    return rows


def _json(value: Mapping[str, Any]) -> "Markup":
    """JSON that can stand inside a script element: no NaN, no end tag."""
    from markupsafe import Markup

    text = json.dumps(plain_json(value), ensure_ascii=False, default=str)
    return Markup(text.replace("<", "\\u003c"))
