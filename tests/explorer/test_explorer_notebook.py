"""The explorer in a notebook: an iframe, and the selection back in Python."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np

import cytolens
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
