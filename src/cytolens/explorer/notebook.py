"""The explorer inside a notebook, and the cells that are selected in it."""

import html
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytolens.errors import SettingError
from cytolens.explorer.asking import Network
from cytolens.explorer.of_run import RunContent
from cytolens.explorer.selecting import Selecting
from cytolens.explorer.server import Server
from cytolens.records.cells import Cells
from cytolens.study.finished_run import FinishedRun, open_run

if TYPE_CHECKING:
    from anywidget import AnyWidget

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
        self._selecting = selecting = Selecting()  # the server must not keep the view alive
        self._server = Server(
            self._shown, framed=True, token=secrets.token_urlsafe(24),
            network=Network.of(run, trust_model=trust_model), selecting=selecting,
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
    def title(self) -> str:
        """What the run is called."""
        return self._shown.content.title

    @property
    def selection(self) -> NDArray[np.int64]:
        """The cells (n,) that are selected now, as places in ``run.cells``.

        Set it to select cells in the page: places, or a mask (N,) over all cells of the run.
        Raises SettingError for cells that are not on the maps.
        """
        return self._shown.mapped[self._selecting.cells]

    @selection.setter
    def selection(self, cells: ArrayLike) -> None:
        asked = np.asarray(cells)
        n = len(self._shown.run.cells)
        if asked.dtype == np.bool_ and asked.shape == (n,):
            asked = np.flatnonzero(asked)
        if asked.ndim != 1 or (asked.size and asked.dtype.kind not in "iu"):
            raise SettingError(f"a selection is a list of places below {n}, or a mask of {n} cells")
        asked = np.unique(asked).astype(np.int64)
        found = np.flatnonzero(np.isin(self._shown.mapped, asked))
        if len(found) != len(asked):
            raise SettingError(
                f"{len(asked) - len(found)} of {len(asked)} cells are not on the maps, which show "
                f"{len(self._shown.mapped)} of the {n} cells of the run"
            )
        self._selecting.ask(found)

    @property
    def cells(self) -> Cells:
        """The selected cells."""
        return self._shown.run.cells[self.selection]

    def observe(self, act: Callable[[NDArray[np.int64]], None]) -> None:
        """Have ``act`` called with the cells (n,) of each new selection, in another thread."""
        mapped = self._shown.mapped
        self._selecting.observers.append(lambda cells: act(mapped[cells]))

    def widget(self, *, height: int | None = None) -> "AnyWidget":
        """The same as an ipywidgets widget, whose trait ``selection`` goes both ways.

        Raises MissingExtra without anywidget: pip install 'cytolens[notebook]'.
        """
        from cytolens.explorer.widget import widget_of

        return widget_of(self, self._height if height is None else height)

    def close(self) -> None:
        """End the server."""
        self._end()

    def __repr__(self) -> str:
        return f"RunView: {self.title}, {len(self.selection)} cells selected"

    def _repr_html_(self) -> str:
        return (
            f'<iframe src="{html.escape(self.address)}" width="100%" height="{self._height}" '
            f'style="border: 1px solid #ccc" title="{html.escape(self.title)}">'
            "</iframe>"
        )
