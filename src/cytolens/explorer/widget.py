"""The explorer as a widget of a notebook (anywidget): the selection as a trait, both ways."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import MissingExtra

if TYPE_CHECKING:
    from anywidget import AnyWidget

    from cytolens.explorer.notebook import RunView

_SCRIPT = """
function render({ model, el }) {
  const frame = document.createElement("iframe");
  const fit = () => { frame.style.height = `${model.get("height")}px`; };
  frame.src = model.get("address");
  frame.title = model.get("title");
  Object.assign(frame.style, { width: "100%", border: "1px solid #ccc" });
  const said = document.createElement("div");
  const say = () => {
    const n = model.get("selection").length;
    said.textContent = n ? `${n} ${n === 1 ? "cell" : "cells"} selected` : "no cell selected";
  };
  fit();
  say();
  model.on("change:height", fit);
  model.on("change:selection", say);
  el.append(frame, said);
  return () => { model.off("change:height", fit); model.off("change:selection", say); };
}
export default { render };
"""


def widget_of(view: "RunView", height: int) -> "AnyWidget":
    """A widget that shows a view; its ``selection`` and that of the page are the same.

    ``selection`` is a list of places in ``run.cells``, as an ipywidgets trait: set it, observe it,
    or link it with that of another widget. Raises MissingExtra without anywidget.
    """
    try:
        from anywidget import AnyWidget
        from traitlets import Int, List, Unicode
    except ImportError as error:
        raise MissingExtra("the widget", "notebook") from error

    class RunWidget(AnyWidget):
        _esm = _SCRIPT
        address = Unicode().tag(sync=True)
        title = Unicode().tag(sync=True)
        height = Int(720).tag(sync=True)
        selection = List(Int()).tag(sync=True)

    widget = RunWidget(
        address=view.address, title=view.title, height=height, selection=view.selection.tolist()
    )
    said = _in_this_loop(lambda cells: setattr(widget, "selection", cells.tolist()))
    view.observe(said)

    def asked(change: Any) -> None:
        if list(change["new"]) != view.selection.tolist():
            view.selection = change["new"]

    widget.observe(asked, names="selection")
    return widget


def _in_this_loop(
    act: Callable[[NDArray[np.int64]], None],
) -> Callable[[NDArray[np.int64]], None]:
    """The same, done in the event loop of the notebook, as traits are not for other threads."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # no notebook
        return act

    def later(cells: NDArray[np.int64]) -> None:
        loop.call_soon_threadsafe(act, cells)

    return later
