"""What data would be taken for, before anything is run: a line for each thing, and its option."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import CytolensError, InputError, SettingError
from cytolens.images.assembly import Found
from cytolens.images.columns import NO_LABELS, choose_group, listed, natural_order
from cytolens.images.crops import in_batches
from cytolens.images.file_names import compile_group, groups_in_names
from cytolens.images.masks import CropsWithMasks
from cytolens.images.preparation import fit_size
from cytolens.images.reading import find_cells, locate

_LOOKED_AT = 64  # crops, evenly spaced
_KINDS = {
    "folder": "a folder of files",
    "bsccm": "the data of Berkeley Single Cell Computational Microscopy",
    "metadata": "an image folder with metadata",
    "npz": "NumPy arrays (.npz)",
    "npy": "a NumPy array (.npy)",
    "manifest": "a table of files",
    "fields": "a table of cells in field images",
    "stack": "a stack of TIFF pages",
    "image": "one image",
}


@dataclass(frozen=True)
class Line:
    """One thing that the data are taken to be."""

    what: str
    taken: str
    change: str = ""  # the option that changes it


def describe_data(
    path: str | Path, *, labels: str | None = None, group: str | None = None, skip_bad: bool = False
) -> tuple[Line, ...]:
    """What `read_cells` would take for what; at most 64 crops are decoded.

    Where no labels are found, the rest is described without them, and the line "class" says why.
    Raises InputError where there is nothing that can be read.
    """
    place = Path(path).expanduser()
    kind = locate(place)[0]
    why = ""
    try:
        found = find_cells(place, labels, skip_bad=skip_bad)
    except InputError as error:
        if labels is not None or kind == "image":
            raise
        try:
            found = find_cells(place, NO_LABELS, skip_bad=skip_bad)
            why = str(error).replace(f"{place} ", "it ", 1)
        except CytolensError:
            raise error from None
    except OSError as error:
        raise InputError(f"{error.filename or path} cannot be read ({error.strerror})") from None
    n = len(found.names)
    spaced = np.unique(np.linspace(0, n - 1, min(_LOOKED_AT, n)).astype(np.int64))
    loaded = [crop for _, batch in in_batches(found.crops, spaced) for crop in batch]
    crops = [crop for crop in loaded if not isinstance(crop, InputError)]
    bad = [(i, e) for i, e in zip(spaced.tolist(), loaded) if isinstance(e, InputError)]
    named = _KINDS.get(kind, f"a file of many cells ({''.join(place.suffixes[-1:]) or 'Zarr'})")
    lines = [
        Line("data", f"{place}: {named}"),
        Line("cells", f"{n:,}, such as {found.names[0]}", "--limit"),
        _classes(found, why),
        _group(found, group),
        *_pictures(found, crops, bad),
        Line(
            "masks",
            "there are some, ignored" if _has_masks(found) else "none",
            "--masks blank, --masks crop" if _has_masks(found) else "",
        ),
        _pixel_size(found),
    ]
    covariates = [name for name in found.columns if name != found.group]
    lines.append(Line("covariates", listed(covariates, 12) or "none"))
    if found.skipped:
        first = found.skipped[0]
        lines.append(Line("left out", f"{len(found.skipped)}: {first.name} {first.reason}"))
    shown = ("class =", "no labels")
    lines += [Line("note", remark) for remark in found.remarks if not remark.startswith(shown)]
    return tuple(lines)


def _classes(found: Found, why: str) -> Line:
    if why:
        return Line("class", f"none found: {why}", "--labels")
    counts = np.bincount(found.labels, minlength=len(found.class_names))
    shown = listed([f"{name} ({count})" for name, count in zip(found.class_names, counts)], 12)
    source = next((r for r in found.remarks if r.startswith("class =")), "")
    where = source.removeprefix("class = ").split(":")[0]
    return Line("class", f"{shown}{f'; from: {where}' if where else ''}", "--labels, --classes")


def _group(found: Found, asked: str | None) -> Line:
    name, column = found.group, None
    try:
        pattern = compile_group(asked) if asked is not None else None
        if pattern is not None:
            name, column = "part of the file names", groups_in_names(pattern, found.names.tolist())
        else:
            name = choose_group(found.columns, asked, found.group)
            column = None if name is None else found.columns[name]
    except (InputError, SettingError) as error:
        return Line("group", str(error), "--group")
    if name is None or column is None:
        return Line("group", "none: cells count as independent of each other", "--group")
    kinds = natural_order(np.unique(column.astype(np.str_)).tolist())
    return Line("group", f"{name}: {listed(kinds)}", "--group")


def _pictures(
    found: Found, crops: list[NDArray[Any]], bad: list[tuple[int, InputError]]
) -> list[Line]:
    lines: list[Line] = []
    if bad:
        first = f"{found.crops.name(bad[0][0])} {bad[0][1]}"
        said = f"{len(bad)} of {len(bad) + len(crops)} looked at: {first}"
        lines.append(Line("unusable", said, "--skip-bad"))
    if not crops:
        return lines
    usual = Counter((len(crop), str(crop.dtype)) for crop in crops).most_common(1)[0][0]
    alike = [crop for crop in crops if (len(crop), str(crop.dtype)) == usual]
    names = found.channel_names if len(found.channel_names) == usual[0] else ()
    spans: list[str] = []
    for i in range(usual[0]):
        low = min(float(crop[i].min()) for crop in alike)
        high = max(float(crop[i].max()) for crop in alike)
        spans.append(f"{names[i] if names else f'channel {i}'} ({low:g}…{high:g})")
    lines.append(Line("image channels", listed(spans, 12), "--channel"))
    sizes = np.array([crop.shape[1:] for crop in alike], dtype=np.int64)
    low, high = sizes.min(axis=0), sizes.max(axis=0)
    span = " × ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in zip(low, high))
    side = fit_size(sizes)
    lines.append(
        Line("crops", f"{span} px, {usual[1]}; brought to about {side[0]} × {side[1]}", "--size")
    )
    lines.append(Line("intensity", "the data set's own limits become 0 and 1", "--intensity"))
    return lines


def _has_masks(found: Found) -> bool:
    return isinstance(found.crops, CropsWithMasks) and found.crops.has_masks


def _pixel_size(found: Found) -> Line:
    known = found.pixel_size is not None
    return Line("pixel size", f"{found.pixel_size:g} µm" if known else "unknown", "--pixel-size")
