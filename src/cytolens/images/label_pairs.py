"""Which images are the label images of which others, by their names."""

import re
from collections.abc import Sequence

ENDINGS = (
    "_cp_masks",  # Cellpose
    "_masks",
    "_mask",
    "_labels",
    "_label",
    ".labels",
    "_Objects",  # ilastik, CellProfiler
    "_Object Identities",  # ilastik
    "_segmentation",
)
"""What the name of a label image adds to the name of its image, before the file's ending."""

_LABEL = re.compile(
    f"(?P<image>.+?)(?:{'|'.join(re.escape(ending) for ending in ENDINGS)})(?P<ome>\\.ome)?$",
    re.IGNORECASE,
)


def pair_up(files: Sequence[str]) -> dict[str, str]:
    """The label image of each field image, by name; none for images without one.

    >>> pair_up(["a/1.tif", "a/1_cp_masks.png", "a/2.tif"])
    {'a/1.tif': 'a/1_cp_masks.png'}
    """
    stems = {_stem(file): file for file in files}
    pairs: dict[str, str] = {}
    for stem, file in stems.items():
        match = _LABEL.fullmatch(stem)
        image = match and stems.get(match["image"])
        if image:
            pairs[image] = file
    return pairs


def _stem(file: str) -> str:
    return re.sub(r"(?:\.ome)?\.[^./]+$", "", file, flags=re.IGNORECASE)
