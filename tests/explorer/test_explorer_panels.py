"""The panels beside the maps, in a real Chromium: cell, selection, network, new cells, images."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import link, settle
from PIL import Image

from cytolens.explorer.content import Content
from cytolens.explorer.of_run import RunContent
from cytolens.explorer.page import write_export
from cytolens.explorer.server import Server
from cytolens.images.decisions import asked_changes
from cytolens.numerics.neighbours import find_neighbours
from cytolens.simulation.optics import Optics
from cytolens.simulation.simulate import simulate

Open = Any


def everything_of_class(code: int) -> list[dict[str, Any]]:
    shape = {"kind": "category", "column": "class", "codes": [code]}
    return [{"how": "replace", "shape": shape}]


def made_content(crops: np.ndarray, channels: list[str]) -> Content:
    """Two cells, (2, C, 16, 16), on one map."""
    content = Content("made", 2)
    content.add_map("pca", "conv1", np.array([[0.0, 0.0], [1.0, 1.0]]))
    content.add_category("class", np.array([0, 1]), ["a", "b"], title="class", role="class")
    content.add_sheets(
        lambda rows: crops[rows], crops.shape[1:], channel_names=channels, colour=False
    )
    content.manifest |= {
        "classes": ["a", "b"], "class_colours": ["#0072B2", "#D55E00"], "pixel_size": None,
        "group": None, "main_layer": "conv1",
    }  # fmt: skip
    content.add("names", lambda: np.frombuffer(b"one\ntwo", np.uint8))
    return content


@pytest.fixture(params=["server", "file"])
def address(request: pytest.FixtureRequest, server: Server, exported: Path) -> str:
    return server.address if request.param == "server" else exported.as_uri()


def test_a_cell_shows_its_neighbours_its_channels_and_its_path(
    opened: Open, address: str, shown: RunContent
):
    layer = shown.main_layer
    page = opened(link(address, cell=7, tab="cell", layer=layer))
    page.locator(".cell h2", has_text=str(shown.cells.names[7])).wait_for()
    near = find_neighbours(shown.features(layer), 8).indices[7]
    page.wait_for_selector(".cell .crops .crop")
    titles = [crop.get_attribute("title") for crop in page.locator(".cell .crops .crop").all()]
    names = [title.partition(",")[0] for title in titles]
    assert names == shown.cells.names[near].tolist()
    assert page.locator(".channelrow canvas").count() >= 2
    page.click("text=Path through the maps")
    settle(page)
    assert page.locator(".path .dot").count() == len(shown.run.maps["pca"])
    page.click("summary:has-text('Numbers')")
    assert "area" in page.locator(".cell table.numbers").inner_text()


def test_the_network_has_curves_galleries_and_a_page_for_every_channel(
    opened: Open, address: str, shown: RunContent
):
    page = opened(link(address, tab="network"))
    settle(page)
    assert page.locator(".curve").count() >= 2
    images = shown.run.feature_images[shown.main_layer]
    assert page.locator(".gallery").first.locator(".picture").count() == len(images.images)
    page.locator(".gallery .picture").first.click()
    channel = int(images.channels[0])
    heading = f"Channel {channel} of {shown.main_layer}"
    assert page.locator(".channelpage h2").inner_text() == heading
    page.click("text=Colour the maps by it")
    settle(page, 900)
    assert page.input_value("#colour") == f"activation/{shown.main_layer}/{channel}"
    again = opened(page.url)
    settle(again)
    assert again.locator(".channelpage h2").inner_text() == heading


def test_a_channel_shows_what_it_looks_for_and_what_its_image_was_made_from(
    opened: Open, exported: Path, shown: RunContent
):
    galleries = shown.run["features"]
    on_field, from_cells = galleries.fields[0], galleries.channels[-1]
    assert from_cells.starts is not None
    for layer, channel, expected in (
        (on_field.layer, on_field.made.channels[0], ["what it looks for", "image without a prior"]),
        (from_cells.layer, from_cells.channels[0], ["the cell it began as", "change"]),
    ):
        page = opened(link(exported.as_uri(), tab="network", layer=layer, channel=int(channel)))
        page.wait_for_selector(".channelpage .strip.wrap canvas")
        captions = page.locator(".channelpage figcaption").all_inner_texts()
        assert set(expected) <= set(captions)
        page.close()
    page = opened(link(exported.as_uri(), tab="network", layer=galleries.classes.layer))
    page.wait_for_selector(".network .section .strip canvas")
    captions = page.locator(".network .section figcaption").all_inner_texts()
    assert {"the cell it began as", "change", galleries.classes.targets[0]} <= set(captions)
    likeness = float(galleries.classes.likeness_to_start[0])
    said = page.locator(".network .section p.quiet").first.inner_text()
    assert said.startswith(f"Pixel correlation with that cell {likeness:.2f}, with the nearest")
    place = {entry["name"]: entry for entry in shown.content.manifest["galleries"]}
    patches = place[f"patches/{on_field.layer}"]
    assert patches["count"] == len(patches["frames"]) * len(patches["indices"])


def test_feature_images_are_those_of_the_run(opened: Open, exported: Path, shown: RunContent):
    from cytolens.explorer.pictures import as_bytes

    images = shown.run.feature_images[shown.main_layer]
    page = opened(
        link(exported.as_uri(), tab="network", layer=shown.main_layer,
             channel=int(images.channels[0]))
    )  # fmt: skip
    settle(page, 600)
    drawn = page.evaluate(
        """() => { const c = document.querySelector('.channelpage [aria-label^="feature image"]');
        return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data) }"""
    )
    pixels = np.array(drawn, np.uint8).reshape(32, 32, 4)[..., 0]
    np.testing.assert_array_equal(pixels, as_bytes(images.images, shown.drawn)[0, 0])


def test_a_selection_is_counted_and_compared_with_the_rest(
    opened: Open, address: str, shown: RunContent
):
    page = opened(link(address, steps=everything_of_class(1), tab="selection"))
    settle(page, 600)
    number = int((shown.cells.labels == 1).sum())
    assert f"{number} of 160 cells selected" in page.locator(".selection h2").inner_text()
    first = page.locator(".bars .bar").first.inner_text()
    assert shown.cells.class_names[1] in first
    assert str(number) in first
    assert page.locator(".effects tbody tr").count() == 10
    values = shown.run["properties"].values["area"]
    inside, outside = values[shown.cells.labels == 1], values[shown.cells.labels == 0]
    auc = (inside[:, None] > outside).mean() + 0.5 * (inside[:, None] == outside).mean()
    rows = {row.split("\t")[0].strip(): row for row in
            page.locator(".effects tbody").inner_text().split("\n")}  # fmt: skip
    found = next((row for name, row in rows.items() if name == "area"), None)
    if found is not None:
        assert f"{auc:.2f}" in found


def test_a_gate_is_saved_used_and_forgotten(opened: Open, server: Server, finished: Path):
    page = opened(link(server.address, steps=everything_of_class(0), tab="selection"))
    settle(page)
    page.fill(".save input", "<b>mine</b>")
    page.click("text=Save gate")
    page.wait_for_selector(".gates .entry")
    assert page.locator(".gates .name").inner_text() == "<b>mine</b>"
    stored = json.loads((finished / "explorer" / "gates.json").read_text())["gates"]
    assert [gate["name"] for gate in stored] == ["<b>mine</b>"]
    page.keyboard.press("Escape")
    again = opened(server.address)
    again.locator(".gates .entry").click()
    settle(again)
    assert again.locator(".badge").inner_text() == str(len(stored[0]["cells"]))
    again.click("[aria-label^='forget the gate']")
    settle(again)
    assert json.loads((finished / "explorer" / "gates.json").read_text())["gates"] == []


def test_a_gate_in_two_properties_follows_the_line(opened: Open, address: str):
    page = opened(link(address, tab="selection"))
    page.click("summary:has-text('Gate in two properties')")
    area = page.locator(".plotarea")
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    x, y, w, h = (box[key] for key in ("x", "y", "width", "height"))
    page.mouse.move(x + 1, y + 1)
    page.mouse.down()
    for right, down in ((w / 2, 1), (w / 2, h - 1), (1, h - 1)):
        page.mouse.move(x + right, y + down)
    page.mouse.up()
    settle(page)
    assert 0 < int(page.locator(".badge").inner_text()) < 160


def test_cells_are_relabelled_and_set_aside_in_suspects_csv(
    opened: Open, server: Server, finished: Path, shown: RunContent
):
    cells = {"kind": "cells", "cells": [4, 9]}
    page = opened(link(server.address, steps=[{"how": "replace", "shape": cells}], tab="selection"))
    settle(page)
    page.click("summary:has-text('Relabel or set aside')")
    page.click("button:has-text('Set aside')")
    page.wait_for_selector("text=in suspects.csv of the run")
    names = shown.cells.names
    assert asked_changes(finished / "suspects.csv") == {(names[4], None), (names[9], None)}
    page.click("button:has-text('Take back')")
    page.wait_for_selector("text=taken back")
    assert asked_changes(finished / "suspects.csv") == set()


def test_tables_montages_and_maps_can_be_downloaded(opened: Open, address: str, shown: RunContent):
    page = opened(link(address, steps=everything_of_class(0), tab="selection"))
    settle(page, 600)
    page.click("summary:has-text('Download')")

    def download(button: str) -> bytes:
        with page.expect_download() as waiting:
            page.click(f"button:has-text('{button}')")
        return Path(waiting.value.path()).read_bytes()

    number = int((shown.cells.labels == 0).sum())
    rows = list(csv.DictReader(io.StringIO(download("Table (CSV)").decode())))
    assert len(rows) == number
    assert {row["class"] for row in rows} == {shown.cells.class_names[0]}
    assert float(rows[0]["area"]) == pytest.approx(
        shown.run["properties"].values["area"][int(rows[0]["cell"])], rel=1e-5
    )
    column = list(csv.DictReader(io.StringIO(download("AnnData column").decode())))
    assert sum(row["selected"] == "True" for row in column) == number
    assert len(column) == 160
    for button in ("Montage (PNG)", "Maps (PNG)"):
        picture = np.asarray(Image.open(io.BytesIO(download(button))).convert("L"))
        assert picture.std() > 5


def test_the_network_is_made_ready_before_it_is_asked(opened: Open, server: Server):
    page = opened(server.address)
    for _ in range(40):
        if any(url.endswith("/ask/ready") for url in page.requests):
            return
        page.wait_for_timeout(200)
    pytest.fail("the network's process was not asked for")


def test_the_network_is_asked_about_a_selection(opened: Open, server: Server):
    page = opened(link(server.address, steps=everything_of_class(0), tab="selection"))
    page.click("text=What does it see in these?")
    page.wait_for_selector(".ask .real .crop")  # real cells come without the network
    page.wait_for_selector(".ask > canvas", timeout=30_000)
    page.wait_for_selector("text=Done:", timeout=30_000)
    assert page.locator(".ask .channelrow").count() == 4


def test_any_cell_has_its_deciding_channels(opened: Open, server: Server, shown: RunContent):
    told = {int(found.cell) for found in shown.run["modulated"].explanations}
    cell = next(k for k, row in enumerate(shown.mapped.tolist()) if row not in told)
    page = opened(link(server.address, cell=cell, tab="cell"))
    page.wait_for_selector(".explained", timeout=30_000)
    page.wait_for_function("() => !document.querySelector('.explained [role=status]')")
    row = page.locator(".explained .channelrow").first
    labels = [canvas.get_attribute("aria-label") for canvas in row.locator("canvas").all()]
    assert [label.partition(" ")[0] for label in labels] == ["feature", "where", "modulated"]
    page.select_option("[aria-label='depth at which the cell is explained']", "conv5")
    page.wait_for_selector(".explained:has-text('Channels of conv5')", timeout=30_000)


def test_an_export_says_that_the_network_is_not_there(opened: Open, exported: Path):
    page = opened(link(exported.as_uri(), steps=everything_of_class(0), tab="selection"))
    picture = page.locator('.selection [aria-label^="the study\'s image of"]')
    picture.wait_for()
    assert "100 % of your cells are of it" in page.locator(".selection").inner_text()
    assert "The network is not in this file" in page.locator(".selection").inner_text()
    assert page.locator("text=New cells").count() == 0


def test_dropped_cells_are_shown_on_the_maps(opened: Open, server: Server, tmp_path: Path):
    images = simulate(5, size=32, difficulty=0.0, optics=Optics(pixel_size_um=0.5), rng=3).images
    np.savez(tmp_path / "tuesday.npz", images=images)
    page = opened(link(server.address, tab="new"))
    page.locator(".drop input").first.set_input_files(tmp_path / "tuesday.npz")
    page.wait_for_selector(".newcells li", timeout=30_000)
    assert page.locator(".newcells li").count() == 5
    assert page.locator(".plane").first.locator(".newcell").count() == 5


def test_a_folder_is_dragged_onto_a_map(opened: Open, server: Server, tmp_path: Path):
    folder = tmp_path / "tuesday"
    (folder / "well 1").mkdir(parents=True)
    images = simulate(3, size=32, difficulty=0.0, optics=Optics(pixel_size_um=0.5), rng=4).images
    for k, image in enumerate(images):
        grey = np.round(image[0] * 65_535 / max(1.0, float(images.max()))).astype(np.uint16)
        Image.fromarray(grey).save(folder / "well 1" / f"cell {k}.png")
    (folder / "notes.txt").write_text("not a cell")
    page = opened(server.address)
    box = page.locator(".plane").first.bounding_box()
    held = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        held.send(
            "Input.dispatchDragEvent",
            {"type": kind, "x": box["x"] + 90, "y": box["y"] + 90, "data": data},
        )
    page.wait_for_selector(".newcells li", timeout=30_000)
    names = page.locator(".newcells li").all_inner_texts()
    assert [name.split("\n")[0] for name in names] == ["cell_0.png", "cell_1.png", "cell_2.png"]


def test_a_strip_of_pictures_stands_with_its_cell(opened: Open, tmp_path: Path):
    """What contrast pairs will be shown by: less, the cell, more."""
    content = made_content(np.zeros((2, 1, 16, 16), np.uint8), ["intensity"])
    pictures = np.stack([np.full((1, 16, 16), level, np.uint8) for level in (10, 120, 250)])
    content.add_gallery(
        "contrast/0", pictures, colour=False, kind="contrast", layer="conv1", targets=["channel 3"],
        frames=["less", "the cell", "more"],
    )  # fmt: skip
    page = opened(link(write_export(tmp_path / "strip.html", content).as_uri(), cell=0))
    assert page.locator(".frames figcaption").all_inner_texts() == ["less", "the cell", "more"]
    settle(page, 300)
    levels = page.evaluate(
        """() => Array.from(document.querySelectorAll('.frames canvas'), (c) =>
        c.getContext('2d').getImageData(3, 3, 1, 1).data[0])"""
    )
    assert levels == [10, 120, 250]


def test_image_channels_are_chosen_tinted_and_stretched(opened: Open, tmp_path: Path):
    crops = np.zeros((2, 2, 16, 16), np.uint8)
    crops[:, 0], crops[:, 1] = 100, 200
    content = made_content(crops, ["DNA", "actin"])
    page = opened(link(write_export(tmp_path / "two.html", content).as_uri(), cell=0))

    def colour() -> list[int]:
        settle(page, 300)
        return page.evaluate(
            """() => Array.from(document.querySelector('.fullcrop canvas').getContext('2d')
            .getImageData(3, 3, 1, 1).data).slice(0, 3)"""
        )

    assert colour() == [100, 100, 100]
    page.click("text=Image")
    page.locator(".check button").nth(1).click()
    assert colour() == [200, 200, 200]
    page.locator(".check input[type=checkbox]").nth(0).click()
    first, second = colour()[0], colour()[2]
    assert first == 100  # white × 100/255, and no red of the blue tint
    assert second == 255
    page.locator(".check button").nth(0).click()
    page.locator(".popover .handle").nth(1).focus()
    for _ in range(6):
        page.keyboard.press("Shift+ArrowLeft")
    assert colour() == [250, 250, 250]


def test_depths_are_passed_through_and_the_last_one_stays(opened: Open, address: str):
    page = opened(address)
    first_depth, plane = page.locator(".map > header select").first, page.locator(".plane").first
    most = 0
    for _ in range(10):  # a machine that is busy for a moment shows the end of a passage only
        page.keyboard.press(">")
        settle(page, 700)
        assert first_depth.input_value() != "conv1"
        before = int(plane.get_attribute("data-frames"))
        page.keyboard.press("<")
        settle(page, 700)
        assert first_depth.input_value() == "conv1"
        most = max(most, int(plane.get_attribute("data-frames")) - before)
        if most > 2:
            return
    pytest.fail(f"a passage from depth to depth was drawn in {most} frames")


def test_all_is_to_be_had_by_keyboard_and_has_a_name(opened: Open, exported: Path):
    page = opened(link(exported.as_uri(), cell=3))
    settle(page)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, select, input, [role=slider], canvas.tile')]
        .filter(e => !(e.getAttribute('aria-label') || e.title || e.textContent.trim() ||
          e.closest('label'))).map(e => e.outerHTML.slice(0, 90))"""
    )
    assert nameless == []
    page.locator(".plane").first.focus()
    page.keyboard.press("+")
    settle(page)
    assert page.locator(".map > header .plain").count() == 1
    page.keyboard.press("0")
    page.keyboard.press("2")
    assert page.locator("[role=tab][aria-selected=true]").inner_text().startswith("Selection")
    page.keyboard.press("1")
    page.keyboard.press("n")
    settle(page)
    assert re.search(r"\[4\]|cell 4", page.locator(".cell h2").inner_text())


@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080), (820, 1180)])
def test_nothing_is_cut_off_at_usual_sizes(opened: Open, exported: Path, size: tuple[int, int]):
    page = opened(exported.as_uri())
    page.set_viewport_size({"width": size[0], "height": size[1]})
    settle(page)
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0
    for panel in (".bar", ".legend", ".side"):
        outside = page.evaluate(
            """name => [...document.querySelector(name).querySelectorAll('button, select, h1')]
            .filter(e => e.offsetParent && e.getBoundingClientRect().right > window.innerWidth + 1)
            .length""",
            panel,
        )
        assert outside == 0
