"""The explorer inside a notebook, and the cells that are selected in it."""

import html
import secrets
import threading
import time
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytolens.explorer.of_run import RunContent
from cytolens.explorer.server import Server
from cytolens.records.cells import Cells
from cytolens.study.finished_run import FinishedRun, open_run

_STARTS_WITHIN = 10.0  # seconds


def view(
    run: str | Path | FinishedRun, *, height: int = 720, trust_model: bool = False
) -> "RunView":
    """A run in the explorer, shown where a notebook shows values.

    ``height`` in pixels. ``trust_model``: the Python file that the run may name as its network is
    run when the network is asked. The server listens on this machine alone, and only pages that
    know its token are answered. Raises RunError where there is no finished run.
    """
    finished = run if isinstance(run, FinishedRun) else open_run(run)
    return RunView(finished, height=height, trust_model=trust_model)


class RunView:
    """A run that is served to this notebook until it is closed, or no longer used."""

    def __init__(self, run: FinishedRun, *, height: int, trust_model: bool) -> None:
        self._shown, self._height = RunContent(run), height
        self._selected: list[NDArray[np.int64]] = []
        selected = self._selected  # the server must not keep the view alive

        def chosen(cells: NDArray[np.int64]) -> None:
            selected[:] = [cells]

        self._server = Server(
            self._shown, framed=True, token=secrets.token_urlsafe(24), trust_model=trust_model,
            chosen=chosen,
        )  # fmt: skip
        threading.Thread(target=self._server.run, daemon=True).start()
        deadline = time.monotonic() + _STARTS_WITHIN
        while not self._server.ready and time.monotonic() < deadline:
            time.sleep(0.01)
        self._end = weakref.finalize(self, self._server.stop)

    @property
    def address(self) -> str:
        """Where the page is, to be opened in a browser of this machine."""
        return self._server.address

    @property
    def selection(self) -> NDArray[np.int64]:
        """The cells (n,) that are selected in the page now, as places in ``run.cells``."""
        if not self._selected:
            return np.zeros(0, dtype=np.int64)
        return self._shown.mapped[self._selected[-1]]

    @property
    def cells(self) -> Cells:
        """The selected cells."""
        return self._shown.run.cells[self.selection]

    def close(self) -> None:
        """End the server."""
        self._end()

    def __repr__(self) -> str:
        return f"RunView: {self._shown.content.title}, {len(self.selection)} cells selected"

    def _repr_html_(self) -> str:
        return (
            f'<iframe src="{html.escape(self.address)}" width="100%" height="{self._height}" '
            f'style="border: 1px solid #ccc" title="{html.escape(self._shown.content.title)}">'
            "</iframe>"
        )
