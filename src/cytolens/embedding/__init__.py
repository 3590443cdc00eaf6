"""Maps of the features at every depth, their quality, and places for new cells: arrays only.

The methods that a user can name are in `methods.METHODS`. Torch is loaded by `tsne` alone, when a
map is made.
"""

from cytolens.embedding.layout import thumbnail_layout
from cytolens.embedding.methods import embed
from cytolens.embedding.quality import measure_quality

__all__ = ["embed", "measure_quality", "thumbnail_layout"]
