"""Decisions made in the page, written into ``suspects.csv`` of the run, as a person would.

The table is the one that ``cytolens run RUN --relabel suspects.csv`` takes: nothing changes in
the run until it is handed back.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cytolens.errors import InputError, RunError, SettingError
from cytolens.images.decisions import read_decisions
from cytolens.records.cells import Cells
from cytolens.store.csv_text import safe_csv_cell
from cytolens.store.files import write_text

_HEADER = ["cell", "name", "use", "label", "list", "given", "suggested", "score", "reason"]
_OURS = "explorer"  # in the column "list", of rows that the page has added


class Relabelling:
    """The decisions of a run, by the place of the cell in the run."""

    def __init__(self, run: Path, cells: Cells) -> None:
        self._path, self._cells = run / "suspects.csv", cells
        names, counts = np.unique(cells.names, return_counts=True)
        self._shared = set(names[counts > 1].tolist())
        self._place = {name: cell for cell, name in enumerate(cells.names.tolist())}
        self._given = {decision.name: decision.given for decision in cells.decisions}

    def read(self) -> dict[int, str | None]:
        """What is decided so far: the new class by cell, None where it is left out.

        Empty where there is no table, or none that can be read.
        """
        if not self._path.is_file():
            return {}
        try:
            rows = read_decisions(self._path)
        except InputError:
            return {}
        found: dict[int, str | None] = {}
        for row in rows:
            cell = self._place.get(row.name, self._place.get(row.name.removeprefix("'")))
            if row.decides and cell is not None:
                found[cell] = row.label if row.use else None
        return found

    def decide(self, chosen: Sequence[int], label: str | None) -> None:
        """Give cells another class, or leave them out (None).

        Raises SettingError for a class that the run does not have and for cells that share a
        name, RunError where the table cannot be changed.
        """
        if label is not None and label not in self._cells.class_names:
            raise SettingError("that is no class of this run")
        use, text = ("no", None) if label is None else ("yes", label)
        self._edit(chosen, use, text)

    def take_back(self, chosen: Sequence[int]) -> None:
        """Forget what was decided on these cells in this table."""
        self._edit(chosen, "yes", "")

    def _edit(self, chosen: Sequence[int], use: str, label: str | None) -> None:
        names = [str(self._cells.names[cell]) for cell in chosen]
        if self._shared.intersection(names):
            raise SettingError("several cells share a name; decide on cells with their own name")
        written, rows, delimiter = self._read()
        header = [entry.strip().lower() for entry in written]
        at = {name: header.index(name) for name in ("name", "use", "label")}
        known = {row[at["name"]].removeprefix("'"): row for row in rows}
        for cell, name in zip(chosen, names, strict=True):
            now = self._cells.class_names[int(self._cells.labels[cell])]
            given = self._given.get(name, now)
            row = known.get(name.removeprefix("'"))
            if row is None:
                if label == "":
                    continue
                about = {"cell": cell, "name": name, "list": _OURS, "given": given}
                row = [str(safe_csv_cell(about.get(entry, ""))) for entry in header]
                rows.append(row)
            row[at["use"]] = use
            row[at["label"]] = str(safe_csv_cell(label or given))
        if label == "" and "list" in header:
            place, gone = header.index("list"), {name.removeprefix("'") for name in names}
            rows = [
                row
                for row in rows
                if row[place] != _OURS or row[at["name"]].removeprefix("'") not in gone
            ]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n", delimiter=delimiter).writerows([written, *rows])
        write_text(self._path, text.getvalue())

    def _read(self) -> tuple[list[str], list[list[str]], str]:
        """Header and rows of the table as they are, and what stands between the values."""
        if not self._path.is_file():
            return list(_HEADER), [], ","
        try:
            read_decisions(self._path)  # whether it is such a table at all
            text = self._path.read_text(encoding="utf-8-sig")
        except (InputError, OSError, UnicodeDecodeError) as error:
            raise RunError("suspects.csv of the run cannot be read; mend it first") from error
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        table = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        width = len(table[0])
        return table[0], [(row + [""] * width)[:width] for row in table[1:] if any(row)], delimiter
