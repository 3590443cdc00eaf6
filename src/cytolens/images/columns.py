"""What is known of cells besides their picture: class labels, groups, covariates, names."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError, SettingError, choose
from cytolens.images.opening import LONGEST_TEXT

MOST_PARTS = 16  # columns that an (N, k) array may become
_MOST_WHOLE = 2.0**53  # beyond it a real number is no count
NO_LABELS = "none"  # for cells that are only to be placed or predicted


def natural_order(names: Sequence[str]) -> list[str]:
    """Names sorted as a person would.

    >>> natural_order(["G10", "G2", "g1"])
    ['g1', 'G2', 'G10']
    """

    # A string as key: a million file names must not each become a list of tuples.
    # "a1" and "a01" have the same key; sorted first, they do not depend on the order they came in.
    names = sorted(names)
    return sorted(names, key=lambda name: re.sub(r"\d+", lambda m: m[0].zfill(12), name.lower()))


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first few names, and their number if there are more."""
    few = ", ".join(names[:most])
    return few if len(names) <= most else f"{few} … ({len(names)})"


def flatten(values: Any, what: str) -> NDArray[Any]:
    """A column (N,) from (N,) or (N, 1), text decoded and whole numbers as integers."""
    column = np.asarray(values)
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1:
        raise InputError(f"{what} have shape {column.shape}; one per image is allowed, (N,)")
    if column.dtype.kind == "S":
        try:
            return np.char.decode(column, "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{what} are text that is not UTF-8 ({error.reason})") from None
    if column.dtype.kind in "OTU":
        texts = [str(value) for value in column.tolist()]
        longest = max(map(len, texts), default=0)
        if longest > LONGEST_TEXT:
            raise InputError(f"{what} hold a text of {longest} characters; {LONGEST_TEXT} are read")
        return np.array(texts, dtype=np.str_)
    if column.dtype.kind not in "uifb" or column.dtype.itemsize > 8:
        raise InputError(f"{what} are {column.dtype}; text, whole or real numbers are allowed")
    whole = column.dtype.kind == "f" and bool((np.abs(column) < _MOST_WHOLE).all())
    return column.astype(np.int64) if whole and (column == np.rint(column)).all() else column


def encode_labels(
    values: NDArray[Any], class_names: Sequence[str] | None, *, what: str, prefix: str = "class"
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels (N,) as index into class names, and these.

    Text is its own name, in natural order unless ``class_names`` give another; whole numbers
    index ``class_names``, or are called ``prefix`` and number where there are none.
    Raises InputError for missing labels, fractions, and numbers without a name.
    """
    column = flatten(values, what)
    if column.dtype.kind in "US":
        found, codes = np.unique(column, return_inverse=True)
        if any(name in ("", "nan", "None", "<NA>") for name in found):
            row = int(np.flatnonzero(np.isin(column, ["", "nan", "None", "<NA>"]))[0])
            raise InputError(f"{what} are missing for some images, the first is row {row}")
        names = natural_order(found.tolist()) if class_names is None else list(class_names)
        if unknown := [name for name in found.tolist() if name not in names]:
            raise InputError(
                f"{what} '{listed(unknown)}' are not among the class names: {listed(names)}"
            )
        place = np.array([names.index(name) for name in found.tolist()], dtype=np.int64)
        return place[codes.reshape(-1)], tuple(names)
    if column.dtype.kind not in "iub":
        raise InputError(
            f"{what} are {column.dtype} with fractions or NaN; give names or whole numbers"
        )
    if class_names is not None:
        if len(column) and not 0 <= int(column.min()) <= int(column.max()) < len(class_names):
            raise InputError(
                f"{what} run from {column.min()} to {column.max()}, but there are "
                f"{len(class_names)} class names; 0 to {len(class_names) - 1} are allowed"
            )
        return column.astype(np.int64), tuple(str(name) for name in class_names)
    found, codes = np.unique(column, return_inverse=True)
    names = [str(v) if column.dtype.kind == "b" else f"{prefix} {v}" for v in found.tolist()]
    return codes.reshape(-1).astype(np.int64), tuple(names)


def split_columns(arrays: Mapping[str, Any], n: int) -> dict[str, NDArray[Any]]:
    """Columns (n,) from arrays (n,) or (n, k), the latter as ``name_0`` … ``name_k-1``."""
    columns: dict[str, NDArray[Any]] = {}
    for name, values in arrays.items():
        array = np.asarray(values)
        if len(array) != n:
            raise InputError(f"'{name}' has {len(array)} entries for {n} images")
        if array.ndim == 1 or array.shape[1:] == (1,):
            columns[name] = flatten(array, f"'{name}'")
        elif array.ndim == 2 and array.shape[1] <= MOST_PARTS:
            for k in range(array.shape[1]):
                columns[f"{name}_{k}"] = flatten(array[:, k], f"'{name}'")
    return columns


def group_column(columns: Iterable[str]) -> str | None:
    """The column that is taken for the group where none is named; None where there is none."""
    known = set(columns)
    return next((name for name in ("group", "groups") if name in known), None)


def choose_group(
    columns: Mapping[str, NDArray[Any]], asked: str | None, default: str | None
) -> str | None:
    """The column that a split must not cut: as asked for, else as found; None for none."""
    if asked is None or asked == "none":
        return default if asked is None else None
    if not columns:
        raise SettingError(
            f"group '{asked}' is unknown; these cells have no folder level or column"
        )
    return choose("group", asked, tuple(columns))


def compile_labels(pattern: str) -> re.Pattern[str] | None:
    """The regular expression that ``labels`` is, or None if it is a plain name."""
    if "(?P<" not in pattern:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise SettingError(f"labels '{pattern}' is no regular expression ({error})") from None
    if "label" not in compiled.groupindex:
        raise SettingError(f"labels '{pattern}' has no named group; write (?P<label>…) in it")
    return compiled


def match_names(
    pattern: re.Pattern[str], names: Sequence[str]
) -> tuple[NDArray[np.bool_], dict[str, NDArray[np.str_]]]:
    """Which file names the pattern is found in, and its named groups for these, by name."""
    found = [pattern.search(name.rsplit("/", 1)[-1]) for name in names]
    fits = np.array([match is not None and bool(match["label"]) for match in found], dtype=bool)
    parts = [match.groupdict("") for match, fit in zip(found, fits) if match is not None and fit]
    return fits, {key: np.array([p[key] for p in parts]) for key in pattern.groupindex}
