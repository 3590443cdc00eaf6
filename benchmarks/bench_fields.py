"""Cutting crops from fields, and the memory that large small files take.

    python benchmarks/bench_fields.py

Twelve fields of 1080 × 1080 pixels and five image channels (a file each, 16 bit, as in Cell
Painting) with 150 cells each, cut at 96 pixels by a table and by label images; and 24 PNG files of
63 KB that are 64 MiB each when decoded.
"""

import csv
import resource
import struct
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import tifffile

from cytolens.images.reading import read_cells

CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")
FIELDS, CELLS, SIDE = 12, 150, 1080


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(path: Path, **options: object) -> tuple[float, float, int]:
    before, start = peak(), time.process_time()
    cells = read_cells(path, size=96, **options)
    return time.process_time() - start, peak() - before, len(cells)


def make_fields(root: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for index in range(FIELDS):
        labels = np.zeros((SIDE, SIDE), np.uint16)
        image = rng.integers(200, 4000, (len(CHANNELS), SIDE, SIDE)).astype(np.uint16)
        kind = "ab"[index % 2]
        for cell, (y, x) in enumerate(rng.integers(0, SIDE, (CELLS, 2)).tolist(), 1):
            labels[max(y - 12, 0) : y + 12, max(x - 12, 0) : x + 12] = cell
            row: dict[str, object] = {"Metadata_Kind": kind, "Cells_Location_Center_X": x}
            row |= {"Cells_Location_Center_Y": y}
            row |= {f"Image_FileName_{c}": f"{index}_{c}.tif" for c in CHANNELS}
            rows.append(row)
        for channel, plane in zip(CHANNELS, image):
            (root / "table").mkdir(exist_ok=True)
            tifffile.imwrite(root / "table" / f"{index}_{channel}.tif", plane, compression="zlib")
        (root / "masks" / kind).mkdir(parents=True, exist_ok=True)
        place = root / "masks" / kind / f"{index}.ome.tif"
        tifffile.imwrite(place, image, metadata={"axes": "CYX"}, ome=True, compression="zlib")
        tifffile.imwrite(place.with_name(f"{index}_masks.tif"), labels, compression="zlib")
    with (root / "table" / "cells.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root / "table" / "cells.csv", root / "masks"


def make_bombs(root: Path) -> Path:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    packer = zlib.compressobj(9)
    line = bytes(1 + 4096 * 4)
    data = packer.compress(line[:1] + b"\1" + line[2:]) + b"".join(
        packer.compress(line) for _ in range(4095)
    )
    header = struct.pack(">IIBBBBB", 4096, 4096, 8, 6, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    content += chunk(b"IDAT", data + packer.flush()) + chunk(b"IEND", b"")
    for i in range(24):
        (root / "ab"[i % 2]).mkdir(exist_ok=True)
        (root / "ab"[i % 2] / f"{i}.png").write_bytes(content)
    return root


def main() -> None:
    print("| what | cells | CPU s | cells/s | MB more |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        table, masks = make_fields(root)
        for what, path, options in (
            (
                "a table of centres, 96 px around each",
                table,
                {"labels": "Metadata_Kind", "window": 96},
            ),
            ("label images, 96 px around each", masks, {"window": 96}),
            ("the same, surroundings blanked", masks, {"window": 96, "blank": "surroundings"}),
        ):
            seconds, memory, n = timed(path, **options)
            print(f"| {what} | {n} | {seconds:.1f} | {n / seconds:.0f} | {memory:.0f} |")
        if "bombs" in sys.argv:
            (root / "bombs").mkdir()
            seconds, memory, n = timed(make_bombs(root / "bombs"))
            print(f"| PNG, 64 MiB each when decoded | {n} | {seconds:.1f} | | {memory:.0f} |")


if __name__ == "__main__":
    main()
