"""What the user says of which cells a network was trained on."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytolens.classifier.splitting import Indices, split_cells, split_held_out
from cytolens.errors import SettingError
from cytolens.records.cells import Cells, Split

Mask = NDArray[np.bool_]


def stated_split(
    cells: Cells,
    *,
    trained_on: str | None,
    held_out: str | None,
    untrained: bool,
    rng: int,
    together: Indices | None = None,
) -> Split:
    """The split of the cells: those named were trained on, the others are held out.

    ``trained_on`` or ``held_out`` name cells as `cells_named` understands them. Where they name
    all, none or nothing, and of a network that is ``untrained``, the split is drawn; then of a
    network of the user's it only serves what is fitted here: the prior, the linear model, the
    probes. ``together`` are pairs of cells that no split made here parts. Raises SettingError.
    """
    trained = _trained(cells, trained_on, held_out, untrained)
    if trained is None or trained.all() or not trained.any():
        return split_cells(cells, together=together, rng=rng)
    return split_held_out(cells, np.flatnonzero(trained), rng=rng)


def seen_as_stated(
    cells: Cells, *, trained_on: str | None, held_out: str | None, untrained: bool
) -> str:
    """Whether a network has seen the test cells of `stated_split`: "no", "yes" or "unknown"."""
    trained = _trained(cells, trained_on, held_out, untrained)
    if trained is None:
        return "unknown"
    return "yes" if trained.all() else "no"


def _trained(
    cells: Cells, trained_on: str | None, held_out: str | None, untrained: bool
) -> Mask | None:
    """The cells (N,) that a network was trained on; None where nothing is said of it."""
    if (trained_on is not None) + (held_out is not None) + untrained > 1:
        raise SettingError(
            "--trained-on, --held-out and --untrained each say which cells the network has seen; "
            "give one of them"
        )
    if trained_on is not None:
        return cells_named(cells, trained_on, flag="--trained-on")
    if held_out is not None:
        return ~cells_named(cells, held_out, flag="--held-out")
    return np.zeros(len(cells), bool) if untrained else None


def cells_named(cells: Cells, text: str, *, flag: str) -> Mask:
    """The cells (N,) that ``text`` names.

    "all"; "none"; a file with a cell's name per line, or a CSV with a column ``name`` or ``path``;
    ``column=value,value`` of a column of the table or of the group; or values of the group alone.
    Raises SettingError where that names no cell.
    """
    if text in ("all", "none"):
        return np.full(len(cells), text == "all")
    column, given, values = text.partition("=")
    wanted = [value.strip() for value in (values if given else text).split(",")]
    if not given and Path(text).is_file():
        found = np.isin(cells.names, _names_in(Path(text)))
        where = f"the names in '{text}' are none of these cells, such as '{cells.names[0]}'"
    elif not given:
        groups = np.empty(0, str) if cells.groups is None else cells.groups.astype(str)
        found = np.isin(groups, wanted) if len(groups) else np.zeros(len(cells), bool)
        where = f"it is no file, no column=value, and no {cells.group_name or 'group'} of the cells"
    else:
        table = _columns(cells)
        if column not in table:
            known = ", ".join(table) or "none"
            raise SettingError(f"{flag} '{text}': '{column}' is no column of the cells ({known})")
        found = np.isin(table[column], wanted)
        some = ", ".join(np.unique(table[column])[:6].tolist())
        where = f"no cell has that; '{column}' has the values {some}"
    if not found.any():
        raise SettingError(f"{flag} '{text}' names no cell: {where}")
    return found


def remarks_on_statement(cells: Cells, split: Split, *texts: str | None) -> tuple[str, ...]:
    """What of a statement is not as it may have been meant: names unknown here, groups cut."""
    found: list[str] = []
    for file in (Path(text) for text in texts if text and Path(text).is_file()):
        names = _names_in(file)
        unknown = int((~np.isin(names, cells.names)).sum())
        if unknown:
            found.append(f"{unknown:,} of the {len(names):,} names in '{file}' are no cells here.")
    if cells.groups is not None:
        others = np.concatenate([split.validation, split.test])
        both = np.intersect1d(cells.groups[split.train], cells.groups[others])
        if len(both):
            found.append(
                f"The network was trained on some cells of {cells.group_name or 'group'} "
                f"{', '.join(both[:5].astype(str))}{' …' if len(both) > 5 else ''} and is tested "
                "on others of the same: the numbers are not those of new ones."
            )
    return tuple(found)


def _columns(cells: Cells) -> dict[str, NDArray[np.str_]]:
    table = {name: np.asarray(values).astype(str) for name, values in cells.covariates.items()}
    if cells.groups is not None:
        groups = cells.groups.astype(str)
        table = {"group": groups, str(cells.group_name or "group"): groups, **table}
    return table


def _names_in(file: Path) -> list[str]:
    """A name per line; of a CSV the column ``name`` or ``path``, else the first."""
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    rows = [row for row in csv.reader(lines) if row]
    header = [entry.strip() for entry in rows[0]] if rows else []
    named = [header.index(name) for name in ("name", "path") if name in header]
    return [row[named[0] if named else 0].strip() for row in rows if len(row) > (named or [0])[0]]
