"""Stacks: TIFF files whose pages are cells."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.array_files import choose_labels, read_sidecar
from cytolens.images.assembly import Found
from cytolens.images.columns import NO_LABELS, split_columns
from cytolens.images.decoded import count_pages, read_pages
from cytolens.images.file_crops import THREADS, FileCrops
from cytolens.images.image_files import TIFF_ENDINGS, Pages, Picture
from cytolens.images.isolation import is_isolated
from cytolens.images.opening import shown
from cytolens.records.cells import Skipped

CHANNEL_PAGES = 8  # up to so many pages, the same number in every file, may be unnamed channels
_PROBED = 16  # files, evenly spaced, that show whether there are stacks at all


@dataclass(frozen=True)
class Stacks:
    """Which pages of which files are cells."""

    pages: NDArray[np.int64]  # (N, 2): file, page
    remarks: tuple[str, ...]
    skipped: tuple[Skipped, ...]


def are_stacks(root: Path, files: NDArray[np.str_]) -> bool:
    """Whether pages are cells, judged from the headers of a few files.

    Pages are channels of one crop where the file says so (OME-TIFF, ImageJ), or where all files
    have the same number of pages, 2 to 8; otherwise each page is a cell.
    """
    if not all(str(file).lower().endswith(TIFF_ENDINGS) for file in files):
        return False
    spaced = np.unique(np.linspace(0, len(files) - 1, min(_PROBED, len(files))).astype(np.int64))
    probed = [_count(root / str(files[i])) for i in spaced]
    counts = [pages.n for pages in probed if isinstance(pages, Pages)]
    return bool(counts) and max(counts) > 1 and not _are_channels(counts)


def expand_pages(root: Path, files: NDArray[np.str_], *, skip_bad: bool) -> Stacks:
    """The cells in files that are stacks.

    Raises InputError for a stack that cannot be read, or lists it with ``skip_bad``.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        counted = list(pool.map(_count, [root / str(file) for file in files]))
    skipped: list[Skipped] = []
    cells: list[NDArray[np.int64]] = []
    for index, pages in enumerate(counted):
        if isinstance(pages, InputError):
            if not skip_bad:
                raise InputError(f"{shown(str(files[index]))} {pages}; --skip-bad leaves it out")
            skipped.append(Skipped(shown(str(files[index])), str(pages)))
            continue
        rows = np.arange(pages.n)
        cells.append(np.stack([np.full(pages.n, index), rows], axis=1))
    if not cells:
        raise InputError(
            f"none of {len(files)} stacks can be read: {skipped[0].name} {skipped[0].reason}"
        )
    table = np.concatenate(cells).astype(np.int64)
    return Stacks(
        table, (f"cell = page of a stack: {len(table)} in {len(cells)} files",), tuple(skipped)
    )


def _are_channels(counts: list[int]) -> bool:
    return len(set(counts)) == 1 and 2 <= counts[0] <= CHANNEL_PAGES


def _count(path: Path) -> Pages | InputError:
    try:
        return count_pages(path)
    except InputError as error:
        return error


def find_in_stack(path: Path, labels: str | None) -> Found:
    """Cells from one multi-page TIFF, labelled by a file next to it."""
    try:
        n = count_pages(path).n
        first = read_pages(path, [0], isolated=is_isolated())[0]
    except InputError as error:
        raise InputError(f"{path} {error}") from None
    if n == 1:
        raise InputError(f"{path} is one image; give the folder that holds a folder per class")
    table = {} if labels == NO_LABELS else dict(read_sidecar(path))
    pages = np.stack([np.zeros(n, dtype=np.int64), np.arange(n)], axis=1)
    named = first.channel_names if isinstance(first, Picture) else ()
    crops = FileCrops(path.parent, np.array([path.name]), named, pages)
    names = np.array([crops.name(i) for i in range(n)], dtype=np.str_)
    codes, class_names, remark = choose_labels(path, table, names, labels, None)
    if len(codes) != n:
        raise InputError(f"{path}: there are {len(codes)} labels for {n} pages")
    columns = split_columns(table, n)
    return Found(
        crops=crops,
        labels=codes,
        class_names=class_names,
        names=names,
        columns=columns,
        group="group" if "group" in columns else None,
        channel_names=named,
        pixel_size=first.pixel_size if isinstance(first, Picture) else None,
        remarks=(remark, f"cell = page of the stack: {n}"),
    )
