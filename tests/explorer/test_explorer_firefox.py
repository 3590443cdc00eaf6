"""The explorer in Firefox: the exported file from ``file://``, and the server's page."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from firefox import FIREFOX, Firefox

from cytolens.explorer.of_run import RunContent
from cytolens.explorer.server import Server

POINTER = """
const plane = document.querySelector('.plane'), box = plane.getBoundingClientRect();
plane.setPointerCapture = () => undefined;
const [type, x, y] = arguments;
plane.dispatchEvent(new PointerEvent(type, {bubbles: true, pointerId: 5, button: 0,
  clientX: box.left + box.width * x, clientY: box.top + box.height * y}));
"""


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    if FIREFOX is None:
        pytest.skip("no Firefox on this machine: apt-get install firefox-esr")
    started = Firefox(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture(params=["file", "server"])
def address(request: pytest.FixtureRequest, server: Server, exported: Path) -> str:
    return server.address if request.param == "server" else exported.as_uri()


def test_firefox_shows_maps_and_cells_and_selects_with_a_lasso(
    firefox: Firefox, address: str, shown: RunContent
):
    view = quote(json.dumps({"cell": 7, "tab": "cell", "layers": [shown.main_layer]}))
    firefox.open(f"{address}#{view}")
    name = json.dumps(str(shown.cells.names[7]))  # it is read after the first map
    firefox.wait(f"return document.querySelector('.cell h2').textContent === {name}")
    points = "return document.querySelector('.plane').dataset.points"
    assert int(firefox.run(points)) == len(shown.mapped)
    pixels = (
        "const c = document.querySelector('.fullcrop canvas');"
        "return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
    )
    firefox.wait("const c = document.querySelector('.fullcrop canvas'); return c.width === 32")
    firefox.wait(
        pixels.replace("return Array", "return !!Array") + ".some((v, i) => i % 4 < 3 && v)"
    )
    drawn = np.array(firefox.run(pixels), np.uint8).reshape(32, 32, 4)[..., 0]
    np.testing.assert_array_equal(drawn, shown.crop(7)[0])
    firefox.run("window.dispatchEvent(new KeyboardEvent('keydown', {key: 'l', bubbles: true}))")
    firefox.wait("return !!document.querySelector('.plane.tool-lasso')")
    firefox.run(POINTER, "pointerdown", 0.02, 0.02)
    for x, y in ((0.02, 0.5), (0.02, 0.98), (0.98, 0.98), (0.98, 0.02)):
        firefox.run(POINTER, "pointermove", x, y)
    firefox.run(POINTER, "pointerup", 0.98, 0.02)
    firefox.wait("return !!document.querySelector('.badge')")
    found = firefox.run("return document.querySelector('.badge').textContent")
    assert int(found) == len(shown.mapped)
    outside = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    assert all(name.startswith((address, "blob:")) for name in firefox.run(outside))
