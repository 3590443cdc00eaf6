"""A study's cells for other tools, with all that its stages found of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytolens.figures.style import FAINT, UNTRAINED, colours
from cytolens.figures.tiles import look_of
from cytolens.records.cells import Cells, Split
from cytolens.report.results import StudyResults
from cytolens.store.cell_table import CellTable, Palette, Pictures
from cytolens.store.exports import FORMATS, write_export, write_h5ad
from cytolens.store.image_stacks import write_image_stacks

if TYPE_CHECKING:
    from cytolens.study.study import Study

WIDEST = 1024
"""Features of a layer that the ``cells.h5ad`` of every study takes in; pixels are mostly more."""

IN_EXPORT = 1_000_000_000
"""Bytes that a layer's features may take in an export that was asked for."""

IN_TEXT = 50_000_000
"""The same for TensorBoard, whose tensors are written and read as text."""


def export(run: str | Path, to: str = "h5ad", *, out: str | Path | None = None) -> Path:
    """The mapped cells of a run for another tool; gives the path of what was written.

    ``to``: h5ad or zarr (scanpy, cellxgene), parquet, embedding-atlas, tensorboard, or tiff (the
    feature images and modulated images as ImageJ stacks). ``out`` defaults to a name in
    ``RUN/exports``. Stages of the run that are not finished are made first.
    Raises RunError where there is no run, SettingError for an unknown format and for a folder that
    holds other things.
    """
    from cytolens.study.study import Study  # which imports this file

    return export_study(Study(Path(run)), to, out=None if out is None else Path(out))


def export_study(study: "Study", to: str, *, out: Path | None = None) -> Path:
    """The same of a study that is open."""
    if to == "tiff":
        cells = study.cells()
        return write_image_stacks(
            out or study.folder.path / "exports" / FORMATS[to],
            study.features()["galleries"],
            study.modulated()["galleries"],
            channel_names=cells.channel_names,
            pixel_size=cells.pixel_size,
        )
    table = table_of(study, most_bytes=IN_TEXT if to == "tensorboard" else IN_EXPORT)
    name = next((known for known in FORMATS if known == to), None)
    exports = study.folder.path / "exports"
    path = exports / FORMATS[name] if out is None and name is not None else out or exports
    return write_export(
        table, to, path, palette=palette_of(table.cells), show=pictures_of(table.cells)
    )


def write_cells(study: "Study", path: Path) -> None:
    """The ``cells.h5ad`` of a study: every layer of up to 1,024 features."""
    table = table_of(study, widest=WIDEST)
    write_h5ad(table, path, palette=palette_of(table.cells))


def table_of(
    study: "Study", *, widest: int | None = None, most_bytes: int = IN_EXPORT
) -> CellTable:
    """The mapped cells with features, predictions, maps, clusters, properties and doubts.

    Layers of more than ``widest`` features, or whose features take more than ``most_bytes`` as
    float32, are left out, but for the main one.
    """
    maps, mapped, acts = study.maps(), study.mapped, study.activations()
    main = StudyResults(layers=study.layers(), maps=maps).main_layer
    assert main is not None
    most = min(most_bytes // (4 * max(len(mapped), 1)), widest or most_bytes)
    widths = {name: int(np.prod(acts.features[name].shape[1:])) for name in acts}
    kept = [name for name in acts if widths[name] <= most or name == main]
    return CellTable(
        cells=study.cells().subset(mapped),
        features={name: acts.rows(name, mapped) for name in kept},
        layer=main,
        probabilities=study.evaluation()["probabilities"][mapped],
        parts=parts(study.cells(), study.split)[mapped],
        maps=maps,
        clusters=study.clusters(),
        columns=_columns(study),
        left_out=tuple(name for name in acts if name not in kept),
    )


def _columns(study: "Study") -> dict[str, NDArray[Any]]:
    """Properties measured on the mapped cells; doubts about their labels; why they are odd."""
    mapped, cells, suspects = study.mapped, study.cells(), study.suspects()
    measured = study.properties_of(mapped)
    columns: dict[str, NDArray[Any]] = {
        name: values for name, values in measured.items() if name not in cells.covariates
    }
    names = np.array([*cells.class_names, "none"])
    suggested, doubt = np.full(len(cells), len(names) - 1), np.full(len(cells), np.nan)
    suggested[suspects.labels], doubt[suspects.labels] = suspects.suggested, suspects.score
    odd = dict(zip(suspects.odd.tolist(), suspects.reasons))
    columns["suggested_class"] = names[suggested[mapped]]
    columns["label_doubt"] = doubt[mapped]
    columns["odd"] = np.array([odd.get(int(cell), "none") for cell in mapped])
    return columns


def main_channel(study: "Study", layer: str | None) -> dict[str, NDArray[np.float32]]:
    """Activation on the mapped cells of the channel of a layer that matters most, by title."""
    ranking = study.ranking().get(layer or "")
    if ranking is None or not len(ranking.importance):
        return {}
    first = int(np.nan_to_num(ranking.importance, nan=-np.inf).argmax())
    values = study.activations().rows(ranking.layer, study.mapped)
    return (
        {f"{ranking.layer}, channel {first}": values[:, first]} if first < values.shape[1] else {}
    )


def palette_of(cells: Cells) -> Palette:
    """The colours of the figures, for any categorical column: classes first, the others after."""

    def palette(column: str, categories: Sequence[str]) -> list[str]:
        if column in ("class", "prediction"):
            return colours(len(categories))
        if column == "correct":
            return [FAINT, UNTRAINED]
        tints = colours(len(categories), first=len(cells.class_names))
        pairs = zip(categories, tints)
        return [FAINT if name == "none" else tint for name, tint in pairs]

    return palette


def pictures_of(cells: Cells) -> Pictures:
    """Crops as pictures (n, H, W, 3), uint8, as the figures show them: the first image channel."""
    drawn = look_of(cells)

    def show(index: NDArray[np.int64]) -> NDArray[np.uint8]:
        crops = cells.read(index)
        return np.stack([np.round(255 * drawn.show(crop)).astype(np.uint8) for crop in crops])

    return show


def parts(cells: Cells, split: Split) -> NDArray[np.str_]:
    """The part of the split that each cell (N,) was in: train, validation or test."""
    names = np.full(len(cells), "unused", dtype="<U10")
    names[split.train], names[split.validation], names[split.test] = "train", "validation", "test"
    return names
