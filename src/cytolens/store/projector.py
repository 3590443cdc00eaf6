"""A folder that TensorBoard's embedding projector opens.

Format: tensorboard/plugins/projector/projector_config.proto, and "Embedding Projector" in
TensorBoard's documentation. Tensors are written as text: TensorBoard reads a binary file as text
if it decodes as UTF-8, and features that are mostly zero do.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from cytolens.store.cell_table import CellTable, Pictures, observations
from cytolens.store.files import write_text

SPRITE_SIDE = 8192
"""Pixels along a side that TensorBoard takes for a sprite image."""


def write_projector(folder: Path, table: CellTable, pictures: Pictures | None = None) -> None:
    """Write ``projector_config.pbtxt`` and what it names, by paths relative to it, into a folder.

    One tensor per layer of the table and one per map, ``tensors_<name>.tsv``; ``metadata.tsv``
    with a header; and where there are ``pictures``, ``sprite.png``: all cells row by row on a
    square grid of at most 8192 × 8192 px, made smaller where they are too many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = observations(table)
    if "name" not in rows:
        rows.insert(0, "name", rows.index)
    write_text(folder / "metadata.tsv", _metadata(rows))
    sprite = ""
    if pictures is not None:
        width, height = _write_sprite(folder / "sprite.png", pictures, len(rows))
        sprite = (
            '  sprite {\n    image_path: "sprite.png"\n'
            f"    single_image_dim: {width}\n    single_image_dim: {height}\n  }}\n"
        )
    tensors: dict[str, NDArray[Any]] = {
        f"{layer} ({method} map)": embedding.coordinates
        for method, by_layer in table.maps.items()
        for layer, embedding in by_layer.items()
    }
    ordered = {table.layer: table.features[table.layer], **table.features, **tensors}
    entries: list[str] = []
    for place, (name, values) in enumerate(ordered.items()):
        path = f"tensors_{place:02d}.tsv"
        np.savetxt(folder / path, np.asarray(values, np.float32), fmt="%.6g", delimiter="\t")
        entries.append(
            "embeddings {\n"
            f'  tensor_name: "{_escaped(name)}"\n  tensor_path: "{path}"\n'
            f"  tensor_shape: {values.shape[0]}\n  tensor_shape: {values.shape[1]}\n"
            f'  metadata_path: "metadata.tsv"\n{sprite}}}\n'
        )
    write_text(folder / "projector_config.pbtxt", "".join(entries))


def _metadata(rows: pd.DataFrame) -> str:
    """Tab-separated text with a header; tabs and line ends inside a value become spaces."""
    columns = [[_one_line(column), *map(_one_line, rows[column])] for column in rows.columns]
    return "".join("\t".join(line) + "\n" for line in zip(*columns, strict=True))


def _one_line(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)
    return " ".join(text.split())


def _write_sprite(path: Path, pictures: Pictures, n: int) -> tuple[int, int]:
    """All cells on a square grid, row by row; gives the width and height of one in pixels."""
    across = int(np.ceil(np.sqrt(max(n, 1))))
    height, width = pictures(np.zeros(1, dtype=np.int64)).shape[1:3]
    scale = min(1.0, SPRITE_SIDE / across / max(height, width))
    h, w = max(int(height * scale), 1), max(int(width * scale), 1)
    canvas = Image.new("RGB", (across * w, across * h))
    for start in range(0, n, 256):
        index = np.arange(start, min(start + 256, n))
        for place, picture in zip(index.tolist(), pictures(index)):
            tile = Image.fromarray(picture)
            tile = tile if scale == 1 else tile.resize((w, h), Image.Resampling.BOX)
            canvas.paste(tile, (place % across * w, place // across * h))
    canvas.save(path)
    return w, h


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
