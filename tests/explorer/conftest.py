"""A small finished run, its server in a thread, and a page in a real Chromium."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import serving

from cytolens.explorer.of_run import RunContent
from cytolens.explorer.page import write_export
from cytolens.explorer.server import Server
from cytolens.simulation.optics import Optics
from cytolens.simulation.simulate import simulate
from cytolens.store.files import write_simulation
from cytolens.study.finished_run import open_run
from cytolens.study.settings import StudySettings
from cytolens.study.study import Study

STAGES = ("maps", "clusters", "modulated", "channels", "suspects", "separation", "complexity")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 simulated cells with maps, clusters, feature images, and doubts."""
    root = tmp_path_factory.mktemp("explored")
    cells = simulate(160, size=32, difficulty=0.0, optics=Optics(pixel_size_um=0.5), rng=0)
    data = write_simulation(root / "cells", cells)
    layers = ["conv1", "conv3", "conv5", "pre_softmax", "logits"]
    settings = StudySettings(epochs=2, quick=True, methods=["pca"], layers=layers, threads=1)
    study = Study(root / "run", data, settings)
    for stage in STAGES:
        study.make(stage)
    return root / "run"


@pytest.fixture(scope="session")
def shown(finished: Path) -> RunContent:
    return RunContent(open_run(finished))


@pytest.fixture(scope="session")
def exported(shown: RunContent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_export(tmp_path_factory.mktemp("export") / "site.html", shown.content)


@pytest.fixture(scope="session")
def server(shown: RunContent) -> Iterator[Server]:
    yield from serving(shown)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's Chromium, without a GPU; tests are skipped where it is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Any) -> Iterator[Any]:
    """Opens an address in a fresh profile; fails where the page reports an error."""
    context = chromium.new_context(viewport={"width": 1280, "height": 720}, accept_downloads=True)
    faults: list[str] = []
    requests: list[str] = []

    def open_page(address: str, *, visited: bool = True) -> Any:
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: said.type == "error" and faults.append(said.text))
        page.on("request", lambda request: requests.append(request.url))
        if visited:
            page.add_init_script("localStorage.setItem('cytolens-visited', '1')")
        page.goto(address)
        page.wait_for_selector("html[data-drawn]")
        page.requests = requests
        return page

    yield open_page
    context.close()
    assert not faults
