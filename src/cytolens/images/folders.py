"""Cells in folders of image files: class folders, patterns in file names, stacks."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError, SettingError
from cytolens.images.assembly import Found
from cytolens.images.cell_files import OPENERS, find_in_cell_files, is_cell_file
from cytolens.images.channel_files import ChannelFileCrops, ChannelGroups, group_channels
from cytolens.images.columns import (
    NO_LABELS,
    compile_labels,
    encode_labels,
    listed,
    match_names,
    natural_order,
)
from cytolens.images.crops import BATCH_BYTES
from cytolens.images.decoded import read_pages
from cytolens.images.field_crops import Cutting
from cytolens.images.file_crops import FileCrops, read_pictures
from cytolens.images.image_files import ENDINGS, Picture
from cytolens.images.isolation import is_isolated
from cytolens.images.label_pairs import pair_up
from cytolens.images.opening import shown
from cytolens.images.tiff_stacks import are_stacks, expand_pages
from cytolens.images.zarr_fields import label_fields
from cytolens.records.cells import Skipped

_SYSTEM = ("/proc", "/sys", "/dev")
_PROBED = 32  # files, evenly spaced, that show the channels and the pixel size
_SPLIT_FOLDERS = {"train", "training", "val", "valid", "validation", "test", "testing"}


@dataclass(frozen=True)
class Listing:
    """Image files of a folder, and the class and columns that their places or names give."""

    files: NDArray[np.str_]  # (F,), relative, with forward slashes
    labels: NDArray[np.str_]  # (F,)
    columns: dict[str, NDArray[Any]]
    group: str | None
    remarks: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()


def find_in_folder(
    root: Path, labels: str | None, *, skip_bad: bool = False, cutting: Cutting | None = None
) -> Found:
    """Cells from the images below ``root``.

    The innermost folder is the class and the outer ones are groups and covariates; or else
    ``labels`` is a regular expression with ``(?P<label>…)`` that is searched for in file names,
    its other named groups becoming columns; or each file is a stack of cells of one class. Where
    images have a label image beside them, they are fields, and their cells are cut out.
    Raises InputError when it is none of these.
    """
    files, others = list_images(root)
    if not files and others and (packed := list_cell_files(root)):
        pairs = label_fields(root, packed)
        if pairs:
            return find_in_fields(root, packed, pairs, labels, cutting, skip_bad=skip_bad)
        return _in_cell_files(root, packed, labels, skip_bad=skip_bad)
    if not files:
        seen = f"; {others} files of other kinds are there" if others else " and is empty"
        raise InputError(f"{root} holds no images ({', '.join(ENDINGS)}){seen}")
    other = (f"{others} files of other kinds left out",) if others else ()
    pairs = pair_up(files)
    if pairs:
        return find_in_fields(root, files, pairs, labels, cutting, skip_bad=skip_bad, said=other)
    pattern = compile_labels(labels) if labels is not None else None
    groups = group_channels(files)
    if groups is not None:
        files = groups.cells
    if pattern is not None:
        listing = _by_pattern(root, files, pattern, skip_bad=skip_bad)
    elif all("/" not in file for file in files):
        listing = _by_stack(root, files)
    else:
        listing = _by_folder(root, files, labels)
    listing = replace(listing, remarks=(*listing.remarks, *other))
    if groups is not None:
        return found_in_channels(root, listing, groups)
    return found_in_files(root, listing, skip_bad=skip_bad)


def find_in_fields(
    root: Path,
    files: list[str],
    pairs: dict[str, str],
    labels: str | None,
    cutting: Cutting | None,
    *,
    skip_bad: bool,
    said: tuple[str, ...] = (),
) -> Found:
    """Cells cut from fields by the label images that ``pairs`` names; see `find_in_folder`."""
    from cytolens.images.label_images import find_in_label_images, without_label_images

    pattern = compile_labels(labels) if labels is not None else None
    if pattern is not None:
        listing = _by_pattern(root, files, pattern, skip_bad=skip_bad)
    elif labels == NO_LABELS:
        listing = Listing(np.array(files), np.full(len(files), NO_LABELS), {}, None, ("no labels",))
    else:
        listing = _by_folder(root, files, labels)
    listing, lone = without_label_images(listing, pairs)
    lost = (f"warning: {lone} images without a label image were left out",) if lone else ()
    listing = replace(listing, remarks=(*listing.remarks, *said, *lost))
    return find_in_label_images(root, listing, pairs, cutting or Cutting(), skip_bad=skip_bad)


def found_in_channels(root: Path, listing: Listing, groups: ChannelGroups) -> Found:
    """The cells in files of single channels; ``listing`` names the cells instead of files."""
    order = {cell: i for i, cell in enumerate(groups.cells)}
    files = groups.files[[order[cell] for cell in listing.files.tolist()]]
    spaced = np.unique(np.linspace(0, len(files) - 1, min(_PROBED, len(files))).astype(np.int64))
    paths = [root / str(files[i, 0]) for i in spaced.tolist()]
    probed = read_pictures(paths, isolated=is_isolated())
    sizes = [picture.pixel_size for picture in probed if isinstance(picture, Picture)]
    codes, class_names = encode_labels(listing.labels, None, what="labels")
    said = f"cell = {len(groups.channel_names)} files, one per image channel, such as {files[0, 0]}"
    return Found(
        crops=ChannelFileCrops(root, listing.files, files),
        labels=codes,
        class_names=class_names,
        names=listing.files,
        columns=listing.columns,
        group=listing.group,
        channel_names=groups.channel_names,
        pixel_size=sizes[0] if sizes else None,
        remarks=(*listing.remarks, said),
        skipped=listing.skipped,
    )


def list_cell_files(root: Path) -> list[str]:
    """Files of many cells each below ``root``, of the most frequent kind; see `cell_files`.

    A Zarr folder counts as a file; what is within it does not.
    """
    stores: list[str] = []
    for folder, folders, _ in os.walk(root):
        inner = [name for name in sorted(folders) if is_cell_file(Path(folder) / name)]
        stores += [(Path(folder) / name).relative_to(root).as_posix() for name in inner]
        folders[:] = [name for name in folders if name not in inner and name[0] != "."]
    within = tuple(f"{store}/" for store in stores)
    files = [name for name in list_images(root, tuple(OPENERS))[0] if not name.startswith(within)]
    kinds = dict.fromkeys(stores, ".zarr") | {n: Path(n).suffix.lower() for n in files}
    most = Counter(kinds.values()).most_common(1)
    return natural_order([name for name, kind in kinds.items() if most and kind == most[0][0]])


def _in_cell_files(root: Path, files: list[str], labels: str | None, *, skip_bad: bool) -> Found:
    """Cells of files with many each; the class is the folder, or else the name of the file."""
    pattern = compile_labels(labels) if labels is not None else None
    if labels == NO_LABELS:
        return find_in_cell_files(root, files, None, labels, skip_bad=skip_bad)
    if pattern is not None:
        listing = _by_pattern(root, files, pattern, skip_bad=skip_bad)
    elif all("/" not in file for file in files):
        stems = np.array([file.split(".")[0] for file in files])
        said = f"class = name of the file: {listed(stems.tolist())}"
        listing = Listing(np.array(files), stems, {}, None, (said,))
    else:
        levels = _levels(root, _places(files))
        named = labels in (None, "folder", "folders", *levels)
        listing = _by_folder(root, files, labels if named else None)
    by_column = (
        pattern is None and labels is not None and not re.fullmatch(r"folders?|level \d+", labels)
    )
    found = find_in_cell_files(
        root,
        listing.files.tolist(),
        None if by_column else listing.labels,
        labels,
        skip_bad=skip_bad,
        own_first=labels is None and ("/" not in files[0] or files[0].endswith(".parquet")),
        columns=listing.columns,
        group=listing.group,
        remarks=() if by_column else listing.remarks,
    )
    return replace(found, skipped=(*listing.skipped, *found.skipped))


def list_images(root: Path, endings: tuple[str, ...] = ENDINGS) -> tuple[list[str], int]:
    """Image files below ``root`` in natural order, relative to it; and how many other files.

    Hidden files and folders are ignored; linked folders are followed, once, unless the data lie
    inside of them: a link to ``/`` would lead through the whole machine.
    """
    found: list[str] = []
    others = 0
    seen: set[str] = set()
    home = os.path.realpath(root)

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be read ({error.strerror})")

    for folder, folders, names in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        inner = [name for name in folders if not name.startswith(".") and real not in seen]
        inner = [name for name in inner if not _leads_outward(f"{folder}/{name}", home)]
        folders[:] = sorted(inner)  # so that of two links to a folder the same is followed always
        if real in seen:
            continue
        seen.add(real)
        prefix = "" if folder == str(root) else Path(folder).relative_to(root).as_posix() + "/"
        shown = [name for name in names if not name.startswith(".")]
        images = [name for name in shown if name.lower().endswith(endings)]
        others += len(shown) - len(images)
        found += [prefix + name for name in images]
    return natural_order(found), others


def _leads_outward(folder: str, home: str) -> bool:
    """Whether a folder is a link to one that the data lie in, or to the system's own."""
    if not Path(folder).is_symlink():
        return False
    real = os.path.realpath(folder)
    return f"{home}/".startswith(real.rstrip("/") + "/") or real.startswith(_SYSTEM)


