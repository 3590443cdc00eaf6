"""How fast the explorer is in Debian's Chromium without a GPU, and how large its files are.

    python benchmarks/bench_explorer.py [--sizes 20000 50000 100000 1000000] [--out results.md]
        [--jupyter-scatter PYTHON] [--embedding-atlas PYTHON]

Cells are made: Gaussian clouds on six maps, crops of 32 × 32 px. What is measured is the page as it
is shipped, over its own server (with made content in place of a run) and as one exported file.
Wall times are medians of several turns; CPU seconds are those of all of Chromium's processes.
"""

import argparse
import io
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from cytolens.explorer.content import Content
from cytolens.explorer.page import bundle, write_export
from cytolens.explorer.server import Server

LAYERS = [f"conv{k}" for k in range(1, 6)] + ["pre_softmax"]
TURNS = 5


def made_content(n: int, *, crops: bool) -> Content:
    """Six maps of ``n`` cells in ten classes, four properties and, if asked for, crops."""
    rng = np.random.default_rng(0)
    content = Content(f"{n:,} made cells", n)
    classes = rng.integers(0, 10, n)
    for depth, layer in enumerate(LAYERS):
        centres = rng.normal(0, 1 + depth, (10, 2))
        places = centres[classes] + rng.normal(0, 1, (n, 2))
        content.add_map("tsne", layer, places.astype(np.float32))
    names = [f"class {k}" for k in range(10)]
    content.add_category("class", classes, names, title="class", role="class")
    for key in ("area", "brightness", "texture", "focus"):
        values = rng.gamma(2 + classes % 3, 2, n)
        content.add_number(key, values, title=key, role="property")
    if crops:
        yy, xx = np.mgrid[-16:16, -16:16]
        radius = 5 + rng.random(n) * 6

        def read(rows: slice) -> np.ndarray:
            draw = np.random.default_rng(rows.start)
            inside = np.hypot(yy, xx)[None] < radius[rows, None, None]
            noise = draw.normal(0, 14, inside.shape)
            return np.clip(40 + 130 * inside + noise, 0, 255).astype(np.uint8)[:, None]

        content.add_sheets(read, (1, 32, 32), channel_names=["intensity"], colour=False)
    content.manifest |= {
        "classes": names, "class_colours": content.manifest["columns"][0]["colours"],
        "pixel_size": None, "group": None, "main_layer": "pre_softmax",
        "layers": [
            {
                "name": name, "kind": "conv", "depth": k, "shape": [8, 32, 32], "channels": 0,
                "receptive_field": None, "separation": {}, "complexity": {}, "neighbours": False,
            }
            for k, name in enumerate(LAYERS)
        ],
    }  # fmt: skip
    content.add("names", lambda: np.frombuffer(b"\n".join(b"c%d" % i for i in range(n)), np.uint8))
    content.add("cells", lambda: np.arange(n, dtype=np.uint32))
    return content


