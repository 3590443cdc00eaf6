"""What an image owes to the cell that it was made from, in a sentence."""

import numpy as np

from cytolens.figures.labels import format_number
from cytolens.records.features import FeatureImages, Galleries


def began_text(images: FeatureImages | None, where: str) -> str:
    """How like images are to their cells, and where these stand; nothing of others.

    ``where``: the title of the figure that shows them.
    """
    if images is None or images.starts is None or images.dead.all():
        return ""
    alive = ~images.dead
    text = (
        "Images are made from cells: their pixel correlation with the cell that each began as is "
        f"{_median(images.likeness_to_start[alive])} (median)"
    )
    if images.similarity is not None:
        text += f", with the nearest real cell {_median(images.similarity[alive])}"
    return f" {text}. Cells, images and differences: {where}."


def gallery_title(found: Galleries) -> str:
    """Of the figure of all images of channels with the cells that they began as."""
    return "Feature images of whole cells" if found.fields else "Feature images by depth"


def _median(values: np.ndarray) -> str:
    return format_number(float(np.median(values)), 2)
