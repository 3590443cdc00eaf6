"""Makes explorer.webp, the animated picture at the top of the README, from a finished run.

    cytolens demo --quick --cells 800 --out demo-run
    python docs/pictures/explorer.py demo-run

Needs Debian's chromium and playwright. Every frame is a screenshot of `cytolens explore`,
1200 × 675, shown at four fifths; only the pointer is drawn in, as a headless browser shows none.
"""

import io
import math
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from cytolens.explorer.asking import Network
from cytolens.explorer.of_run import RunContent
from cytolens.explorer.server import Server
from cytolens.study.finished_run import open_run

WIDTH, HEIGHT = 1200, 675
SHOWN = 960, 540  # px of the picture
POINTER = """
const arrow = document.createElementNS("http://www.w3.org/2000/svg", "svg");
arrow.setAttribute("viewBox", "0 0 12 18");
arrow.innerHTML = '<path d="M1 1v14l4-4 3 6 2-1-3-6h5z" fill="#000" stroke="#fff"/>';
Object.assign(arrow.style, {
  position: "fixed", width: "16px", zIndex: 99, pointerEvents: "none", left: "-40px", top: "0",
});
document.body.append(arrow);
window.addEventListener("pointermove", (event) => {
  arrow.style.left = `${event.clientX}px`;
  arrow.style.top = `${event.clientY}px`;
}, true);
"""


class Film:
    """Screenshots of a page with the time that each is shown."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.frames: list[Image.Image] = []
        self.times: list[int] = []

    def take(self, shown: int = 120) -> None:
        """A frame, shown for some ms."""
        shot = Image.open(io.BytesIO(self.page.screenshot()))
        self.frames.append(shot.convert("RGB").resize(SHOWN, Image.Resampling.LANCZOS))
        self.times.append(shown)

    def save(self, path: Path) -> None:
        """All frames as one animated WebP."""
        first, *others = self.frames
        first.save(
            path, save_all=True, append_images=others, duration=self.times, loop=0, quality=68,
            method=6, minimize_size=True,
        )  # fmt: skip


def nearest_dot(page: Any, box: dict[str, float]) -> tuple[float, float]:
    """A place on a map at which a dot is hovered."""
    for ring in range(1, 12):
        for turn in range(12):
            x = box["x"] + box["width"] / 2 + 9 * ring * math.cos(turn * math.pi / 6)
            y = box["y"] + box["height"] / 2 + 7 * ring * math.sin(turn * math.pi / 6)
            page.mouse.move(x, y)
            page.wait_for_timeout(60)
            if page.locator(".ring.hovered").count():
                return x, y
    raise SystemExit("no dot near the middle of the map")


def play(page: Any, film: Film) -> None:
    """What a first-time user does."""
    page.select_option("[aria-label='number of maps']", "2")
    for kept in page.locator("[aria-label^='forget the gate']").all():  # of an earlier film
        kept.click()
    page.wait_for_timeout(1200)
    page.evaluate(POINTER)
    film.take(900)
    box = page.locator(".plane").nth(1).bounding_box()
    x, y = nearest_dot(page, box)
    page.wait_for_selector(".card canvas")
    page.wait_for_timeout(300)
    film.take(1300)
    page.mouse.click(x, y)
    page.wait_for_selector(".explained .channelrow", timeout=120_000)
    page.wait_for_function("() => !document.querySelector('.explained [role=status]')")
    film.take(900)
    page.locator(".explained").scroll_into_view_if_needed()
    page.locator(".panel").evaluate("panel => panel.scrollTo(0, 470)")
    page.wait_for_timeout(300)
    film.take(1800)
    for _ in range(9):
        page.mouse.wheel(0, -170)
        page.wait_for_timeout(350)
        film.take(140)
    film.times[-1] = 1500
    page.keyboard.press("0")
    page.wait_for_timeout(500)
    page.keyboard.press("l")
    centre = box["x"] + 0.36 * box["width"], box["y"] + 0.48 * box["height"]
    points = [
        (
            centre[0] + 0.24 * box["width"] * math.cos(a),
            centre[1] + 0.15 * box["height"] * math.sin(a),
        )
        for a in [2 * math.pi * k / 24 for k in range(24)]
    ]
    page.mouse.move(*points[0])
    page.mouse.down()
    for k, point in enumerate(points):
        page.mouse.move(*point)
        page.wait_for_timeout(30)
        if k % 4 == 3:
            film.take(110)
    page.mouse.up()
    page.wait_for_timeout(1500)
    film.take(1500)
    page.fill(".save input", "what is this?")
    page.click("text=Save gate")
    page.wait_for_selector(".gates .entry")
    film.take(900)
    page.locator("text=What does it see in these?").scroll_into_view_if_needed()
    page.click("text=What does it see in these?")
    page.wait_for_selector(".real .crop")
    page.locator(".panel").evaluate("panel => panel.scrollTo(0, 390)")
    page.wait_for_timeout(200)
    film.take(1200)
    page.wait_for_selector(".ask > canvas", timeout=120_000)
    page.wait_for_timeout(100)
    film.take(500)
    page.wait_for_selector("text=Done:", timeout=120_000)
    page.wait_for_timeout(300)
    film.take(2600)


def main() -> None:
    """Make the picture beside this script."""
    run = open_run(sys.argv[1])
    network = Network.of(run, trust_model=False)
    network.start()
    server = Server(RunContent(run), port=18_980, network=network)
    threading.Thread(target=server.run, daemon=True).start()
    while not server.ready:
        time.sleep(0.01)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=arguments
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(60_000)
        page.add_init_script("localStorage.setItem('cytolens-visited', '1')")
        page.goto(server.address)
        page.wait_for_selector("html[data-drawn]")
        film = Film(page)
        play(page, film)
        browser.close()
    server.stop()
    film.save(Path(__file__).with_suffix(".webp"))


if __name__ == "__main__":
    main()
