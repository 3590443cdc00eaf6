"""What a person decided on single cells in ``suspects.csv``: to leave out, or of another class."""

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.columns import listed
from cytolens.records.cells import Decision

_COLUMNS = ("name", "use", "label")
_USE = {"": True, "yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True)
class Row:
    """A row of the table, as it was read; most decide nothing."""

    number: int  # in the file, the header is row 1
    name: str
    use: bool
    label: str | None  # None: as it is

    @property
    def decides(self) -> bool:
        """Whether the row asks for a change."""
        return not self.use or self.label is not None


def read_decisions(path: str | Path) -> tuple[Row, ...]:
    """The rows of a CSV with the columns ``name``, ``use`` and ``label``, with , ; or tab between.

    ``use`` is yes, true or 1, or else no, false or 0, which leaves the cell out. A label that is
    empty, or that of the column ``given`` where there is one, stays as it is. Raises InputError
    where there is no such file, where it is no such table, and for another ``use``.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"--relabel '{path}' is no file; give the suspects.csv of a run, edited")
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        table = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"--relabel '{path}' is no CSV text; save it as 'CSV UTF-8'") from None
    header = [entry.strip().lower() for entry in table[0]] if table else []
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise InputError(
            f"--relabel '{path}' has no column {listed(missing)}; it needs {listed(_COLUMNS)}, as "
            f"the suspects.csv of a run, and has: {listed(header) or 'none'}"
        )
    rows: list[Row] = []
    for number, entries in enumerate(table[1:], start=2):
        row = dict(zip(header, (entry.strip() for entry in entries)))
        if not any(row.values()):
            continue
        use = row.get("use", "")
        if use.lower() not in _USE:
            raise InputError(
                f"--relabel '{path}', row {number}: use is '{use}'; allowed are yes (true, 1) and "
                "no (false, 0), or nothing for yes"
            )
        label = row.get("label", "")
        same = label in ("", row.get("given"))
        rows.append(Row(number, row.get("name", ""), _USE[use.lower()], None if same else label))
    return tuple(rows)


def asked_changes(path: str | Path) -> frozenset[tuple[str, str | None]]:
    """What the table asks to change: names of cells with their new class, None where left out."""
    rows = read_decisions(path)
    return frozenset((row.name, row.label if row.use else None) for row in rows if row.decides)


def apply_decisions(
    path: str | Path,
    names: NDArray[np.str_],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
) -> tuple[NDArray[np.int64], NDArray[np.bool_], tuple[Decision, ...]]:
    """Labels (N,) after the decisions at ``path``, which cells (N,) are used, and what changed.

    names (N,), labels (N,) as index into ``class_names``. Raises InputError for a table that
    `read_decisions` refuses, a name that is none of ``names`` or that several cells share, a
    class that has no cells, two rows that disagree, and a class that is left without cells.
    """
    where = f"--relabel '{path}'"
    rows = read_decisions(path)
    places, counts = _places(names)
    unknown = [row for row in rows if _known(row.name, places) is None]
    if unknown:
        raise InputError(
            f"{where}: {len(unknown)} of {len(rows)} names are no cells of these data (first: row "
            f"{unknown[0].number}, '{unknown[0].name}'); cells are called like '{names[0]}'"
        )
    before = np.bincount(labels, minlength=len(class_names))
    classes = {name: i for i, name in enumerate(class_names) if before[i]}
    after, used = labels.copy(), np.ones(len(labels), dtype=bool)
    decided: dict[int, tuple[int, int | None]] = {}  # row and new label, by cell
    for row in (row for row in rows if row.decides):
        name = str(_known(row.name, places))
        if counts[name] > 1:
            raise InputError(
                f"{where}, row {row.number}: {counts[name]} cells are called '{name}'; decide on "
                "cells with a name of their own"
            )
        label: int | None = None
        if row.use:
            known = _known(str(row.label), classes)
            if known is None:
                raise InputError(
                    f"{where}, row {row.number}: '{row.label}' is no class of these data; choose "
                    f"one of: {', '.join(classes)}"
                )
            label = classes[known]
        cell = places[name]
        other, earlier = decided.setdefault(cell, (row.number, label))
        if earlier != label:
            raise InputError(
                f"{where}: rows {other} and {row.number} disagree on '{name}'; keep one of them"
            )
        used[cell] = label is not None
        after[cell] = labels[cell] if label is None else label
    changed = np.flatnonzero(~used | (after != labels)).tolist()
    empty = [name for name, i in classes.items() if not (used & (after == i)).any()]
    if empty:
        raise InputError(
            f"{where} leaves no cell of class {listed(empty)}; keep some of its cells, or go on "
            "without the class: --classes"
        )
    decisions = tuple(
        Decision(
            str(names[cell]),
            class_names[int(labels[cell])],
            class_names[int(after[cell])] if used[cell] else None,
        )
        for cell in changed
    )
    return after, used, decisions


def _places(names: NDArray[np.str_]) -> tuple[dict[str, int], dict[str, int]]:
    """Where each name is, and how often."""
    found, first, counts = np.unique(names, return_index=True, return_counts=True)
    return dict(zip(found.tolist(), first.tolist())), dict(zip(found.tolist(), counts.tolist()))


def _known(text: str, known: Collection[str]) -> str | None:
    """``text`` among what is known; also with the apostrophe that keeps it from being a formula."""
    if text in known:
        return text
    bare = text.removeprefix("'")
    return bare if bare in known else None
