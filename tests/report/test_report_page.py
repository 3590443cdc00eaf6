import json
import re
from dataclasses import replace
from io import BytesIO

import numpy as np
from PIL import Image

from cytolens.report.page import (
    Fact,
    ReportContent,
    ReportFigure,
    ReportTable,
    Section,
    first_sentence,
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
        sections=(
            Section("cells", "The cells", "It came out.", ("A paragraph.",), figures, tables),
        ),
        citations=("Cite this.",),
        summary={"auc": np.float64(0.94), "nothing": float("nan"), "text": "</script>"},
    )


def test_the_page_needs_no_network() -> None:
    page = render_report(content())
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "@import" not in page
    assert "url(" not in page
    assert not re.findall(r"<script[^>]+src", page)


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
    assert page.count("How to read it") == 1


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
    whole = shrink_to_fit(pictures)
    assert [Image.open(BytesIO(whole[name])).format for name in pictures] == ["WEBP"] * 2
    assert Image.open(BytesIO(whole["large"])).size == (1600, 400)
    fitted = shrink_to_fit(pictures, budget=len(whole["large"]) - 1)
    assert Image.open(BytesIO(fitted["large"])).size == (1200, 300)
    assert fitted["small"] == whole["small"]
    assert shrink_to_fit(pictures, budget=1)["large"]  # what cannot shrink further stays


def test_folded_chapters_show_what_came_out_and_figures_of_a_kind_share_a_fold() -> None:
    one = content().sections[0]
    more = tuple(
        ReportFigure(name, png(), name, "Like the first.", fold="Other layers") for name in "ab"
    )
    front = (ReportFigure("lead", png(), "Lead", "What is seen. How it was made."),)
    sections = (replace(one, figures=(*one.figures, *more)),)
    page = render_report(replace(content(), sections=sections, front=front, folded=True))
    head, _, body = page.partition('<details class="chapter" id="cells">')
    assert 'id="figure-lead"' in head
    assert "What is seen." in head.split("How to read it")[0]
    assert "<p>How it was made.</p>" in head
    assert body.startswith("<summary><h2>The cells</h2><span>It came out.</span></summary>")
    assert "<summary>Other layers (2 figures)</summary>" in body
    assert re.findall(r"Figure (\d+)\.", page) == ["1", "2", "3", "4", "5", "6"]


def test_the_first_sentence_ends_at_a_full_stop_and_not_within_a_number_or_abbreviation() -> None:
    assert first_sentence("It is 0.5. Then more.") == ("It is 0.5.", "Then more.")
    assert first_sentence("Pairs, e.g. A, fail. More.") == ("Pairs, e.g. A, fail.", "More.")
    assert first_sentence("One only.") == ("One only.", "")
