"""New crops, read like those of a study: the same channels, size and intensity scale."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from cytolens.errors import InputError
from cytolens.images.assembly import Found
from cytolens.images.channel_files import group_channels
from cytolens.images.checking import Checked, check_crops
from cytolens.images.columns import NO_LABELS, listed
from cytolens.images.field_crops import Cutting
from cytolens.images.folders import (
    Listing,
    found_in_channels,
    found_in_files,
    list_cell_files,
    list_images,
)
from cytolens.images.image_files import COLOURS, ENDINGS
from cytolens.images.isolation import isolated
from cytolens.images.label_pairs import pair_up
from cytolens.images.masks import apply_masks
from cytolens.images.reading import find_cells, locate
from cytolens.images.sources import CropImages
from cytolens.records.cells import Cells, Progress

UNKNOWN = -1  # the label of a cell that has none, or one that the study does not know


def read_alike(
    path: str | Path,
    known: Cells,
    *,
    labels: str | None = None,
    skip_bad: bool = True,
    isolate: bool = False,
    cutting: Cutting | None = None,
    progress: Progress | None = None,
) -> Cells:
    """The crops at ``path``, prepared exactly as those of ``known``; labels are optional.

    ``path`` is all that `read_cells` reads, or a single image, or a folder of images side by
    side. Size, limits of intensity and background are those of ``known.preparation``, so that a
    crop is prepared in the same way whatever other crops come with it. Image channels are taken
    by name or, where there are as many, in order. ``labels`` as in `read_cells`; by default they
    are looked for. A cell whose label is none of the known classes has label -1, and the text is
    covariate "label". ``isolate`` decodes the files in a process of their own (see `isolation`);
    ``cutting`` is how cells are cut from field images.

    Raises InputError where there are no crops, or other image channels than the known ones.
    """
    path = Path(path).expanduser()
    try:
        with isolated(isolate):
            found = _find(path, labels, cutting or Cutting())
            found = replace(found, crops=apply_masks(found.crops, known.preparation.masks))
            everything = np.arange(len(found.labels))
            checked = check_crops(found.crops, everything, skip_bad=skip_bad, progress=progress)
    except OSError as error:
        raise InputError(f"{error.filename or path} cannot be read ({error.strerror})") from None
    channels, remarks = _channels(found, len(checked.low), known, str(path))
    preparation = replace(known.preparation, dtype=str(checked.dtype))
    given = np.array(found.class_names)[found.labels[checked.kept]]
    index = {name: i for i, name in enumerate(known.class_names)}
    has_labels = given.tolist() != [NO_LABELS] * len(given)
    return Cells(
        images=CropImages(found.crops, checked.kept, channels, checked.sizes, preparation),
        labels=np.array([index.get(name, UNKNOWN) for name in given.tolist()], dtype=np.int64),
        class_names=known.class_names,
        channel_names=known.channel_names,
        names=found.names[checked.kept],
        preparation=preparation,
        original_sizes=checked.sizes,
        covariates={"label": given} if has_labels else {},
        pixel_size=known.pixel_size,
        source=str(path),
        skipped=(*found.skipped, *checked.skipped),
        remarks=(*remarks, *_warnings(found, checked, known)),
    )


def _find(path: Path, labels: str | None, cutting: Cutting) -> Found:
    """What is there, without labels where none are found."""
    if labels is None and locate(path)[0] == "folder":
        files, others = list_images(path)
        if not files and list_cell_files(path):
            return find_cells(path, NO_LABELS, cutting=cutting)
        if not files:
            seen = f"; {others} files of other kinds are there" if others else " and is empty"
            raise InputError(f"{path} holds no images ({', '.join(ENDINGS)}){seen}")
        if not pair_up(files):
            return _found_side_by_side(path, files)
    if path.is_file() and path.suffix.lower() in ENDINGS:
        try:
            return find_cells(path, NO_LABELS)  # a stack
        except InputError:
            return _found_side_by_side(path.parent, [path.name])
    try:
        return find_cells(path, labels, cutting=cutting)
    except InputError:
        if labels is not None:
            raise
        return find_cells(path, NO_LABELS, cutting=cutting)


def _found_side_by_side(root: Path, files: list[str]) -> Found:
    """Image files in any folders; the name of the folder may be the class."""
    groups = group_channels(files)
    files = files if groups is None else groups.cells
    folders = [Path(file).parent.name or NO_LABELS for file in files]
    listing = Listing(np.array(files), np.array(folders), {}, None, ())
    if groups is not None:
        return found_in_channels(root, listing, groups)
    return found_in_files(root, listing, skip_bad=True)


def _channels(
    found: Found, n: int, known: Cells, source: str
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Which of ``n`` image channels are the known ones, in their order; and a remark."""
    wanted = known.channel_names
    default = ("intensity",) if n == 1 else tuple(f"channel {i}" for i in range(n))
    names = found.channel_names if len(found.channel_names) == n else default
    if all(name in names for name in wanted):
        return tuple(names.index(name) for name in wanted), ()
    if len(wanted) == n:
        remark = f"image channels {listed(names)} are read as {listed(wanted)}, in this order"
        return tuple(range(n)), () if names == default else (remark,)
    if wanted == ("grey",) and names == COLOURS:
        return (0,), ()
    raise InputError(
        f"{source} has {n} image channel{'' if n == 1 else 's'} ({listed(names)}), the run's "
        f"network looks at {len(wanted)} ({listed(wanted)}); give crops that have these"
    )


def _warnings(found: Found, checked: Checked, known: Cells) -> tuple[str, ...]:
    """What makes new crops hard to compare with the known ones."""
    said: list[str] = []
    if str(checked.dtype) != known.preparation.dtype:
        said.append(
            f"warning: pixels are {checked.dtype}, those of the run {known.preparation.dtype}; "
            "intensities may not be comparable"
        )
    ours, theirs = found.pixel_size, known.pixel_size
    if ours is not None and theirs is not None and abs(ours / theirs - 1) > 0.01:
        said.append(
            f"warning: pixels are {ours:g} µm wide, those of the run {theirs:g} µm; crops are "
            "never rescaled"
        )
    if checked.skipped:
        said.append(f"warning: {len(checked.skipped)} unusable images were left out")
    return tuple(said)
