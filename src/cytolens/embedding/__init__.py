"""Maps, clusters and separation of the features at every depth: arrays in, records out, no torch.

The entries a user can name are in `methods.METHODS` (maps), `cluster_methods.METHODS`; what
`measure_separation` measures is in `separation.MEASURES`.
"""

from cytolens.embedding.clustering import cluster
from cytolens.embedding.confounds import find_confounds
from cytolens.embedding.flow import measure_flow
from cytolens.embedding.knowledge import measure_knowledge
from cytolens.embedding.layout import thumbnail_layout
from cytolens.embedding.methods import embed
from cytolens.embedding.pairwise import measure_pairs
from cytolens.embedding.quality import measure_quality
from cytolens.embedding.separation import measure_separation
from cytolens.embedding.similarity import measure_similarity
from cytolens.embedding.stability import measure_stability
from cytolens.embedding.subpopulations import describe_clusters
from cytolens.embedding.suspects import find_suspects

__all__ = [
    "cluster",
    "describe_clusters",
    "embed",
    "find_confounds",
    "find_suspects",
    "measure_flow",
    "measure_knowledge",
    "measure_pairs",
    "measure_quality",
    "measure_separation",
    "measure_similarity",
    "measure_stability",
    "thumbnail_layout",
]
