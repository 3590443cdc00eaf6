"""The explorer as a user meets it, in a real Chromium without a GPU: server and exported file."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import link, settle
from PIL import Image

from cytolens.explorer import pictures
from cytolens.explorer.content import Content, quantised
from cytolens.explorer.of_run import RunContent
from cytolens.explorer.page import write_export
from cytolens.explorer.server import Server

Open = Any


def pixels(page: Any, index: int = 0) -> np.ndarray:
    """What a map shows, (H, W, 3)."""
    data = page.locator(".plane canvas").nth(index).screenshot()
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def inked(page: Any, index: int = 0) -> int:
    """Pixels of a map that are not the ground."""
    return int((pixels(page, index)[..., :3] != 255).any(axis=-1).sum())


def draw(page: Any, index: int = 0, *, share: float = 1.0, keys: tuple[str, ...] = ()) -> None:
    """Draw a rectangle over the middle of a map."""
    box = page.locator(".plane").nth(index).bounding_box()
    x, y, w, h = (box[key] for key in ("x", "y", "width", "height"))
    for key in keys:
        page.keyboard.down(key)
    page.mouse.move(x + w / 2 * (1 - share) + 2, y + h / 2 * (1 - share) + 2)
    page.mouse.down()
    page.mouse.move(x + w / 2 * (1 + share) - 2, y + h / 2 * (1 + share) - 2, steps=4)
    page.mouse.up()
    for key in keys:
        page.keyboard.up(key)
    settle(page)


def selected(page: Any) -> int:
    found = re.search(r"([\d,]+) selected", page.locator("footer").inner_text())
    return int(found[1].replace(",", "")) if found else 0


def a_dot(page: Any, index: int = 0) -> tuple[float, float]:
    """Where on the screen some cell lies on a map."""
    ink = (pixels(page, index)[..., :3] != 255).any(axis=-1)
    rows, columns = np.nonzero(ink)
    middle = len(rows) // 2
    box = page.locator(".plane").nth(index).bounding_box()
    return box["x"] + float(columns[middle]), box["y"] + float(rows[middle])


# The content -------------------------------------------------------------------------------------


def test_a_run_is_shown_without_torch(finished: Path):
    code = (
        "import sys\nfrom cytolens.study.finished_run import open_run\n"
        "from cytolens.explorer.of_run import RunContent\nimport cytolens.explorer.server\n"
        f"content = RunContent(open_run({str(finished)!r})).content\n"
        "[part.make() for part in content.parts.values()]\nprint('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_every_array_has_a_value_per_cell_in_the_order_of_the_maps(shown: RunContent):
    content, n = shown.content, shown.content.n
    classes = np.frombuffer(content.parts["column/class"].make(), np.uint8)
    np.testing.assert_array_equal(classes, shown.cells.labels)
    names = content.parts["names"].make().decode().split("\n")
    assert names == shown.cells.names.tolist()
    for column in content.manifest["columns"]:
        width = 1 if column["kind"] == "category" else 4
        assert len(content.parts[column["array"]].make()) == n * width, column["key"]
    layer = shown.main_layer
    activation = np.frombuffer(content.parts[f"activation/{layer}/0"].make(), np.float32)
    np.testing.assert_array_equal(activation, shown.features(layer)[:, 0])


def test_a_map_keeps_its_shape_and_fills_the_square():
    placed = quantised(np.array([[0.0, 10.0], [4.0, 11.0], [2.0, 12.0]]))
    assert placed[0].tolist() == [0, 65535, 32768]
    assert placed[1].tolist() == [16384, 32768, 49151]


def test_the_export_holds_the_bytes_that_the_server_gives(shown: RunContent, exported: Path):
    text = exported.read_text()
    manifest = re.search(r'id="manifest">(.*?)</script>', text, re.S)
    assert manifest is not None
    assert json.loads(manifest[1]) == json.loads(json.dumps(shown.content.manifest))
    held = set(re.findall(r'data-part="([^"]+)"', text))
    assert held == {name for name, part in shown.content.parts.items() if part.exported}
    assert str(Path.home()) not in text


# The page ----------------------------------------------------------------------------------------


@pytest.fixture(params=["server", "file"])
def address(request: pytest.FixtureRequest, server: Server, exported: Path) -> str:
    return server.address if request.param == "server" else exported.as_uri()


def test_maps_of_several_depths_are_drawn_without_a_gpu(opened: Open, address: str):
    page = opened(address)
    settle(page)
    assert page.locator(".map").count() == 4
    for index in range(4):
        assert inked(page, index) > 300
    assert "160 cells" in page.locator("footer").inner_text()


def test_the_export_asks_for_nothing(opened: Open, exported: Path):
    page = opened(exported.as_uri())
    page.click("text=Network")
    settle(page)
    outside = [url for url in page.requests if not url.startswith(("blob:", "data:"))]
    assert outside == [exported.as_uri()]


def test_pointing_at_a_dot_opens_the_crop_of_that_cell(
    opened: Open, address: str, shown: RunContent
):
    page = opened(address)
    settle(page)
    page.mouse.move(*a_dot(page))
    page.wait_for_selector(".card canvas")
    name = page.locator(".card .name").inner_text()
    cell = shown.cells.names.tolist().index(name)
    assert page.locator(".ring.hovered").count() == 4
    settle(page)
    drawn = page.evaluate(
        """() => { const c = document.querySelector('.card canvas');
        return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data) }"""
    )
    crop = np.array(drawn, dtype=np.uint8).reshape(32, 32, 4)[..., 0]
    np.testing.assert_array_equal(crop, shown.crop(cell)[0])


def test_a_lasso_selects_in_all_maps_and_undo_takes_it_back(opened: Open, address: str):
    page = opened(address)
    page.keyboard.press("r")
    draw(page, 1, share=0.5)
    chosen = selected(page)
    assert 0 < chosen < 160
    assert f"{chosen} of 160 cells selected" in page.locator(".selection h2").inner_text()
    assert page.locator(".montage .crop").count() == min(chosen, 60)
    draw(page, 2, keys=("Shift",))
    assert selected(page) == 160
    draw(page, 1, share=0.5, keys=("Alt",))
    assert selected(page) == 160 - chosen
    for expected in (160, chosen, 0):
        page.keyboard.press("Control+z")
        settle(page)
        assert selected(page) == expected


def test_what_is_not_selected_stays_in_sight(opened: Open, exported: Path):
    page = opened(exported.as_uri())
    settle(page)
    before = inked(page)
    page.keyboard.press("r")
    draw(page, 1, share=0.4)
    assert inked(page) >= 0.95 * before


def test_colour_filter_and_range_follow_the_legend(opened: Open, address: str):
    page = opened(address)
    page.locator(".categories .entry").first.click()
    settle(page)
    shown = page.locator("footer").inner_text()
    assert re.search(r"^\d+ of 160 cells shown", shown)
    page.keyboard.press("Control+z")
    page.select_option("#colour", "area")
    page.wait_for_selector(".rangebox")
    settle(page)
    before = pixels(page)
    page.locator(".handle").nth(1).focus()
    for _ in range(4):
        page.keyboard.press("Shift+ArrowLeft")
    settle(page)
    assert (pixels(page) != before).any()
    page.click("text=Select this range")
    settle(page)
    assert 0 < selected(page) < 160


def test_dots_become_crops_when_near(opened: Open, address: str):
    page = opened(address)
    x, y = a_dot(page)
    page.mouse.move(x, y)
    page.wait_for_selector(".ring.hovered")
    for _ in range(12):
        page.mouse.wheel(0, -300)
    page.wait_for_selector(".plane[data-thumbnails]:not([data-thumbnails='0'])")
    settle(page)
    assert page.locator(".plane").first.get_attribute("data-points") != "0"
    grey = pixels(page)
    dark = (grey[..., :3].max(axis=-1) < 90).mean()
    assert dark > 0.02
    page.mouse.move(20, 300)
    page.keyboard.press("0")
    page.select_option("[aria-label='crops on the maps']", "off")
    settle(page)
    assert (pixels(page)[..., :3].max(axis=-1) < 60).mean() < 0.001


def test_what_is_pointed_at_among_some_of_the_cells_is_that_cell(
    opened: Open, server: Server, shown: RunContent
):
    kept = {"kind": "categories", "column": "class", "off": [0]}
    page = opened(link(server.address, filters=[kept], layers=["conv3"]))
    settle(page)
    plane = page.locator(".plane").first
    box = plane.bounding_box()
    names = set[str]()
    for x in (0.3, 0.4, 0.5, 0.6):
        page.mouse.click(box["x"] + x * box["width"], box["y"] + box["height"] / 2)
        settle(page)
        if page.locator(".fullcrop").count():
            names.add(page.inner_text(".panel h2"))
    known = [" ".join(name.split()) for name in shown.cells.names.tolist()]
    assert names
    for name in names:
        assert shown.cells.labels[known.index(name)] == 1


def test_crops_of_more_sheets_than_are_kept_are_all_shown(
    opened: Open, shown: RunContent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pictures, "_SHEET", 64)  # four crops on a sheet, 40 sheets
    many = RunContent(shown.run)
    assert many.content.manifest["sheets"]["count"] > 24
    exported = write_export(tmp_path / "many.html", many.content)
    everything = [{"how": "replace", "shape": {"kind": "all"}}]
    page = opened(link(exported.as_uri(), steps=everything, tab="selection"))
    page.wait_for_function(
        """() => [...document.querySelectorAll('.montage canvas')].filter((canvas) =>
            canvas.getContext('2d').getImageData(16, 16, 1, 1).data[3] > 0).length === 60"""
    )


def test_cells_that_are_not_on_the_maps_are_counted(
    opened: Open, shown: RunContent, tmp_path: Path
):
    some = RunContent(shown.run)
    some.content.manifest["all_cells"] = 5000
    page = opened(write_export(tmp_path / "some.html", some.content).as_uri())
    assert "160 cells (on the maps; the run has 5,000)" in page.inner_text("footer")


def test_a_link_restores_the_view(opened: Open, server: Server):
    page = opened(server.address)
    page.select_option("#colour", "area")
    page.keyboard.press("r")
    draw(page, 1, share=0.5)
    chosen = selected(page)
    settle(page, 700)
    again = opened(page.url)
    settle(again, 600)
    assert again.input_value("#colour") == "area"
    assert selected(again) == chosen


def test_names_that_look_like_html_are_text(opened: Open, tmp_path: Path):
    evil = "<img src=x onerror=alert(1)>"
    content = Content(evil, 3)
    content.add_map("pca", evil, np.array([[0.0, 0.0], [1.0, 0.5], [0.2, 1.0]]))
    content.add_category(
        "class", np.array([0, 1, 1]), [evil, "</script><b>x"], title=evil, role="class"
    )
    content.manifest |= {
        "classes": [evil, "</script><b>x"], "class_colours": ["#0072B2", "#D55E00"],
        "pixel_size": None, "group": None, "main_layer": evil,
    }  # fmt: skip
    content.add("names", lambda: np.frombuffer(f"{evil}\na\nb".encode(), np.uint8))
    page = opened(write_export(tmp_path / "evil.html", content).as_uri())
    settle(page)
    assert page.locator("img").count() == 0
    assert page.locator(".categories .name").first.inner_text() == evil
    assert page.locator("h1").inner_text() == evil


def test_help_first_visit_and_dark_colours(opened: Open, exported: Path):
    page = opened(exported.as_uri(), visited=False)
    for title in ("Point at a dot", "Draw around a group", "Keep what you found"):
        assert page.locator(".visit h2").inner_text() == title
        page.locator(".visit .primary").click()
    assert page.locator(".visit").count() == 0
    page.keyboard.press("?")
    assert page.locator("[role=dialog]").inner_text().startswith("Looking around")
    page.keyboard.press("Escape")
    page.click("text=Dark")
    settle(page)
    assert pixels(page)[2, 2].tolist() == [0x16, 0x18, 0x1D]


def test_a_button_that_is_pointed_at_stays_legible(opened: Open, exported: Path):
    page = opened(exported.as_uri(), visited=False)
    button = page.locator("button.primary").first
    colours = (
        "element => [getComputedStyle(element).color, getComputedStyle(element).backgroundColor]"
    )
    before = button.evaluate(colours)
    button.hover()
    assert button.evaluate(colours) == before
