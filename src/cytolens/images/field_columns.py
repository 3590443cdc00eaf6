"""Which columns of a table say where cells are in field images: the names that tools write.

- CellProfiler, per object: ``ImageNumber``, ``ObjectNumber``, ``Location_Center_X``,
  ``AreaShape_BoundingBoxMinimum_X`` …, with or without the object's name in front
  (``Nuclei_Location_Center_X``); per image: ``FileName_DNA``, ``PathName_DNA``, with or without
  ``Image_`` in front.
- scikit-image's ``regionprops_table``: ``bbox-0`` … ``bbox-3``, ``centroid-0``, ``centroid-1``.
- ilastik: ``Center of the object_0`` (x) and ``_1`` (y), ``Bounding Box Minimum_0`` …
- plain: ``x``, ``y``; ``x_min``, ``y_min``, ``x_max``, ``y_max``, with ``image`` and, if there is a
  label image, ``mask`` and ``object``.

Positions are in pixels, from 0; the ends of boxes are exclusive.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_FILE = re.compile(r"(?:Image_)?FileName_(?P<channel>.+)")
_OBJECTS = ("Cells", "Nuclei", "Cytoplasm")  # of CellProfiler: the first that a table has is cut
_IMAGES = ("image", "path", "file", "filename", "field")
_MASKS = ("mask", "label_image", "segmentation")
_NUMBERS = ("object", "objectnumber", "object_id", "label_id", "cell_id")

_CENTRES = (
    ("{}Location_Center_X", "{}Location_Center_Y"),
    ("{}AreaShape_Center_X", "{}AreaShape_Center_Y"),
    ("centroid-1", "centroid-0"),
    ("Center of the object_0", "Center of the object_1"),
    ("x", "y"),
    ("x_center", "y_center"),
    ("center_x", "center_y"),
    ("centre_x", "centre_y"),
    ("centroid_x", "centroid_y"),
)
_BOX = "{}AreaShape_BoundingBox"
_BOXES = (
    (f"{_BOX}Minimum_X", f"{_BOX}Minimum_Y", f"{_BOX}Maximum_X", f"{_BOX}Maximum_Y"),
    ("bbox-1", "bbox-0", "bbox-3", "bbox-2"),
    (
        "Bounding Box Minimum_0",
        "Bounding Box Minimum_1",
        "Bounding Box Maximum_0",
        "Bounding Box Maximum_1",
    ),
    ("x_min", "y_min", "x_max", "y_max"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x0", "y0", "x1", "y1"),
)


@dataclass(frozen=True)
class FieldColumns:
    """The columns of a table of cells that say where they are."""

    centre: tuple[str, str] | None  # x, y
    box: tuple[str, str, str, str] | None  # left, top, right, bottom
    files: dict[str, str]  # the column of file names, by image channel; "" where there is one
    folders: dict[str, str]  # CellProfiler's PathName columns, by image channel
    image_number: str | None
    object_number: str | None
    mask: str | None
    prefix: str  # CellProfiler's name of the objects that are cut, such as "Nuclei_"


def find_columns(names: Sequence[str]) -> FieldColumns | None:
    """What the columns are for; None where they do not say where cells are."""
    known = set(names)
    prefix, centre, box = "", None, None
    for prefix in _prefixes(names):
        centre = _first(_CENTRES, prefix, known)
        box = _first(_BOXES, prefix, known)
        if centre or box:
            break
    mask = _named(names, _MASKS)
    number = _named(
        names, (*(f"{prefix}{n}" for n in ("ObjectNumber", "Number_Object_Number")),)
    ) or (_named(names, _NUMBERS))
    if not (centre or box or (mask and number)):
        return None
    files = channel_files(names)
    if not files:
        one = _named(names, _IMAGES)
        files = {"": one} if one else {}
    folders = channel_files(names, "PathName")
    return FieldColumns(
        centre=(centre[0], centre[1]) if centre else None,
        box=(box[0], box[1], box[2], box[3]) if box else None,
        files=files,
        folders=folders,
        image_number=_named(names, ("ImageNumber", "Metadata_ImageNumber", "Image_ImageNumber")),
        object_number=number,
        mask=mask,
        prefix=prefix,
    )


def channel_files(names: Sequence[str], kind: str = "FileName") -> dict[str, str]:
    """CellProfiler's columns of file names (or of ``PathName``), by image channel.

    >>> channel_files(["Image_FileName_DNA", "ImageNumber", "FileName_ER"])
    {'DNA': 'Image_FileName_DNA', 'ER': 'FileName_ER'}
    """
    found: dict[str, str] = {}
    for name in names:
        match = _FILE.fullmatch(name.replace(f"{kind}_", "FileName_", 1))
        if match and f"{kind}_" in name:
            found.setdefault(match["channel"], name)
    return found


def is_metadata(name: str) -> bool:
    """Whether a column of CellProfiler describes the experiment rather than measures a cell."""
    return name.startswith(("Metadata_", "Image_Metadata_")) or name in ("label", "labels", "class")


def _prefixes(names: Sequence[str]) -> list[str]:
    """Names of objects in front of ``Location_Center_X`` and the like, and none."""
    pattern = re.compile(r"(.*?)(?:Location_Center_X|AreaShape_(?:BoundingBoxMinimum|Center)_X)")
    found = [match[1] for name in names if (match := pattern.fullmatch(name))]
    rank = {f"{name}_": i for i, name in enumerate(_OBJECTS)}
    return sorted(dict.fromkeys([*found, ""]), key=lambda p: (rank.get(p, 9), p == ""))


def _first(
    patterns: Sequence[tuple[str, ...]], prefix: str, known: set[str]
) -> tuple[str, ...] | None:
    for pattern in patterns:
        columns = tuple(column.format(prefix) for column in pattern)
        if all(column in known for column in columns):
            return columns
    return None


def _named(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name.lower()] for name in wanted if name.lower() in lower), None)
