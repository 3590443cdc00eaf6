"""Field images with a label image beside each: Cellpose, StarDist, ilastik and the like."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.assembly import Found
from cytolens.images.columns import encode_labels
from cytolens.images.field_crops import (
    Cutting,
    Field,
    FieldCrops,
    FieldFiles,
    boxes_of,
    read_field,
    read_labels,
    windows,
)
from cytolens.images.folders import Listing
from cytolens.images.isolation import is_isolated
from cytolens.images.opening import shown
from cytolens.records.cells import Skipped


def find_in_label_images(
    root: Path, listing: Listing, pairs: dict[str, str], cutting: Cutting, *, skip_bad: bool
) -> Found:
    """The cells in label images, of the classes and groups of their fields; nothing is cut yet.

    Label images are read once, one at a time, for the boxes of their cells. Where there is no
    group, the field is: cells of one field share its light and focus. Raises InputError for a
    label image that cannot be read, or lists the field with ``skip_bad``.
    """
    fields = [
        FieldFiles(shown(file), (root / file,), root / pairs[file])
        for file in listing.files.tolist()
    ]
    skipped: list[Skipped] = []
    places: list[NDArray[np.int64]] = []
    numbers: list[NDArray[np.int64]] = []
    boxes: list[NDArray[np.int64]] = []
    for place, one in enumerate(fields):
        assert one.mask is not None
        try:
            known, found = boxes_of(read_labels(one.mask, isolated=is_isolated()))
        except InputError as error:
            if not skip_bad:
                raise InputError(f"{one.name} {error}; --skip-bad leaves it out") from None
            skipped.append(Skipped(one.name, str(error)))
            continue
        places.append(np.full(len(known), place))
        numbers.append(known)
        boxes.append(found)
    n = sum(map(len, numbers))
    if n == 0:
        reason = f": {skipped[0].name} {skipped[0].reason}" if skipped else ""
        raise InputError(f"the label images in {root} hold no cells{reason}")
    rows = np.concatenate(places)
    window = windows(np.concatenate(boxes).astype(np.float64), cutting)
    first = _first(fields)
    crops = FieldCrops(
        fields, rows, window, np.concatenate(numbers), cutting.blank, len(first.image)
    )
    codes, class_names = encode_labels(listing.labels, None, what="labels")
    names = np.array([crops.name(i) for i in range(n)], dtype=np.str_)
    field = np.array([one.name for one in fields], dtype=np.str_)
    cut = "their own boxes and 4 px" if cutting.window is None else f"{cutting.window} px"
    blanked = f"; {cutting.blank} of each are blanked" if cutting.blank != "nothing" else ""
    remark = f"cells are cut from {len(fields)} fields by label images: {cut} around each{blanked}"
    return Found(
        crops=crops,
        labels=codes[rows],
        class_names=class_names,
        names=names,
        columns={name: c[rows] for name, c in listing.columns.items()} | {"field": field[rows]},
        group=listing.group or "field",
        channel_names=first.names,
        pixel_size=first.pixel_size,
        remarks=(*listing.remarks, remark),
        skipped=(*listing.skipped, *skipped),
    )


def _first(fields: list[FieldFiles]) -> Field:
    """The first of a few fields that can be read."""
    error = InputError("there are no fields")
    for one in fields[:8]:
        try:
            return read_field(one, isolated=is_isolated(), masked=False)
        except InputError as problem:
            error = InputError(f"{one.name} {problem}")
    raise error


def without_label_images(listing: Listing, pairs: dict[str, str]) -> tuple[Listing, int]:
    """The fields of a listing that have a label image; and how many other images were left out."""
    masks = set(pairs.values())
    has = np.array([file in pairs for file in listing.files.tolist()], dtype=bool)
    lone = sum(
        not paired and file not in masks for file, paired in zip(listing.files.tolist(), has)
    )
    columns = {name: column[has] for name, column in listing.columns.items()}
    kept = replace(listing, files=listing.files[has], labels=listing.labels[has], columns=columns)
    return kept, lone
