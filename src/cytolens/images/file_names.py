"""The parts of file names: what a group or an artefact may be read from."""

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError, SettingError

PART = "file name part"  # "file name part 3": what a nuisance is called that is one
_PATTERN = "file name pattern"
_MOST_PARTS = 6  # of a file name, that are judged
_FEW = 10  # so many numbers are categories
_FEWEST_IN_GROUP = 2  # cells, on average


def compile_group(group: str) -> re.Pattern[str] | None:
    """The regular expression that ``group`` is, or None if it is a plain name.

    Raises SettingError where it is none, or lacks the named group.
    """
    if "(?" not in group:  # a column may be called anything else
        return None
    try:
        compiled = re.compile(group)
    except re.error as error:
        raise SettingError(f"group '{group}' is no regular expression ({error})") from None
    if "group" not in compiled.groupindex:
        raise SettingError(f"group '{group}' has no named group; write (?P<group>…) in it")
    return compiled


def groups_in_names(pattern: re.Pattern[str], names: Sequence[str]) -> NDArray[np.str_]:
    """What the named group of ``pattern`` is in each file's path below the data folder (n,).

    The page of a stack, "a.tif[3]", is no part of the path. Raises InputError where the pattern
    is not found, or the group is empty.
    """
    found = [pattern.search(_file(name)) for name in names]
    missed = [name for name, match in zip(names, found) if match is None or not match["group"]]
    if missed:
        raise InputError(
            f"group '{pattern.pattern}' is not found in {len(missed)} of {len(names)} file names, "
            f"such as {missed[0]}"
        )
    return np.array([match["group"] for match in found if match is not None], dtype=np.str_)


def name_parts(names: NDArray[np.str_]) -> dict[str, NDArray[Any]]:
    """The parts of file names (N,) that vary, "file name part 3": words, or numbers.

    A name is cut wherever letters, digits and other signs meet. Where the names are not built
    alike, how they are built is a part of its own, and the others are left out. Places in an
    array ("cells.npz[17]") say nothing of a cell.
    """
    cut = [_cut(name) for name in names.tolist()]
    build = np.array([_build(parts) for parts in cut])
    if len(np.unique(build)) > 1:
        return {_PATTERN: build}
    parts: dict[str, NDArray[Any]] = {}
    for place, column in enumerate(np.array(cut, dtype=np.str_).reshape(len(cut), -1).T):
        distinct = len(np.unique(column))
        if distinct < 2 or len(parts) == _MOST_PARTS:
            continue
        number = column[0].isdigit() and distinct > _FEW
        parts[f"{PART} {place + 1}"] = column.astype(np.float64) if number else column
    return parts


def pattern_of_part(names: NDArray[np.str_], part: str) -> str | None:
    r"""A regular expression whose ``(?P<group>…)`` is that part ("file name part 3") of each name.

    None where there is none: names that are not built alike, or a part that is nearly as many
    values as there are cells, such as a running number.

    >>> names = np.array(["a/CD3_1_07.png", "b/CD8_2_07.png", "b/CD8_2_08.png"] * 2)
    >>> print(pattern_of_part(names, "file name part 3"))
    (?:^|/)[A-Za-z]+\d+_(?P<group>\d+)[^/]*$
    """
    numbered = part.removeprefix(f"{PART} ")
    cut = [_cut(name) for name in names.tolist()]
    if not numbered.isdigit() or len({_build(parts) for parts in cut}) != 1:
        return None
    place = int(numbered) - 1
    if place >= len(cut[0]):
        return None
    wanted = np.array([parts[place] for parts in cut])
    if not 2 <= len(np.unique(wanted)) <= len(names) / _FEWEST_IN_GROUP:
        return None
    pattern = "(?:^|/)"
    separators = [re.split(r"\d+|[^\W\d_]+", _stem(name)) for name in names.tolist()]
    for k in range(place + 1):
        between = {signs[k] for signs in separators}
        pattern += re.escape(between.pop()) if len(between) == 1 else r"(?:[^\w/]|_)*"
        letters = "".join(parts[k] for parts in cut)
        kind = r"\d+" if letters.isdigit() else "[A-Za-z]+" if letters.isascii() else r"[^\W\d_]+"
        pattern += f"(?P<group>{kind})" if k == place else kind
    pattern += "[^/]*$"
    matches = [re.search(pattern, _file(name)) for name in names.tolist()]
    right = all(match and match["group"] == one for match, one in zip(matches, wanted.tolist()))
    return pattern if right else None


def _file(name: str) -> str:
    return re.sub(r"\[\d+\]$", "", name)


def _stem(name: str) -> str:
    return PurePath(_file(name)).stem


def _cut(name: str) -> list[str]:
    return re.findall(r"\d+|[^\W\d_]+", _stem(name))


def _build(parts: list[str]) -> str:
    return "".join("9" if part.isdigit() else "a" for part in parts)
