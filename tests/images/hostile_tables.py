"""Tables that are broken, or made to do harm."""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hostile_files import noise
from made_crops import make_crops, write_crop

Write = Callable[[Path], object]


def crops_beside(path: Path) -> list[str]:
    """24 crops in the table's folder; their names."""
    names = [f"crop_{i}.png" for i in range(24)]
    for name, crop in zip(names, make_crops(24, 20, 18)):
        write_crop(path.with_name(name), crop)
    return names


def rows(path: Path, *, header: str = "path,label", more: str = "", label: str = "") -> None:
    """A CSV of 24 cells, with further lines, or another label in the first row."""
    names = crops_beside(path)
    lines = [f"{name},{'ab'[i % 2]}" for i, name in enumerate(names)]
    if label:
        lines[0] = f"{names[0]},{label}"
    path.write_text("\n".join([header, *lines]) + "\n" + more)


def parquet(target: Path, **columns: Any) -> None:
    """A Parquet file of 24 cells with other columns."""
    content = {"path": crops_beside(target), "label": ["a", "b"] * 12} | columns
    pq.write_table(pa.table(content), target)


def mutated(path: Path, start: int, value: bytes) -> None:
    parquet(path)
    content = bytearray(path.read_bytes())
    content[start : start + len(value)] = value
    path.write_bytes(content)


def footer(path: Path, length: int) -> None:
    """A Parquet file that says another length of its description."""
    parquet(path)
    content = bytearray(path.read_bytes())
    content[-8:-4] = struct.pack("<I", length)
    path.write_bytes(content)


TABLES: dict[str, tuple[Write, str]] = {
    "pipe.csv": (os.mkfifo, "is a pipe"),
    "pipe.parquet": (os.mkfifo, "is a pipe"),
    "zero.csv": (lambda p: p.symlink_to("/dev/zero"), "is a device"),
    "zero.parquet": (lambda p: p.symlink_to("/dev/zero"), "is a device"),
    "empty.csv": (lambda p: p.write_bytes(b""), "is empty"),
    "empty.parquet": (lambda p: p.write_bytes(b""), "is empty"),
    "blank.csv": (lambda p: p.write_text("\n\n\n"), "cannot be decoded"),
    "head.csv": (lambda p: p.write_text("path,label\n"), "has no rows"),
    "noise.csv": (lambda p: p.write_bytes(noise(9999)), "cannot be decoded|UTF-8|no column"),
    "noise.parquet": (lambda p: p.write_bytes(noise(9999)), "cannot be decoded"),
    "utf16.csv": (lambda p: p.write_text("path,label\n", encoding="utf-16"), "no UTF-8"),
    "latin.csv": (
        lambda p: (rows(p), p.write_bytes(p.read_bytes() + b"x.png,caf\xe9\n")), "no UTF-8",
    ),
    "columns.csv": (lambda p: rows(p, header="place,kind"), "no column 'path'"),
    "unlabelled.csv": (lambda p: rows(p, header="path,kind"), "no array 'labels'"),
    "ragged.csv": (lambda p: rows(p, more="a,b,c,d,e\n"), "cannot be decoded"),
    "quote.csv": (lambda p: rows(p, more='"never closed,a\n'), "cannot be decoded|does not exist"),
    "nul.csv": (lambda p: rows(p, more="x\0.png,a\n"), "cannot be|does not exist"),
    "nowhere.csv": (lambda p: rows(p, more=",a\n"), "no path in row 25"),
    "gone.csv": (lambda p: rows(p, more="gone.png,a\n"), "gone.png does not exist"),
    "outside.csv": (lambda p: rows(p, more="../../etc/passwd,a\n"), "does not exist|is no PNG"),
    "system.csv": (lambda p: rows(p, more="/etc/passwd,a\n"), "is no PNG"),
    "device.csv": (lambda p: rows(p, more="/dev/zero,a\n"), "is a device"),
    "folder.csv": (lambda p: rows(p, more=".,a\n"), "is a folder"),
    "long.csv": (lambda p: rows(p, label="x" * 99_999), "99999 characters"),
    "long_path.csv": (lambda p: rows(p, more=f"{'x' * 4000},a\n"), "cannot be read"),
    "twice.parquet": (lambda p: parquet(p, **{" path": ["x"] * 24}), "does not exist|two columns"),
    "lists.parquet": (lambda p: parquet(p, label=[["a"], ["b"]] * 12), "no array 'labels'"),
    "list_paths.parquet": (lambda p: parquet(p, path=[["a"], ["b"]] * 12), "no column 'path'"),
    "records.parquet": (lambda p: parquet(p, label=[{"a": 1}] * 24), "no array 'labels'"),
    "bytes.parquet": (lambda p: parquet(p, label=[b"caf\xe9", b"x"] * 12), "not UTF-8"),
    "null.parquet": (lambda p: parquet(p, label=[None, "b"] * 12), "missing"),
    "huge.parquet": (lambda p: parquet(p, label=[1e300, 0.5] * 12), "fractions"),
    "cut.parquet": (
        lambda p: (parquet(p), p.write_bytes(p.read_bytes()[:-99])), "cannot be decoded",
    ),
    "footer.parquet": (lambda p: footer(p, 2**31 - 1), "cannot be decoded"),
    "footer_0.parquet": (lambda p: footer(p, 0), "cannot be decoded"),
    "pages.parquet": (lambda p: mutated(p, 4, b"\xff" * 40), "cannot be decoded"),
}  # fmt: skip
"""Tables by name: how each is written, and what is said of it (a regular expression)."""
