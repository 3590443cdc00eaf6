"""A study's cells, and its images, for other tools."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import choose
from cytolens.figures.display import display_of_cells
from cytolens.figures.style import FAINT, UNTRAINED, colours
from cytolens.records.cells import Cells, Split
from cytolens.store.cell_table import CellTable, Palette, Pictures
from cytolens.store.exports import FORMATS, write_export, write_h5ad
from cytolens.store.image_stacks import write_image_stacks
from cytolens.study.network_export import NETWORKS, write_network
from cytolens.study.stages.cells import properties_at
from cytolens.study.study import Study

EXPORTS = (*FORMATS, *NETWORKS)
"""What a run can be exported as."""

IN_EXPORT = 1_000_000_000
"""Bytes that a layer's features may take in an export that was asked for."""

IN_TEXT = 50_000_000
"""The same for TensorBoard, whose tensors are written and read as text."""


def export(run: str | Path, to: str = "h5ad", *, out: str | Path | None = None) -> Path:
    """The mapped cells of a run for another tool; gives the path of what was written.

    ``to``: h5ad or zarr (scanpy, cellxgene), h5sc (scPortrait, with the crops), parquet, csv,
    embedding-atlas, tensorboard, tiff (the feature and modulated images as ImageJ stacks), or the
    network itself as onnx or bioimageio (see `network_export.write_network`).
    ``out`` defaults to a name in ``RUN/exports``. Stages of the run that are not finished are made
    first; its cells and its classifier are taken as they are. Raises RunError where there is no
    run, SettingError for an unknown format and for a folder that holds other things.
    """
    return export_study(Study(Path(run)), to, out=None if out is None else Path(out))


def export_study(study: Study, to: str, *, out: Path | None = None) -> Path:
    """The same of a study that is open."""
    name = choose("format", to, EXPORTS)
    exports = study.folder.path / "exports"
    if name in NETWORKS:
        cells, held_out = study["cells"], study["held_out"]
        return write_network(
            study["network"],
            cells.subset(held_out) if len(held_out) else cells,
            name,
            out or exports / NETWORKS[name],
            model=study.settings.model,
        )
    if name == "tiff":
        cells = study["cells"]
        return write_image_stacks(
            out or exports / FORMATS[name],
            study["features"].channels,
            study["modulated"].galleries,
            study["contrasts"],
            channel_names=cells.channel_names,
            pixel_size=cells.pixel_size,
        )
    table = cell_table(study, most_bytes=IN_TEXT if name == "tensorboard" else IN_EXPORT)
    palette, show = palette_of(table.cells), pictures_of(table.cells)
    return write_export(table, name, out or exports / FORMATS[name], palette=palette, show=show)


def write_cells(table: CellTable, path: Path) -> None:
    """The ``cells.h5ad`` of a study."""
    write_h5ad(table, path, palette=palette_of(table.cells))


def cell_table(
    results: Mapping[str, Any], *, widest: int | None = None, most_bytes: int = IN_EXPORT
) -> CellTable:
    """The mapped cells with features, predictions, maps, clusters, properties and doubts.

    Layers of more than ``widest`` features, or whose features take more than ``most_bytes`` as
    float32, are left out, but for the one that is shown large.
    """
    cells, mapped, acts = results["cells"], results["mapped"], results["activations"]
    evaluation = results["evaluation"]
    main = results["main_layer"]
    most = min(most_bytes // (4 * max(len(mapped), 1)), widest or most_bytes)
    widths = {name: int(np.prod(acts.features[name].shape[1:])) for name in acts}
    kept = [name for name in acts if widths[name] <= most or name == main]
    return CellTable(
        cells=cells.subset(mapped),
        features={name: acts.rows(name, mapped) for name in kept},
        layer=main,
        probabilities=None if evaluation is None else evaluation.probabilities[mapped],
        parts=parts(cells, results["split"], results["classifier"].seen)[mapped],
        maps=results["maps"],
        clusters=results["clusters"],
        columns=_columns(results),
        left_out=tuple(name for name in acts if name not in kept),
    )


def _columns(results: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Properties measured on the mapped cells; doubts about their labels; why they are odd."""
    mapped, cells, suspects = results["mapped"], results["cells"], results["suspects"]
    measured = properties_at(results["properties"], cells, mapped)
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
    drawn = display_of_cells(cells)

    def show(index: NDArray[np.int64]) -> NDArray[np.uint8]:
        crops = cells.read(index)
        return np.stack([np.round(255 * drawn.show(crop)).astype(np.uint8) for crop in crops])

    return show


def parts(cells: Cells, split: Split, seen: str) -> NDArray[np.str_]:
    """What each cell (N,) was to the network: train, validation or test, as far as is known."""
    if seen != "no":
        return np.full(len(cells), {"yes": "train"}.get(seen, "unknown"), dtype="<U10")
    names = np.full(len(cells), "unused", dtype="<U10")
    names[split.train], names[split.validation], names[split.test] = "train", "validation", "test"
    return names
