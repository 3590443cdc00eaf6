"""The explorer in a notebook: an iframe, and the selection back in Python."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cytolens
from cytolens.errors import MissingExtra, SettingError
from cytolens.explorer.of_run import RunContent


@contextmanager
def served(text: str) -> Iterator[str]:
    """A page of another server of this machine, as a notebook is."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    with HTTPServer(("127.0.0.1", 0), Page) as notebook:
        threading.Thread(target=notebook.serve_forever, daemon=True).start()
        yield f"http://localhost:{notebook.server_address[1]}/"
        notebook.shutdown()


def test_a_view_is_an_iframe_and_gives_the_selection_back(
    finished: Path, shown: RunContent, chromium: Any
):
    view = cytolens.view(finished)
    try:
        text = view._repr_html_()  # pyright: ignore[reportPrivateUsage]
        assert text.startswith('<iframe src="http://127.0.0.1:')
        assert len(view.selection) == 0
        page = chromium.new_page()
        page.set_default_timeout(10_000)
        with served(text) as address:
            page.goto(address)
        frame = page.frame_locator("iframe")
        frame.locator(".plane[data-drawn]").first.wait_for(state="attached")
        frame.locator(".categories .entry").first.click(modifiers=["Shift"])
        expected = shown.mapped[shown.cells.labels == 0]
        deadline = time.monotonic() + 10
        while not len(view.selection) and time.monotonic() < deadline:
            page.wait_for_timeout(50)
        np.testing.assert_array_equal(view.selection, expected)
        assert len(view.cells) == len(expected)
        page.close()
    finally:
        view.close()


def wait_until(page: Any, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 15
    while not holds() and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    return holds()


MODEL = """
const state = STATE, heard = {};
const model = {
  get: (key) => state[key],
  on: (name, act) => { (heard[name] ??= []).push(act); },
  off: (name, act) => { heard[name] = (heard[name] ?? []).filter((other) => other !== act); },
};
window.change = (key, value) => {
  state[key] = value;
  for (const act of heard[`change:${key}`] ?? []) act();
};
const code = URL.createObjectURL(new Blob([state._esm], { type: "text/javascript" }));
import(code).then(({ default: widget }) => widget.render({ model, el: document.body }));
"""


def test_a_widget_selects_in_the_page_and_hears_what_is_selected_there(
    finished: Path, shown: RunContent, chromium: Any
):
    """The widget's state is shown by its own script, with a model in place of a notebook's."""
    pytest.importorskip("anywidget")
    view = cytolens.view(finished)
    page = chromium.new_page()
    page.set_default_timeout(15_000)
    try:
        view.selection = np.array([4, 9])
        widget = view.widget(height=600)
        heard: list[list[int]] = []
        widget.observe(lambda change: heard.append(change["new"]), names="selection")
        assert widget.selection == [4, 9]
        state = {key: widget.get_state()[key] for key in
                 ("_esm", "address", "title", "height", "selection")}  # fmt: skip
        with served(f"<script>{MODEL.replace('STATE', json.dumps(state))}</script>") as address:
            page.goto(address)
        frame = page.frame_locator("iframe")
        frame.locator(".badge", has_text="2").wait_for()
        assert "2 cells selected" in page.inner_text("body")
        widget.selection = [1, 2, 3]
        frame.locator(".badge", has_text="3").wait_for()
        np.testing.assert_array_equal(view.selection, [1, 2, 3])
        frame.locator(".categories .entry").first.click()  # gives the frame the keys
        frame.locator(".categories .entry").first.click()
        page.keyboard.press("Escape")
        assert wait_until(page, lambda: widget.selection == [])
        frame.locator(".categories .entry").first.click(modifiers=["Shift"])
        expected = shown.mapped[shown.cells.labels == 0].tolist()
        assert wait_until(page, lambda: widget.selection == expected)
        assert heard[-1] == expected
        page.evaluate("change('selection', [7])")
        assert "1 cell selected" in page.inner_text("body")
    finally:
        page.close()
        view.close()


def test_a_selection_is_cells_of_the_run_or_a_mask(finished: Path):
    view = cytolens.view(finished)
    try:
        mask = np.zeros(len(view.cells) + 160, bool)
        mask[[3, 5]] = True
        view.selection = mask
        assert view.selection.tolist() == [3, 5]
        for wrong in ([[1, 2]], [0.5], [160], [-1], np.zeros(9, bool)):
            with pytest.raises(SettingError):
                view.selection = wrong
        assert view.selection.tolist() == [3, 5]
    finally:
        view.close()


def test_a_widget_without_anywidget_says_what_to_install(
    finished: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    view = cytolens.view(finished)
    try:
        with pytest.raises(MissingExtra, match=r"cytolens\[notebook\]"):
            view.widget()
    finally:
        view.close()
