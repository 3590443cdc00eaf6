"""The pages of two other explorers, for benchmarks/bench_explorer.py: each in its own environment.

    python explorers.py jupyter-scatter N FOLDER      writes FOLDER/page.html
    python explorers.py embedding-atlas N FOLDER      writes FOLDER/cells.parquet, then serves it

jupyter-scatter is a notebook widget (anywidget): its script is run with a model that holds the
widget's state, in place of a notebook's. Both are given what bench_explorer gives our page: N cells
in ten classes on one map.
"""

import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

PORT = 18_990

PAGE = """<!doctype html><meta charset="utf-8"><style>STYLE</style>
<body style="margin:0"><div id="root" style="width:900px"></div>
<script type="application/json" id="state">STATE</script><script type="module">
const revive = (key, value) => {
  if (value && value.base64 !== undefined) {
    const bytes = Uint8Array.from(atob(value.base64), (letter) => letter.charCodeAt(0));
    return new DataView(bytes.buffer);
  }
  return value;
};
const state = JSON.parse(document.getElementById("state").textContent, revive);
const heard = {};
const model = {
  get: (key) => state[key],
  set: (key, value) => {
    state[key] = value;
    document.documentElement.dataset[`set_${key}`] = String(performance.now());
    for (const act of heard[`change:${key}`] ?? []) act();
  },
  save_changes: () => undefined, send: () => undefined, widget_manager: {},
  on: (name, act) => { for (const one of name.split(" ")) (heard[one] ??= []).push(act); },
  off: () => undefined,
};
window.model = model;
const code = URL.createObjectURL(new Blob([state._esm], { type: "text/javascript" }));
const { default: widget } = await import(code);
const made = typeof widget === "function" ? await widget() : widget;
await made.initialize?.({ model });
await made.render({ model, el: document.getElementById("root") });
document.documentElement.dataset.rendered = String(performance.now());
</script>"""


def table(n: int) -> Any:
    """The cells as a data frame."""
    import pandas as pd

    rng = np.random.default_rng(0)
    classes = rng.integers(0, 10, n)
    places = (rng.normal(0, 6, (10, 2))[classes] + rng.normal(0, 1, (n, 2))).astype(np.float32)
    names = np.char.add("class ", classes.astype(str))
    return pd.DataFrame({"x": places[:, 0], "y": places[:, 1], "class": names})


def write_jupyter_scatter(n: int, folder: Path) -> None:
    """A page with the widget and its state."""
    import jscatter  # pyright: ignore[reportMissingImports]

    cells = table(n)
    cells["class"] = cells["class"].astype("category")
    scatter = jscatter.Scatter(data=cells, x="x", y="y", color_by="class", height=600)
    state = scatter.widget.get_state()

    def plain(value: Any) -> Any:
        if isinstance(value, memoryview | bytes):
            return {"base64": base64.b64encode(bytes(value)).decode("ascii")}
        return value.tolist() if hasattr(value, "tolist") else str(value)

    text = json.dumps(state, default=plain).replace("</", "<\\/")
    page = PAGE.replace("STYLE", str(state.get("_css", ""))).replace("STATE", text, 1)
    (folder / "page.html").write_text(page, encoding="utf-8")


def serve_embedding_atlas(n: int, folder: Path) -> None:
    """Its own server on the cells, until it is ended."""
    path = folder / "cells.parquet"
    table(n).to_parquet(path)
    command = str(Path(sys.executable).with_name("embedding-atlas"))
    os.execv(
        command,
        [command, str(path), "--x", "x", "--y", "y", "--port", str(PORT), "--no-auto-port",
         "--duckdb", "server"],
    )  # fmt: skip


if __name__ == "__main__":
    which, number, where = sys.argv[1:4]
    act = write_jupyter_scatter if which == "jupyter-scatter" else serve_embedding_atlas
    act(int(number), Path(where))