def found_in_files(root: Path, listing: Listing, *, skip_bad: bool) -> Found:
    """The cells in the files of a listing, from the headers of stacks and a few files read."""
    codes, class_names = encode_labels(listing.labels, None, what="labels")
    stacks = None
    if are_stacks(root, listing.files):
        stacks = expand_pages(root, listing.files, skip_bad=skip_bad)
    crops = FileCrops(root, listing.files, pages=None if stacks is None else stacks.pages)
    first, notes = _probe(crops, root)
    if stacks is not None and first is not None:  # a stack is opened again for every batch
        batch = int(np.clip(BATCH_BYTES // max(first.crop.nbytes, 1), 16, 4096))
        crops = replace(crops, batch=batch)
    rows = np.arange(len(listing.files)) if stacks is None else stacks.pages[:, 0]
    names = listing.files
    if stacks is not None or not all(map(str.isascii, names.tolist())):
        names = np.array([crops.name(i) for i in range(len(crops))], dtype=np.str_)
    return Found(
        crops=replace(crops, channel_names=first.channel_names if first else ()),
        labels=codes[rows],
        class_names=class_names,
        names=names,
        columns={name: column[rows] for name, column in listing.columns.items()},
        group=listing.group,
        channel_names=first.channel_names if first else (),
        pixel_size=first.pixel_size if first else None,
        remarks=(*listing.remarks, *(stacks.remarks if stacks else ()), *notes),
        skipped=(*listing.skipped, *(stacks.skipped if stacks else ())),
    )


def _probe(crops: FileCrops, root: Path) -> tuple[Picture | None, list[str]]:
    """Of a few pictures, the first of the most frequent kind; and how pictures were converted."""
    counts: Counter[tuple[int, tuple[str, ...]]] = Counter()
    first: dict[tuple[int, tuple[str, ...]], Picture] = {}
    notes: set[str] = set()
    for read in _probed(crops, root):
        for picture in read:
            if isinstance(picture, Picture):
                kind = (len(picture.crop), picture.channel_names)
                counts[kind] += 1
                first.setdefault(kind, picture)
                notes |= {picture.note} - {""}
    return (first[counts.most_common(1)[0][0]] if counts else None), sorted(notes)


def _probed(crops: FileCrops, root: Path) -> Iterator[list[Picture | InputError]]:
    """A few evenly spaced pictures, as many at a time as the memory allows."""
    if crops.pages is not None:  # opening a stack is slow: only the first and the last
        for file, page in crops.pages[[0, -1]].tolist():
            yield read_pages(root / str(crops.files[file]), [page], isolated=crops.isolated)
        return
    spaced = np.linspace(0, len(crops) - 1, min(_PROBED, len(crops))).astype(np.int64)
    paths = [root / str(crops.files[i]) for i in spaced.tolist()]
    while paths:
        read = read_pictures(paths, isolated=crops.isolated)
        paths = paths[len(read) :]
        yield read


def _by_folder(root: Path, files: list[str], labels: str | None) -> Listing:
    places = _places(files)
    if not any(places):
        raise InputError(
            f"{root} holds {len(files)} images side by side and no class folders; name the part of "
            f"the file names that is the class, such as {_suggested(files[0])}"
        )
    loose = [file for file, place in zip(files, places) if not place]
    files = [file for file, place in zip(files, places) if place]
    places = [place for place in places if place]
    columns = _levels(root, places)
    depth = len(columns)
    key = f"level {depth}" if labels in (None, "folder", "folders") else str(labels)
    if key not in columns:
        known = ", ".join(["folder", *columns])
        raise SettingError(
            f"labels '{labels}' is unknown for a folder; choose one of: {known}, or give a regular "
            "expression with (?P<label>…)"
        )
    kinds = columns.pop(key)
    remarks = [f"class = {_level(key, depth)}: {listed(natural_order(np.unique(kinds).tolist()))}"]
    if loose:
        remarks.append(f"warning: {len(loose)} images outside of class folders were left out")
    outer = int(key.removeprefix("level ")) - 1
    named, group, said = _name_levels(columns, outer)
    return Listing(np.array(files), kinds, named, group, (*remarks, *said))


def _places(files: list[str]) -> list[tuple[str, ...]]:
    """The folders that each file lies in, as text."""
    return [tuple(shown(file).split("/")[:-1]) for file in files]


def _levels(root: Path, places: list[tuple[str, ...]]) -> dict[str, NDArray[np.str_]]:
    """The folder of each file (F,) at each level, outermost first."""
    depths = {len(place): place for place in places}
    if len(depths) > 1:
        shallow, deep = depths[min(depths)], depths[max(depths)]
        raise InputError(
            f"images of {root} lie at different depths, such as in {'/'.join(shallow) or '.'} and "
            f"{'/'.join(deep)}; bring them to one"
        )
    return {
        f"level {i + 1}": np.array([place[i] for place in places], dtype=np.str_)
        for i in range(len(places[0]))
    }


def _level(key: str, depth: int) -> str:
    return "innermost folder" if key == f"level {depth}" else f"folder {key}"


def _name_levels(
    levels: dict[str, NDArray[np.str_]], outer: int
) -> tuple[dict[str, NDArray[Any]], str | None, list[str]]:
    """Folder levels under names of their own, which of them is the group, and remarks.

    The group is the outermost of the first ``outer`` levels, which lie around the class. Folders
    called train, test … are a split and not a group.
    """
    columns: dict[str, NDArray[Any]] = {}
    group: str | None = None
    remarks: list[str] = []
    for place, (key, values) in enumerate(levels.items()):
        kinds = np.unique(values).tolist()
        if len(kinds) == 1:
            continue
        if {kind.lower() for kind in kinds} <= _SPLIT_FOLDERS:
            columns["split"] = values
            remarks.append(f"folder {key} is a split ({listed(kinds)}); kept as covariate 'split'")
            continue
        name = _shared_word(kinds)
        name = key if name is None or name in columns else name
        columns[name] = values
        if group is None and place < outer:
            group = name
        else:
            remarks.append(f"covariate '{name}' = folder {key}: {listed(natural_order(kinds))}")
    return columns, group, remarks


def _shared_word(kinds: list[str]) -> str | None:
    """The word that numbered names share: donor, of donor_1 and donor_2."""
    words = {re.sub(r"[\W\d_]*\d+$", "", kind) for kind in kinds}
    word = words.pop() if len(words) == 1 else ""
    return word.lower() if word.isalpha() else None


def _by_pattern(
    root: Path, files: list[str], pattern: re.Pattern[str], *, skip_bad: bool
) -> Listing:
    fits, parts = match_names(pattern, [shown(file) for file in files])
    missed = [shown(file) for file, fit in zip(files, fits.tolist()) if not fit]
    reason = f"does not match labels '{pattern.pattern}'"
    if missed and (not skip_bad or not fits.any()):
        raise InputError(
            f"{missed[0]} in {root} {reason}, and neither do {len(missed) - 1} other files"
        )
    labels = parts.pop("label")
    levels = _levels(root, [p for p, fit in zip(_places(files), fits.tolist()) if fit])
    columns, group, said = _name_levels(levels, len(levels))
    columns |= parts
    kinds = listed(natural_order(np.unique(labels).tolist()))
    return Listing(
        files=np.array(files)[fits],
        labels=labels,
        columns=columns,
        group="group" if "group" in parts else group,
        remarks=(f"class = '{pattern.pattern}' in file names: {kinds}", *said),
        skipped=tuple(Skipped(file, reason) for file in missed),
    )


def _by_stack(root: Path, files: list[str]) -> Listing:
    """Files without folders: each is a stack of one class, otherwise InputError is raised."""
    if not are_stacks(root, np.array(files)):
        raise InputError(
            f"{root} holds {len(files)} images side by side and no class folders; name the part of "
            f"the file names that is the class, such as {_suggested(files[0])}"
        )
    stems = [re.sub(r"(\.ome)?\.tiff?$", "", shown(file), flags=re.IGNORECASE) for file in files]
    return Listing(
        np.array(files), np.array(stems), {}, None, (f"class = name of the stack: {listed(stems)}",)
    )


def _suggested(file: str) -> str:
    """A --labels option that fits such a file name."""
    file = shown(file)
    match = re.match(r"[^\W_]+?(?=[_\-. ]|\d*\.)", file)
    follows = file[match.end()] if match and match.end() < len(file) else "."
    word = match.group() if match else file.split(".")[0]
    pattern = f"^(?P<label>[^{follows}]+)" if follows in "_- " else r"^(?P<label>[A-Za-z]+)"
    return f"--labels '{pattern}', which takes '{word}' from {file}"
