"""From what a reader found to Cells: choose, check every crop once, and fix the preparation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError, SettingError, choose
from cytolens.images.checking import Checked, check_crops
from cytolens.images.columns import choose_group, listed, natural_order
from cytolens.images.crops import Crops
from cytolens.images.decisions import apply_decisions
from cytolens.images.file_names import compile_group, groups_in_names
from cytolens.images.image_files import COLOURS
from cytolens.images.masks import apply_masks
from cytolens.images.preparation import (
    check_intensity,
    check_size,
    choose_background,
    fit_size,
)
from cytolens.images.sources import CropImages
from cytolens.records.cells import Cells, Decision, Preparation, Progress, Skipped

FEWEST = 10  # cells in a class
_LISTED = 20  # duplicates named one by one


@dataclass(frozen=True)
class Found:
    """Crops and what is known of them, before any picture is read."""

    crops: Crops
    labels: NDArray[np.int64]  # (N,), index into class_names
    class_names: tuple[str, ...]
    names: NDArray[np.str_]  # (N,)
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[Any]])
    group: str | None = None  # the column that is the group unless the user says otherwise
    channel_names: tuple[str, ...] = ()
    pixel_size: float | None = None  # µm
    remarks: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class Choices:
    """What the user chose; see `read_cells`."""

    group: str | None = None
    classes: Sequence[str] | str | None = None
    channels: Sequence[str | int] | str | None = None
    size: int | Sequence[int] | None = None
    intensity: str = "dataset"
    background: str | float | Sequence[float] = "border"
    pixel_size: float | None = None
    skip_bad: bool = False
    relabel: str | Path | None = None
    masks: str = "ignore"
    progress: Progress | None = None


def make_cells(found: Found, choices: Choices, *, source: str) -> Cells:
    """Checked and prepared Cells. Raises InputError or SettingError, in one line."""
    size, intensity = check_size(choices.size), check_intensity(choices.intensity)
    pixel_size = found.pixel_size if choices.pixel_size is None else float(choices.pixel_size)
    if pixel_size is not None and not 0 < pixel_size < float("inf"):
        raise SettingError(f"pixel size {pixel_size} is not allowed; give a positive number of µm")
    found = replace(found, crops=apply_masks(found.crops, choices.masks))
    found, used, decisions = _decide(found, choices.relabel)
    labels, class_names, remarks = _choose_classes(found, choices.classes)
    labels[~used] = -1
    found, group = _choose_group(found, choices.group, labels >= 0)
    _check_counts(labels, class_names, source, decided=len(decisions))

    checked = check_crops(
        found.crops,
        np.flatnonzero(labels >= 0),
        skip_bad=choices.skip_bad,
        progress=choices.progress,
    )
    kept = checked.kept
    skipped = (*found.skipped, *checked.skipped)
    _check_counts(labels[kept], class_names, source, skipped=len(skipped), decided=len(decisions))
    channels, channel_names, said = _choose_channels(found, checked, choices.channels)
    remarks += said + _duplicates(checked, labels[kept], found.names[kept], class_names)
    if skipped:
        remarks.append(f"warning: {len(skipped)} unusable images were left out")

    take = list(channels)
    size = size or fit_size(checked.sizes)
    preparation = Preparation(
        size=size,
        intensity=intensity,
        low=tuple(checked.low[take].tolist()),
        high=tuple(checked.high[take].tolist()),
        background=choose_background(choices.background, checked.background[take], checked.dtype),
        dtype=str(checked.dtype),
        masks=choices.masks,
    )
    remarks.append(_fitting(checked.sizes, size))
    columns = {name: column[kept] for name, column in found.columns.items()}
    groups, said = _choose_groups(columns, group, labels[kept], class_names)
    return Cells(
        images=CropImages(found.crops, kept, channels, checked.sizes, preparation),
        labels=labels[kept],
        class_names=class_names,
        channel_names=channel_names,
        names=found.names[kept],
        preparation=preparation,
        original_sizes=checked.sizes,
        groups=groups,
        group_name=None if groups is None else group,
        covariates={name: c for name, c in columns.items() if groups is None or name != group},
        pixel_size=pixel_size,
        source=source,
        skipped=skipped,
        remarks=(*found.remarks, *said, *remarks),
        decisions=decisions,
    )


def _decide(
    found: Found, path: str | Path | None
) -> tuple[Found, NDArray[np.bool_], tuple[Decision, ...]]:
    """With the labels that a person decided on; which cells (N,) are used; and what changed."""
    if path is None:
        return found, np.ones(len(found.labels), dtype=bool), ()
    labels, used, decisions = apply_decisions(path, found.names, found.labels, found.class_names)
    left_out = sum(decision.label is None for decision in decisions)
    said = f"{len(decisions) - left_out} relabelled, {left_out} left out"
    remark = f"decisions in '{path}': {said if decisions else 'none, all cells stay as they are'}"
    return replace(found, labels=labels, remarks=(*found.remarks, remark)), used, decisions


def _choose_group(
    found: Found, asked: str | None, wanted: NDArray[np.bool_]
) -> tuple[Found, str | None]:
    """The column that is the group; with a new one where a regular expression finds it in names."""
    pattern = None if asked is None else compile_group(asked)
    if pattern is None:
        return found, choose_group(found.columns, asked, found.group)
    values = groups_in_names(pattern, found.names[wanted].tolist())
    column = np.full(len(found.names), "", dtype=values.dtype)
    column[wanted] = values
    name = "group" if "group" not in found.columns else "group of the file name"
    kinds = natural_order(np.unique(values).tolist())
    remark = f"groups from file names: {len(kinds)} values of '{asked}', e.g. {kinds[0]}"
    columns = {**found.columns, name: column}
    return replace(found, columns=columns, remarks=(*found.remarks, remark)), name


def _choose_classes(
    found: Found, classes: Sequence[str] | str | None
) -> tuple[NDArray[np.int64], tuple[str, ...], list[str]]:
    """Labels (N,) as index into the chosen classes, -1 for cells of other classes."""
    counts = np.bincount(found.labels, minlength=len(found.class_names))
    if classes:
        wanted = [classes] if isinstance(classes, str) else [str(name) for name in classes]
        names = [choose("class", name, found.class_names) for name in wanted]
        if len(set(names)) < len(names):
            raise SettingError(f"classes {', '.join(wanted)} name the same class twice")
    else:
        names = [name for name, count in zip(found.class_names, counts) if count]
    absent = [name for name in found.class_names if name not in names]
    remarks = [f"classes left out: {listed(absent)}"] if absent else []
    translate = np.full(len(found.class_names), -1, dtype=np.int64)
    for index, name in enumerate(names):
        translate[found.class_names.index(name)] = index
    return translate[found.labels], tuple(names), remarks


def _check_counts(
    labels: NDArray[np.int64],
    class_names: tuple[str, ...],
    source: str,
    *,
    skipped: int = 0,
    decided: int = 0,
) -> None:
    if len(class_names) < 2:
        raise InputError(
            f"{source} has one class only ({', '.join(class_names)}); a classifier needs two"
        )
    counts = np.bincount(labels[labels >= 0], minlength=len(class_names))
    few = [f"'{name}' has {n}" for name, n in zip(class_names, counts) if n < FEWEST]
    if few:
        enough = [name for name, n in zip(class_names, counts) if n >= FEWEST]
        way = f"go on with --classes {' '.join(enough)}" if len(enough) > 1 else "add cells"
        left = f" after {skipped} unusable were left out" if skipped else ""
        left += f" after {decided} decisions of --relabel" if decided else ""
        raise InputError(
            f"every class needs {FEWEST} cells or more, but {listed(few)}{left}; {way}"
        )


def _choose_channels(
    found: Found, checked: Checked, wanted: Sequence[str | int] | str | None
) -> tuple[tuple[int, ...], tuple[str, ...], list[str]]:
    """Indices and names of the image channels to keep."""
    n = len(checked.low)
    names = found.channel_names or _default_channel_names(n)
    if len(names) != n:
        raise InputError(f"there are {len(names)} channel names ({listed(names)}) for {n} channels")
    if not wanted:
        if checked.alike_channels and names == COLOURS:
            return (
                (0,),
                ("grey",),
                ["all colours are grey: red, green and blue are read as one channel"],
            )
        chosen = tuple(range(n))
    else:
        asked = [wanted] if isinstance(wanted, str) else list(wanted)
        chosen = tuple(_channel_index(str(entry), names) for entry in asked)
        if len(set(chosen)) < len(chosen):
            raise SettingError(f"channels {', '.join(map(str, asked))} name the same one twice")
    remarks = [f"image channels: {listed([names[i] for i in chosen])}"]
    if len(chosen) < n:
        remarks[0] += f" (of {listed(names)})"
    flat = [names[i] for i in chosen if i in checked.flat_channels]
    if flat:
        remarks.append(f"warning: image channels without any contrast: {listed(flat)}")
    return chosen, tuple(names[i] for i in chosen), remarks


def _default_channel_names(n: int) -> tuple[str, ...]:
    return ("intensity",) if n == 1 else tuple(f"channel {i}" for i in range(n))


def _channel_index(entry: str, names: tuple[str, ...]) -> int:
    """A channel by its name, else by its number from 0, else by a part of its name."""
    if entry not in names and entry.isdecimal():
        if int(entry) < len(names):
            return int(entry)
        raise SettingError(
            f"channel {entry} is unknown; there are 0 to {len(names) - 1}: {listed(names)}"
        )
    return names.index(choose("channel", entry, names))


def _choose_groups(
    columns: Mapping[str, NDArray[Any]],
    group: str | None,
    labels: NDArray[np.int64],
    class_names: tuple[str, ...],
) -> tuple[NDArray[np.str_] | None, list[str]]:
    """Groups (n,) and remarks on them; none where there is only one."""
    if group is None:
        return None, ["no groups: cells count as independent of each other"]
    groups = columns[group].astype(np.str_)
    missing = np.isin(groups, ["", "nan", "None", "<NA>"])
    if missing.any():
        raise InputError(
            f"group '{group}' is missing for {int(missing.sum())} cells; fill it in, or take group "
            "'none'"
        )
    found, codes = np.unique(groups, return_inverse=True)
    if len(found) == 1:
        return None, [f"no groups: '{group}' is {found[0]} for every cell"]
    remarks = [f"group = '{group}', {len(found)} of them: {listed(found.tolist())}"]
    table = np.zeros((len(found), len(class_names)), dtype=np.int64)
    np.add.at(table, (codes.reshape(-1), labels), 1)
    if ((table > 0).sum(axis=1) == 1).all():
        remarks.append(
            f"warning: every '{group}' holds cells of one class only; class and group cannot be "
            "distinguished"
        )
    return groups, remarks


def _duplicates(
    checked: Checked, labels: NDArray[np.int64], names: NDArray[np.str_], class_names: Sequence[str]
) -> list[str]:
    """The same picture under two classes, listed."""
    order = np.argsort(checked.digests, kind="stable")
    same = np.flatnonzero(np.diff(checked.digests[order]) == 0)
    pairs = [(order[i], order[i + 1]) for i in same.tolist()]
    pairs = sorted((int(a), int(b)) for a, b in pairs if labels[a] != labels[b])
    if not pairs:
        return []
    shown = [
        f"{names[a]} ({class_names[labels[a]]}) = {names[b]} ({class_names[labels[b]]})"
        for a, b in pairs
    ]
    return [
        f"warning: the same picture is in two classes: {'; '.join(shown[:_LISTED])}"
        + (f"; … ({len(shown)})" if len(shown) > _LISTED else "")
    ]


def _fitting(sizes: NDArray[np.int64], size: tuple[int, int]) -> str:
    """How many crops were padded and cut, and from which sizes."""
    low, high = sizes.min(axis=0), sizes.max(axis=0)
    span = " × ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in zip(low, high))
    cut, padded = int((sizes > size).any(axis=1).sum()), int((sizes < size).any(axis=1).sum())
    return (
        f"crops of {span} px brought to {size[0]} × {size[1]} px: {padded} padded, "
        f"{cut} cut around their centre, none rescaled"
    )
