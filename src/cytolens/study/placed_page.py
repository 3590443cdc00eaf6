"""What is written of placed cells, in a folder of its own: table, summary, figures, page."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cytolens.classifier.evaluation import evaluate
from cytolens.errors import SettingError
from cytolens.figures.style import render
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells, Progress
from cytolens.records.maps import PlacedCells
from cytolens.report.page import render_report
from cytolens.report.placed import (
    PlacedOn,
    placed_drawings,
    placed_page,
    placed_summary,
    placed_table,
)
from cytolens.store.csv_text import csv_text
from cytolens.store.files import replacing_folder, write_bytes, write_json, write_text

if TYPE_CHECKING:
    from cytolens.study.place import OldMaps

_MARK = "placed.json"


def check_folder(out: Path) -> None:
    """Raises SettingError for a folder that holds anything but placed cells."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / _MARK).is_file())):
        raise SettingError(f"'{out}' exists and holds other things; name a new folder with --out")


def write_placed(
    out: Path, placed: PlacedCells, cells: Cells, run: "OldMaps", progress: Progress
) -> None:
    """``placed.csv``, ``placed.parquet``, ``placed.json``, ``figures`` and ``placed.html``.

    All or nothing: they are written to a folder next to ``out``, which then replaces it.
    """
    labels = run.cells.labels[run.mapped]
    on = PlacedOn(str(run.folder.path), run.maps, labels, run.main_layer)
    measures = _measures(placed, cells, run.settings.seed)
    with replacing_folder(out, knows=(_MARK,)) as folder:
        table = placed_table(placed, cells)
        text = csv_text([list(table), *table.to_numpy(dtype=object).tolist()])
        write_text(folder / "placed.csv", text)
        table.to_parquet(folder / "placed.parquet", engine="pyarrow", index=False)
        pictures: dict[str, bytes] = {}
        drawings = placed_drawings(placed, cells, on)
        for done, drawing in enumerate(drawings):
            progress(done, len(drawings), drawing.name)
            pictures[drawing.name], svg = render(drawing.plot())
            write_bytes(folder / "figures" / f"{drawing.name}.png", pictures[drawing.name])
            write_bytes(folder / "figures" / f"{drawing.name}.svg", svg)
        summary = placed_summary(placed, cells, on, measures)
        page = placed_page(placed, cells, on, measures, pictures, summary)
        write_text(folder / "placed.html", render_report(page))
        write_json(folder / _MARK, summary)


def _measures(placed: PlacedCells, cells: Cells, seed: int) -> Mapping[str, Estimate]:
    """How well the network does on those of the new cells that have labels."""
    known = cells.labels >= 0
    if placed.probabilities is None or not known.any():
        return {}
    return evaluate(placed.probabilities[known], cells.labels[known], rng=seed).measures
