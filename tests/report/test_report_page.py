import json
import re
from io import BytesIO

import numpy as np
from PIL import Image

from cytolens.report.page import (
    Fact,
    ReportContent,
    ReportFigure,
    ReportTable,
    Section,
    render_report,
    shrink_to_fit,
)


def png(width: int = 40, height: int = 20, *, noise: bool = False) -> bytes:
    shape = (height, width, 3)
    pixels = np.random.default_rng(0).integers(0, 255, shape) if noise else np.full(shape, 200)
    buffer = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, format="png")
    return buffer.getvalue()


def content() -> ReportContent:
    figures = (
        ReportFigure("one", png(), "First", "Read it so.", note="Measured so."),
        ReportFigure("two", png(), "Second", "Left.", half=True),
        ReportFigure("three", png(), "Third", "Right.", half=True),
    )
    tables = (
        ReportTable("Numbers", ("what", "value"), (("<b>bold</b>", "1"),)),
        ReportTable("Long", ("what", "value"), (("a", "1"),) * 30, folded=True),
    )
    return ReportContent(
        title="A & B <script>alert(1)</script>",
        question="Can it?",
        answer=("It can.", "By this."),
        facts=(Fact("AUC", "0.94", "95 %"),),
        warnings=("Few cells.",),
        remarks=("Folders are donors.",),
        skipped=tuple((f"bad_{i}.png", "truncated") for i in range(25)),
        sections=(Section("cells", "The cells", ("A paragraph.",), figures, tables),),
        citations=("Cite this.",),
        summary={"auc": np.float64(0.94), "nothing": float("nan"), "text": "</script>"},
    )


def test_the_page_needs_no_network_and_no_scripts() -> None:
    page = render_report(content())
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "@import" not in page
    assert "url(" not in page
    assert re.findall(r"<script[^>]*>", page) == ['<script type="application/json" id="summary">']


def test_names_from_the_data_are_not_taken_for_markup() -> None:
    page = render_report(content())
    assert "<script>alert" not in page
    assert "&lt;b&gt;bold" in page


def test_figures_and_tables_are_numbered_in_order() -> None:
    page = render_report(content())
    assert re.findall(r"Figure (\d+)\.", page) == ["1", "2", "3"]
    assert re.findall(r"Table (\d+)\.", page) == ["1", "2"]


def test_how_a_figure_was_measured_is_folded_beneath_its_caption() -> None:
    page = render_report(content())
    assert re.search(r"Read it so\..*?<details>.*?<p>Measured so\.</p></details>", page, re.DOTALL)
    assert page.count("in detail") == 1


def test_two_narrow_figures_share_a_row() -> None:
    assert render_report(content()).count('class="row two"') == 1


def test_skipped_files_are_all_listed() -> None:
    page = render_report(content())
    assert "25 files were left out" in page
    assert all(f"bad_{i}.png" in page for i in range(25))


def test_the_summary_can_be_read_back_from_the_page() -> None:
    page = render_report(content())
    found = re.search(r'id="summary">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    expected = {"auc": 0.94, "nothing": None, "text": "</script>"}
    assert json.loads(found.group(1)) == expected


def test_an_empty_report_is_a_page_all_the_same() -> None:
    page = render_report(ReportContent(title="Nothing", question="", answer=()))
    assert "<h1>Nothing</h1>" in page
    assert "<figure" not in page


def test_pictures_shrink_until_they_fit_a_page() -> None:
    pictures = {"large": png(1600, 400, noise=True), "small": png()}
    assert shrink_to_fit(pictures) == pictures
    fitted = shrink_to_fit(pictures, budget=1_000_000)
    assert Image.open(BytesIO(fitted["large"])).size == (800, 200)
    assert fitted["small"] == pictures["small"]
    assert shrink_to_fit(pictures, budget=1)["large"]  # what cannot shrink further stays
