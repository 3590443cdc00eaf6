"""Image files decoded in this process, or in one of their own where that was asked for."""

import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images import image_files
from cytolens.images.image_files import CROP, FIELD, Limits, Pages, Picture
from cytolens.images.isolation import ask, is_isolated


def read_picture(path: Path, limits: Limits = CROP, *, isolated: bool) -> Picture:
    """See `image_files.read_picture`."""
    if not isolated:
        return image_files.read_picture(path, limits)
    about, arrays = ask("picture", path, field=limits.size == FIELD.size)
    return _claimed(_pictures(about, arrays)[0], limits)


def read_pages(
    path: Path, pages: list[int], limits: Limits = CROP, *, isolated: bool
) -> list[Picture | InputError]:
    """See `image_files.read_pages`."""
    if not isolated:
        return image_files.read_pages(path, pages, limits)
    try:
        about, arrays = ask("pages", path, pages=pages)
    except InputError as error:
        return [error] * len(pages)
    return _pictures(about, arrays)


def count_pages(path: Path) -> Pages:
    """See `image_files.count_pages`."""
    if not is_isolated():
        return image_files.count_pages(path)
    (n, named), _ = ask("count", path)
    return Pages(int(n), bool(named))


def files_of_ome(path: Path) -> list[Path]:
    """See `image_files.files_of_ome`."""
    if not is_isolated():
        return image_files.files_of_ome(path)
    try:
        names, _ = ask("files", path)
    except InputError:  # said when it is read
        return []
    return [Path(os.fsdecode(bytes.fromhex(name))) for name in names]


def _claimed(picture: Picture | InputError, limits: Limits) -> Picture:
    if isinstance(picture, InputError):
        raise picture
    if limits.take is not None:
        limits.take(picture.crop.nbytes)
    return picture


def _pictures(
    about: list[dict[str, Any]], arrays: list[NDArray[Any]]
) -> list[Picture | InputError]:
    crops = iter(arrays)
    return [
        InputError(str(entry["error"]))
        if "error" in entry
        else Picture(
            next(crops), tuple(map(str, entry["names"])), entry["pixel_size"], str(entry["note"])
        )
        for entry in about
    ]
