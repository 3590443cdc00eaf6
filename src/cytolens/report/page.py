"""The report as one self-contained HTML page: what it holds, and how it is written out."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.resources import files
from io import BytesIO
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markupsafe import Markup

from cytolens.store.files import plain_json

PAGE_BUDGET = 4_200_000  # bytes of pictures; a third more as base64
_NARROW = 0.75  # of its width, a picture that is made smaller
_QUALITY = 85  # of WebP; the figures are stored without loss beside the page


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the page; its number is given when the page is written."""

    name: str  # of its files in the run folder
    picture: bytes  # PNG or WebP
    title: str  # what it is, a few words
    caption: str  # what is shown, what to read from it, one caution
    note: str = ""  # how it was measured, folded
    half: bool = False  # two of these share a row
    fold: str = ""  # figures that follow each other under the same heading are shown on demand
    whole: str = ""  # the figure of which this is the most important part


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
    result: str = ""  # what came out, in one sentence; seen where the chapter is folded
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
    leads: Mapping[str, str] = field(default_factory=dict[str, str])  # figures, by their warning
    remarks: tuple[str, ...] = ()  # how the data were read
    skipped: tuple[tuple[str, str], ...] = ()  # (file, reason)
    front: tuple[ReportFigure, ...] = ()  # the figures that answer the question
    sections: tuple[Section, ...] = ()
    folded: bool = False  # the sections are shown on demand
    citations: tuple[str, ...] = ()
    created: str = ""  # date and version, as one line
    summary: Mapping[str, Any] = field(default_factory=dict[str, Any])  # as in summary.json


def render_report(content: ReportContent) -> str:
    """The page as HTML text: styles, pictures and a few lines of script inside, no network.

    Without scripts all of it can be read: they open what a link points to, and all for printing.

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
        blocks_of_figures=_blocks,
        lead=first_sentence,
        count=count,
        embed=_data_uri,
        size=_size,
    )


def shrink_to_fit(
    pictures: Mapping[str, bytes], *, budget: int = PAGE_BUDGET, cores: int = 1
) -> dict[str, bytes]:
    """PNG pictures as WebP, made smaller where together they would be too much for one page.

    The largest is narrowed to `_NARROW` of its width, down to 700 pixels, until all fit or none can
    shrink. As many are encoded at a time as there are ``cores``.
    """
    with ThreadPoolExecutor(cores) as pool:
        fitted = dict(zip(pictures, pool.map(_as_webp, pictures.values()), strict=True))
    widths = {name: _size(picture)[0] for name, picture in fitted.items()}
    while sum(map(len, fitted.values())) > budget:
        able = [name for name, width in widths.items() if width * _NARROW >= 700]
        if not able:
            break
        name = max(able, key=lambda able_name: len(fitted[able_name]))
        widths[name] = round(widths[name] * _NARROW)
        fitted[name] = _as_webp(pictures[name], width=widths[name])
    return fitted


def first_sentence(text: str) -> tuple[str, str]:
    """The first sentence, and the rest."""
    found = re.search(r"(?<!e\.g)(?<=[\w%)\]])\. (?=[A-Z])", text)
    return (text, "") if found is None else (text[: found.start() + 1], text[found.end() :])


def _as_webp(png: bytes, *, width: int | None = None) -> bytes:
    from PIL import Image

    buffer = BytesIO()
    with Image.open(BytesIO(png)) as picture:
        made = picture.convert("RGB")
        if width is not None:
            height = max(1, round(made.height * width / made.width))
            made = made.resize((width, height), Image.Resampling.LANCZOS)
        made.save(buffer, format="webp", quality=_QUALITY, method=0)  # 1: 3 % smaller, half slower
    return buffer.getvalue()


def _data_uri(picture: bytes) -> str:
    kind = "webp" if picture[8:12] == b"WEBP" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"


def _size(picture: bytes) -> tuple[int, int]:
    """Width and height."""
    from PIL import Image

    with Image.open(BytesIO(picture)) as opened:
        return opened.size


def _blocks(figures: Sequence[ReportFigure]) -> list[tuple[str, list[list[ReportFigure]]]]:
    """Figures under their folds, in rows: two narrow ones that follow each other share a row."""
    blocks: list[tuple[str, list[list[ReportFigure]]]] = []
    for fold, members in groupby(figures, key=lambda figure: figure.fold):
        rows: list[list[ReportFigure]] = []
        for figure in members:
            if figure.half and rows and len(rows[-1]) == 1 and rows[-1][0].half:
                rows[-1].append(figure)
            else:
                rows.append([figure])
        blocks.append((fold, rows))
    return blocks


def _json(value: Mapping[str, Any]) -> "Markup":
    """JSON that can stand inside a script element: no NaN, no end tag."""
    from markupsafe import Markup

    text = json.dumps(plain_json(value), ensure_ascii=False, default=str)
    return Markup(text.replace("<", "\\u003c"))
