"""Field images with known cells, and the tables that tools write of them."""

import csv
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

HEIGHT, WIDTH = 120, 140
CHANNELS = ("DNA", "ER")


@dataclass(frozen=True)
class Field:
    """A field (2, H, W), its label image (H, W), and where its cells are."""

    name: str
    treatment: str
    image: np.ndarray
    labels: np.ndarray
    rows: list[dict[str, Any]]  # number, x, y, box (left, top, right, bottom)


def make_fields(n: int = 4, *, each: int = 16, seed: int = 0) -> list[Field]:
    """Cells on a jittered grid, some cut by the border, in fields of noise."""
    rng = np.random.default_rng(seed)
    fields: list[Field] = []
    for index in range(n):
        labels = np.zeros((HEIGHT, WIDTH), np.uint16)
        image = rng.integers(90, 110, (2, HEIGHT, WIDTH)).astype(np.uint16)
        rows: list[dict[str, Any]] = []
        columns = int(np.ceil(np.sqrt(each)))
        for cell in range(each):
            y = (cell // columns) * HEIGHT / columns + rng.integers(4, HEIGHT // columns - 4)
            x = (cell % columns) * WIDTH / columns + rng.integers(4, WIDTH // columns - 4)
            down, across = np.mgrid[:HEIGHT, :WIDTH]
            mask = ((down - y) ** 2 + (across - x) ** 2 <= rng.integers(5, 9) ** 2) & (labels == 0)
            number = 2 * cell + 3  # numbers need not follow one another
            labels[mask] = number
            bright = 400 if index % 2 else 250
            image[:, mask] += rng.integers(bright, bright + 200, (2, int(mask.sum()))).astype(
                np.uint16
            )
        for number in np.unique(labels[labels > 0]).tolist():
            ys, xs = np.nonzero(labels == number)
            box = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            rows.append(
                {"number": number, "x": xs.mean(), "y": ys.mean(), "box": tuple(map(int, box))}
            )
        fields.append(Field(f"s{index + 1}", "drug" if index % 2 else "DMSO", image, labels, rows))
    return fields


def write_images(root: Path, fields: list[Field], *, folder: str = "plate1") -> None:
    """A file for each channel, as microscopes write them."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    for one in fields:
        for channel, plane in zip(CHANNELS, one.image):
            tifffile.imwrite(root / folder / f"{one.name}_{channel}.tif", plane)


def image_rows(fields: list[Field], *, prefix: str = "") -> list[dict[str, Any]]:
    """CellProfiler's table of images; the paths are those of another machine."""
    return [
        {
            "ImageNumber": i + 1,
            f"{prefix}Metadata_Plate": "plate1",
            f"{prefix}Metadata_Well": f"A0{i % 4 + 1}",
            f"{prefix}Metadata_Treatment": one.treatment,
            **{f"{prefix}FileName_{c}": f"{one.name}_{c}.tif" for c in CHANNELS},
            **{f"{prefix}PathName_{c}": "C:\\screen\\plate1" for c in CHANNELS},
            f"{prefix}Count_Nuclei": len(one.rows),
        }
        for i, one in enumerate(fields)
    ]


def object_rows(fields: list[Field], *, prefix: str = "") -> list[dict[str, Any]]:
    """CellProfiler's table of objects."""
    return [
        {
            "ImageNumber": i + 1,
            "ObjectNumber": row["number"],
            f"{prefix}AreaShape_Area": 99.5,
            f"{prefix}AreaShape_BoundingBoxMinimum_X": row["box"][0],
            f"{prefix}AreaShape_BoundingBoxMinimum_Y": row["box"][1],
            f"{prefix}AreaShape_BoundingBoxMaximum_X": row["box"][2],
            f"{prefix}AreaShape_BoundingBoxMaximum_Y": row["box"][3],
            f"{prefix}Intensity_MeanIntensity_DNA": 0.25,
            f"{prefix}Location_Center_X": row["x"],
            f"{prefix}Location_Center_Y": row["y"],
        }
        for i, one in enumerate(fields)
        for row in one.rows
    ]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_sqlite(path: Path, tables: dict[str, list[dict[str, Any]]]) -> Path:
    with sqlite3.connect(path) as database:
        for name, rows in tables.items():
            columns = ", ".join(f'"{column}"' for column in rows[0])
            database.execute(f'CREATE TABLE "{name}" ({columns})')
            marks = ", ".join("?" * len(rows[0]))
            values = [
                tuple(v.item() if hasattr(v, "item") else v for v in r.values()) for r in rows
            ]
            database.executemany(f'INSERT INTO "{name}" VALUES ({marks})', values)
    database.close()
    return path