def stand_in(content: Content, folder: Path) -> Any:
    """What the server asks of a run, with made content."""
    names = np.array([f"c{k}" for k in range(content.n)])
    labels = np.zeros(content.n, np.int64)
    cells = SimpleNamespace(names=names, labels=labels, decisions=(), class_names=("a",))
    run = SimpleNamespace(
        folder=SimpleNamespace(path=folder), cells=cells, settings=SimpleNamespace(model="no.py")
    )
    sheets = content.manifest["sheets"]
    shape = (1, *sheets["crop"]) if sheets else (1, 32, 32)

    def crop(cell: int) -> np.ndarray:
        return np.random.default_rng(cell).integers(0, 255, shape, dtype=np.uint8)

    return SimpleNamespace(
        content=content, run=run, mapped=np.arange(content.n),
        cells=SimpleNamespace(**vars(cells), shape=shape), drawn=SimpleNamespace(colour=False),
        ordered=lambda chosen, layer, away: chosen, crop=crop,
    )  # fmt: skip


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all below it."""
    total, tick = 0.0, os.sysconf("SC_CLK_TCK")
    below: dict[int, list[int]] = {}
    times: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            below.setdefault(int(fields[1]), []).append(int(entry.name))
            times[int(entry.name)] = (int(fields[11]) + int(fields[12])) / tick
    waiting = [pid]
    while waiting:
        at = waiting.pop()
        total += times.get(at, 0.0)
        waiting += below.get(at, [])
    return total


FRAMES = """async ([slot, kind, seconds]) => {
  const plane = document.querySelectorAll('.plane')[slot];
  const box = plane.getBoundingClientRect();
  const x = box.left + box.width / 2, y = box.top + box.height / 2;
  const at = (type, dx) => plane.dispatchEvent(new PointerEvent(type, {bubbles: true, pointerId: 7,
    clientX: x + dx, clientY: y + dx / 3, button: 0}));
  plane.setPointerCapture = () => undefined;
  const before = Number(plane.dataset.frames || 0), started = performance.now();
  let turn = 0;
  if (kind === 'pan') at('pointerdown', 0);
  while (performance.now() - started < 1000 * seconds) {
    turn++;
    if (kind === 'pan') at('pointermove', 60 * Math.sin(turn / 8));
    else plane.dispatchEvent(new WheelEvent('wheel', {bubbles: true, cancelable: true,
      deltaY: Math.floor(turn / 30) % 2 ? 40 : -40, clientX: x, clientY: y}));
    await new Promise(requestAnimationFrame);
  }
  if (kind === 'pan') at('pointerup', 60);
  return (Number(plane.dataset.frames) - before) / ((performance.now() - started) / 1000);
}"""

LASSO = """async ([slot, share]) => {
  const planes = [...document.querySelectorAll('.plane')], plane = planes[slot];
  const box = plane.getBoundingClientRect();
  const at = (type, a) => plane.dispatchEvent(new PointerEvent(type, {bubbles: true, pointerId: 7,
    clientX: box.left + box.width * (.5 + share * Math.cos(a)),
    clientY: box.top + box.height * (.5 + share * Math.sin(a)), button: 0}));
  plane.setPointerCapture = () => undefined;
  at('pointerdown', 0);
  for (let k = 1; k <= 60; k++) at('pointermove', k / 60 * 6.2);
  await new Promise(resolve => setTimeout(resolve, 100));
  const started = performance.now();
  at('pointerup', 6.2);
  while (!planes.every(p => Number(p.dataset.drawn) > started)) {
    await new Promise(resolve => setTimeout(resolve, 1));
  }
  return Math.max(...planes.map(p => Number(p.dataset.drawn))) - started;
}"""

COLOUR = """async key => {
  const planes = [...document.querySelectorAll('.plane')];
  const list = document.getElementById('colour');
  const started = performance.now();
  list.value = key;
  list.dispatchEvent(new Event('change', {bubbles: true}));
  while (!planes.every(p => Number(p.dataset.drawn) > started)) {
    await new Promise(resolve => setTimeout(resolve, 1));
  }
  return Math.max(...planes.map(p => Number(p.dataset.drawn))) - started;
}"""

HOVER = """async slot => {
  const plane = document.querySelectorAll('.plane')[slot];
  const box = plane.getBoundingClientRect();
  const x = box.left + box.width / 2, y = box.top + box.height / 2;
  plane.dispatchEvent(new PointerEvent('pointermove', {bubbles: true, pointerId: 1,
    clientX: x - 200, clientY: y - 200}));
  await new Promise(resolve => setTimeout(resolve, 300));
  const started = performance.now();
  plane.dispatchEvent(new PointerEvent('pointermove', {bubbles: true, pointerId: 1, clientX: x,
    clientY: y}));
  for (;;) {
    const canvas = document.querySelector('.card canvas');
    if (canvas && canvas.width > 0 &&
        canvas.getContext('2d').getImageData(8, 8, 1, 1).data[3] > 0) break;
    if (performance.now() - started > 5000) return NaN;
    await new Promise(resolve => setTimeout(resolve, 1));
  }
  return performance.now() - started;
}"""


class Browser:
    """Chromium without a GPU."""

    def __init__(self, playwright: Any) -> None:
        path = shutil.which("chromium")
        if path is None:
            sys.exit("no chromium on this machine: apt-get install chromium")
        arguments = ["--no-sandbox", "--disable-gpu"]
        self.chromium = playwright.chromium.launch(executable_path=path, args=arguments)
        self.version = self.chromium.version

    def open(self, address: str, *, maps: int = 0, wait: float = 800) -> tuple[Any, str, float]:
        """A page, how soon a map was drawn, and the CPU seconds until all were."""
        context = self.chromium.new_context(viewport={"width": 1280, "height": 720})
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.add_init_script("localStorage.setItem('cytolens-visited', '1')")
        before, started = cpu_seconds(os.getpid()), time.perf_counter()
        page.goto(address)
        page.wait_for_selector(".plane[data-drawn]")
        took = time.perf_counter() - started
        since_load = page.evaluate(
            """() => Math.min(...[...document.querySelectorAll('.plane[data-drawn]')].map(
            p => Number(p.dataset.drawn))) -
            performance.getEntriesByType('navigation')[0].domInteractive"""
        )
        said = f"{took:.2f} s; {since_load / 1000:.2f} s after the page was read"
        page.wait_for_timeout(wait)
        used = cpu_seconds(os.getpid()) - before
        if maps:
            page.select_option("[aria-label='number of maps']", str(maps))
            page.wait_for_timeout(1500)
        return page, said, used


def measure(browser: Browser, n: int, rows: list[list[str]]) -> None:
    """All actions at one size, over the server."""
    content = made_content(n, crops=n <= 200_000)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(stand_in(content, Path(folder)), port=18_960)
        threading.Thread(target=server.run, daemon=True).start()
        while not server.ready:
            time.sleep(0.01)
        for _ in range(3):  # the first time, the server makes the arrays
            page, took, used = browser.open(server.address)
            page.context.close()
        add = rows.append
        add([f"{n:,}", "first draw, 4 maps", took, f"{used:.2f}"])
        page, _, _ = browser.open(server.address, maps=1)
        for kind in ("pan", "zoom"):
            before = cpu_seconds(os.getpid())
            rate = page.evaluate(FRAMES, [0, kind, 3.0])
            used = (cpu_seconds(os.getpid()) - before) / max(1, rate * 3)
            add([f"{n:,}", f"{kind}, 1 map", f"{rate:.0f} frames/s", f"{used:.3f} a frame"])
            page.wait_for_timeout(400)
        page.context.close()
        page, _, _ = browser.open(server.address, maps=6)
        rate = page.evaluate(FRAMES, [4, "pan", 3.0])
        add([f"{n:,}", "pan one of 6 maps", f"{rate:.0f} frames/s", ""])
        page.keyboard.press("0")
        page.wait_for_timeout(800)
        page.keyboard.press("l")
        lasso = [page.evaluate(LASSO, [1, 0.18 + 0.02 * k]) for k in range(TURNS)]
        add([f"{n:,}", "lasso to all 6 maps", f"{statistics.median(lasso):.0f} ms", ""])
        page.keyboard.press("Escape")
        page.wait_for_timeout(800)
        keys = ["area", "brightness", "texture", "focus", "class", "area", "texture"]
        colour = [page.evaluate(COLOUR, key) for key in keys]
        add(
            [f"{n:,}", "colour in all 6 maps, first", f"{statistics.median(colour[:4]):.0f} ms", ""]
        )
        add(
            [f"{n:,}", "colour in all 6 maps, again", f"{statistics.median(colour[4:]):.0f} ms", ""]
        )
        page.keyboard.press("m")
        if content.manifest["sheets"] is not None:
            hover = [page.evaluate(HOVER, slot) for slot in range(6)]
            late = statistics.median(hover[1:]) - 125
            add([f"{n:,}", "hover to crop, beyond the dwell of 125 ms", f"{late:.0f} ms", ""])
        page.context.close()
        server.stop()


def sizes_of_exports(browser: Browser, rows: list[list[str]], largest: int) -> None:
    """How large exported files are, and how soon they are drawn."""
    with tempfile.TemporaryDirectory() as folder:
        for n, crops in ((20_000, True), (largest, False)):
            path = write_export(Path(folder) / f"{n}.html", made_content(n, crops=crops))
            size = path.stat().st_size / 1e6
            marker = 'data-part="map/tsne/conv1"'
            line = next(entry for entry in path.open() if marker in entry)
            page, took, used = browser.open(path.as_uri())
            what = "6 maps, 4 properties, names"
            what += ", crops of 32 px" if crops else f"; {len(line) / 1e6:.1f} MB a map"
            rows.append([f"{n:,}", f"export, {what}", f"{size:.1f} MB", ""])
            rows.append([f"{n:,}", "first draw from file://", took, f"{used:.2f}"])
            page.context.close()


ANSWERS = """() => {
  const seen = window.seen = {};
  const look = () => {
    const root = document.documentElement.dataset, ask = document.querySelector('.ask');
    const now = (name, there) => { if (there && !(name in seen)) seen[name] = performance.now(); };
    now('real cells', root.answered);
    now("the study's image", ask?.querySelector('[aria-label^="the study"]'));
    now('first image', root.asked);
    now('last image', document.body.textContent.includes('Done:'));
    if (!('last image' in seen)) setTimeout(look, 5);
  };
  const button = [...document.querySelectorAll('button')].find(
    b => b.textContent === 'What does it see in these?');
  const start = seen.start = performance.now();
  button.click();
  setTimeout(look, 5);
}"""


def asked(browser: Browser, run: Path, rows: list[list[str]]) -> None:
    """Seconds from a question to its answers on a real run, opened as a user does.

    First as soon as a page that has just been opened lets one ask, while the network's process
    may still be starting; then again.
    """
    code = "import sys; from cytolens.cli import main; sys.argv[0] = 'cytolens'; main()"
    command = [sys.executable, "-c", code, "explore", str(run), "--no-browser", "--port", "18965"]
    started = time.perf_counter()
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = next(line.strip() for line in server.stdout if line.startswith("http"))
    opened = time.perf_counter() - started
    page, _, _ = browser.open(address, wait=0)
    page.locator(".categories .entry").first.click(modifiers=["Shift"])
    page.wait_for_selector("text=What does it see in these?")
    waited = time.perf_counter() - started
    about = f"address after {opened:.1f} s, asked {waited:.1f} s after the command"
    n = page.evaluate("document.querySelector('footer').textContent.match(/[0-9,]+/)[0]")
    for what in (f"at once ({about})", "again", "again"):
        page.evaluate(ANSWERS)
        page.wait_for_function("() => 'last image' in window.seen", timeout=90_000)
        seen = page.evaluate("window.seen")
        said = "; ".join(
            f"{name} {(seen[name] - seen['start']) / 1000:.2f} s"
            for name in seen
            if name != "start"
        )
        rows.append([f"{n}, {run.name}", f"question, {what}", said, ""])
        page.wait_for_timeout(500)
    page.context.close()
    server.terminate()
    server.wait(10)


def coloured(page: Any) -> float:
    """The share of pixels on the left of a page that are not grey."""
    from PIL import Image

    shot = Image.open(
        io.BytesIO(page.screenshot(clip={"x": 60, "y": 70, "width": 700, "height": 300}))
    )
    pixels = np.asarray(shot.convert("RGB")).astype(int)
    return float((np.ptp(pixels, axis=2) > 40).mean())


def drawn(page: Any, within: float = 90.0) -> float:
    """Seconds until a page shows dots; NaN where it does not within so many."""
    started = time.perf_counter()
    while coloured(page) < 0.005:
        if time.perf_counter() - started > within:
            return float("nan")
    return time.perf_counter() - started


ZOOM = """async () => {
  const wide = (a, b) => b.clientWidth - a.clientWidth;
  const plane = [...document.querySelectorAll('canvas')].sort(wide)[0];
  const started = performance.now();
  let turn = 0;
  while (performance.now() - started < 4000) {
    turn++;
    plane.dispatchEvent(new WheelEvent('wheel', {bubbles: true, cancelable: true,
      deltaY: Math.floor(turn / 30) % 2 ? 40 : -40, clientX: 400, clientY: 300}));
    await new Promise(requestAnimationFrame);
  }
  return turn / ((performance.now() - started) / 1000);
}"""


def measure_jupyter_scatter(playwright: Any, python: str, n: int, rows: list[list[str]]) -> None:
    """The same actions in jupyter-scatter, drawn by WebGL in software."""
    flags = ["--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader"]
    chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(__file__).parent / "peers" / "explorers.py"
        subprocess.run([python, script, "jupyter-scatter", str(n), folder], check=True)
        page = chromium.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(120_000)
        before, started = cpu_seconds(os.getpid()), time.perf_counter()
        page.goto((Path(folder) / "page.html").as_uri())
        drawn(page)
        took, used = time.perf_counter() - started, cpu_seconds(os.getpid()) - before
        name = f"jupyter-scatter, {n:,}"
        rows.append([name, "first draw, 1 map, from file://", f"{took:.2f} s", f"{used:.2f}"])
        before = cpu_seconds(os.getpid())
        rate = page.evaluate(ZOOM)
        used = (cpu_seconds(os.getpid()) - before) / max(1.0, 4 * rate)
        said = f"at most {rate:.0f} frames/s"
        rows.append([name, "zoom, 1 map", said, f"{used:.3f} a frame"])
        page.wait_for_timeout(2000)
        page.evaluate("model.set('mouse_mode', 'lasso')")
        page.wait_for_timeout(500)
        page.mouse.move(300, 150)
        page.mouse.down()
        for x, y in ((700, 150), (700, 450), (300, 450), (300, 160)):
            page.mouse.move(x, y, steps=8)
        page.evaluate("delete document.documentElement.dataset.set_selection")
        started = time.perf_counter()
        page.mouse.up()
        try:
            page.wait_for_selector("html[data-set_selection]", state="attached", timeout=20_000)
            said = f"{1000 * (time.perf_counter() - started):.0f} ms"
        except Exception:
            said = "no selection came"
        rows.append([name, "lasso, 1 map", said, ""])
    chromium.close()


def measure_embedding_atlas(playwright: Any, python: str, n: int, rows: list[list[str]]) -> None:
    """The same in embedding-atlas, as far as it draws: it needs WebGPU."""
    flags = ["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
    chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(__file__).parent / "peers" / "explorers.py"
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        server = subprocess.Popen([python, script, "embedding-atlas", str(n), folder], **quiet)
        page = chromium.new_page(viewport={"width": 1280, "height": 720})
        started = time.perf_counter()
        while time.perf_counter() - started < 90:
            try:
                page.goto("http://localhost:18990/")
                break
            except Exception:
                time.sleep(0.5)
        started = time.perf_counter()
        page.wait_for_timeout(15_000)
        words = page.inner_text("body")
        said = next((line for line in words.splitlines() if "WebGPU" in line), "it draws")
        rows.append([f"embedding-atlas, {n:,}", "first draw", said, ""])
        server.terminate()
        server.wait(10)
    chromium.close()


def server_memory(n: int) -> float:
    """GiB that a server of ``n`` made cells has taken, in its own process, after all was read."""
    code = (
        "import sys, threading, time, tempfile, urllib.request; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\nimport resource\nimport bench_explorer as b\n"
        f"content = b.made_content({n}, crops=True)\n"
        "folder = Path(tempfile.mkdtemp())\n"
        "server = b.Server(b.stand_in(content, folder), port=18970)\n"
        "threading.Thread(target=server.run, daemon=True).start()\n"
        "while not server.ready: time.sleep(.01)\n"
        "names = [p for p in content.parts if not p.startswith('sheet/')] + ['sheet/0/0']\n"
        "for name in ['manifest.json', *('part/' + p for p in names)]:\n"
        "    asked = urllib.request.Request(server.address + name, headers={'X-Cytolens': '1'})\n"
        "    urllib.request.urlopen(asked).read()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)\n"
    )
    here = str(Path(__file__).parent)
    return float(subprocess.check_output([sys.executable, "-c", code, here], text=True))


def main() -> None:
    """Measure, and print a table."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[20_000, 50_000, 100_000, 1_000_000]
    )
    parser.add_argument("--run", type=Path, nargs="+", default=[], help="finished runs to ask")
    parser.add_argument("--out", type=Path)
    for peer in ("jupyter-scatter", "embedding-atlas"):
        parser.add_argument(f"--{peer}", help="the Python of an environment that has it")
    given = parser.parse_args()
    rows: list[list[str]] = []
    before = os.getloadavg()[0]
    with sync_playwright() as playwright:
        browser = Browser(playwright)
        for n in given.sizes:
            measure(browser, n, rows)
        if given.sizes:
            sizes_of_exports(browser, rows, max(given.sizes))
        for run in given.run:
            asked(browser, run, rows)
        version = browser.version
        browser.chromium.close()
        for n in given.sizes:
            if given.jupyter_scatter:
                measure_jupyter_scatter(playwright, given.jupyter_scatter, n, rows)
            if given.embedding_atlas and n == min(given.sizes):
                measure_embedding_atlas(playwright, given.embedding_atlas, n, rows)
    if given.sizes:
        most = max(given.sizes)
        held = f"{server_memory(most):.2f} GiB"
        rows.append([f"{most:,}", "server's memory, all arrays read", held, ""])
    import gzip

    packed = sum(len(gzip.compress(bundle(f"explorer.{kind}"))) for kind in ("js", "css"))
    rows.append(["", "bundle, gzipped", f"{packed / 1000:.0f} kB", ""])
    table = ["| cells | what | result | CPU s |", "|---|---|---|---|"]
    table += [f"| {' | '.join(row)} |" for row in rows]
    lines = [
        "# The explorer, measured", "",
        f"`python benchmarks/bench_explorer.py`, Chromium {version} without a GPU, "
        f"{os.cpu_count()} cores ({platform.machine()}), {time.strftime('%Y-%m-%d')}, load "
        f"{before:.1f} before and {os.getloadavg()[0]:.1f} after. Made cells, 1280 × 720.", "",
        *table, "",
    ]  # fmt: skip
    text = "\n".join(lines)
    print(text)
    if given.out is not None:
        given.out.write_text(text)


if __name__ == "__main__":
    main()
