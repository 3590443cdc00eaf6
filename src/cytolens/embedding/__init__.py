"""Maps, clusters and separation of the features at every depth: arrays in, records out, no torch.

The entries a user can name are in `methods.METHODS` (maps) and `clustering.METHODS`; what
`measure_separation` measures is in `separation.MEASURES`.
"""

from cytolens.embedding.clustering import cluster
from cytolens.embedding.layout import thumbnail_layout
from cytolens.embedding.methods import embed
from cytolens.embedding.quality import measure_quality
from cytolens.embedding.separation import measure_separation

__all__ = ["cluster", "embed", "measure_quality", "measure_separation", "thumbnail_layout"]
